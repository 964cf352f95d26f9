//! The root: whose table it is, who wrote it last, which pages there are, and what is known of brokers' volumes.

use crate::control::table::codec::{FORMAT, InvalidTable, Words, opened, option};
use crate::id::{ClusterId, Incarnation, Ordinal, ReplicaId};
use crate::term::{BootId, Process, Session};

/// The most pages. Of 64 KiB each that is beyond what an etcd of 2 GiB should carry for one Cluster.
pub const PAGES_MAX: usize = 1_024;

/// The most records of volumes, living and lost, so that the root stays within a page's bytes. Beyond it, the lost ones
/// that no entry names are forgotten.
pub const RECORDS_MAX: usize = 300;

/// What is remembered of one life of a broker's volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BrokerRecord {
    /// The broker.
    pub ordinal: Ordinal,
    /// The life.
    pub incarnation: Incarnation,
    /// The last process that was heard: a volume that does not know it was restored from a copy.
    pub process: Process,
    /// The uid of the claim behind it, if known.
    pub volume: Option<String>,
    /// Whether it lives.
    pub standing: BrokerStanding,
}

impl BrokerRecord {
    /// As a member of partitions.
    pub fn replica(&self) -> ReplicaId {
        ReplicaId { ordinal: self.ordinal, incarnation: self.incarnation }
    }
}

/// Whether a volume lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BrokerStanding {
    /// It is the one behind its ordinal.
    Active,
    /// Another life has taken its place: it is lost for ever, and refused for ever.
    Lost,
}

/// The root page. As lines: `format 1`, `cluster ID`, `controllerEpoch N`, `rebuilding true|false`, `pages N,…|none`, and
/// for each volume `broker ORDINAL:INCARNATION session=N boot=N volume=UID|none standing=Active|Lost`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Root {
    /// Whose.
    pub cluster_id: ClusterId,
    /// The tenure that wrote it.
    pub controller_epoch: u64,
    /// The table, or part of it, was lost or is older than what brokers hold: until every broker has reported, no topic and
    /// no partition is made, because it may exist already.
    pub rebuilding: bool,
    /// The pages, in order. One that is not listed does not exist.
    pub pages: Vec<u32>,
    /// Volumes, by ordinal.
    pub brokers: Vec<BrokerRecord>,
}

impl Root {
    /// The lives that are lost for ever.
    pub fn lost(&self) -> impl Iterator<Item = ReplicaId> {
        self.brokers
            .iter()
            .filter(|record| record.standing == BrokerStanding::Lost)
            .map(BrokerRecord::replica)
    }

    /// Whether this life is listed as lost for ever.
    pub fn is_lost(&self, replica: ReplicaId) -> bool {
        self.lost().any(|lost| lost == replica)
    }

    /// The living volume of a broker.
    pub fn active(&self, ordinal: Ordinal) -> Option<&BrokerRecord> {
        let living = |record: &&BrokerRecord| record.standing == BrokerStanding::Active;
        self.brokers.iter().filter(living).find(|record| record.ordinal == ordinal)
    }

    /// Its lines.
    pub fn lines(&self) -> Vec<String> {
        let pages: Vec<String> = self.pages.iter().map(u32::to_string).collect();
        let pages = (!pages.is_empty()).then(|| pages.join(","));
        let mut lines = vec![
            FORMAT.to_owned(),
            format!("cluster {}", self.cluster_id),
            format!("controllerEpoch {}", self.controller_epoch),
            format!("rebuilding {}", self.rebuilding),
        ];
        // A line of pages stays within what the API server takes for one.
        match pages {
            None => lines.push("pages none".to_owned()),
            Some(_) => lines.extend(self.pages.chunks(PAGES_A_LINE).map(|chunk| {
                let numbers: Vec<String> = chunk.iter().map(u32::to_string).collect();
                format!("pages {}", numbers.join(","))
            })),
        }
        lines.extend(self.brokers.iter().map(|record| {
            let standing = match record.standing {
                BrokerStanding::Active => "Active",
                BrokerStanding::Lost => "Lost",
            };
            let volume = option(record.volume.as_deref());
            let Process { session, boot } = record.process;
            let replica = record.replica();
            format!("broker {replica} session={session} boot={boot} volume={volume} standing={standing}")
        }));
        lines
    }

    /// Back from [`lines`](Self::lines). An error names the line and what may stand there.
    pub fn parse(lines: &[String]) -> Result<Self, InvalidTable> {
        let (mut cluster_id, mut controller_epoch, mut rebuilding) = (None, None, None);
        let (mut pages, mut brokers) = (Vec::new(), Vec::new());
        for (line, text) in opened(lines)? {
            let mut words = Words::new(line, text);
            match words.word().unwrap_or_default() {
                "cluster" => cluster_id = Some(words.value("a Cluster's id, a UUID")?),
                "controllerEpoch" => controller_epoch = Some(words.value("a number")?),
                "rebuilding" => rebuilding = Some(words.value("true or false")?),
                "pages" => pages.extend(read_pages(&mut words)?),
                "broker" => brokers.push(read_broker(&mut words)?),
                _ => return Err(words.wrong(text, "cluster, controllerEpoch, rebuilding, pages or broker")),
            }
            words.end()?;
        }
        pages.sort_unstable();
        pages.dedup();
        let absent = |wanted: &str| InvalidTable::Line {
            line: lines.len() + 1,
            text: String::new(),
            wanted: wanted.to_owned(),
        };
        Ok(Self {
            cluster_id: cluster_id.ok_or_else(|| absent("a line: cluster ID"))?,
            controller_epoch: controller_epoch.ok_or_else(|| absent("a line: controllerEpoch N"))?,
            rebuilding: rebuilding.ok_or_else(|| absent("a line: rebuilding true or false"))?,
            pages,
            brokers,
        })
    }
}

/// So many numbers of up to ten digits are well below 2,048 bytes.
const PAGES_A_LINE: usize = 100;

fn read_pages(words: &mut Words<'_>) -> Result<Vec<u32>, InvalidTable> {
    let list = words.word().unwrap_or_default();
    if list == "none" {
        return Ok(Vec::new());
    }
    list.split(',').map(|one| one.parse().map_err(|_| words.wrong(one, "a page's number"))).collect()
}

fn read_broker(words: &mut Words<'_>) -> Result<BrokerRecord, InvalidTable> {
    let replica: ReplicaId = words.value("ORDINAL:INCARNATION")?;
    let session = words.field_value("session", "a number")?;
    let boot = words.field("boot")?;
    let boot = u64::from_str_radix(boot, 16).map_err(|_| words.wrong(boot, "16 hexadecimal digits"))?;
    let volume = words.field_option("volume", "a claim's uid")?;
    let standing = match words.field("standing")? {
        "Active" => BrokerStanding::Active,
        "Lost" => BrokerStanding::Lost,
        other => return Err(words.wrong(other, "Active or Lost")),
    };
    Ok(BrokerRecord {
        ordinal: replica.ordinal,
        incarnation: replica.incarnation,
        process: Process { session: Session(session), boot: BootId(boot) },
        volume,
        standing,
    })
}
