//! Claims about `report.rs`.
