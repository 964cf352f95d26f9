//! `fulmar topic list`.

use clap::Args;
use fulmar_client::v1;
use serde_json::{Value, json};

use crate::exit::Failed;
use crate::output::{Output, table};
use crate::server::Server;
use crate::topic::describe::topic_id;

/// List the topics, by name
#[derive(Debug, Args)]
pub(crate) struct List {
    #[command(flatten)]
    output: Output,
}

fn leaderless(topic: &v1::Topic) -> usize {
    topic.partitions.iter().filter(|partition| partition.leader.is_none()).count()
}

fn replicas(topic: &v1::Topic) -> usize {
    topic.partitions.iter().map(|partition| partition.replicas.len()).max().unwrap_or(0)
}

fn row(topic: &v1::Topic) -> [String; 4] {
    [
        topic.name.clone(),
        topic.partitions.len().to_string(),
        replicas(topic).to_string(),
        leaderless(topic).to_string(),
    ]
}

fn object(topic: &v1::Topic) -> Value {
    json!({
        "name": topic.name,
        "topic_id": topic_id(&topic.topic_id),
        "partitions": topic.partitions.len(),
        "replicas": replicas(topic),
        "leaderless": leaderless(topic),
        "max_message_bytes": topic.max_message_bytes,
    })
}

/// What cannot be served, such as retained topics, has an error in the place of partitions.
fn served(mut topics: Vec<v1::Topic>) -> Vec<v1::Topic> {
    topics.retain(|topic| topic.error.is_none());
    topics
}

fn table_of(topics: &[v1::Topic]) -> String {
    if topics.is_empty() {
        return "there are no topics".to_owned();
    }
    table(["NAME", "PARTITIONS", "REPLICAS", "LEADERLESS"], topics.iter().map(row))
}

/// The list for people.
pub(crate) fn as_table(topics: Vec<v1::Topic>) -> String {
    table_of(&served(topics))
}

impl List {
    pub(crate) async fn run(self, server: Server) -> Result<(), Failed> {
        let topics = served(server.connect().await?.admin().topics().await?);
        Ok(self.output.show(|| table_of(&topics), || topics.iter().map(object).collect())?)
    }
}
