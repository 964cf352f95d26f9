//! Redis Streams: a key of our own, made for the round, through `redis`.

use bytes::Bytes;
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, FromRedisValue, Value, cmd};
use tokio::task::JoinSet;
use uuid::Uuid;

use super::{Address, CONNECT_TIMEOUT, FORGOTTEN_AFTER, REQUEST_TIMEOUT};
use crate::bench::system::{Follower, From, Pipeline, Single, System};
use crate::exit::Failed;

/// Commands in one pipeline: Redis syncs once for what it read together, and reads little more at a time.
const PIPELINE_MAX: usize = 128;

/// Pipelines under way: one is executed while the next one arrives.
const PIPELINES_MAX: usize = 4;

/// Entries in one answer.
const ENTRIES_MAX: usize = 1000;

/// How long a read waits on the server before it is asked anew, in milliseconds.
const BLOCK_MS: usize = 1000;

/// A Redis server, and the key of this round.
pub(crate) struct Redis {
    client: Client,
    connection: MultiplexedConnection,
    key: String,
    version: String,
    safety: String,
}

impl Redis {
    /// Looks whether it is there, and what it does with its log; writes nothing.
    pub(crate) async fn connect(address: &Address) -> Result<Self, Failed> {
        let client = Client::open(address.url().clone()).map_err(|error| Failed::Usage(error.to_string()))?;
        let mut connection =
            connect(&client).await.map_err(|failed| Failed::Unavailable(failed.to_string()))?;
        let version = version(&mut connection).await?;
        let safety = safety(&mut connection, address.label()).await;
        let key = format!("fulmar-bench-{}", Uuid::new_v4().simple());
        Ok(Self { client, connection, key, version, safety })
    }

    /// Its name and version.
    pub(crate) fn version(&self) -> String {
        format!("Redis {}", self.version)
    }

    /// What an acknowledgement means.
    pub(crate) fn safety(&self) -> &str {
        &self.safety
    }

    async fn log(&self) -> Result<Log, Failed> {
        Ok(Log { connection: connect(&self.client).await?, key: self.key.clone() })
    }
}

async fn connect(client: &Client) -> Result<MultiplexedConnection, Failed> {
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(CONNECT_TIMEOUT))
        .set_response_timeout(Some(REQUEST_TIMEOUT));
    client.get_multiplexed_async_connection_with_config(&config).await.map_err(failed)
}

fn failed(error: impl std::fmt::Display) -> Failed {
    Failed::Failure(error.to_string())
}

async fn version(connection: &mut MultiplexedConnection) -> Result<String, Failed> {
    let told: String = cmd("INFO").arg("server").query_async(connection).await.map_err(failed)?;
    let version = told.lines().find_map(|line| line.strip_prefix("redis_version:"));
    Ok(version.unwrap_or("of a version that it does not tell").to_owned())
}

/// Servers that are let out for hire refuse the question: then the user's word is all there is.
async fn safety(connection: &mut MultiplexedConnection, label: Option<&str>) -> String {
    let mut told = Vec::new();
    for setting in ["appendonly", "appendfsync"] {
        let answer: Result<Vec<String>, _> =
            cmd("CONFIG").arg("GET").arg(setting).query_async(connection).await;
        if let Some(value) = answer.ok().and_then(|pair| pair.into_iter().nth(1)) {
            told.push(format!("{setting} {value}"));
        }
    }
    match (told.is_empty(), label) {
        (false, None) => told.join(", "),
        (false, Some(label)) => format!("{}, {label}, as told", told.join(", ")),
        (true, Some(label)) => format!("{label}, as told"),
        (true, None) => "appendonly and appendfsync not told".to_owned(),
    }
}

impl System for Redis {
    type Pipeline = Pipelines;
    type Single = Log;
    type Plain = Log;
    type Follower = Reader;
    type Teller = Pipelines;
    type Listener = Reader;

    async fn begin(&mut self) -> Result<(), Failed> {
        // A group makes the stream without an entry; nobody reads by it.
        let mut made = cmd("XGROUP");
        made.arg("CREATE").arg(&self.key).arg("none").arg("$").arg("MKSTREAM");
        made.exec_async(&mut self.connection).await.map_err(failed)?;
        let expire = cmd("EXPIRE").arg(&self.key).arg(FORGOTTEN_AFTER.as_secs()).to_owned();
        expire.exec_async(&mut self.connection).await.map_err(failed)
    }

    async fn end(&mut self) -> Result<(), Failed> {
        let removed = cmd("UNLINK").arg(&self.key).exec_async(&mut self.connection).await;
        removed.map_err(|error| failed(format!("cannot remove the key {}: {error}", self.key)))
    }

    async fn pipeline(&self) -> Result<Pipelines, Failed> {
        Ok(Pipelines { log: self.log().await?, gathered: redis::pipe(), count: 0, under_way: JoinSet::new() })
    }

    async fn single(&self) -> Result<Log, Failed> {
        self.log().await
    }

