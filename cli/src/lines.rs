//! Lines of a file or of standard input, as bytes, read on a thread of their own.
//!
//! Owns the bound on a line. Never interprets what a line holds.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use tokio::sync::mpsc;

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

    /// Reads on; ends at the end of the input, an error, or when the receiver is dropped. A longer line is an error.
    pub(crate) fn lines(self, bytes_max: u64) -> mpsc::Receiver<io::Result<Line>> {
        let (sender, receiver) = mpsc::channel(LINES_MAX);
        std::thread::spawn(move || {
            let result = match &self {
                Self::Stdin => read_lines(&mut io::stdin().lock(), bytes_max, &sender),
                Self::File(path) => File::open(path)
                    .and_then(|file| {
                        read_lines(&mut BufReader::with_capacity(1 << 16, file), bytes_max, &sender)
                    })
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

fn read_lines(
    input: &mut impl BufRead,
    bytes_max: u64,
    lines: &mpsc::Sender<io::Result<Line>>,
) -> io::Result<()> {
    let mut read = 0;
    for number in 1_u64.. {
        let mut bytes = Vec::new();
        let got = input.by_ref().take(bytes_max + 1).read_until(b'\n', &mut bytes)?;
        read += got as u64;
        if got == 0 {
            break;
        }
        if bytes.last() == Some(&b'\n') {
            bytes.pop();
        } else if got as u64 > bytes_max {
            return Err(io::Error::other(format!("line {number}: it has more than {bytes_max} bytes")));
        }
        if lines.blocking_send(Ok(Line { bytes, read })).is_err() {
            break;
        }
    }
    Ok(())
}
