//! The folder of one cluster of `fulmar dev`: what is where in it, and that only one process uses it.
//!
//! ```text
//! lock             held by the running `fulmar dev`, with its process id
//! cluster          the name of the Cluster that the folder belongs to
//! applied.json     the objects as they were applied last
//! table/           the partition table, a file a document
//! tls/             what brokers mount: ca.crt, tls.crt, tls.key, gossip.key
//! controller/      tls.crt and tls.key of the controller, ca.key
//! brokers/NAME/    a broker's volume
//! logs/NAME.log    what a broker says, NAME.log.old before that
//! ```

use std::env;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};

use fulmar_crds::admission::Document;
use fulmar_crds::{Cluster, Topic};
use serde_json::Value;

use crate::exit::Failed;

/// See the module.
#[derive(Debug)]
pub(crate) struct Folder {
    path: PathBuf,
    /// Locked as long as it is open.
    lock: File,
    was_killed: bool,
}

fn cannot(what: &str, path: &Path, error: &io::Error) -> Failed {
    Failed::Failure(format!("cannot {what} {}: {error}", path.display()))
}

fn default_path(cluster: &str) -> Result<PathBuf, Failed> {
    let state = env::var_os("XDG_STATE_HOME").filter(|dir| Path::new(dir).is_absolute()).map(PathBuf::from);
    let home = || env::var_os("HOME").map(|home| Path::new(&home).join(".local/state"));
    let state = state.or_else(home);
    let state = state.ok_or_else(|| Failed::Usage("HOME is not set: say --data DIR".to_owned()))?;
    Ok(state.join("fulmar/dev").join(cluster))
}

impl Folder {
    /// Makes the folder if it is not there, and locks it.
    pub(crate) fn open(given: Option<PathBuf>, cluster: &str) -> Result<Self, Failed> {
        let path = given.map_or_else(|| default_path(cluster), Ok)?;
        for part in ["table", "tls", "controller", "brokers", "logs"] {
            let part = path.join(part);
            fs::create_dir_all(&part).map_err(|error| cannot("make the folder", &part, &error))?;
        }
        let path = path.canonicalize().map_err(|error| cannot("find", &path, &error))?;
        let (lock, was_killed) = lock(&path.join("lock"))?;
        let folder = Self { path, lock, was_killed };
        folder.claim(cluster)?;
        Ok(folder)
    }

    /// A folder belongs to one Cluster for ever: its volumes would refuse another one's name anyway, less clearly.
    fn claim(&self, cluster: &str) -> Result<(), Failed> {
        let path = self.path.join("cluster");
        match fs::read_to_string(&path) {
            Ok(name) if name.trim() == cluster => Ok(()),
            Ok(name) => Err(Failed::Failure(format!(
                "{} belongs to the Cluster {:?}, not to {cluster:?}: say another --data",
                self.path.display(),
                name.trim()
            ))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                replace(&path, format!("{cluster}\n").as_bytes())
                    .map_err(|error| cannot("write", &path, &error))
            }
            Err(error) => Err(cannot("read", &path, &error)),
        }
    }

    /// The last `fulmar dev` here did not come to its end: its brokers may still be stopping.
    pub(crate) fn was_killed(&self) -> bool {
        self.was_killed
    }

    /// This one comes to its end.
    pub(crate) fn leave(&self) {
        // Otherwise the next start looks whether brokers are left, and finds none.
        let _ = self.lock.set_len(0);
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn table(&self) -> PathBuf {
        self.path.join("table")
    }

    pub(crate) fn tls(&self) -> PathBuf {
        self.path.join("tls")
    }

    pub(crate) fn controller(&self) -> PathBuf {
        self.path.join("controller")
    }

    pub(crate) fn volume(&self, broker: &str) -> PathBuf {
        self.path.join("brokers").join(broker)
    }

    pub(crate) fn log(&self, broker: &str) -> PathBuf {
        self.path.join("logs").join(format!("{broker}.log"))
    }

    /// What was applied last; nothing before the first time.
    pub(crate) fn applied(&self) -> Result<Vec<Document>, Failed> {
        let path = self.path.join("applied.json");
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(cannot("read", &path, &error)),
        };
        let parse = || -> Result<Vec<Document>, serde_json::Error> {
            let objects: Vec<Value> = serde_json::from_slice(&text)?;
            objects.into_iter().map(document).collect()
        };
        parse().map_err(|error| Failed::Failure(format!("{} is damaged: {error}", path.display())))
    }

    /// Keeps what is applied now.
    pub(crate) fn keep_applied(&self, documents: &[Document]) -> Result<(), Failed> {
        let path = self.path.join("applied.json");
        let objects: Vec<Value> = documents.iter().map(Document::value).collect();
        let text = serde_json::to_vec_pretty(&objects).expect("values have only string keys");
        replace(&path, &text).map_err(|error| cannot("write", &path, &error))
    }
}

fn document(object: Value) -> Result<Document, serde_json::Error> {
    match object.get("kind").and_then(Value::as_str) {
        Some("Cluster") => {
            serde_json::from_value::<Cluster>(object).map(|one| Document::Cluster(Box::new(one)))
        }
        _ => serde_json::from_value::<Topic>(object).map(|one| Document::Topic(Box::new(one))),
    }
}

/// The locked file, and whether the last holder left its process id in it.
fn lock(path: &Path) -> Result<(File, bool), Failed> {
    let open = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path);
    let mut file = open.map_err(|error| cannot("open", path, &error))?;
    let locked = file.try_lock();
    let mut holder = String::new();
    // Only words depend on it.
    let _ = file.read_to_string(&mut holder);
    match locked {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            return Err(Failed::Failure(format!(
                "another `fulmar dev` (process {}) uses this folder: it holds {}",
                holder.trim(),
                path.display()
            )));
        }
        Err(TryLockError::Error(error)) => return Err(cannot("lock", path, &error)),
    }
    let write =
        file.set_len(0).and_then(|()| file.rewind()).and_then(|()| writeln!(file, "{}", std::process::id()));
    write.map_err(|error| cannot("write", path, &error))?;
    Ok((file, !holder.trim().is_empty()))
}

/// Replaces a file whole and durably: nobody ever finds half of it.
pub(crate) fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    let new = path.with_extension("new");
    let mut file = private(&new)?;
    file.write_all(content)?;
    file.sync_all()?;
    fs::rename(&new, path)?;
    sync_folder_of(path)
}

/// Makes a rename or a removal in a file's folder durable.
pub(crate) fn sync_folder_of(path: &Path) -> io::Result<()> {
    File::open(path.parent().expect("a file is in a folder"))?.sync_all()
}

/// Some of the files are keys: nobody else reads any of them.
fn private(path: &Path) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt;
    OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)
}

#[cfg(test)]
#[path = "folder_tests.rs"]
mod tests;
