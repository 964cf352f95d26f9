//! The kinds of frames. An answer's is its request's with the highest bit.

pub(super) const PUBLISH: u8 = 0x01;
pub(super) const PUBLISHED: u8 = 0x81;
pub(super) const SUBSCRIBE: u8 = 0x02;
pub(super) const SUBSCRIBED: u8 = 0x82;
/// Unasked: messages of a subscription.
pub(super) const DELIVERED: u8 = 0xc2;
pub(super) const UNSUBSCRIBE: u8 = 0x03;
pub(super) const UNSUBSCRIBED: u8 = 0x83;
pub(super) const PULL: u8 = 0x04;
pub(super) const PULLED: u8 = 0x84;
pub(super) const PING: u8 = 0x05;
pub(super) const PONG: u8 = 0x85;
pub(super) const ERROR: u8 = 0xff;
