//! The pictures of the book are those that the command draws from the committed data.

use assert_cmd::Command;

#[test]
fn no_picture_of_the_book_is_stale() {
    let folder = tempfile::tempdir().unwrap();
    let sets = [("layer2", &["variance", "kept", "counts"][..]), ("sequences", &["increase"])];
    for (problem, pictures) in sets {
        let out = folder.path().join(problem);
        let problem = format!("fixtures/real/{problem}.safetensors");
        let mut command = Command::cargo_bin("sus-oracle").unwrap();
        command.args(["analyze", &problem, "--out"]).arg(&out).assert().success();
        for picture in pictures {
            let name = format!("{picture}.svg");
            let kept = std::fs::read_to_string(format!("docs/pictures/{name}")).unwrap();
            let made = std::fs::read_to_string(out.join(&name)).unwrap();
            assert!(kept == made, "{name} is stale: bash docs/pictures/make.sh makes it again");
        }
    }
}
