//! Claims about `reconcile.rs`.
