//! The Cluster under test: brokers and the steward as processes, their volumes and disks.

pub(crate) mod broker;
pub(crate) mod disk;
pub(crate) mod process;
pub(crate) mod steward;
pub(crate) mod volume;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use fulmar_client::Client;

use self::broker::Broker;
use self::steward::Steward;
use crate::room::{Place, system};
use crate::story::Story;

/// The volumes' file systems: sparse, so large is cheap; small enough to be filled at once.
const VOLUME_BYTES: u64 = 8 << 30;

/// A question to brokers that are well, on a busy machine.
const ANSWER_WITHIN: Duration = Duration::from_mins(1);
const ASK_AGAIN: Duration = Duration::from_millis(500);

/// Topics: one with the defaults, one that is acknowledged by all, one that lives in one place.
pub(crate) const EVENTS: &str = "events";
pub(crate) const STRICT: &str = "strict";
pub(crate) const ALONE: &str = "alone";

/// Each topic and how many partitions it has.
pub(crate) const TOPICS: [(&str, u32); 3] = [(EVENTS, 4), (STRICT, 1), (ALONE, 1)];

/// See the module.
pub(crate) struct Cluster {
    /// By ordinal.
    pub(crate) brokers: Vec<Broker>,
    pub(crate) steward: Steward,
    /// Whether each volume is a file system of its own.
    pub(crate) has_file_systems: bool,
    pub(crate) story: Arc<Story>,
    folder: PathBuf,
    program: PathBuf,
}

fn yaml(brokers: u16) -> String {
    let topic = |name: &str, partitions: u32, more: &str| {
        format!(
            "---\napiVersion: fulmar.dev/v1alpha1\nkind: Topic\nmetadata: {{name: {name}}}\n\
             spec: {{clusterRef: {{name: faults}}, partitions: {partitions}, retention: {{time: Forever}}{more}}}\n"
        )
    };
    let mut text = format!(
        "apiVersion: fulmar.dev/v1alpha1\nkind: Cluster\nmetadata: {{name: faults}}\nspec: {{replicas: {brokers}}}\n"
    );
    for (name, partitions) in TOPICS {
        let more = match name {
            STRICT => ", replicationFactor: 3, ackQuorum: 3",
            ALONE => ", replicationFactor: 1",
            _ => ", replicationFactor: 3",
        };
        text += &topic(name, partitions, more);
    }
    text
}

impl Cluster {
    /// Makes volumes and YAML, starts the steward and then the brokers.
    pub(crate) fn start(folder: &Path, program: &Path, brokers: u16, story: Arc<Story>) -> Result<Self> {
        let file = folder.join("cluster.yaml");
        fs::write(&file, yaml(brokers)).with_context(|| format!("could not write {}", file.display()))?;
        let has_file_systems = make_file_systems(folder, brokers, &story)?;
        let steward = Steward::new(folder, program, &file, brokers)?;
        let brokers = (0..brokers).map(|ordinal| Broker::new(folder, program, ordinal, brokers));
        let brokers = brokers.collect::<Result<Vec<_>>>()?;
        let mut cluster = Self {
            brokers,
            steward,
            has_file_systems,
            story,
            folder: folder.to_owned(),
            program: program.to_owned(),
        };
        cluster.steward.start()?;
        cluster.steward.await_certificates(&folder.join("dev/tls/gossip.key"))?;
        for broker in &mut cluster.brokers {
            broker.start()?;
        }
        Ok(cluster)
    }

    /// Ends every process and gives the volumes back.
    pub(crate) async fn end(mut self) -> Result<()> {
        self.steward.process.kill().await?;
        for ordinal in 0..self.size() {
            self.brokers[usize::from(ordinal)].process.kill().await?;
            if self.has_file_systems {
                system(&format!("umount {}", broker::mount(&self.folder, ordinal).display()))?;
            }
        }
        Ok(())
    }

    /// How many brokers.
    pub(crate) fn size(&self) -> u16 {
        u16::try_from(self.brokers.len()).expect("at most 9")
    }

    /// The folder of everything.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// The program `fulmar`.
    pub(crate) fn program(&self) -> &Path {
        &self.program
    }

    /// Who has the only copy of something. Brokers may be slow to answer.
    pub(crate) async fn holder_of_alone(&self) -> Result<u16> {
        let deadline = Instant::now() + ANSWER_WITHIN;
        loop {
            match self.ask_holder_of_alone().await {
                Err(_) if Instant::now() < deadline => tokio::time::sleep(ASK_AGAIN).await,
                answer => return answer,
            }
        }
    }

    async fn ask_holder_of_alone(&self) -> Result<u16> {
        let described = Self::client(self.size()).await?.admin().describe_topic(ALONE).await?;
        let replica = described.partitions.first().and_then(|partition| partition.replicas.first());
        let replica = *replica.context("the topic of one replica has none")?;
        u16::try_from(replica).context("an ordinal is a small number")
    }

    /// A program's way in, by every broker.
    pub(crate) async fn client(size: u16) -> Result<Client> {
        let mut builder = Client::builder();
        for ordinal in 0..size {
            builder = builder.server(format!("http://{}:50051", Place::Broker(ordinal).address()));
        }
        let connected = tokio::time::timeout(ANSWER_WITHIN, builder.connect()).await;
        connected.context("no broker answers in time")?.context("no broker answers")
    }
}

/// A file system in a file for each broker, so that it can be full alone. Where there are no loop devices: folders.
fn make_file_systems(folder: &Path, brokers: u16, story: &Story) -> Result<bool> {
    for ordinal in 0..brokers {
        let (image, mount) = (folder.join(format!("volume-{ordinal}.img")), broker::mount(folder, ordinal));
        fs::create_dir_all(&mount).with_context(|| format!("could not make {}", mount.display()))?;
        let file = fs::File::create(&image).with_context(|| format!("could not make {}", image.display()))?;
        file.set_len(VOLUME_BYTES)?;
        let made = system(&format!("mkfs.ext4 -q -F -m 0 {}", image.display()))
            .and_then(|()| system(&format!("mount -o loop,discard {} {}", image.display(), mount.display())));
        if let Err(error) = made {
            story.say(&format!("volumes are folders, and none can be full: {error:#}"));
            return Ok(false);
        }
    }
    Ok(true)
}
