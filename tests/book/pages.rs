//! The pages as lines, with their links and their claims.

use super::names::is_word;
use std::fs;
use std::path::{Path, PathBuf};

/// A line of a page, and where it is.
pub(super) struct Line {
    pub(super) text: String,
    pub(super) number: usize,
    /// The language of the code block around it, if it is inside of one.
    pub(super) code: Option<String>,
}

pub(super) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The chapters of the book.
pub(super) fn chapters() -> Vec<PathBuf> {
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
pub(super) fn pages() -> Vec<PathBuf> {
    let beside = ["README.md", "CONTRIBUTING.md", "docs/SUMMARY.md"].map(|name| root().join(name));
    chapters().into_iter().chain(beside).collect()
}

pub(super) fn name(page: &Path) -> String {
    page.strip_prefix(root()).unwrap().display().to_string()
}

pub(super) fn lines(page: &Path) -> Vec<Line> {
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
pub(super) fn quoted(text: &str) -> Vec<&str> {
    text.split('`').skip(1).step_by(2).collect()
}

/// The names in the lines `Function: ... · Test: ...`: functions, and tests.
pub(super) fn claims(line: &Line) -> Option<(Vec<&str>, Vec<&str>)> {
    if line.code.is_some() {
        return None;
    }
    let (functions, tests) = line.text.strip_prefix("Function: ")?.split_once(" · Test: ")?;
    Some((quoted(functions), quoted(tests)))
}

/// The targets of the links in a line of Markdown, code left out.
pub(super) fn links(line: &str) -> Vec<String> {
    let plain: String = line.split('`').step_by(2).collect();
    let targets = plain.split("](").skip(1).filter_map(|rest| rest.split_once(')'));
    targets.map(|(target, _)| target.to_owned()).collect()
}

/// The anchor that a heading gets, on a forge and in the book.
pub(super) fn anchor(heading: &str) -> String {
    let text = heading.trim_start_matches('#').trim().to_lowercase();
    let kept = text.chars().filter(|&c| is_word(c) || c == ' ' || c == '-');
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}
