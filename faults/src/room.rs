//! The room: a network, a mount table and process ids of its own, so that cuts and mounts concern nobody else, and everything ends
//! with this process.
//!
//! In it a bridge, and for each broker and for the steward a network namespace with an address of its own, as pods have. Programs
//! publish from the bridge's side.

use std::net::Ipv4Addr;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context, Result, bail, ensure};

/// What brokers, and second processes of them, listen on.
const LISTENS: &str = "50051-50055,51051-51055";

/// Set inside.
const INSIDE: &str = "FULMAR_FAULTS_INSIDE";

/// Where [`enter`] left us.
pub(crate) enum Entered {
    /// In the room.
    Inside,
    /// Another process was in the room, and this is what came of it.
    Ended(ExitCode),
}

/// Starts this program again inside of a new room, unless this is it.
pub(crate) fn enter() -> Result<Entered> {
    if std::env::var_os(INSIDE).is_some() {
        return Ok(Entered::Inside);
    }
    ensure!(cfg!(target_os = "linux"), "needs Linux: namespaces keep the cuts away from everybody else");
    ensure!(
        rustix::process::geteuid().is_root(),
        "needs root: it makes namespaces, mounts and cuts of its own"
    );
    let mut command = Command::new("unshare");
    command
        .args(["--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "--"])
        .arg(std::env::current_exe()?)
        .args(std::env::args_os().skip(1))
        .env(INSIDE, "1");
    let status = command.status().context("could not start unshare (Debian package util-linux)")?;
    if let Some(signal) = status.signal() {
        bail!("the room ended by signal {signal}");
    }
    Ok(Entered::Ended(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE }))
}

/// Somebody with an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Place {
    /// A broker.
    Broker(u16),
    /// The steward.
    Steward,
    /// The programs that publish and read: this process, on the bridge's side.
    Programs,
}

impl Place {
    /// Its address.
    pub(crate) fn address(self) -> Ipv4Addr {
        match self {
            Self::Broker(ordinal) => Ipv4Addr::new(10, 99, 0, u8::try_from(ordinal).expect("at most 9") + 1),
            Self::Steward => Ipv4Addr::new(10, 99, 0, 200),
            Self::Programs => Ipv4Addr::new(10, 99, 0, 254),
        }
    }

    /// A command of the system, in this place's network.
    fn within(self, line: &str) -> String {
        match self {
            Self::Programs => line.to_owned(),
            Self::Broker(_) | Self::Steward => format!("ip netns exec {} {line}", self.name()),
        }
    }

    fn name(self) -> String {
        match self {
            Self::Broker(ordinal) => format!("b{ordinal}"),
            Self::Steward => "s".to_owned(),
            Self::Programs => "p".to_owned(),
        }
    }

    /// A program that will run there.
    pub(crate) fn command(self, program: &Path) -> tokio::process::Command {
        let mut command = tokio::process::Command::new("ip");
        command.args(["netns", "exec", &self.name()]).arg(program);
        command
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Broker(ordinal) => write!(out, "broker {ordinal}"),
            Self::Steward => write!(out, "the steward"),
            Self::Programs => write!(out, "the programs"),
        }
    }
}

/// Runs a program of the system; its words are in the error.
pub(crate) fn system(line: &str) -> Result<()> {
    let mut words = line.split_whitespace();
    let program = words.next().context("an empty command")?;
    let output = Command::new(program).args(words).stdin(Stdio::null()).output();
    let output = output.with_context(|| format!("could not start {program}"))?;
    ensure!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(())
}

/// Makes bridge and namespaces.
pub(crate) fn furnish(brokers: u16) -> Result<()> {
    system("mount --make-rprivate /")?;
    // `ip netns` keeps names there; those of the host are not ours.
    system("mount -t tmpfs tmpfs /run")?;
    std::fs::create_dir_all("/run/netns").context("could not make /run/netns")?;
    for line in [
        "ip link set lo up".to_owned(),
        "ip link add bridge type bridge".to_owned(),
        format!("ip addr add {}/24 dev bridge", Place::Programs.address()),
        "ip link set bridge up".to_owned(),
    ] {
        system(&line)?;
    }
    for place in (0..brokers).map(Place::Broker).chain([Place::Steward]) {
        let (name, address) = (place.name(), place.address());
        for line in [
            format!("ip netns add {name}"),
            format!("ip link add v-{name} type veth peer name eth0 netns {name}"),
            format!("ip link set v-{name} master bridge up"),
            format!("ip -n {name} addr add {address}/24 dev eth0"),
            format!("ip -n {name} link set eth0 up"),
            format!("ip -n {name} link set lo up"),
        ] {
            system(&line)?;
        }
        reserve_ports(place)?;
    }
    Ok(())
}

/// No connection that a broker opens may get the number of a port that it, or a second process of it, will listen on.
fn reserve_ports(place: Place) -> Result<()> {
    let write = format!("echo {LISTENS} > /proc/sys/net/ipv4/ip_local_reserved_ports");
    let output = Command::new("ip").args(["netns", "exec", &place.name(), "sh", "-c", &write]).output();
    let output = output.context("could not start ip")?;
    let why = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "could not reserve the ports of {place}: {}", why.trim());
    Ok(())
}

/// From now on nothing that `from` sends arrives at `to`, gossip included; nobody is told.
pub(crate) fn cut(from: Place, to: Place) -> Result<()> {
    system(&to.within(&format!("iptables -w -A INPUT -s {} -j DROP", from.address())))
}

/// Ends all cuts.
pub(crate) fn heal(brokers: u16) -> Result<()> {
    (0..brokers)
        .map(Place::Broker)
        .chain([Place::Steward, Place::Programs])
        .try_for_each(|place| system(&place.within("iptables -w -F INPUT")))
}
