//! The laws that the command proves again, and what its exit code says.

use sus_properties::PROPERTIES;

/// A quick run of the command: one line for each law and one for the matrix, all of which pass.
#[test]
fn the_command_says_pass_for_each_law_and_exits_with_0() {
    let mut command = assert_cmd::Command::cargo_bin("sus-oracle").expect("the command");
    let run = command.args(["selftest", "--quick"]).assert().code(0);
    let said = String::from_utf8_lossy(&run.get_output().stdout).into_owned();
    assert_eq!(said.lines().count(), PROPERTIES.len() + 1, "{said}");
    assert!(said.lines().all(|line| line.starts_with("PASS  ")), "{said}");
}
