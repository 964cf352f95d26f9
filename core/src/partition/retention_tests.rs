//! Claims about `retention.rs`.
