//! The pages that people read, compared with the code: every formula names its function and its test, and both exist;
//! every link and every path has a target; every block of code names its language; every printed result is current.

mod commands;
mod names;
mod pages;

use names::{declared, item_exists, test_exists};
use pages::{anchor, chapters, claims, lines, links, name, pages, quoted, root};
use std::collections::BTreeSet;
use std::fs;

fn report(found: &[String]) {
    assert!(found.is_empty(), "\n{}", found.join("\n"));
}

#[test]
fn every_chapter_is_in_the_summary_once_and_every_entry_is_a_chapter() {
    let summary = root().join("docs/SUMMARY.md");
    let entries: Vec<String> = lines(&summary).iter().flat_map(|line| links(&line.text)).collect();
    let named: BTreeSet<&str> = entries.iter().map(String::as_str).collect();
    assert_eq!(named.len(), entries.len(), "a chapter is named twice");
    let there: Vec<String> =
        chapters().iter().map(|page| page.file_name().unwrap().to_str().unwrap().into()).collect();
    assert_eq!(named, there.iter().map(String::as_str).collect());
}

#[test]
fn every_named_function_and_every_named_test_exists() {
    let mut missing = Vec::new();
    let mut count = 0;
    for page in pages() {
        for line in lines(&page) {
            let at = format!("{}:{}", name(&page), line.number);
            if line.code.is_none() && line.text.starts_with("Function: ") && claims(&line).is_none()
            {
                missing.push(format!("{at}: expected `Function: ... · Test: ...`"));
            }
            let Some((functions, tests)) = claims(&line) else { continue };
            if functions.is_empty() || tests.is_empty() {
                missing.push(format!("{at}: names no function, or no test"));
            }
            count += tests.len();
            let functions = functions.iter().filter(|path| !item_exists(path));
            missing.extend(functions.map(|path| format!("{at}: there is no item {path}")));
            let tests = tests.iter().filter(|path| !test_exists(path));
            missing.extend(tests.map(|path| format!("{at}: there is no test {path}")));
        }
    }
    report(&missing);
    assert!(count > 20, "the book names {count} tests");
}

#[test]
fn every_section_with_a_formula_names_its_function_and_its_test() {
    let mut bare = Vec::new();
    for page in chapters() {
        // The line of the section's first formula, until a claim follows.
        let mut open: Option<usize> = None;
        let mut inside = false;
        let mut close = |open: &mut Option<usize>| {
            if let Some(number) = open.take() {
                bare.push(format!(
                    "{}:{number}: a formula without `Function: ... · Test: ...`",
                    name(&page)
                ));
            }
        };
        for line in lines(&page).iter().filter(|line| line.code.is_none()) {
            if line.text.starts_with('#') {
                close(&mut open);
            }
            if line.text.trim() == "$$" {
                inside = !inside;
                if inside && open.is_none() {
                    open = Some(line.number);
                }
            }
            if claims(line).is_some() {
                open = None;
            }
        }
        close(&mut open);
        assert!(!inside, "{}: the last formula does not end", name(&page));
    }
    report(&bare);
}

#[test]
fn every_path_of_the_repository_and_every_name_as_long_as_a_sentence_exists() {
    let declared = declared(&["src", "tests", "crates", "proofs"]);
    let mut missing = Vec::new();
    for page in pages() {
        for line in lines(&page).iter().filter(|line| line.code.is_none()) {
            for quoted in quoted(&line.text) {
                let at = format!("{}:{}", name(&page), line.number);
                let file = quoted.split("::").next().unwrap_or_default();
                let is_path = ["tests/", "crates/", "src/", "docs/", "proofs/", ".ci/"]
                    .iter()
                    .any(|folder| file.starts_with(folder) && !file.contains(['*', ' ', '<']));
                if is_path && !root().join(file).exists() {
                    missing.push(format!("{at}: there is no {file}"));
                }
                let word = quoted.rsplit("::").next().unwrap_or_default();
                let is_sentence =
                    word.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
                        && word.matches('_').count() >= 4
                        && !word.starts_with('_');
                if is_sentence && !declared.contains(word) {
                    missing.push(format!("{at}: there is no function or theorem {word}"));
                }
            }
        }
    }
    report(&missing);
}

#[test]
fn every_link_leads_somewhere() {
    let mut dead = Vec::new();
    for page in pages() {
        for line in lines(&page).iter().filter(|line| line.code.is_none()) {
            for link in links(&line.text) {
                if link.contains("://") {
                    continue;
                }
                let (file, place) = link.split_once('#').unwrap_or((&link, ""));
                let target = if file.is_empty() { page.clone() } else { page.with_file_name(file) };
                let lives = target.exists()
                    && (place.is_empty()
                        || lines(&target).iter().any(|line| {
                            line.code.is_none()
                                && line.text.starts_with('#')
                                && anchor(&line.text) == place
                        }));
                if !lives {
                    dead.push(format!("{}:{}: {link} leads nowhere", name(&page), line.number));
                }
            }
        }
    }
    report(&dead);
}

#[test]
fn every_block_of_code_says_its_language_and_pages_with_rust_are_doctests() {
    let doctests = fs::read_to_string(root().join("src/book.rs")).unwrap();
    let known = ["console", "coq", "cpp", "cuda", "json", "python", "rust", "sh", "text", "toml"];
    let mut wrong = Vec::new();
    for page in pages() {
        let mut inside = false;
        for line in lines(&page) {
            let Some(info) = line.text.strip_prefix("```").filter(|_| line.code.is_none()) else {
                continue;
            };
            inside = !inside;
            let language = info.split([' ', ',']).next().unwrap_or_default();
            let at = format!("{}:{}", name(&page), line.number);
            if inside && !known.contains(&language) {
                wrong.push(format!("{at}: expected a block of {}", known.join(", ")));
            }
            let included = format!("include_str!(\"../{}\")", name(&page));
            if inside && language == "rust" && !doctests.contains(&included) {
                wrong.push(format!(
                    "{at}: src/book.rs does not include this page, so its Rust is not run"
                ));
            }
        }
    }
    report(&wrong);
}

#[test]
fn what_does_not_exist_is_found_missing() {
    assert!(item_exists("sus_oracle::backward::backward"));
    assert!(item_exists("sus_oracle::sus::uniform::keep32"));
    assert!(item_exists("sus_oracle::files::settings::Settings"));
    assert!(item_exists("sus_oracle::judge"));
    assert!(!item_exists("sus_oracle::backward::backwar"));
    assert!(!item_exists("sus_oracle::sideways::backward"));
    assert!(!item_exists("backward::backward"));
    let tests = "crates/reference/tests";
    let test = |name: &str| test_exists(&format!("{tests}/{name}"));
    assert!(test("mask.rs::a_window_as_wide_as_a_number_can_be_hides_nothing"));
    assert!(!test("backward.rs::derivative"), "a helper is no test");
    assert!(!test("backward.rs::a_constant_added_to_every_value"), "a part of a name");
    assert!(!test("nothing.rs::derivative"));
    assert_eq!(links("see [a](b.md) and `[c](d.md)`, [e](f.md#g)"), ["b.md", "f.md#g"]);
    assert_eq!(anchor("## Kept weights, and `nnz`"), "kept-weights-and-nnz");
}
