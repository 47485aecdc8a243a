//! The workspace, held to its drawing: every dependency between crates points down, every dependency is used, and
//! every package carries its licences.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use toml::Table;

/// The crates from the bottom up: each may use those before it, in its tests and examples too.
const ORDER: [&str; 15] = [
    "sus-reference",
    "sus-files",
    "sus-corpus",
    "sus-fast",
    "sus-bounds",
    "sus-analysis",
    "sus-verdict",
    "sus-fixtures",
    "sus-mutants",
    "sus-explain",
    "sus-report",
    "sus-properties",
    "sus-bench",
    "sus-charts",
    "sus-oracle",
];

/// A package of the workspace.
struct Package {
    name: String,
    folder: PathBuf,
    manifest: Table,
}

impl Package {
    /// The names in one section of the manifest, such as `dependencies`.
    fn section(&self, section: &str) -> Vec<String> {
        let table = self.manifest.get(section).and_then(|value| value.as_table());
        table.map_or(Vec::new(), |table| table.keys().cloned().collect())
    }

    /// The Rust files below some of its folders, as one text.
    fn sources(&self, folders: &[&str]) -> String {
        folders.iter().map(|folder| rust_files(&self.folder.join(folder))).collect()
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The Rust files below a folder, and those that they include by `#[path]`.
fn rust_files(folder: &Path) -> String {
    let Ok(entries) = fs::read_dir(folder) else { return String::new() };
    let mut text = String::new();
    for path in entries.map(|entry| entry.unwrap().path()) {
        if path.is_dir() {
            text.push_str(&rust_files(&path));
        } else if path.extension().is_some_and(|end| end == "rs") {
            let source = fs::read_to_string(path).unwrap();
            let attributes = source.lines().filter_map(|line| line.strip_prefix("#[path = \""));
            for other in attributes.filter_map(|rest| rest.strip_suffix("\"]")) {
                text.push_str(&fs::read_to_string(folder.join(other)).unwrap());
            }
            text.push_str(&source);
        }
    }
    text
}

/// All packages: those under `crates`, and the root.
fn packages() -> Vec<Package> {
    let crates = fs::read_dir(root().join("crates")).unwrap().map(|entry| entry.unwrap().path());
    let folders = crates.filter(|path| path.join("Cargo.toml").is_file());
    folders
        .chain([root().to_owned()])
        .map(|folder| {
            let text = fs::read_to_string(folder.join("Cargo.toml")).unwrap();
            let manifest: Table = text.parse().unwrap();
            let name = manifest["package"]["name"].as_str().unwrap().to_owned();
            Package { name, folder, manifest }
        })
        .collect()
}

fn rank(name: &str) -> Option<usize> {
    ORDER.iter().position(|&known| known == name)
}

/// Whether `name` stands in `text` as an identifier of its own.
fn names(text: &str, name: &str) -> bool {
    let part = |c: char| c.is_alphanumeric() || c == '_';
    text.match_indices(name)
        .any(|(at, _)| !text[..at].ends_with(part) && !text[at + name.len()..].starts_with(part))
}

#[test]
fn every_dependency_between_crates_points_down() {
    let packages = packages();
    let there: BTreeSet<&str> = packages.iter().map(|package| package.name.as_str()).collect();
    assert_eq!(there, ORDER.into_iter().collect(), "the order lists every crate once");
    let mut up = Vec::new();
    for package in &packages {
        for section in ["dependencies", "dev-dependencies", "build-dependencies"] {
            for other in package.section(section) {
                if rank(&other).is_some_and(|other| other >= rank(&package.name).unwrap()) {
                    up.push(format!("{} -> {other} ({section})", package.name));
                }
            }
        }
    }
    assert!(up.is_empty(), "these arrows run up:\n{}", up.join("\n"));
}

/// The table of `CONTRIBUTING.md` has a row for each crate from the bottom up, with the crates that it uses.
#[test]
fn the_drawn_arrows_are_those_of_the_manifests() {
    let page = fs::read_to_string(root().join("CONTRIBUTING.md")).unwrap();
    let rows = page.lines().filter_map(|line| line.strip_prefix("| `sus-"));
    let drawn: Vec<(String, BTreeSet<String>)> = rows
        .map(|row| {
            let cells: Vec<&str> = row.split('|').map(str::trim).collect();
            let uses = cells[2].split(", ").filter(|name| !name.is_empty() && *name != "-");
            let name = format!("sus-{}", cells[0].trim_end_matches('`'));
            (name, uses.map(|other| format!("sus-{other}")).collect())
        })
        .collect();
    assert_eq!(drawn.iter().map(|row| row.0.as_str()).collect::<Vec<_>>(), ORDER);
    for package in packages() {
        let uses = package.section("dependencies").into_iter().filter(|name| rank(name).is_some());
        let row = drawn.iter().find(|row| row.0 == package.name).unwrap();
        assert_eq!(row.1, uses.collect(), "{}", package.name);
    }
}

#[test]
fn every_dependency_is_used() {
    let mut unused = Vec::new();
    for package in packages() {
        let source = package.sources(&["src"]);
        let mut all = source.clone() + &package.sources(&["tests", "benches", "examples"]);
        if package.name == "sus-oracle" {
            // The Rust of these pages runs as documentation tests of the facade.
            for page in fs::read_dir(root().join("docs")).unwrap() {
                all += &fs::read_to_string(page.unwrap().path()).unwrap_or_default();
            }
        }
        for (section, text) in [("dependencies", &source), ("dev-dependencies", &all)] {
            for dependency in package.section(section) {
                if !names(text, &dependency.replace('-', "_")) {
                    unused.push(format!("{}: {dependency} ({section})", package.name));
                }
            }
        }
        let dependencies = package.section("dependencies");
        let twice = package.section("dev-dependencies");
        let twice = twice.into_iter().filter(|name| {
            let plain = &package.manifest["dependencies"];
            dependencies.contains(name) && plain[name].get("optional").is_none()
        });
        unused.extend(twice.map(|name| format!("{}: {name} stands twice", package.name)));
    }
    assert!(unused.is_empty(), "no source names these:\n{}", unused.join("\n"));
    let packages = packages();
    let root = packages.iter().find(|package| package.name == "sus-oracle").unwrap();
    let shared = root.manifest["workspace"]["dependencies"].as_table().unwrap();
    for name in shared.keys().filter(|name| rank(name).is_none()) {
        let sections = ["dependencies", "dev-dependencies"];
        let used = packages
            .iter()
            .any(|package| sections.iter().any(|section| package.section(section).contains(name)));
        assert!(used, "no package uses {name} of the workspace");
    }
}

/// A library without unit tests is not compiled a second time for them; one that has some is.
#[test]
fn a_library_is_compiled_for_its_unit_tests_if_it_has_any() {
    for package in packages() {
        let lib = package.manifest.get("lib").and_then(|lib| lib.get("test"));
        let compiled = lib.is_none_or(|test| test.as_bool() == Some(true));
        let has_some = package.sources(&["src"]).contains("#[cfg(test)]");
        assert_eq!(compiled, has_some, "{}: `test` of [lib]", package.name);
    }
}

#[test]
fn every_crate_says_in_one_sentence_what_it_is_and_carries_both_licences() {
    for package in packages() {
        let name = &package.name;
        let facts = &package.manifest["package"];
        let description = facts["description"].as_str().unwrap();
        assert!(description.len() > 20, "{name}: {description}");
        if name != "sus-oracle" {
            assert!(description.contains("It uses "), "{name}: {description}");
        }
        let included: Vec<&str> = facts["include"]
            .as_array()
            .unwrap()
            .iter()
            .map(|path| path.as_str().unwrap())
            .collect();
        assert!(included.contains(&"/src") && included.contains(&"/LICENSE-*"), "{name}");
        assert!(!included.iter().any(|path| path.contains("fixtures")), "{name}: {included:?}");
        for licence in ["LICENSE-MIT", "LICENSE-APACHE"] {
            let text = fs::read_to_string(package.folder.join(licence)).unwrap();
            assert_eq!(text, fs::read_to_string(root().join(licence)).unwrap(), "{name}");
        }
    }
}

#[test]
fn an_identifier_is_found_and_a_part_of_one_is_not() {
    assert!(names("use rand_core::Rng;", "rand_core"));
    assert!(!names("use rand_core2::Rng;", "rand_core"));
    assert!(!names("use sus_files::Settings;", "sus_file"));
}
