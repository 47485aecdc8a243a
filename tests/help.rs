//! The text of every `--help` at 100 columns, as it was reviewed.

use assert_cmd::Command;

/// The arguments before `--help`.
const PAGES: [&str; 16] = [
    "",
    "analyze",
    "bench",
    "check",
    "choose-c",
    "completions",
    "fixtures",
    "fixtures export",
    "fixtures list",
    "fixtures verify",
    "grad",
    "man",
    "merge",
    "power",
    "projections",
    "selftest",
];

fn help(page: &str) -> String {
    let mut command = Command::cargo_bin("sus-oracle").unwrap();
    command.env("COLUMNS", "100").args(page.split_whitespace()).arg("--help");
    let output = command.assert().success().get_output().clone();
    assert!(output.stderr.is_empty());
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn every_help_text_is_the_reviewed_one() {
    let mut settings = insta::Settings::clone_current();
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| {
        for page in PAGES {
            let name = format!("help {page}").trim().replace(' ', "-");
            insta::assert_snapshot!(name, help(page));
        }
    });
}

#[test]
fn every_command_has_a_reviewed_help_text() {
    let main = help("");
    let list = main.split("Commands:\n").nth(1).unwrap().split("\n\n").next().unwrap();
    let entries = list.lines().filter(|line| line.starts_with("  ") && !line.starts_with("   "));
    for name in entries.map(|line| line.split_whitespace().next().unwrap()) {
        assert!(name == "help" || PAGES.contains(&name), "{name} is not in the list");
    }
}

#[test]
fn every_option_is_described() {
    for page in PAGES {
        let text = help(page);
        let described = text.lines().collect::<Vec<_>>();
        for (at, line) in described.iter().enumerate() {
            let option = line.trim_start();
            if line.starts_with("  ") && (option.starts_with("--") || option.starts_with("-h")) {
                let same_line =
                    option.split_once("  ").is_some_and(|(_, rest)| !rest.trim().is_empty());
                let next = described.get(at + 1).is_some_and(|next| next.starts_with("          "));
                assert!(same_line || next, "{page}: no description of `{option}`");
            }
        }
    }
}
