//! What Fulmar is compared with, each through the client that its makers or most of its users recommend.
//!
//! Owns addresses, and how a rival is asked what an acknowledgement of it means. Never keeps anything in a rival after the run.

mod address;
mod jetstream;
mod redis;

use std::time::Duration;

pub(super) use self::address::{Address, Kind};
pub(super) use self::jetstream::JetStream;
pub(super) use self::redis::Redis;

/// A rival that does not answer for so long is not there.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// A request that takes so long will not be answered; beyond every stall of a disk that still works.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// What a run that was killed leaves in a rival is gone after so long.
const FORGOTTEN_AFTER: Duration = Duration::from_hours(1);
