//! ARCHITECTURE.md says which crate may depend on which; the `Cargo.toml` files say which does.

// A test may end itself.
#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

type Directions = BTreeMap<String, BTreeSet<String>>;

#[test]
fn crates_depend_on_each_other_as_the_architecture_says() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let written = written(&std::fs::read_to_string(root.join("ARCHITECTURE.md")).unwrap());
    assert!(written.len() >= 6, "the sentence with the directions is not found any more: {written:?}");
    assert_eq!(declared(root), written, "left: the Cargo.toml files; right: ARCHITECTURE.md");
}

/// From the paragraph that has: `broker → core, proto`; `steward → …`.
fn written(text: &str) -> Directions {
    let paragraph =
        text.split("\n\n").find(|paragraph| paragraph.contains("directions of dependency")).unwrap();
    let code = paragraph.split('`').skip(1).step_by(2);
    let arrows = code.filter_map(|code| code.split_once(" → "));
    let crates = |list: &str| list.split(',').map(|name| name.trim().to_owned()).collect();
    arrows.map(|(from, to)| (from.to_owned(), crates(to))).collect()
}

/// Folders of the workspace, each with those that it depends on in any way; one that depends on none is left out.
fn declared(root: &Path) -> Directions {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let mut command = Command::new(cargo);
    command.current_dir(root).args(["metadata", "--format-version=1", "--no-deps", "--offline"]);
    let metadata: serde_json::Value = serde_json::from_slice(&command.output().unwrap().stdout).unwrap();
    let mut directions = Directions::new();
    for package in metadata["packages"].as_array().unwrap() {
        let from = Path::new(package["manifest_path"].as_str().unwrap()).parent().unwrap();
        for dependency in package["dependencies"].as_array().unwrap() {
            let Some(to) = dependency["path"].as_str() else { continue };
            directions.entry(folder(from)).or_default().insert(folder(Path::new(to)));
        }
    }
    directions
}

fn folder(path: &Path) -> String {
    path.file_name().unwrap().to_str().unwrap().to_owned()
}
