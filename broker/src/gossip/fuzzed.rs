//! For the fuzzer (`fuzz/`): datagrams that anybody may send, and messages that only a holder of the key can.

use chitchat::{ChitchatMessage, Deserializable as _};

use super::sealed;

/// A datagram as it came, and its bytes as if they had been sealed.
pub fn datagram(bytes: &[u8]) {
    assert_eq!(sealed::open(&[7; 32], bytes), None, "nobody guesses a seal");
    let _ = ChitchatMessage::deserialize(&mut &*bytes);
}
