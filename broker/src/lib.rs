//! Being laid.

pub mod storage;
