//! The pictures of the book are those that the command draws from the committed data. That of the gallery,
//! `ratios.svg`, is compared in `tests/kill_matrix.rs`, which has the matrix at hand.

use assert_cmd::Command;
use std::path::Path;

/// Compares a picture that was made with the one of the same name in the book.
fn is_current(made: &Path) {
    let name = made.file_name().unwrap().to_str().unwrap();
    let kept = std::fs::read_to_string(Path::new("docs/pictures").join(name)).unwrap();
    let made = std::fs::read_to_string(made).unwrap();
    assert!(kept == made, "{name} is stale: bash docs/pictures/make.sh makes it again");
}

#[test]
fn no_picture_of_an_analysis_is_stale() {
    let folder = tempfile::tempdir().unwrap();
    let sets =
        [("layer2", &["variance", "kept", "counts", "weights"][..]), ("sequences", &["increase"])];
    for (problem, pictures) in sets {
        let out = folder.path().join(problem);
        let problem = format!("fixtures/real/{problem}.safetensors");
        let mut command = Command::cargo_bin("sus-oracle").unwrap();
        command.args(["analyze", &problem, "--out"]).arg(&out).assert().success();
        for picture in pictures {
            is_current(&out.join(format!("{picture}.svg")));
        }
    }
}

#[test]
fn the_picture_of_the_broken_kernels_errors_is_not_stale() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("errors.svg");
    let files = ["case", "candidate"].map(|name| format!("fixtures/broken/{name}.safetensors"));
    let mut command = Command::cargo_bin("sus-oracle").unwrap();
    command.arg("check").args(files).arg("--plot").arg(&out).assert().code(1);
    is_current(&out);
}

/// The book shows every picture of its folder, and no other.
#[test]
fn every_picture_is_shown_in_the_book() {
    let folder = std::fs::read_dir("docs").unwrap().map(|entry| entry.unwrap().path());
    let pages: String = folder
        .filter(|page| page.is_file())
        .map(|page| std::fs::read_to_string(page).unwrap())
        .collect();
    for picture in std::fs::read_dir("docs/pictures").unwrap() {
        let name = picture.unwrap().file_name().into_string().unwrap();
        let shown = pages.contains(&format!("](pictures/{name})"));
        assert!(shown != (name == "make.sh"), "{name}");
    }
}
