//! Claims about `members.rs`.
