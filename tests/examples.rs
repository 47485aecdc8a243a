//! Every public item of these files has an example. A file joins the list when its last item gets one.

use std::path::Path;

const FILES: [&str; 8] = [
    "problem.rs",
    "tensor.rs",
    "precision/format.rs",
    "sus/uniform.rs",
    "sus/uniform/decision.rs",
    "sus/uniform/layout.rs",
    "sus/uniform/philox.rs",
    "sus/uniform/threefry.rs",
];

/// The name of a public item that this line declares, fields and modules aside.
fn item(line: &str) -> Option<&str> {
    let rest = line.trim_start().strip_prefix("pub ")?;
    let rest =
        rest.strip_prefix("const fn ").map_or(rest, |name| &rest[rest.len() - name.len() - 3..]);
    let kinds = ["fn ", "struct ", "enum ", "trait ", "type ", "const ", "static "];
    let name = kinds.iter().find_map(|kind| rest.strip_prefix(kind))?;
    name.split(|c: char| !c.is_alphanumeric() && c != '_').next()
}

/// The public items whose documentation has no example.
fn without_example(source: &str) -> Vec<&str> {
    let mut example = false;
    let mut found = Vec::new();
    for line in source.lines().take_while(|line| line.trim() != "#[cfg(test)]") {
        let text = line.trim_start();
        if text.starts_with("///") {
            example |= text.contains("```");
        } else if !text.starts_with("#[") {
            found.extend(item(line).filter(|_| !example));
            example = false;
        }
    }
    found
}

#[test]
fn every_public_item_of_the_listed_files_has_an_example() {
    for file in FILES {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src").join(file);
        let source = std::fs::read_to_string(path).unwrap();
        assert!(source.contains("\npub "), "{file} has no public item");
        assert_eq!(without_example(&source), Vec::<&str>::new(), "{file}");
    }
}

#[test]
fn an_item_without_an_example_is_found() {
    let source = "/// One.\n/// ```\n/// ```\npub struct A;\n/// Two.\n#[must_use]\npub const fn b() {}\n/// Three.\nfn c() {}\n";
    assert_eq!(without_example(source), ["b"]);
}
