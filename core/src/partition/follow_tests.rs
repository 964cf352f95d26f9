//! Claims about `follow.rs`.
