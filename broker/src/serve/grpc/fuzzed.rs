//! For the fuzzer (`fuzz/`): what was counted for a request before it was read.

use super::super::growth;

/// Bytes for a message of a method's request (`/fulmar.v1.PubSub/Publish`) and what becomes of it; `None`: it is refused.
pub fn counted(path: &str, message: &[u8]) -> Option<usize> {
    growth::counted(path, message)
}
