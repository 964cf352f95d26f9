//! What the tables hold as of the last commit, read whole when a volume is opened or inspected.

use std::collections::BTreeMap;

use fulmar_core::id::{PartitionKey, ReplicaId};
use fulmar_core::partition::{ProducerTable, Promise};
use fulmar_core::term::Process;
use redb::{ReadableDatabase, ReadableTable, TableError};

use super::super::Page;
use super::super::tables::logs::LogRow;
use super::super::tables::meta::{self, Meta};
use super::super::tables::{
    aside, garbage, logs, pages, partition_of, peers, producers, promises, sealed, unnoted,
};
use super::{Replica, VolumeError, row};

/// The tables as of the last commit, for reading.
#[derive(Debug)]
pub(in super::super) struct View(redb::ReadTransaction);

impl View {
    pub(in super::super) fn open(database: &impl ReadableDatabase) -> Result<Self, VolumeError> {
        Ok(Self(database.begin_read()?))
    }

    pub(in super::super) fn meta(&self) -> Result<Meta, VolumeError> {
        let table = self.0.open_table(meta::TABLE)?;
        let found =
            table.get(meta::KEY)?.ok_or(VolumeError::Row { table: "meta", what: "it is not there" })?;
        let body = sealed::open(meta::KEY.as_bytes(), found.value()).map_err(row("meta"))?;
        let format = body.first_chunk().map_or(0, |four| u32::from_le_bytes(*four));
        if format > meta::FORMAT {
            return Err(VolumeError::Format(format));
        }
        Meta::decode(&body).map_err(row("meta"))
    }

    /// All replicas, of which there must be so many.
    pub(in super::super) fn replicas(
        &self,
        expected: u64,
    ) -> Result<BTreeMap<PartitionKey, Box<Replica>>, VolumeError> {
        let mut replicas: BTreeMap<PartitionKey, Box<Replica>> = BTreeMap::new();
        for found in self.0.open_table(logs::TABLE)?.iter()? {
            let (key, value) = found?;
            let body = sealed::open(key.value(), value.value()).map_err(row("logs"))?;
            let replica = Replica { row: LogRow::decode(&body).map_err(row("logs"))?, ..Replica::default() };
            replicas.insert(partition_of(key.value()), Box::new(replica));
        }
        let missing = |table| VolumeError::Row { table, what: "a replica is missing" };
        if replicas.len() as u64 != expected {
            return Err(missing("logs"));
        }
        for found in self.0.open_table(promises::TABLE)?.iter()? {
            let (key, value) = found?;
            let body = sealed::open(key.value(), value.value()).map_err(row("promises"))?;
            let replica = replicas.get_mut(&partition_of(key.value())).ok_or_else(|| missing("logs"))?;
            replica.promise = promises::decode(&body).map_err(row("promises"))?;
        }
        for found in self.0.open_table(producers::TABLE)?.iter()? {
            let (key, value) = found?;
            let body = sealed::open(key.value(), value.value()).map_err(row("producers"))?;
            let replica = replicas.get_mut(&partition_of(key.value())).ok_or_else(|| missing("logs"))?;
            let wrong = |_| VolumeError::Row { table: "producers", what: "snapshot" };
            replica.producers = ProducerTable::decode(&body).map_err(wrong)?;
        }
        self.unnoted(&mut replicas)?;
        if replicas.values().any(|replica| replica.row.promised != (replica.promise != Promise::default())) {
            return Err(VolumeError::Row { table: "promises", what: "a promise is missing" });
        }
        Ok(replicas)
    }

    fn unnoted(&self, replicas: &mut BTreeMap<PartitionKey, Box<Replica>>) -> Result<(), VolumeError> {
        let table = match self.0.open_table(unnoted::TABLE) {
            // Made by the first transaction after an upgrade.
            Err(TableError::TableDoesNotExist(_)) => return Ok(()),
            table => table?,
        };
        for found in table.iter()? {
            let (key, value) = found?;
            let body = sealed::open(key.value(), value.value()).map_err(row("unnoted"))?;
            let missing = || VolumeError::Row { table: "logs", what: "a replica is missing" };
            let replica = replicas.get_mut(&partition_of(key.value())).ok_or_else(missing)?;
            let stretches = unnoted::decode(&body).map_err(row("unnoted"))?;
            for stretch in stretches {
                replica.unnoted.add(stretch);
            }
            replica.forget_unheld();
        }
        Ok(())
    }

    /// How many bytes they have is not known.
    pub(in super::super) fn garbage(&self) -> Result<BTreeMap<(PartitionKey, u32), u64>, VolumeError> {
        let table = self.0.open_table(garbage::TABLE)?;
        let mut found = BTreeMap::new();
        for mark in table.iter()? {
            let log = garbage::decode(mark?.0.value());
            found.insert((log.key, log.number), 0);
        }
        Ok(found)
    }

    pub(in super::super) fn aside(&self) -> Result<BTreeMap<(PartitionKey, u32), LogRow>, VolumeError> {
        let table = match self.0.open_table(aside::TABLE) {
            // Made by the first transaction after an upgrade.
            Err(TableError::TableDoesNotExist(_)) => return Ok(BTreeMap::new()),
            table => table?,
        };
        let mut copies = BTreeMap::new();
        for found in table.iter()? {
            let (key, value) = found?;
            let body = sealed::open(key.value(), value.value()).map_err(row("aside"))?;
            let copy = aside::name(key.value());
            copies.insert((copy.key, copy.number), aside::decode(&body).map_err(row("aside"))?);
        }
        Ok(copies)
    }

    pub(in super::super) fn pages(&self) -> Result<Vec<Page>, VolumeError> {
        let mut found = Vec::new();
        for page in self.0.open_table(pages::TABLE)?.iter()? {
            let (number, value) = page?;
            let body = sealed::open(&number.value().to_le_bytes(), value.value()).map_err(row("pages"))?;
            found.push(pages::decode(number.value(), &body).map_err(row("pages"))?);
        }
        Ok(found)
    }

    pub(in super::super) fn peers(&self) -> Result<Vec<(ReplicaId, Process)>, VolumeError> {
        let mut found = Vec::new();
        for peer in self.0.open_table(peers::TABLE)?.iter()? {
            let (key, value) = peer?;
            let body = sealed::open(key.value(), value.value()).map_err(row("peers"))?;
            found.push((peers::peer(key.value()), peers::decode(&body).map_err(row("peers"))?));
        }
        Ok(found)
    }
}
