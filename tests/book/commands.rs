//! Every command of a page that shows an output is run again.
#![cfg(unix)]

use super::pages::{lines, name, pages, root};
use super::report;

/// A command of a page, and the output below it.
struct Shown {
    at: String,
    arguments: Vec<String>,
    output: Vec<String>,
}

/// The commands `$ sus-oracle ...` of the blocks of `console` that show an output. The output of a block of
/// `console varies` is not compared.
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

#[test]
fn every_shown_command_prints_what_the_page_shows() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["fixtures", "tests", "crates"] {
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
