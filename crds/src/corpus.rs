//! The corpus: manifests that are good, and manifests that are not, each with what is to be said of it.
//!
//! Owns how a file of `crds/corpus` is read. It is here, and not beside one test, because two run it: the test of
//! [`crate::admission`], and the one that asks a real API server. Never: a verdict.
//!
//! A file begins with comments: what the case is about, then `# expect: TEXT` for every text that a refusal must contain,
//! or `# stored: POINTER JSON` for a value that must be found in what is stored. Of several documents, which are about one
//! object, each is a change of the one before it; all but the last are good, and the last one is the case. A `status` in a
//! document is written after it, as the operator would.

use std::path::{Path, PathBuf};
use std::{fs, io};

use serde_json::Value;

/// One file.
#[derive(Debug, Clone)]
pub struct Case {
    /// The file.
    pub path: PathBuf,
    /// The documents, as texts, in order.
    pub documents: Vec<String>,
    /// What the refusal must contain: empty for a good case.
    pub expected: Vec<String>,
    /// What is stored in the end: JSON pointers and values.
    pub stored: Vec<(String, Value)>,
}

/// The good cases.
///
/// # Errors
/// A folder or file that cannot be read, or a head that is not as described above.
pub fn good() -> io::Result<Vec<Case>> {
    cases("good")
}

/// The bad cases.
///
/// # Errors
/// As for [`good`].
pub fn bad() -> io::Result<Vec<Case>> {
    cases("bad")
}

fn cases(folder: &str) -> io::Result<Vec<Case>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(folder);
    let mut paths =
        fs::read_dir(folder)?.map(|entry| entry.map(|entry| entry.path())).collect::<Result<Vec<_>, _>>()?;
    paths.sort();
    paths.into_iter().map(case).collect()
}

fn case(path: PathBuf) -> io::Result<Case> {
    let text = fs::read_to_string(&path)?;
    let heads = |prefix| text.lines().filter_map(move |line: &str| line.strip_prefix(prefix));
    let stored = |line: &str| {
        let (pointer, json) = line.split_once(' ')?;
        Some((pointer.to_owned(), serde_json::from_str(json).ok()?))
    };
    let malformed =
        || io::Error::other(format!("{}: a line `# stored:` has a pointer and JSON", path.display()));
    Ok(Case {
        expected: heads("# expect: ").map(str::to_owned).collect(),
        stored: heads("# stored: ")
            .map(|line| stored(line).ok_or_else(malformed))
            .collect::<Result<_, _>>()?,
        documents: text.split("\n---\n").map(str::to_owned).collect(),
        path,
    })
}
