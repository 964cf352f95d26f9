//! Files that were made, moved and removed in folders that are not synced, in order, each a line of tabs: what, paths, and the folders
//! that wait for their sync.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

#[derive(Debug, Clone, PartialEq, Eq)]
enum Change {
    Made(PathBuf),
    /// From, to, and a copy of what was replaced.
    Moved(PathBuf, PathBuf, Option<PathBuf>),
    /// And a copy of it.
    Removed(PathBuf, PathBuf),
}

/// See the module.
#[derive(Debug)]
pub(super) struct Names {
    file: PathBuf,
    folder: PathBuf,
    changes: Vec<(Change, Vec<PathBuf>)>,
    copies: u64,
}

fn parent(path: &Path) -> PathBuf {
    path.parent().map(Path::to_owned).unwrap_or_default()
}

impl Names {
    /// With what an earlier process has left.
    pub(super) fn open(folder: &Path) -> io::Result<Self> {
        let file = folder.join("names");
        let text = match fs::read_to_string(&file) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            Err(error) => return Err(error),
        };
        let changes: Vec<_> = text.lines().filter_map(parse).collect();
        let copies = u64::from(std::process::id()) << 32;
        Ok(Self { file, folder: folder.to_owned(), changes, copies })
    }

    /// A file is about to be made.
    pub(super) fn made(&mut self, path: &Path) -> io::Result<()> {
        self.note(Change::Made(path.to_owned()), vec![parent(path)])
    }

    /// A file or folder is about to be moved.
    pub(super) fn moved(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        let replaced = if to.is_file() { Some(self.copy(to)?) } else { None };
        let mut waits = vec![parent(from), parent(to)];
        waits.dedup();
        self.note(Change::Moved(from.to_owned(), to.to_owned(), replaced), waits)
    }

    /// A file is about to be removed.
    pub(super) fn removed(&mut self, path: &Path) -> io::Result<()> {
        let copy = self.copy(path)?;
        self.note(Change::Removed(path.to_owned(), copy), vec![parent(path)])
    }

    /// A folder is synced.
    pub(super) fn synced(&mut self, dir: &Path) -> io::Result<()> {
        for (_, waits) in &mut self.changes {
            waits.retain(|waiting| waiting != dir);
        }
        for (change, _) in self.changes.extract_if(.., |(_, waits)| waits.is_empty()) {
            if let Change::Moved(_, _, Some(copy)) | Change::Removed(_, copy) = change {
                fs::remove_file(copy)?;
            }
        }
        self.save()
    }

    /// As if none of it had been.
    pub(super) fn take_back(mut self, folder: &Path) -> io::Result<()> {
        for (change, _) in self.changes.drain(..).rev() {
            // A process that died between the note and the change has changed nothing.
            match change {
                Change::Made(path) if path.exists() => fs::remove_file(path)?,
                Change::Moved(from, to, replaced) if !from.exists() => {
                    fs::rename(&to, &from)?;
                    if let Some(copy) = replaced {
                        fs::copy(copy, to)?;
                    }
                }
                Change::Removed(path, copy) if !path.exists() => {
                    fs::copy(copy, path)?;
                }
                Change::Made(_) | Change::Moved(..) | Change::Removed(..) => {}
            }
        }
        debug_assert_eq!(folder, self.folder);
        self.save()
    }

    fn copy(&mut self, path: &Path) -> io::Result<PathBuf> {
        self.copies += 1;
        let copy = self.folder.join(format!("copy-{}", self.copies));
        fs::copy(path, &copy)?;
        Ok(copy)
    }

    fn note(&mut self, change: Change, waits: Vec<PathBuf>) -> io::Result<()> {
        self.changes.push((change, waits));
        self.save()
    }

    fn save(&self) -> io::Result<()> {
        let mut text = Vec::new();
        for (change, waits) in &self.changes {
            let (what, paths) = match change {
                Change::Made(path) => ("made", vec![path]),
                Change::Moved(from, to, copy) => ("moved", [from, to].into_iter().chain(copy).collect()),
                Change::Removed(path, copy) => ("removed", vec![path, copy]),
            };
            write!(text, "{what}")?;
            for path in paths {
                write!(text, "\t{}", path.display())?;
            }
            write!(text, "\t")?;
            for waiting in waits {
                write!(text, "\t{}", waiting.display())?;
            }
            writeln!(text)?;
        }
        let new = self.file.with_extension("new");
        fs::write(&new, text)?;
        fs::rename(new, &self.file)
    }
}

fn parse(line: &str) -> Option<(Change, Vec<PathBuf>)> {
    let (change, waits) = line.split_once("\t\t")?;
    let mut fields = change.split('\t');
    let what = fields.next()?;
    let mut path = || fields.next().map(PathBuf::from);
    let change = match what {
        "made" => Change::Made(path()?),
        "moved" => Change::Moved(path()?, path()?, path()),
        "removed" => Change::Removed(path()?, path()?),
        _ => return None,
    };
    Some((change, waits.split('\t').map(PathBuf::from).collect()))
}
