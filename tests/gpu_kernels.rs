//! What kernels of libraries gave on a GPU, stored by `tests/torch/gpu_kernels.py`: every result passes at its recipe, and a damaged
//! copy of it does not. And the recipes that `docs/recipes.md` names.

use std::path::{Path, PathBuf};
use sus_oracle::bounds::Recipe;
use sus_oracle::files::tensor_file::Numbers;
use sus_oracle::files::{Settings, TensorFile};
use sus_oracle::verdict::{Case, Outcome};

const STORED: &str = "tests/torch/gpu";
const RECIPES: &str = "docs/recipes";

fn recipe(name: &str) -> Recipe {
    let file = Path::new(RECIPES).join(name);
    Recipe::named(if file.exists() { file.to_str().unwrap() } else { name }).unwrap()
}

/// The numbers of one tensor, and the length of its rows.
fn numbers<'a>(file: &'a mut TensorFile, name: &str) -> Option<(&'a mut [f64], usize)> {
    let array = file.arrays.get_mut(name)?;
    let width = *array.shape.last()?;
    let Numbers::Float(data) = &mut array.numbers else { return None };
    Some((data, width))
}

/// Damage to one gradient, each of a bug that was seen in kernels.
type Damage = (&'static str, fn(&mut [f64], usize));

const DAMAGES: [Damage; 4] = [
    ("a wrong constant", |x, _| x.iter_mut().for_each(|x| *x *= 1.25)),
    ("the last features not computed", |x, width| {
        for row in x.chunks_mut(width) {
            row[width - width.min(8)..].fill(0.0);
        }
    }),
    ("the last row not written", |x, width| {
        let at = x.len() - width;
        x[at..].fill(f64::NAN);
    }),
    ("features of pairs exchanged", |x, _| x.chunks_exact_mut(2).for_each(|pair| pair.swap(0, 1))),
];

#[test]
fn stored_results_of_kernels_pass_and_their_damaged_copies_fail() {
    let index = std::fs::read_to_string(Path::new(STORED).join("index.json")).unwrap();
    let index: serde_json::Value = serde_json::from_str(&index).unwrap();
    let results = index["results"].as_array().unwrap();
    let (mut kernels, mut recipes, mut damaged) = (Vec::new(), Vec::new(), 0);
    for result in results {
        let of = |key: &str| result[key].as_str().unwrap();
        let case = Case::read(&Path::new(STORED).join(of("problem")), Settings::default()).unwrap();
        let candidate = TensorFile::read(&Path::new(STORED).join(of("candidate"))).unwrap();
        let judge = sus_oracle::judge(&case, &recipe(of("recipe"))).build().unwrap();
        let verdict = judge.check(&candidate);
        let name = of("candidate");
        assert_eq!(verdict.outcome, Outcome::Pass, "{name}: {:#?}", verdict.findings);
        for gradient in ["dq", "dk", "dv", "dsink"] {
            for (damage, apply) in DAMAGES {
                let mut wrong = candidate.clone();
                let Some((data, width)) = numbers(&mut wrong, gradient) else { continue };
                apply(data, width);
                // One element has no other to change places with.
                if wrong == candidate {
                    continue;
                }
                damaged += 1;
                let found = judge.check(&wrong).outcome;
                assert_eq!(found, Outcome::Fail, "{name}: {gradient}, {damage}");
            }
        }
        kernels.push(of("kernel").to_owned());
        recipes.push(of("recipe").to_owned());
    }
    for all in [&mut kernels, &mut recipes] {
        all.sort();
        all.dedup();
    }
    // Four damages to each of three gradients, and to dsink.
    assert!(damaged >= 12 * results.len(), "{damaged}");
    assert!(
        results.len() > 70 && kernels.len() >= 12 && recipes.len() >= 8,
        "{kernels:?} {recipes:?}"
    );
}

/// The recipe files of the book.
fn recipe_files() -> Vec<PathBuf> {
    let files = std::fs::read_dir(RECIPES).unwrap();
    files.map(|file| file.unwrap().path()).collect()
}

#[test]
fn the_page_on_recipes_names_every_key_and_every_file() {
    let page = std::fs::read_to_string("docs/recipes.md").unwrap();
    let files = recipe_files();
    assert!(files.len() >= 5);
    for file in files {
        let name = file.file_name().unwrap().to_str().unwrap();
        assert!(page.contains(&format!("`{name}`")), "{name}");
        Recipe::named(file.to_str().unwrap()).unwrap();
    }
    // The error of a key that does not exist lists those that do.
    let error = Recipe::from_toml("", "base = \"f32\"\nno_such_key = 1").unwrap_err().to_string();
    let keys: Vec<&str> =
        error.split('`').skip(3).step_by(2).filter(|key| *key != "base").collect();
    assert!(keys.contains(&"running_dv") && keys.len() > 20, "{error}");
    for key in keys {
        assert!(page.contains(&format!("`{key}`")), "{key}");
    }
}
