//! Claims about `open.rs`.
