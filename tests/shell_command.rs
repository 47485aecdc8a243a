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

#[test]
fn a_page_of_no_command_is_refused_in_one_line() {
    let mut command = Command::cargo_bin("sus-oracle").unwrap();
    let output = command.args(["man", "gard"]).assert().code(2).get_output().clone();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.starts_with("error: command: expected one of grad,"), "{said}");
    assert!(said.ends_with(", found 'gard'\n") && said.matches('\n').count() == 1, "{said}");
}
