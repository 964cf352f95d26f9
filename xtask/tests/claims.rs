//! docs/safety.md and ARCHITECTURE.md name beside each promise what checks it; each of these has to exist.

// A test may end itself.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

#[test]
fn each_promise_names_a_check_that_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let (tests, kinds) = (tests(root), kinds(root));
    for (page, least) in [("docs/safety.md", 40), ("ARCHITECTURE.md", 20)] {
        let text = std::fs::read_to_string(root.join(page)).unwrap();
        let mut named = 0;
        for code in text.split('`').skip(1).step_by(2) {
            let exists = match code.split_once(':') {
                Some((_, "")) => continue,
                Some(("faults", kind)) => kinds.contains(kind),
                Some(("flaw", flaw)) => root.join(format!("core/tests/flaws/{flaw}.patch")).exists(),
                Some(("observer", function)) => function_of_the_observer(root, function),
                _ if is_a_test_s_name(code) => tests.contains(code),
                _ => continue,
            };
            assert!(exists, "{page}: there is no {code}");
            named += 1;
        }
        assert!(named >= least, "{page}: only {named} checks are named: are they found at all?");
    }
}

fn function_of_the_observer(root: &Path, rest: &str) -> bool {
    let text = std::fs::read_to_string(root.join("core/tests/simulation/observer.rs")).unwrap();
    text.contains(&format!("fn {}(", rest.trim_start_matches(':')))
}

/// Settings, metrics and commands stand between backticks too; tests' names are sentences.
fn is_a_test_s_name(code: &str) -> bool {
    code.matches('_').count() >= 4 && code.chars().all(|one| one == '_' || one.is_ascii_alphanumeric())
}

/// Whatever has an attribute of a test above it, in any source file of the workspace.
fn tests(root: &Path) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for file in sources(root) {
        let mut is_test = false;
        for line in std::fs::read_to_string(file).unwrap().lines().map(str::trim_start) {
            is_test |= line.starts_with("#[test]") || line.starts_with("#[tokio::test");
            let declared = line.strip_prefix("async ").unwrap_or(line).strip_prefix("fn ");
            if let (true, Some(declared)) = (is_test, declared) {
                names.insert(declared.split('(').next().unwrap().to_owned());
                is_test = false;
            }
        }
    }
    names
}

fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() && name != "target" && !name.starts_with('.') {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found
}

/// The kinds of blows of `cargo xtask faults`.
fn kinds(root: &Path) -> BTreeSet<String> {
    let text = std::fs::read_to_string(root.join("faults/src/blows/mod.rs")).unwrap();
    let variants = text.lines().filter_map(|line| line.trim().strip_suffix(','));
    variants.filter(|name| name.chars().all(char::is_alphanumeric)).map(str::to_owned).collect()
}
