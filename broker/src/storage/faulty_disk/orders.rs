//! What a sync does: read anew at each, from a file that the one who gives orders replaces whole.

use std::fs;
use std::io;
use std::path::Path;
use std::time::Duration;

/// A sync that hangs looks so often whether it may go on.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Waits, hangs or fails as ordered: `delay_ms N`, `hang`, `fail`, or nothing.
pub(super) fn obey(folder: &Path) -> io::Result<()> {
    loop {
        let text = match fs::read_to_string(folder.join("orders")) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error),
        };
        match text.trim().split_once(' ').unwrap_or((text.trim(), "")) {
            ("", _) => return Ok(()),
            ("hang", _) => std::thread::sleep(LOOK_EVERY),
            ("fail", _) => return Err(io::Error::other("the disk failed to sync, on purpose")),
            ("delay_ms", delay) => {
                let delay = delay.parse().map_err(|_| io::Error::other("orders: delay_ms takes a number"))?;
                std::thread::sleep(Duration::from_millis(delay));
                return Ok(());
            }
            (unknown, _) => return Err(io::Error::other(format!("orders: {unknown:?} is not known"))),
        }
    }
}
