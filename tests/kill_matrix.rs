//! scratch
use sus_oracle::gallery::{
    cases, kernels,
    matrix::{Matrix, RECIPES},
    rivals::RIVALS,
};
use sus_oracle::verdict::Outcome;

#[test]
fn scratch() {
    let t = std::time::Instant::now();
    let m = Matrix::run(&cases::all(), &RECIPES).unwrap();
    println!("{:?}", t.elapsed());
    let mut survivors = 0;
    let mut total = 0;
    let mut refused = 0;
    let mut rival = vec![(0, 0); RIVALS.len()];
    for kernel in kernels() {
        for (column, cell) in m.row(kernel) {
            if !kernel.wrong {
                if cell.outcome == Outcome::Fail || cell.outcome != Outcome::Pass {
                    println!(
                        "RIGHT {} {} {}: {:?} {:?} {:.3}",
                        kernel.name, column.case, column.recipe, cell.outcome, cell.rule, cell.used
                    );
                }
                continue;
            }
            if !cell.visible {
                continue;
            }
            total += 1;
            match cell.outcome {
                Outcome::Fail => {}
                Outcome::Pass => {
                    survivors += 1;
                    println!(
                        "SURVIVES {} {} {}: used {:.3}",
                        kernel.name, column.case, column.recipe, cell.used
                    );
                }
                other => {
                    refused += 1;
                    println!(
                        "NOTPASS {} {} {}: {other:?} {:?} used {:.3}",
                        kernel.name, column.case, column.recipe, cell.rule, cell.used
                    );
                }
            }
            for (at, said) in cell.rivals.iter().enumerate() {
                if let Some(passes) = said {
                    rival[at].1 += 1;
                    if *passes {
                        rival[at].0 += 1;
                    }
                }
            }
        }
    }
    println!("total {total} survivors {survivors} refused {refused}");
    for (r, (p, n)) in RIVALS.iter().zip(rival) {
        println!("{:20} passed {p} of {n}", r.name);
    }
    for recipe in RECIPES {
        let mut worst = (0.0, "", "");
        for kernel in kernels().into_iter().filter(|k| !k.wrong) {
            for (column, cell) in m.row(kernel).filter(|(c, _)| c.recipe == recipe) {
                if cell.used > worst.0 {
                    worst = (cell.used, kernel.name, column.case);
                }
            }
        }
        println!("{recipe} {worst:?}");
    }
}
