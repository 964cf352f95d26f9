//! The patch files: a header for people, then what `git apply` takes.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};

use crate::workspace::Workspace;

/// Where they are, from the top of the checkout.
pub(crate) const FOLDER: &str = "core/tests/flaws";

/// One flaw.
pub(crate) struct Patch {
    /// The file's name without its end.
    pub(crate) name: String,
    /// The sentence that it breaks.
    pub(crate) breaks: String,
    pub(crate) path: PathBuf,
}

/// All of them, by name.
pub(crate) fn all(workspace: &Workspace) -> Result<Vec<Patch>> {
    let folder = workspace.path(FOLDER);
    let files = fs::read_dir(&folder).with_context(|| format!("could not read {}", folder.display()))?;
    let mut patches = Vec::new();
    for file in files {
        let path = file?.path();
        if path.extension().is_some_and(|end| end == "patch") {
            patches.push(read(path)?);
        }
    }
    patches.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(patches)
}

fn read(path: PathBuf) -> Result<Patch> {
    let text = fs::read_to_string(&path).with_context(|| format!("could not read {}", path.display()))?;
    let Some(breaks) = text.lines().next().and_then(|line| line.strip_prefix("Breaks: ")) else {
        bail!("{}: the first line is not `Breaks: SENTENCE`", path.display());
    };
    let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    Ok(Patch { name, breaks: breaks.to_owned(), path })
}
