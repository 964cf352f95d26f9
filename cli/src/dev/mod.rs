//! `fulmar dev`: a whole cluster on this machine, from the YAML that `kubectl apply` takes.
//!
//! Owns the order of things: read the files, lock the folder, look at the ports, start the brokers, run the controller
//! ([`fulmar_steward`]) with files in the place of the Kubernetes API, apply what is saved, stop in order. Never decides what
//! a manifest may say (`fulmar_crds::admission` does) or who leads (`fulmar_core::control` does).

mod brokers;
mod certificates;
mod folder;
mod ledger;
mod manifest;
mod picture;
mod ports;
mod session;
mod watch;

use std::net::IpAddr;
use std::path::PathBuf;

use clap::Args;

use crate::exit::Failed;
use folder::Folder;
use manifest::Manifest;
use ports::{Elsewhere, Ports};
use session::{Session, Where};

/// Run a whole cluster on this machine
///
/// Reads the Cluster and the Topics that `kubectl apply` takes, starts the brokers as processes on loopback, and applies
/// the files again whenever they are saved. A Topic that is taken out of the files is deleted by its deletionPolicy.
/// Ctrl-C stops; the next start finds the data.
#[derive(Debug, Args)]
pub(crate) struct Dev {
    /// A file with the Cluster, its Topics, or both; may be repeated
    #[arg(short, long = "file", value_name = "FILE", required = true, num_args = 1..)]
    files: Vec<PathBuf>,
    /// The folder that keeps everything [default: fulmar/dev/CLUSTER in the user's state folder, `~/.local/state`]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Where each broker's five ports begin: PORT for broker 0, PORT+10 for broker 1 … [default: the usual ports, 50051
    /// gRPC, 50052 internal, 8080 HTTP, 7946/udp gossip, 9001 TCP, and 10 more for each further broker]
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    port_base: Option<u16>,
    /// Start this `fulmar-broker` for each broker, and not the one that is built in
    #[arg(long, value_name = "PROGRAM", hide = true)]
    broker_program: Option<PathBuf>,
    /// Start no brokers, attend those that run at these addresses, on the usual ports, with the certificates of the folder
    #[arg(long, value_name = "IP", value_delimiter = ',', hide = true, conflicts_with = "port_base")]
    brokers_at: Vec<IpAddr>,
}

impl Dev {
    pub(crate) async fn run(self) -> Result<(), Failed> {
        let first = Manifest::read(&self.files, &[])?;
        let folder = Folder::open(self.data, &first.cluster.name)?;
        // What was applied before the last stop binds as it would in Kubernetes.
        let manifest = Manifest::read(&self.files, &folder.applied()?)?;
        let ports = Ports::plan(self.port_base, manifest.cluster.replicas)?;
        let elsewhere = Elsewhere::of(self.brokers_at, manifest.cluster.replicas)?;
        if elsewhere.is_none() {
            ports.wait_free(0..manifest.cluster.replicas, folder.was_killed()).await?;
        }
        let tls = certificates::prepare(&folder)?;
        folder.keep_applied(&manifest.documents)?;
        let saved = watch::watch(&self.files)?;
        Session::start(
            self.files,
            folder,
            Where { ports, elsewhere, program: self.broker_program },
            tls,
            manifest,
        )
        .run(saved)
        .await
    }
}
