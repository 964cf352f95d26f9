//! Ports that nobody else will take while a test runs: neither the system for a connection that goes out, for they lie below
//! the range that it hands out (Linux: from 32768, macOS: from 49152), nor another test, for their block is locked.
//!
//! A port that the system found free and gave back is not enough: the next connection of any process may get it.

use std::fs::{File, TryLockError};
use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::ops::Range;

/// Above what services of a usual machine use; below what systems hand out.
const ALL: Range<u16> = 12_000..32_000;

/// More than any test's brokers need.
const BLOCK: u16 = 40;

/// Consecutive ports; they stay ours as long as this lives.
#[derive(Debug)]
pub struct Block {
    pub base: u16,
    _lock: File,
}

impl Block {
    pub fn take() -> Self {
        let folder = std::env::temp_dir().join("fulmar-test-ports");
        std::fs::create_dir_all(&folder).unwrap();
        // Tests that begin together do not all try the same ones.
        let blocks = (ALL.end - ALL.start) / BLOCK;
        let first = u16::try_from(std::process::id() % u32::from(blocks)).unwrap();
        for number in (0..blocks).map(|step| (first + step) % blocks) {
            let base = ALL.start + number * BLOCK;
            let lock = File::create(folder.join(base.to_string())).unwrap();
            match lock.try_lock() {
                Err(TryLockError::Error(error)) => panic!("{}: {error}", folder.display()),
                Ok(()) if (0..BLOCK).all(|step| is_free(base + step)) => return Self { base, _lock: lock },
                // Another test's, or a program that is no test listens there.
                Err(TryLockError::WouldBlock) | Ok(()) => {}
            }
        }
        panic!("no {BLOCK} ports in a row are free between {} and {}", ALL.start, ALL.end)
    }
}

fn is_free(port: u16) -> bool {
    let address = (Ipv4Addr::LOCALHOST, port);
    TcpListener::bind(address).is_ok() && UdpSocket::bind(address).is_ok()
}
