//! The data agree with each other: what is cited exists, what is listed is unique.

use crate::data::DATA;
use crate::{Bug, Fixture, Flag, NamedProblem, Report, Suite, Values, all, bugs, draw_inputs};
use std::collections::BTreeSet;
use sus_reference::problem::Problem;

const FIXTURES: [Suite; 3] = [Suite::Smoke, Suite::Full, Suite::Stress];

fn fixtures() -> impl Iterator<Item = &'static Fixture> {
    FIXTURES.into_iter().flat_map(Suite::fixtures)
}

/// The items that occur twice.
fn repeated<T: Ord + Clone>(items: impl IntoIterator<Item = T>) -> Vec<T> {
    let mut seen = BTreeSet::new();
    items.into_iter().filter(|item| !seen.insert(item.clone())).collect()
}

#[test]
fn every_label_that_is_cited_is_listed_and_every_one_listed_is_cited_once() {
    let reports = bugs().iter().flat_map(|bug| &bug.reports).map(Report::label);
    let others: BTreeSet<&str> = DATA.bugs.other.iter().map(|other| other.label.as_str()).collect();
    let all = reports.chain(others.iter().copied());
    assert_eq!(repeated(all), Vec::<&str>::new(), "one bug for each label");
    let cases = Suite::KillMatrix.fixtures().iter().chain(fixtures());
    let of_cases = cases.flat_map(|case| &case.upstream);
    let cited: BTreeSet<&str> = of_cases
        .chain(Flag::ALL.iter().flat_map(|flag| flag.upstream()))
        .map(String::as_str)
        .collect();
    let unknown: Vec<_> = cited
        .iter()
        .filter(|label| Bug::of_label(label).is_none() && !others.contains(*label))
        .collect();
    assert!(unknown.is_empty(), "labels that bugs.toml does not list: {unknown:?}");
    assert!(others.is_subset(&cited), "labels that no case and no flag cites");
}

#[test]
fn every_project_is_listed_once_and_cited() {
    let reports = bugs().iter().flat_map(|bug| &bug.reports);
    let cited: BTreeSet<&str> = reports.map(Report::project).collect();
    let listed: Vec<&str> = DATA.bugs.project.iter().map(|project| project.name.as_str()).collect();
    assert_eq!(repeated(listed.iter().copied()), Vec::<&str>::new());
    assert_eq!(cited, listed.into_iter().collect());
    for project in &DATA.bugs.project {
        let parts: Vec<&str> = project.repository.split('/').collect();
        assert!(parts.len() == 2 && parts.iter().all(|part| !part.is_empty()), "{project:?}");
        assert!(!project.shown.is_empty() && !project.shown.contains([',', ';']), "{project:?}");
    }
}

#[test]
fn bugs_are_numbered_and_say_what_was_wrong() {
    let expected = (1..=48).map(|n| n.to_string()).chain((1..=15).map(|n| format!("s{n}")));
    assert!(bugs().iter().map(|bug| bug.id.clone()).eq(expected));
    for bug in bugs() {
        assert!(!bug.what.is_empty(), "bug {}", bug.id);
        // What SUS adds was reported by nobody.
        assert_eq!(bug.reports.is_empty(), bug.id.starts_with('s'), "bug {}", bug.id);
        assert!(bug.types.is_sorted() && repeated(&bug.types).is_empty(), "bug {}", bug.id);
    }
}

#[test]
fn every_flag_has_its_meaning() {
    assert!(DATA.flags.keys().eq(Flag::ALL), "flags.toml and the code list the same flags");
    assert!(DATA.flags.values().all(|flag| !flag.meaning.is_empty()));
}

#[test]
fn names_are_unique_and_fit_a_file() {
    let names = |cases: &mut dyn Iterator<Item = &'static Fixture>| -> Vec<&'static str> {
        cases.map(|case| case.name.as_str()).collect()
    };
    for names in [names(&mut fixtures()), names(&mut Suite::KillMatrix.fixtures().iter())] {
        assert_eq!(repeated(names.iter().copied()), Vec::<&str>::new());
        let fits = |c: u8| matches!(c, b'a'..=b'z' | b'0'..=b'9' | b'_');
        assert!(names.iter().all(|name| !name.is_empty() && name.bytes().all(fits)));
    }
}

#[test]
fn a_fixture_says_what_it_is_for() {
    for case in fixtures() {
        let said = [&case.purpose, &case.bug];
        assert!(said.iter().all(|text| !text.is_empty()), "{}", case.name);
        assert!(!case.flags.is_empty() && repeated(&case.flags).is_empty(), "{}", case.name);
        assert!(!matches!(case.values, Values::Sixteenths { .. }), "{}", case.name);
    }
}

/// A stream that two cases share gives both the same numbers.
#[test]
fn every_case_of_the_kill_matrix_has_a_stream_of_its_own() {
    let streams = Suite::KillMatrix.fixtures().iter().map(|case| match case.values {
        Values::Sixteenths { stream, .. } => stream,
        _ => panic!("{}: expected values of a numbered stream", case.name),
    });
    assert_eq!(repeated(streams), Vec::<u64>::new());
}

#[test]
fn every_case_is_a_legal_problem() {
    for case in fixtures() {
        let options = case.problem_options();
        let options = options.unwrap_or_else(|error| panic!("{}: {error}", case.name));
        let inputs = draw_inputs(case).expect("inputs");
        let problem = Problem::new(inputs, options);
        let problem = problem.unwrap_or_else(|error| panic!("{}: {error}", case.name));
        assert_eq!(problem.sizes(), case.sizes, "{}", case.name);
    }
    assert!(all().iter().zip(Suite::KillMatrix.fixtures()).all(|(problem, case)| {
        let NamedProblem { name, draw, .. } = problem;
        *name == case.name && draw.is_some() == case.draw.is_some()
    }));
}
