//! `fulmar broker inspect`.

use std::path::PathBuf;

use clap::Args;
use fulmar_broker::inspection;
use fulmar_broker::storage::inspect::{AsideReport, ReplicaReport, VolumeReport, inspect};
use fulmar_core::partition::PromiseKind;

use crate::exit::Failed;
use crate::output::{Output, table};

/// Show what a stopped broker's volume holds, without changing it
///
/// DATA is the folder that the broker was given: under `fulmar dev` brokers/NAME in the printed folder, in a pod /data. A
/// broker that runs holds its volume, and so does another look at it.
#[derive(Debug, Args)]
pub(crate) struct Inspect {
    /// The folder of the volume
    data: PathBuf,
    #[command(flatten)]
    output: Output,
}

impl Inspect {
    pub(crate) fn run(self) -> Result<(), Failed> {
        let report = inspect(&self.data).map_err(|error| Failed::Failure(error.to_string()))?;
        Ok(self.output.show(|| as_table(&report), || inspection::json(&report))?)
    }
}

fn row(replica: &ReplicaReport) -> [String; 7] {
    let term = replica.promise.term.map_or_else(|| "-".to_owned(), |term| term.to_string());
    let state = match (replica.promise.kind, replica.uncertain) {
        (PromiseKind::Tombstone, _) => "released",
        (PromiseKind::Live, true) => "may have lost",
        (PromiseKind::Live, false) => "kept",
    };
    [
        replica.key.to_string(),
        replica.log_start.to_string(),
        replica.log_end.to_string(),
        replica.high_watermark.to_string(),
        replica.bytes.to_string(),
        term,
        state.to_owned(),
    ]
}

fn as_table(report: &VolumeReport) -> String {
    let identity = &report.identity;
    let or_none = |text: Option<String>| text.unwrap_or_else(|| "none yet".to_owned());
    let stop = if report.clean { "in order" } else { "by a crash or a kill" };
    let restored =
        if report.restored { "\nRestored copy:   yes, the next start is a new incarnation" } else { "" };
    let header = ["PARTITION", "LOG-START", "LOG-END", "COMMITTED", "BYTES", "TERM", "STATE"];
    format!(
        "Cluster id:      {}\nBroker:          {}\nIncarnation:     {}\nLast process:    {}\nLast stop:       {stop}\n\
         Unapplied bytes: {}\nTable pages:     {}\nPeers seen:      {}{restored}\n\n{}",
        or_none(identity.cluster.map(|cluster| cluster.to_string())),
        identity.ordinal,
        identity.incarnation,
        or_none(
            identity.processes.last().map(|last| format!("session {}, boot {}", last.session, last.boot))
        ),
        report.unapplied_bytes,
        report.pages.len(),
        report.peers.len(),
        if report.replicas.is_empty() {
            "no partitions".to_owned()
        } else {
            table(header, report.replicas.iter().map(row))
        },
    ) + &set_aside(report)
}

/// Copies of what a person gave up; nothing is said where there are none.
fn set_aside(report: &VolumeReport) -> String {
    if report.aside.is_empty() {
        return String::new();
    }
    let row = |copy: &AsideReport| {
        [
            copy.key.to_string(),
            copy.from.to_string(),
            copy.to.to_string(),
            copy.high_watermark.to_string(),
            copy.bytes.to_string(),
        ]
    };
    let header = ["SET-ASIDE", "FROM", "TO", "COMMITTED", "BYTES"];
    format!(
        "\n\n{}\n\nTheir records: fulmar broker set-aside DATA",
        table(header, report.aside.iter().map(row))
    )
}
