//! `sus-oracle completions` and `sus-oracle man`.

use assert_cmd::Command;

fn said(arguments: &[&str]) -> String {
    let mut command = Command::cargo_bin("sus-oracle").unwrap();
    let output = command.args(arguments).assert().success().get_output().clone();
    assert!(output.stderr.is_empty());
    String::from_utf8(output.stdout).unwrap()
}

/// The names of the commands, as the help lists them.
fn commands() -> Vec<String> {
    let help = said(&["--help"]);
    let list = help.split("Commands:\n").nth(1).unwrap().split("\n\n").next().unwrap();
    let entries = list.lines().filter(|line| line.starts_with("  ") && !line.starts_with("   "));
    let names = entries.map(|line| line.split_whitespace().next().unwrap().to_owned());
    names.filter(|name| name != "help").collect()
}

#[test]
fn every_shell_gets_completions_that_know_every_command_and_its_options() {
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let script = said(&["completions", shell]);
        for word in commands().iter().map(String::as_str).chain(["uniform-bits", "segments-q"]) {
            assert!(script.contains(word), "{word} is unknown in {shell}");
        }
    }
}

#[test]
fn the_manual_page_lists_every_command_and_each_has_its_own() {
    let page = said(&["man"]);
    assert!(page.contains(".TH sus-oracle 1"), "{page}");
    assert!(commands().len() >= 3);
    for name in commands() {
        assert!(
            page.contains(&format!("sus\\-oracle\\-{}(1)", name.replace('-', "\\-"))),
            "{name} in\n{page}"
        );
        let own = said(&["man", &name]);
        assert!(own.contains(&format!(".TH sus-oracle-{name} 1")), "{own}");
    }
    assert!(said(&["man", "grad"]).contains("fixtures/real/layer2.safetensors"));
}

/// An example is a whole command line, and what it reads of the source is there.
#[test]
fn every_help_shows_an_example_that_can_be_run_as_it_is() {
    let mut paths = vec![vec!["--help".to_owned()]];
    paths.extend(commands().into_iter().map(|name| vec![name, "--help".into()]));
    for action in ["export", "verify", "list"] {
        paths.push(["fixtures", action, "--help"].map(ToOwned::to_owned).into());
    }
    for path in paths {
        let arguments: Vec<&str> = path.iter().map(String::as_str).collect();
        let help = said(&arguments);
        let name = arguments.split_last().unwrap().1.join(" ");
        let begin = format!("  sus-oracle {name}");
        let examples: Vec<&str> = help.lines().filter(|line| line.starts_with(&begin)).collect();
        assert!(!examples.is_empty(), "no example of `{name}` in\n{help}");
        let words = examples.iter().flat_map(|line| line.split_whitespace());
        for file in words.filter(|word| word.starts_with("fixtures/")) {
            assert!(std::path::Path::new(file).exists(), "{name}: there is no {file}");
        }
    }
}

#[test]
fn a_page_of_no_command_is_refused_in_one_line() {
    let mut command = Command::cargo_bin("sus-oracle").unwrap();
    let output = command.args(["man", "gard"]).assert().code(2).get_output().clone();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.starts_with("error: command: expected one of grad,"), "{said}");
    assert!(said.ends_with(", found 'gard'\n") && said.matches('\n').count() == 1, "{said}");
}
