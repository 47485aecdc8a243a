//! Whether the source has an item, a test or a word.

use super::pages::root;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

pub(super) fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Whether `word` stands in `text`, and not as a part of a longer word.
pub(super) fn has_word(text: &str, word: &str) -> bool {
    text.match_indices(word).any(|(at, _)| {
        !text[..at].ends_with(is_word) && !text[at + word.len()..].starts_with(is_word)
    })
}

/// The file of a module that the facade re-exports, such as that of `bounds`, and the folder of its modules.
pub(super) fn module(name: &str) -> Option<(PathBuf, PathBuf)> {
    let facade = fs::read_to_string(root().join("src/lib.rs")).unwrap();
    let source = |of: &str| root().join("crates").join(of).join("src");
    let whole = facade.lines().find_map(|line| {
        let of = line.strip_prefix("pub use sus_")?.strip_suffix(&format!(" as {name};"))?;
        Some((source(of).join("lib.rs"), source(of)))
    });
    let reference = source("reference");
    let part = (reference.join(format!("{name}.rs")), reference.join(name));
    whole.or_else(|| part.0.is_file().then_some(part))
}

/// Whether the library has an item at `path`, such as `sus_oracle::graph::Graph::paths`.
pub(super) fn item_exists(path: &str) -> bool {
    let Some(path) = path.strip_prefix("sus_oracle::") else { return false };
    let mut rest = path.split("::").peekable();
    let first = rest.peek().and_then(|name| module(name));
    let (mut file, mut folder) = match first {
        Some(place) => {
            rest.next();
            place
        }
        None => (root().join("src/lib.rs"), root().join("src")),
    };
    while let Some(next) = rest.peek().map(|name| folder.join(format!("{name}.rs"))) {
        if !next.is_file() {
            break;
        }
        folder = next.with_extension("");
        file = next;
        rest.next();
    }
    let mut source = fs::read_to_string(&file).unwrap();
    // A module may split its items over files of its own; those of a whole crate are looked up by their module.
    if !file.ends_with("lib.rs") && folder.is_dir() {
        sources(&folder, &mut source);
    }
    let kinds = ["fn", "struct", "enum", "trait", "type", "const", "static", "mod"];
    let code: Vec<&str> =
        source.lines().map(str::trim_start).filter(|line| !line.starts_with("//")).collect();
    let statements = code.join(" ");
    rest.all(|item| {
        let declared =
            |line: &&str| kinds.iter().any(|kind| has_word(line, &format!("{kind} {item}")));
        let exported = |statement: &str| {
            statement.rsplit_once("pub use ").is_some_and(|(_, names)| has_word(names, item))
        };
        code.iter().any(declared) || statements.split(';').any(exported)
    })
}

/// Whether there is a test at `path`, such as `crates/reference/tests/mask.rs::a_window_as_wide_as_...`.
pub(super) fn test_exists(path: &str) -> bool {
    let Some((file, test)) = path.split_once("::") else { return false };
    let Ok(source) = fs::read_to_string(root().join(file)) else { return false };
    let lines: Vec<&str> = source.lines().map(str::trim).collect();
    let Some(at) = lines.iter().position(|line| has_word(line, &format!("fn {test}"))) else {
        return false;
    };
    // The attribute is among the attributes and comments directly above.
    lines[..at]
        .iter()
        .rev()
        .take_while(|line| line.starts_with("#[") || line.starts_with("//"))
        .any(|&line| line == "#[test]")
}

/// The functions of the Rust files and the theorems of the Coq files below some folders of the repository.
pub(super) fn declared(folders: &[&str]) -> BTreeSet<String> {
    let mut all = String::new();
    for folder in folders {
        sources(&root().join(folder), &mut all);
    }
    let kinds = ["fn", "Theorem", "Lemma", "Corollary", "Definition", "Fixpoint"];
    let names = all.lines().filter_map(|line| {
        let mut words = line.split(|c: char| !is_word(c)).skip_while(|word| !kinds.contains(word));
        words.nth(1)
    });
    names.map(ToOwned::to_owned).collect()
}

/// The Rust and Coq files below a folder, as one text; generated files declare nothing that a page names.
fn sources(folder: &Path, all: &mut String) {
    for entry in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        if entry.is_dir() && !entry.ends_with("generated") && !entry.ends_with("target") {
            sources(&entry, all);
        } else if entry.extension().is_some_and(|end| end == "rs" || end == "v") {
            all.push_str(&fs::read_to_string(&entry).unwrap());
        }
    }
}