    async fn plain(&self) -> Result<Log, Failed> {
        self.log().await
    }

    async fn tell(&self) -> Result<Pipelines, Failed> {
        self.pipeline().await
    }

    async fn listen(&self) -> Result<Reader, Failed> {
        self.follow(From::Latest).await
    }

    async fn follow(&self, from: From) -> Result<Reader, Failed> {
        let mut log = self.log().await?;
        let after = match from {
            From::Earliest => "0-0".to_owned(),
            From::Latest => log.last().await?,
        };
        Ok(Reader { log, after })
    }
}

/// A connection to the round's stream.
#[derive(Clone)]
pub(crate) struct Log {
    connection: MultiplexedConnection,
    key: String,
}

impl Log {
    /// The id of the newest entry.
    async fn last(&mut self) -> Result<String, Failed> {
        let mut newest = cmd("XREVRANGE");
        newest.arg(&self.key).arg("+").arg("-").arg("COUNT").arg(1);
        let entries: Vec<Value> = newest.query_async(&mut self.connection).await.map_err(failed)?;
        let id = entries.into_iter().next().and_then(id_of);
        Ok(id.unwrap_or_else(|| "0-0".to_owned()))
    }
}

impl Single for Log {
    async fn publish(&mut self, value: Bytes) -> Result<(), Failed> {
        let mut add = cmd("XADD");
        add.arg(&self.key).arg("*").arg("v").arg(&value[..]);
        add.exec_async(&mut self.connection).await.map_err(failed)
    }
}

/// A connection with pipelines under way.
pub(crate) struct Pipelines {
    log: Log,
    gathered: redis::Pipeline,
    count: usize,
    under_way: JoinSet<Result<(), Failed>>,
}

impl Pipelines {
    async fn settle_one(&mut self) -> Result<(), Failed> {
        match self.under_way.join_next().await {
            Some(done) => done.map_err(failed)?,
            None => Ok(()),
        }
    }
}

impl Pipeline for Pipelines {
    async fn send(&mut self, value: Bytes) -> Result<(), Failed> {
        self.gathered.cmd("XADD").arg(&self.log.key).arg("*").arg("v").arg(&value[..]).ignore();
        self.count += 1;
        if self.count >= PIPELINE_MAX {
            self.push().await?;
        }
        Ok(())
    }

    async fn push(&mut self) -> Result<(), Failed> {
        if self.count == 0 {
            return Ok(());
        }
        while self.under_way.len() >= PIPELINES_MAX {
            self.settle_one().await?;
        }
        let gathered = std::mem::replace(&mut self.gathered, redis::pipe());
        self.count = 0;
        let mut connection = self.log.connection.clone();
        self.under_way.spawn(async move { gathered.exec_async(&mut connection).await.map_err(failed) });
        Ok(())
    }

    async fn finish(mut self) -> Result<(), Failed> {
        self.push().await?;
        while !self.under_way.is_empty() {
            self.settle_one().await?;
        }
        Ok(())
    }
}

/// A connection that reads.
pub(crate) struct Reader {
    log: Log,
    /// The id of the entry that was read last.
    after: String,
}

impl Follower for Reader {
    async fn next(&mut self, each: &mut (dyn FnMut(&[u8]) + Send)) -> Result<(), Failed> {
        let mut read = cmd("XREAD");
        read.arg("COUNT").arg(ENTRIES_MAX).arg("BLOCK").arg(BLOCK_MS);
        read.arg("STREAMS").arg(&self.log.key).arg(&self.after);
        let answer: Value = read.query_async(&mut self.log.connection).await.map_err(failed)?;
        // Nothing came for a while: whoever waits decides for how long.
        if answer == Value::Nil {
            return Ok(());
        }
        let read = entries(answer).ok_or_else(|| failed("XREAD gave no list of entries"))?;
        for entry in read {
            let (id, value) = entry_of(entry).ok_or_else(|| failed("XREAD gave an entry without a value"))?;
            each(&value);
            self.after = id;
        }
        Ok(())
    }
}

/// The entries of the one stream in an answer to XREAD: a list of pairs of key and entries.
fn entries(answer: Value) -> Option<Vec<Value>> {
    let Value::Array(mut streams) = answer else { return None };
    let Value::Array(mut pair) = streams.pop()? else { return None };
    let Value::Array(entries) = pair.pop()? else { return None };
    Some(entries)
}

/// An entry is a pair of id and fields, a field a name followed by its value; ours have one.
fn entry_of(entry: Value) -> Option<(String, Vec<u8>)> {
    let Value::Array(mut pair) = entry else { return None };
    let Value::Array(mut fields) = pair.pop()? else { return None };
    let Value::BulkString(value) = fields.pop()? else { return None };
    Some((String::from_redis_value(pair.pop()?).ok()?, value))
}

fn id_of(entry: Value) -> Option<String> {
    entry_of(entry).map(|(id, _)| id)
}

#[cfg(test)]
#[path = "redis_tests.rs"]
mod tests;
