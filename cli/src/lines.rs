//! Lines of a file or of standard input, as bytes, read on a thread of their own.
//!
//! Owns the bound on a line. Never interprets what a line holds.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use tokio::sync::mpsc;

/// Beyond the largest record that any topic takes (8 MiB), with its key.
const LINE_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// Lines that wait: enough to keep the producer busy, while the reader waits when it is ahead.
const LINES_MAX: usize = 256;

/// One line without its end, and how many bytes were read so far.
#[derive(Debug)]
pub(crate) struct Line {
    pub(crate) bytes: Vec<u8>,
    pub(crate) read: u64,
}

/// Where lines come from.
#[derive(Debug, Clone)]
pub(crate) enum Source {
    Stdin,
    File(PathBuf),
}

impl Source {
    /// `-` is standard input.
    pub(crate) fn of(file: Option<&Path>) -> Self {
        match file {
            Some(path) if path != Path::new("-") => Self::File(path.to_owned()),
            _ => Self::Stdin,
        }
    }

    /// How many bytes there will be, if that is known.
    pub(crate) fn size(&self) -> Option<u64> {
        match self {
            Self::Stdin => None,
            Self::File(path) => {
                path.metadata().ok().filter(std::fs::Metadata::is_file).map(|meta| meta.len())
            }
        }
    }

    /// Reads on; ends at the end of the input, an error, or when the receiver is dropped.
    pub(crate) fn lines(self) -> mpsc::Receiver<io::Result<Line>> {
        let (sender, receiver) = mpsc::channel(LINES_MAX);
        std::thread::spawn(move || {
            let result = match &self {
                Self::Stdin => read_lines(&mut io::stdin().lock(), &sender),
                Self::File(path) => File::open(path)
                    .and_then(|file| read_lines(&mut BufReader::with_capacity(1 << 16, file), &sender))
                    .map_err(|error| {
                        io::Error::new(error.kind(), format!("cannot read {}: {error}", path.display()))
                    }),
            };
            if let Err(error) = result {
                let _ = sender.blocking_send(Err(error));
            }
        });
        receiver
    }
}

fn read_lines(input: &mut impl BufRead, lines: &mpsc::Sender<io::Result<Line>>) -> io::Result<()> {
    let mut read = 0;
    loop {
        let mut bytes = Vec::new();
        let got = input.by_ref().take(LINE_BYTES_MAX + 1).read_until(b'\n', &mut bytes)?;
        read += got as u64;
        if got == 0 {
            return Ok(());
        }
        if bytes.last() == Some(&b'\n') {
            bytes.pop();
        } else if got as u64 > LINE_BYTES_MAX {
            return Err(io::Error::other(format!("a line has more than {LINE_BYTES_MAX} bytes")));
        }
        if lines.blocking_send(Ok(Line { bytes, read })).is_err() {
            return Ok(());
        }
    }
}
