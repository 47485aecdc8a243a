//! The command's report names the bug of a wrong kernel.

/// The command on the broken example: it fails, and the report names the bug.
#[test]
fn the_report_of_the_broken_example_names_its_bug() {
    let mut command = assert_cmd::Command::cargo_bin("sus-oracle").expect("the command");
    let (case, candidate) =
        ("fixtures/broken/case.safetensors", "fixtures/broken/candidate.safetensors");
    let run = command.args(["check", case, candidate, "--recipe", "flash-bf16"]).assert().code(1);
    let said = String::from_utf8_lossy(&run.get_output().stdout).into_owned();
    let line = said.lines().find(|line| line.starts_with("diagnosis")).expect("a diagnosis");
    assert!(line.contains("(delta_of_row_mod_tile: "), "{line}");
    assert!(line.contains("flash-attention b3f1b6a5"), "{line}");
}
