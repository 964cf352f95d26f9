//! What it was measured on.

use std::fs;
use std::thread;

/// Processors and kernel.
pub(crate) fn described() -> String {
    let processors = thread::available_parallelism().map_or(0, std::num::NonZero::get);
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    format!("{processors} processors, {} {}", std::env::consts::OS, kernel.trim())
}

/// The load of the last minute: beyond a little, others were at work too.
pub(crate) fn load() -> String {
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    load.split(' ').next().filter(|load| !load.is_empty()).unwrap_or("unknown").to_owned()
}
