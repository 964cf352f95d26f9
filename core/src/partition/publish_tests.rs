//! Claims about `publish.rs`.
