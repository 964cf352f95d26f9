//! Claims about `commit.rs`.
