//! Names of things that could be mistaken for each other, each with a type of its own.
//!
//! Identifiers of 128 bits are UUIDs made by the shells (core has no randomness) and print as UUIDs.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

/// A text that is not a UUID of the usual form (`8-4-4-4-12` hexadecimal digits, lower or upper case).
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{0:?} is not a UUID, such as 0198a5c2-7b1e-7c3d-9f00-1234567890ab")]
pub struct InvalidUuid(pub String);

fn parse_uuid(text: &str) -> Result<u128, InvalidUuid> {
    let invalid = || InvalidUuid(text.chars().take(64).collect());
    let bytes = text.as_bytes();
    if bytes.len() != 36 {
        return Err(invalid());
    }
    let mut value = 0u128;
    for (at, byte) in bytes.iter().enumerate() {
        if matches!(at, 8 | 13 | 18 | 23) {
            if *byte != b'-' {
                return Err(invalid());
            }
            continue;
        }
        let digit = char::from(*byte).to_digit(16).ok_or_else(invalid)?;
        value = value << 4 | u128::from(digit);
    }
    Ok(value)
}

fn print_uuid(value: u128, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    // Digit by digit: when thousands of partitions change their leader each of them prints some dozens of these, and the formatter
    // of integers was a tenth of all that a broker did then.
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = [b'-'; 36];
    let mut at = 0;
    for byte in value.to_be_bytes() {
        if matches!(at, 8 | 13 | 18 | 23) {
            at += 1;
        }
        text[at] = DIGITS[usize::from(byte >> 4)];
        text[at + 1] = DIGITS[usize::from(byte & 15)];
        at += 2;
    }
    f.write_str(std::str::from_utf8(&text).expect("digits are ASCII"))
}

macro_rules! uuid_type {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub u128);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                print_uuid(self.0, f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{self}")
            }
        }

        impl FromStr for $name {
            type Err = InvalidUuid;
            fn from_str(text: &str) -> Result<Self, InvalidUuid> {
                parse_uuid(text).map(Self)
            }
        }

        impl $name {
            /// The sixteen bytes of its wire and disk form, most significant first.
            pub fn to_bytes(self) -> [u8; 16] {
                self.0.to_be_bytes()
            }

            /// Back from [`to_bytes`](Self::to_bytes).
            pub fn from_bytes(bytes: [u8; 16]) -> Self {
                Self(u128::from_be_bytes(bytes))
            }
        }
    };
}

uuid_type!(
    /// A Cluster's identity: minted once, kept in the partition table and on every volume, never in a status.
    ClusterId
);
uuid_type!(
    /// A topic's identity. A topic that is deleted and created anew has another one; a retained one keeps it.
    TopicId
);
uuid_type!(
    /// One life of a broker's volume. An empty volume is a new incarnation, and a member of nothing.
    Incarnation
);
uuid_type!(
    /// An idempotent producer. All zeros never names one.
    ProducerId
);

/// A broker's place in the Cluster: the number at the end of its pod's name. Says nothing about what its volume holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ordinal(pub u16);

impl fmt::Display for Ordinal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// One partition of one topic.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PartitionKey {
    /// The topic.
    pub topic: TopicId,
    /// Which of its partitions, from 0.
    pub partition: u32,
}

impl fmt::Display for PartitionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.topic, self.partition)
    }
}

impl fmt::Debug for PartitionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// Who holds a copy of a partition: a broker *in one life of its volume*. Membership by ordinal alone loses records.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReplicaId {
    /// The broker.
    pub ordinal: Ordinal,
    /// The life of its volume.
    pub incarnation: Incarnation,
}

impl fmt::Display for ReplicaId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.ordinal, self.incarnation)
    }
}

impl fmt::Debug for ReplicaId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// A text that is not `ORDINAL:INCARNATION`.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{0:?} is not a replica, such as 2:0198a5c2-7b1e-7c3d-9f00-1234567890ab")]
pub struct InvalidReplica(pub String);

impl FromStr for ReplicaId {
    type Err = InvalidReplica;
    fn from_str(text: &str) -> Result<Self, InvalidReplica> {
        let invalid = || InvalidReplica(text.chars().take(64).collect());
        let (ordinal, incarnation) = text.split_once(':').ok_or_else(invalid)?;
        Ok(Self {
            ordinal: Ordinal(ordinal.parse().map_err(|_| invalid())?),
            incarnation: incarnation.parse().map_err(|_| invalid())?,
        })
    }
}

#[cfg(test)]
#[path = "id_tests.rs"]
mod tests;
