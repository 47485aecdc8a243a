//! The pages that people read, held to the code: every formula names the function that is it and the test that proves
//! it, and both exist; every link leads somewhere; every block of code says what it is; every printed result is
//! still printed.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// A line of a page, and where it is.
struct Line {
    text: String,
    number: usize,
    /// The language of the code block around it, if it is inside of one.
    code: Option<String>,
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The chapters of the book.
fn chapters() -> Vec<PathBuf> {
    let folder = fs::read_dir(root().join("docs")).unwrap().map(|entry| entry.unwrap().path());
    let mut pages: Vec<PathBuf> = folder
        .filter(|path| {
            path.extension().is_some_and(|end| end == "md") && !path.ends_with("SUMMARY.md")
        })
        .collect();
    pages.sort();
    assert!(pages.len() > 5, "the chapters are not where they were");
    pages
}

/// The chapters, and the pages beside them.
fn pages() -> Vec<PathBuf> {
    let beside = ["README.md", "CONTRIBUTING.md", "docs/SUMMARY.md"].map(|name| root().join(name));
    chapters().into_iter().chain(beside).collect()
}

fn name(page: &Path) -> String {
    page.strip_prefix(root()).unwrap().display().to_string()
}

fn lines(page: &Path) -> Vec<Line> {
    let text = fs::read_to_string(page).unwrap();
    let mut code: Option<String> = None;
    let mut lines = Vec::new();
    for (at, text) in text.lines().enumerate() {
        let number = at + 1;
        if let Some(language) = text.strip_prefix("```") {
            code = if code.is_some() { None } else { Some(language.to_owned()) };
            lines.push(Line { text: text.into(), number, code: None });
        } else {
            lines.push(Line { text: text.into(), number, code: code.clone() });
        }
    }
    assert!(code.is_none(), "{}: the last block of code does not end", name(page));
    lines
}

/// What stands between backquotes.
fn quoted(text: &str) -> Vec<&str> {
    text.split('`').skip(1).step_by(2).collect()
}

/// The names in the lines `Function: ... · Test: ...`: functions, and tests.
fn claims(line: &Line) -> Option<(Vec<&str>, Vec<&str>)> {
    if line.code.is_some() {
        return None;
    }
    let (functions, tests) = line.text.strip_prefix("Function: ")?.split_once(" · Test: ")?;
    Some((quoted(functions), quoted(tests)))
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Whether `word` stands in `text`, and not as a part of a longer word.
fn has_word(text: &str, word: &str) -> bool {
    text.match_indices(word).any(|(at, _)| {
        !text[..at].ends_with(is_word) && !text[at + word.len()..].starts_with(is_word)
    })
}

/// Whether the crate has an item at `path`, such as `sus_oracle::graph::Graph::paths`.
fn item_exists(path: &str) -> bool {
    let Some(path) = path.strip_prefix("sus_oracle::") else { return false };
    let (mut file, mut folder) = (root().join("src/lib.rs"), root().join("src"));
    let mut rest = path.split("::").peekable();
    while let Some(module) = rest.peek().map(|module| folder.join(format!("{module}.rs"))) {
        if !module.is_file() {
            break;
        }
        folder = module.with_extension("");
        file = module;
        rest.next();
    }
    let source = fs::read_to_string(file).unwrap();
    let kinds = ["fn", "struct", "enum", "trait", "type", "const", "static", "mod"];
    rest.all(|item| {
        source.lines().map(str::trim_start).filter(|line| !line.starts_with("//")).any(|line| {
            let declared = kinds.iter().any(|kind| has_word(line, &format!("{kind} {item}")));
            declared || (line.starts_with("pub use") && has_word(line, item))
        })
    })
}

/// Whether there is a test at `path`, such as `tests/mask.rs::a_window_as_wide_as_a_number_can_be_hides_nothing`.
fn test_exists(path: &str) -> bool {
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
        // The place of a formula that nothing has been said of yet.
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

/// The sources of the crate and of its tests, as one text.
fn sources(folder: &Path, all: &mut String) {
    for entry in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        if entry.is_dir() {
            sources(&entry, all);
        } else if entry.extension().is_some_and(|end| end == "rs") {
            all.push_str(&fs::read_to_string(&entry).unwrap());
        }
    }
}

#[test]
fn every_file_of_tests_and_every_name_as_long_as_a_sentence_exists() {
    let mut all = String::new();
    sources(&root().join("src"), &mut all);
    sources(&root().join("tests"), &mut all);
    let mut missing = Vec::new();
    for page in pages() {
        for line in lines(&page).iter().filter(|line| line.code.is_none()) {
            for quoted in quoted(&line.text) {
                let at = format!("{}:{}", name(&page), line.number);
                let file = quoted.split("::").next().unwrap_or_default();
                if file.starts_with("tests/") && !root().join(file).exists() {
                    missing.push(format!("{at}: there is no {file}"));
                }
                let word = quoted.rsplit("::").next().unwrap_or_default();
                let is_sentence =
                    word.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
                        && word.matches('_').count() >= 4
                        && !word.starts_with('_');
                if is_sentence && !has_word(&all, &format!("fn {word}")) {
                    missing.push(format!("{at}: there is no function {word}"));
                }
            }
        }
    }
    report(&missing);
}

/// The targets of the links in a line of Markdown, code left out.
fn links(line: &str) -> Vec<String> {
    let plain: String = line.split('`').step_by(2).collect();
    let targets = plain.split("](").skip(1).filter_map(|rest| rest.split_once(')'));
    targets.map(|(target, _)| target.to_owned()).collect()
}

/// The anchor that a heading gets, on a forge and in the book.
fn anchor(heading: &str) -> String {
    let text = heading.trim_start_matches('#').trim().to_lowercase();
    let kept = text.chars().filter(|&c| is_word(c) || c == ' ' || c == '-');
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
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
    let known = ["console", "cpp", "cuda", "json", "python", "rust", "sh", "text", "toml"];
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

/// A command of a page and what the page says it prints.
#[cfg(unix)]
struct Shown {
    at: String,
    arguments: Vec<String>,
    output: Vec<String>,
}

/// The commands `$ sus-oracle ...` of the blocks of `console` that show an output. A block of `console varies`
/// shows one that no two runs have in common.
#[cfg(unix)]
fn shown() -> Vec<Shown> {
    let mut all: Vec<Shown> = Vec::new();
    for page in pages() {
        let mut running = false;
        for line in lines(&page) {
            if line.code.as_deref() != Some("console") {
                running = false;
            } else if let Some(command) = line.text.strip_prefix("$ ") {
                let command = command.replace("cargo run --release -- ", "sus-oracle ");
                let arguments = command.strip_prefix("sus-oracle ").map(|arguments| {
                    arguments.split_whitespace().map(ToOwned::to_owned).collect::<Vec<_>>()
                });
                running = arguments.is_some();
                let at = format!("{}:{}", name(&page), line.number);
                all.extend(arguments.map(|arguments| Shown { at, arguments, output: Vec::new() }));
            } else if running {
                all.last_mut().unwrap().output.push(line.text);
            }
        }
    }
    all.retain(|shown| !shown.output.is_empty());
    all
}

#[cfg(unix)]
#[test]
fn every_shown_command_prints_what_the_page_shows() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["fixtures", "tests"] {
        std::os::unix::fs::symlink(root().join(name), folder.path().join(name)).unwrap();
    }
    let shown = shown();
    assert!(!shown.is_empty(), "no page shows what a command prints");
    let mut wrong = Vec::new();
    for Shown { at, arguments, output } in shown {
        let mut command = assert_cmd::Command::cargo_bin("sus-oracle").unwrap();
        let found = command.current_dir(folder.path()).args(&arguments).output().unwrap();
        let said =
            [found.stdout, found.stderr].map(|text| String::from_utf8(text).unwrap()).concat();
        // A line of three dots stands for any lines; times differ from run to run.
        let mut rest = said.lines().map(str::trim_end);
        let mut skipping = false;
        for line in output.iter().map(|line| line.trim_end()) {
            if line == "..." {
                skipping = true;
                continue;
            }
            let same = |found: &str| {
                found == line || (line.starts_with("time ") && found.starts_with("time "))
            };
            let fits = if skipping { rest.any(same) } else { rest.next().is_some_and(same) };
            skipping = false;
            if !fits {
                wrong.push(format!(
                    "{at}: sus-oracle {} does not print `{line}`, but\n{said}",
                    arguments.join(" ")
                ));
                break;
            }
        }
    }
    report(&wrong);
}

#[test]
fn what_does_not_exist_is_found_missing() {
    assert!(item_exists("sus_oracle::backward::backward"));
    assert!(item_exists("sus_oracle::graph::Graph::paths"));
    assert!(item_exists("sus_oracle::sus::uniform::keep32"));
    assert!(!item_exists("sus_oracle::backward::backwar"));
    assert!(!item_exists("sus_oracle::sideways::backward"));
    assert!(!item_exists("backward::backward"));
    assert!(test_exists("tests/mask.rs::a_window_as_wide_as_a_number_can_be_hides_nothing"));
    assert!(test_exists("tests/backward.rs::a_constant_added_to_every_value_leaves_dq_and_dk"));
    assert!(!test_exists("tests/backward.rs::derivative"), "a helper is no test");
    assert!(!test_exists("tests/backward.rs::a_constant_added_to_every_value"));
    assert!(!test_exists("tests/nothing.rs::derivative"));
    assert_eq!(links("see [a](b.md) and `[c](d.md)`, [e](f.md#g)"), ["b.md", "f.md#g"]);
    assert_eq!(anchor("## Kept weights, and `nnz`"), "kept-weights-and-nnz");
}
