//! `fulmar topic describe`.

use std::time::Duration;

use clap::Args;
use clap::builder::NonEmptyStringValueParser;
use fulmar_client::v1::{DescribeTopicResponse, PartitionStatus};
use indicatif::BinaryBytes;
use serde_json::{Value, json};

use crate::exit::Failed;
use crate::output::{Output, list, or_dash, table};
use crate::server::Server;

/// Show one topic: settings, leaders, replicas, offsets
#[derive(Debug, Args)]
pub(crate) struct Describe {
    /// The topic
    #[arg(value_parser = NonEmptyStringValueParser::new())]
    topic: String,
    #[command(flatten)]
    output: Output,
}

/// Sixteen bytes as the text of a UUID.
pub(super) fn topic_id(bytes: &[u8]) -> String {
    uuid::Uuid::from_slice(bytes).map(|id| id.to_string()).unwrap_or_default()
}

fn row(partition: &PartitionStatus) -> [String; 8] {
    [
        partition.partition.to_string(),
        or_dash(partition.leader),
        if partition.serving { "yes" } else { "no" }.to_owned(),
        list(&partition.replicas),
        list(&partition.in_sync),
        partition.log_start.to_string(),
        partition.high_watermark.to_string(),
        partition.epoch.clone(),
    ]
}

fn object(partition: &PartitionStatus) -> Value {
    json!({
        "partition": partition.partition,
        "leader": partition.leader,
        "serving": partition.serving,
        "replicas": partition.replicas,
        "in_sync": partition.in_sync,
        "log_start": partition.log_start,
        "high_watermark": partition.high_watermark,
        "log_end": partition.log_end,
        "epoch": partition.epoch,
        "may_have_lost_from": partition.may_have_lost_from,
    })
}

fn retention(topic: &DescribeTopicResponse) -> String {
    let time = match topic.retention_seconds {
        0 => "for ever".to_owned(),
        seconds => humantime::format_duration(Duration::from_secs(seconds)).to_string(),
    };
    match topic.retention_bytes {
        0 => time,
        bytes => format!("{time}, at most {} a partition", BinaryBytes(bytes)),
    }
}

fn as_table(topic: &DescribeTopicResponse) -> String {
    let header =
        ["PARTITION", "LEADER", "SERVING", "REPLICAS", "INSYNC", "LOG-START", "HIGH-WATERMARK", "EPOCH"];
    format!(
        "Name:              {}\nTopic id:          {}\nAck quorum:        {}\nRetention:         {}\n\
         Max message bytes: {}\n\n{}",
        topic.name,
        topic.topic_id,
        topic.ack_quorum,
        retention(topic),
        topic.max_message_bytes,
        table(header, topic.partitions.iter().map(row)),
    ) + &notes(&topic.partitions)
}

/// So many partitions are spoken of one by one.
const NOTES_MAX: usize = 8;

/// What a person should know who looks at the table.
fn notes(partitions: &[PartitionStatus]) -> String {
    let lost = partitions.iter().filter_map(|one| {
        let (partition, from) = (one.partition, one.may_have_lost_from?);
        Some(format!("Partition {partition} may lack acknowledged records from offset {from} on."))
    });
    let silent = partitions.iter().filter(|one| !one.serving).map(|one| {
        format!(
            "Partition {} is served by nobody. What it waits for, and what a person can do, is said by who decides: kubectl \
             describe flt (condition Ready), or the output of fulmar dev.",
            one.partition
        )
    });
    let notes: Vec<String> = lost.chain(silent).take(NOTES_MAX).collect();
    if notes.is_empty() { String::new() } else { format!("\n\n{}", notes.join("\n")) }
}

fn as_json(topic: &DescribeTopicResponse) -> Value {
    json!({
        "name": topic.name,
        "topic_id": topic.topic_id,
        "ack_quorum": topic.ack_quorum,
        "retention_seconds": topic.retention_seconds,
        "retention_bytes": topic.retention_bytes,
        "max_message_bytes": topic.max_message_bytes,
        "partitions": topic.partitions.iter().map(object).collect::<Vec<_>>(),
    })
}

impl Describe {
    pub(crate) async fn run(self, server: Server) -> Result<(), Failed> {
        let admin = server.connect().await?.admin();
        let topic = admin.describe_topic(&self.topic).await?;
        Ok(self.output.show(|| as_table(&topic), || as_json(&topic))?)
    }
}
