//! What brokers and the operator have in common about their log lines: where they go, which are written, and how that is
//! changed while the process runs.
//!
//! Owns filters, their change for a time, and the way to ask for it (`/log-level` on loopback). Never decides what is logged, and
//! writes no file: lines go to standard error, where Kubernetes collects them.

mod ask;
mod filter;
mod level;
pub mod loopback;
mod route;

pub use ask::{Ask, AskError};
pub use filter::{FILTER_BYTES_MAX, Filter, FilterError};
pub use level::{CHANGE_MAX, CHANGE_MIN, ChangeError, Levels, Lines, install, levels};
pub use route::{Ends, PATH, route};
