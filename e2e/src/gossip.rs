//! Gossip as a stranger on its way hears it: datagrams on the network of the pods, sealed as they are.

use std::io::Read;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use socket2::{Domain, Protocol, Socket, Type};

/// Where brokers gossip.
pub const PORT: u16 = 7946;

/// Brokers gossip five times a second.
const HEARD_WITHIN: Duration = Duration::from_mins(1);

/// `AF_PACKET` of Linux: what passes this machine's interfaces.
const AF_PACKET: i32 = 17;
/// `ETH_P_IP`.
const IPV4: u16 = 0x0800;
/// The protocol's number in a packet's head.
const UDP: u8 = 17;

/// What each of these pods says to another in its next datagrams, as many as `each`.
pub fn overhear(pods: &[Ipv4Addr], each: usize) -> Result<Vec<Vec<u8>>> {
    // Such a socket wants it in the network's order of bytes.
    let protocol = Protocol::from(i32::from(IPV4.to_be()));
    let socket = Socket::new(Domain::from(AF_PACKET), Type::DGRAM, Some(protocol));
    let mut socket = socket.context("a socket that hears all packets needs root")?;
    socket.set_read_timeout(Some(Duration::from_secs(1)))?;
    let (began, mut buffer) = (Instant::now(), vec![0; 65_536]);
    let mut heard: Vec<Vec<Vec<u8>>> = vec![Vec::new(); pods.len()];
    while heard.iter().any(|of| of.len() < each) {
        ensure!(began.elapsed() < HEARD_WITHIN, "no gossip of each of {pods:?} within {HEARD_WITHIN:?}");
        let Ok(length) = socket.read(&mut buffer) else { continue };
        let Some((from, said)) = datagram(&buffer[..length]) else { continue };
        if let Some(number) = pods.iter().position(|pod| *pod == from) {
            heard[number].push(said.to_vec());
        }
    }
    Ok(heard.into_iter().flatten().collect())
}

/// Who sent this IPv4 packet, and what is in it, if it is gossip.
fn datagram(packet: &[u8]) -> Option<(Ipv4Addr, &[u8])> {
    let head = usize::from(packet.first()? & 0x0f) * 4;
    let from: [u8; 4] = packet.get(12..16)?.try_into().ok()?;
    let udp = packet.get(head..)?;
    let to = u16::from_be_bytes(udp.get(2..4)?.try_into().ok()?);
    (packet.get(9) == Some(&UDP) && to == PORT).then_some((Ipv4Addr::from(from), udp.get(8..)?))
}
