//! What happened when, on the terminal and in a file that is kept.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use anyhow::{Context, Result};

/// See the module.
#[derive(Debug)]
pub(crate) struct Story {
    began: Instant,
    file: Mutex<File>,
}

impl Story {
    /// Begins now.
    pub(crate) fn begin(path: &Path) -> Result<Self> {
        let file = File::create(path).with_context(|| format!("could not make {}", path.display()))?;
        Ok(Self { began: Instant::now(), file: Mutex::new(file) })
    }

    /// Says a line.
    pub(crate) fn say(&self, line: &str) {
        println!("{}", self.write(line));
    }

    /// Keeps a line for who looks later.
    pub(crate) fn note(&self, line: &str) {
        self.write(line);
    }

    fn write(&self, line: &str) -> String {
        let clock = humantime::format_rfc3339_millis(std::time::SystemTime::now()).to_string();
        let line = format!("{:8.2} s  {line}", self.began.elapsed().as_secs_f64());
        // A full disk must not end the run; the terminal has it all the same.
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = writeln!(file, "{clock}  {line}");
        line
    }
}
