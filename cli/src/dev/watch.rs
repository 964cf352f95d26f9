//! Notices that a file was saved.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use notify::{Event, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::exit::Failed;

/// Editors write a file in several steps: it is read when nothing has happened for so long.
const QUIET: Duration = Duration::from_millis(200);

/// Tells of saves as long as it is kept.
pub(crate) struct Saves {
    _watcher: RecommendedWatcher,
    changes: mpsc::UnboundedReceiver<()>,
    /// When the files will have been quiet for long enough; absent: nothing has happened.
    quiet_at: Option<Instant>,
}

/// Watches the folders that the files are in: most editors replace a file instead of writing into it.
pub(crate) fn watch(files: &[PathBuf]) -> Result<Saves, Failed> {
    let names: Vec<OsString> = files.iter().filter_map(|file| file.file_name().map(OsString::from)).collect();
    // Unbounded, but drained at once: an event is nothing but "look again".
    let (sender, changes) = mpsc::unbounded_channel();
    let handler = move |event: Result<Event, notify::Error>| {
        let concerns =
            |path: &PathBuf| path.file_name().is_some_and(|name| names.iter().any(|one| one == name));
        // An error, such as too many events at once: look again too.
        if event.map_or(true, |event| !event.kind.is_access() && event.paths.iter().any(concerns)) {
            let _ = sender.send(());
        }
    };
    let cannot = |error: notify::Error| Failed::Failure(format!("cannot watch the files: {error}"));
    let mut watcher = notify::recommended_watcher(handler).map_err(cannot)?;
    for file in files {
        let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        watcher.watch(folder, RecursiveMode::NonRecursive).map_err(cannot)?;
    }
    Ok(Saves { _watcher: watcher, changes, quiet_at: None })
}

impl Saves {
    /// Waits until a file was saved. Cancelling the wait loses nothing.
    pub(crate) async fn saved(&mut self) {
        loop {
            let quiet = async {
                match self.quiet_at {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                Some(()) = self.changes.recv() => self.quiet_at = Some(Instant::now() + QUIET),
                () = quiet => {
                    self.quiet_at = None;
                    return;
                }
            }
        }
    }
}
