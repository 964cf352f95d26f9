//! A planted flaw that no longer fits shows nothing: it is made anew with the change that moved what it changes.

// A test may end itself.
#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::process::Command;

#[test]
fn every_flaw_fits_the_code_as_it_is() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let folder = std::fs::read_dir(root.join("core/tests/flaws")).unwrap();
    let mut flaws: Vec<_> = folder.map(|entry| entry.unwrap().path()).collect();
    flaws.sort();
    assert!(flaws.len() >= 26, "flaws are missing: {flaws:?}");
    let fits = |flaw: &&std::path::PathBuf| {
        let check = Command::new("git").current_dir(root).args(["apply", "--check"]).arg(flaw).output();
        check.unwrap().status.success()
    };
    let unfit: Vec<_> = flaws.iter().filter(|flaw| !fits(flaw)).collect();
    assert!(unfit.is_empty(), "no longer fit: {unfit:?}");
}
