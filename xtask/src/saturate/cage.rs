//! A limit of memory that the system enforces: a control group, of either version.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// Where version 1 has the controller of memory, where there is one.
const OLD: &str = "/sys/fs/cgroup/memory";
/// Where version 2 is.
const NEW: &str = "/sys/fs/cgroup";

/// A control group; it is removed when this is dropped, if nobody is in it any more.
pub(super) struct Cage {
    folder: PathBuf,
    /// The file that counts who was killed for want of memory, as a line `oom_kill N`.
    events: &'static str,
}

impl Cage {
    /// One of so many bytes.
    pub(super) fn new(bytes: u64) -> Result<Self> {
        let is_old = Path::new(OLD).is_dir();
        let (root, limit, events) = if is_old {
            (OLD, "memory.limit_in_bytes", "memory.oom_control")
        } else {
            (NEW, "memory.max", "memory.events")
        };
        if !is_old {
            put(&Path::new(NEW).join("cgroup.subtree_control"), "+memory")?;
        }
        let folder = Path::new(root).join(format!("fulmar-saturate-{}", std::process::id()));
        fs::create_dir(&folder)
            .with_context(|| format!("could not make the control group {} (root may)", folder.display()))?;
        let cage = Self { folder, events };
        put(&cage.folder.join(limit), &bytes.to_string())?;
        Ok(cage)
    }

    /// Puts a process in it: what it takes from now on counts.
    pub(super) fn take(&self, process: u32) -> Result<()> {
        put(&self.folder.join("cgroup.procs"), &process.to_string())
    }

    /// How many of its processes were killed for want of memory.
    pub(super) fn kills(&self) -> Result<u64> {
        let path = self.folder.join(self.events);
        let text = fs::read_to_string(&path).with_context(|| format!("could not read {}", path.display()))?;
        let count = text.lines().find_map(|line| line.strip_prefix("oom_kill "));
        count
            .and_then(|count| count.trim().parse().ok())
            .with_context(|| format!("{} has no oom_kill", path.display()))
    }
}

impl Drop for Cage {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir(&self.folder) {
            eprintln!("the control group {} stays: {error}", self.folder.display());
        }
    }
}

fn put(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text)
        .with_context(|| format!("could not write {text:?} to {} (root may)", path.display()))
}
