//! The one file: a `tar.gz` that is written while things are gathered, and the list of what is missing from it.
//!
//! Owns its bounds, and that what is missing is told three times: at once on standard error, in `errors.txt`, in `README.txt`.

use std::fmt::Display;
use std::io::{self, Write};
use std::mem::ManuallyDrop;

use flate2::Compression;
use flate2::write::GzEncoder;
use indicatif::ProgressBar;
use serde_json::Value;

use super::redact;

/// What a person can still send and unpack. Logs of a hundred brokers at their bounds are above it, and then the last ones are missing.
const BUNDLE_BYTES_MAX: u64 = 512 << 20;

/// What a bundle says of itself, first of all what is not in it.
const ABOUT: &str = "\
What `fulmar support-bundle` gathered, for somebody who is to find out what is wrong. Look through it before you send it.

Not in it: records and their keys; contents of Secrets (their names, the names of their keys, and how long certificates hold, are); values
of environment variables that are not Fulmar's; containers that are not Fulmar's, but for their names, images and states; what looks like a
password, a token, a private key or the credentials in a URL, where \"(redacted)\" stands.

In it: names of namespaces, nodes, topics and images, addresses inside of the cluster, log lines, metrics.
";

/// See the module.
pub(super) struct Bundle<W: Write> {
    /// Dropped, both layers would close it, and half of a bundle would look whole.
    archive: ManuallyDrop<tar::Builder<GzEncoder<W>>>,
    /// The folder that everything is in.
    folder: String,
    seconds: u64,
    bytes: u64,
    names: Vec<(String, usize)>,
    gaps: Vec<String>,
    progress: ProgressBar,
}

impl<W: Write> Bundle<W> {
    /// An empty one. `folder`: the name of what it unpacks to; `seconds`: the time of its files, since 1970.
    pub(super) fn new(output: W, folder: String, seconds: u64, progress: ProgressBar) -> Self {
        let archive = ManuallyDrop::new(tar::Builder::new(GzEncoder::new(output, Compression::default())));
        Self { archive, folder, seconds, bytes: 0, names: Vec::new(), gaps: Vec::new(), progress }
    }

    /// Says on a terminal what is being done.
    pub(super) fn doing(&self, what: impl Display) {
        self.progress.set_message(what.to_string());
        self.progress.tick();
    }

    /// Something could not be had. The rest goes on.
    #[expect(clippy::print_stderr, reason = "whoever waits should know at once")]
    pub(super) fn missing(&mut self, what: impl Display, why: impl Display) {
        let line = redact::text(&format!("{what}: {why}").replace('\n', " "));
        self.progress.suspend(|| eprintln!("fulmar: not in the bundle: {line}"));
        self.gaps.push(line);
    }

    /// Adds text, without what looks like a secret.
    pub(super) fn text(&mut self, name: &str, text: &[u8]) -> io::Result<()> {
        let text = redact::text(&String::from_utf8_lossy(text));
        self.add(name, text.as_bytes())
    }

    /// Adds an object of Kubernetes or a list of them, without what is not to be told.
    pub(super) fn object(&mut self, name: &str, mut object: Value) -> io::Result<()> {
        redact::object(&mut object);
        self.add(name, format!("{object:#}\n").as_bytes())
    }

    /// Adds what was asked for, or says why it is missing.
    pub(super) fn text_or_gap(
        &mut self,
        name: &str,
        found: Result<impl AsRef<[u8]>, impl Display>,
    ) -> io::Result<()> {
        match found {
            Ok(text) => self.text(name, text.as_ref()),
            Err(error) => {
                self.missing(name, error);
                Ok(())
            }
        }
    }

    fn add(&mut self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let length = bytes.len() as u64;
        if self.bytes + length > BUNDLE_BYTES_MAX {
            self.missing(name, format!("the bundle would have more than {} MiB", BUNDLE_BYTES_MAX >> 20));
            return Ok(());
        }
        self.bytes += length;
        self.names.push((name.to_owned(), bytes.len()));
        self.append(name, bytes)
    }

    fn append(&mut self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o600);
        header.set_mtime(self.seconds);
        let path = format!("{}/{name}", self.folder);
        self.archive.append_data(&mut header, path, bytes)
    }

    /// Closes it with its table of contents; gives the output, and how many things are in it and are missing. `head`: what was asked, by
    /// which version.
    pub(super) fn finish(mut self, head: &str) -> io::Result<(W, usize, usize)> {
        let gaps = match self.gaps.len() {
            0 => "Nothing that was looked for is missing.\n".to_owned(),
            _ => self.gaps.iter().fold(String::new(), |all, gap| all + gap + "\n"),
        };
        let files: Vec<String> =
            self.names.iter().map(|(name, length)| format!("{length:>12} {name}\n")).collect();
        let contents = format!("{head}\n\n{ABOUT}\nMissing:\n\n{gaps}\nFiles:\n\n{}", files.concat());
        // These are always there, also in a bundle that is full.
        self.append("errors.txt", gaps.as_bytes())?;
        self.append("README.txt", contents.as_bytes())?;
        let (files, gaps) = (self.names.len() + 2, self.gaps.len());
        self.progress.finish_and_clear();
        let mut output = ManuallyDrop::into_inner(self.archive).into_inner()?.finish()?;
        output.flush()?;
        Ok((output, files, gaps))
    }
}

#[cfg(test)]
#[path = "bundle_tests.rs"]
mod tests;
