//! Parts of a problem against the whole.

use sus_reference::backward::backward;
use sus_reference::forward::forward;
use sus_reference::problem::Problem;
use sus_reference::sus::{Budget, Draw, Layout, Rule, Sampler, sample};

/// Every other number from `first` on.
fn every_other(first: usize, count: usize) -> Vec<usize> {
    (first..count).step_by(2).collect()
}

/// All masks, operands and groups of the corpus; sizes that are too small for a part are left out.
fn problems() -> Vec<Problem<f64>> {
    let all = sus_corpus::all().into_iter().map(|case| case.problem);
    all.filter(|problem| problem.row_count() > 0 && problem.sizes().keys > 0).collect()
}

#[test]
fn a_key_head_has_the_results_that_it_has_in_the_whole() {
    let mut heads = 0;
    for problem in problems() {
        let (sizes, group) = (problem.sizes(), problem.group());
        let saved = forward(&problem);
        let all = backward(&problem, &saved);
        for head in 0..sizes.key_heads {
            let part = problem.key_heads(head..head + 1).unwrap();
            let of_part = forward(&part);
            let found = backward(&part, &of_part);
            for b in 0..sizes.batch {
                for (h, i) in (0..group).flat_map(|h| (0..sizes.queries).map(move |i| (h, i))) {
                    let whole = head * group + h;
                    assert_eq!(of_part.o.row(b, h, i), saved.o.row(b, whole, i));
                    assert_eq!(of_part.lse.row(b, h, i), saved.lse.row(b, whole, i));
                    assert_eq!(found.dq.row(b, h, i), all.dq.row(b, whole, i));
                }
                for j in 0..sizes.keys {
                    assert_eq!(found.dk.row(b, 0, j), all.dk.row(b, head, j));
                    assert_eq!(found.dv.row(b, 0, j), all.dv.row(b, head, j));
                }
            }
            heads += usize::from(sizes.key_heads > 1);
        }
    }
    assert!(heads > 20, "{heads}");
}

#[test]
fn rows_and_keys_have_the_results_that_they_have_in_the_whole() {
    let mut compared = 0;
    for problem in problems() {
        let sizes = problem.sizes();
        let saved = forward(&problem);
        let all = backward(&problem, &saved);
        for first in 0..2 {
            let rows = every_other(first, sizes.queries);
            if !rows.is_empty() {
                let part = problem.queries(&rows).unwrap();
                let of_part = forward(&part);
                let dq = backward(&part, &of_part).dq;
                for (at, &i) in rows.iter().enumerate() {
                    for (b, h) in
                        (0..sizes.batch).flat_map(|b| (0..sizes.query_heads).map(move |h| (b, h)))
                    {
                        assert_eq!(of_part.o.row(b, h, at), saved.o.row(b, h, i));
                        assert_eq!(of_part.lse.row(b, h, at), saved.lse.row(b, h, i));
                        assert_eq!(dq.row(b, h, at), all.dq.row(b, h, i));
                        compared += 1;
                    }
                }
            }
            let keys = every_other(first, sizes.keys);
            if !keys.is_empty() {
                let part = problem.keys(&keys).unwrap();
                let found = backward(&part, &saved);
                for (at, &j) in keys.iter().enumerate() {
                    for (b, h) in
                        (0..sizes.batch).flat_map(|b| (0..sizes.key_heads).map(move |h| (b, h)))
                    {
                        assert_eq!(found.dk.row(b, h, at), all.dk.row(b, h, j));
                        assert_eq!(found.dv.row(b, h, at), all.dv.row(b, h, j));
                        compared += 1;
                    }
                }
            }
        }
    }
    assert!(compared > 1000, "{compared}");
}

#[test]
fn a_part_has_the_random_words_that_it_has_in_the_whole() {
    let mut kept = 0;
    for problem in problems() {
        let (sizes, group) = (problem.sizes(), problem.group());
        let saved = forward(&problem);
        let paper = Draw::paper(Budget::new(2.5).unwrap(), 11);
        let draws = [
            paper,
            paper.with_layout(Layout::Linear4),
            paper.with_layout(Layout::JaxThreefry).with_rule(Rule::Calibrated),
            paper.with_layout(Layout::Linear1).with_sampler(Sampler::Systematic),
        ];
        for draw in draws {
            let whole = sample(&problem, &saved, &draw).unwrap();
            let head = sizes.key_heads - 1;
            let rows = every_other(1, sizes.queries);
            if rows.is_empty() {
                continue;
            }
            let part = problem.key_heads(head..head + 1).unwrap().queries(&rows).unwrap();
            let found = sample(&part, &forward(&part), &draw).unwrap();
            for at in 0..part.row_count() {
                let row = part.row(at);
                let (h, i) = (head * group + row.h, rows[row.i]);
                let number = (row.b * sizes.query_heads + h) * sizes.queries + i;
                assert_eq!(found.pattern.row(at), whole.pattern.row(number), "{draw:?}");
                kept += found.pattern.row(at).len();
            }
        }
    }
    assert!(kept > 1000, "{kept}");
}

#[test]
fn what_is_not_there_is_no_part() {
    let problem = sus_reference::problem::example();
    let said = |found: Result<Problem<f64>, sus_reference::Error>| found.unwrap_err().to_string();
    assert!(said(problem.key_heads(1..3)).contains("heads"));
    assert!(said(problem.queries(&[7])).contains("rows"));
    assert!(said(problem.queries(&[])).contains("rows"));
    assert!(said(problem.keys(&[3, 3])).contains("keys"));
    assert!(said(problem.keys(&[3]).and_then(|part| part.keys(&[0]))).contains("keys"));
}
