//! Claims about `lead.rs`.
