//! `docker build` from a fresh clone: what it compiles from must be let into its context.

// A test may end itself.
#![allow(clippy::unwrap_used)]

use std::path::Path;

#[test]
fn every_crate_of_the_workspace_is_let_into_the_context_of_an_image() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let read = |name: &str| std::fs::read_to_string(root.join(name)).unwrap();
    let ignore = read(".dockerignore");
    let manifest = read("Cargo.toml");
    let members = manifest.split_once("members = [").unwrap().1.split_once(']').unwrap().0;
    let members: Vec<&str> = members.split('"').skip(1).step_by(2).collect();
    assert!(members.len() >= 10, "the members are not found any more: {members:?}");
    for member in members {
        // The workspace is read whole, whichever crate is built; a crate's manifest needs its sources beside it.
        let whole = format!("!{member}");
        let parts = [format!("!{member}/Cargo.toml"), format!("!{member}/src")];
        let has = |line: &String| ignore.lines().any(|other| other == line);
        assert!(
            has(&whole) || parts.iter().all(has),
            ".dockerignore keeps {member} out: docker build would fail"
        );
    }
}
