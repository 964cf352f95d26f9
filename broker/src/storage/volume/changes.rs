//! One transaction on its way: what each operation of the journal does to the tables, and to what is known of each replica.

use std::collections::{BTreeMap, BTreeSet};

use fulmar_core::batch::Batch;
use fulmar_core::id::PartitionKey;
use fulmar_core::offset::Offset;
use fulmar_core::partition::{ProducerTable, Promise, Write};
use redb::{Table, WriteTransaction};

use super::super::op::Op;
use super::super::tables::batches::{self, LogName, Pack};
use super::super::tables::logs::LogRow;
use super::super::tables::mending::{self, Mended};
use super::super::tables::{
    aside, garbage, logs, pages, partition_bytes, peers, producers, promises, sealed, unnoted,
};
use super::unnoted::Unnoted;
use super::{Note, Replica, Volume, VolumeError, continues};

/// A log's producers are stored again after so many bytes of batches, or eight times their own size: what a start has to
/// read again is bounded by it.
const PRODUCERS_EVERY: usize = 256 * 1024;

type Values<'t> = Table<'t, &'static batches::KeyBytes, &'static [u8]>;
type Rows<'t> = Table<'t, &'static [u8; 20], &'static [u8]>;

/// One transaction on its way.
pub(super) struct Changes<'a> {
    values: Values<'a>,
    logs: Rows<'a>,
    producers: Rows<'a>,
    unnoted: Rows<'a>,
    promises: Rows<'a>,
    pages: Table<'a, u32, &'static [u8]>,
    peers: Table<'a, &'static peers::KeyBytes, &'static [u8]>,
    marks: Table<'a, &'static garbage::KeyBytes, ()>,
    copies: Table<'a, &'static aside::KeyBytes, &'static [u8]>,
    replicas: &'a mut BTreeMap<PartitionKey, Box<Replica>>,
    garbage: &'a mut BTreeMap<(PartitionKey, u32), u64>,
    aside: &'a mut BTreeMap<(PartitionKey, u32), LogRow>,
    retired: &'a mut BTreeSet<PartitionKey>,
    packs: BTreeMap<PartitionKey, Pack>,
    changed: BTreeSet<PartitionKey>,
}

impl<'a> Changes<'a> {
    pub(super) fn begin(
        transaction: &'a WriteTransaction,
        volume: &'a mut Volume,
    ) -> Result<Self, VolumeError> {
        Ok(Self {
            values: transaction.open_table(batches::TABLE)?,
            logs: transaction.open_table(logs::TABLE)?,
            producers: transaction.open_table(producers::TABLE)?,
            unnoted: transaction.open_table(unnoted::TABLE)?,
            promises: transaction.open_table(promises::TABLE)?,
            pages: transaction.open_table(pages::TABLE)?,
            peers: transaction.open_table(peers::TABLE)?,
            marks: transaction.open_table(garbage::TABLE)?,
            copies: transaction.open_table(aside::TABLE)?,
            replicas: &mut volume.replicas,
            garbage: &mut volume.garbage,
            aside: &mut volume.aside,
            retired: &mut volume.retired,
            packs: BTreeMap::new(),
            changed: BTreeSet::new(),
        })
    }

    pub(super) fn op(&mut self, op: &Op) -> Result<(), VolumeError> {
        if let Some(key) = op.key() {
            self.changed.insert(key);
            self.replicas.entry(key).or_default();
        }
        match op {
            Op::Write(key, write) => self.write(*key, write),
            Op::Page(page) => {
                let row = sealed::seal(&page.number.to_le_bytes(), &pages::encode(page));
                self.pages.insert(page.number, row.as_slice())?;
                Ok(())
            }
            Op::DropPage(number) => {
                self.pages.remove(number)?;
                Ok(())
            }
            Op::Peer(peer, process) => {
                let key = peers::key(*peer);
                self.peers.insert(&key, sealed::seal(&key, &peers::encode(*process)).as_slice())?;
                Ok(())
            }
        }
    }

    fn replica(&mut self, key: PartitionKey) -> &mut Replica {
        self.replicas.get_mut(&key).expect("made when its operation came")
    }

    fn write(&mut self, key: PartitionKey, write: &Write) -> Result<(), VolumeError> {
        match write {
            Write::Append(batch) => self.append(key, batch),
            Write::Mend(batch) => self.mend(key, batch),
            Write::Cut { to } => self.cut(key, *to),
            Write::Reset { start, vector, producers } => {
                self.leave_log(key)?;
                let table = ProducerTable::decode(producers)
                    .map_err(|_| VolumeError::Order { key, what: "a reset's producers do not parse" })?;
                let replica = self.replica(key);
                replica.row.start = *start;
                replica.row.end = *start;
                replica.row.high_watermark = *start;
                replica.row.vector = vector.clone();
                replica.producers = table;
                Ok(())
            }
            Write::Promise(promise) => {
                let name = partition_bytes(key);
                self.promises.insert(&name, sealed::seal(&name, &promises::encode(promise)).as_slice())?;
                let replica = self.replica(key);
                replica.promise = promise.clone();
                replica.row.promised = *promise != Promise::default();
                Ok(())
            }
            Write::LogStart(start) => {
                self.retired.insert(key);
                let replica = self.replica(key);
                replica.row.start = replica.row.start.max((*start).min(replica.row.end));
                replica.row.high_watermark = replica.row.high_watermark.max(replica.row.start);
                replica.forget_unheld();
                // What was below is needed no more to make the table again.
                replica.store_producers |= replica.row.producers_at < replica.row.start;
                Ok(())
            }
            Write::Mark { uncertain } => {
                self.replica(key).row.uncertain = *uncertain;
                Ok(())
            }
            Write::Release => self.leave_log(key),
            Write::SetAside { to, producers } => self.set_aside(key, *to, producers),
            Write::ForgetAside => {
                let copies: Vec<u32> = self.copies_of(key).collect();
                copies.into_iter().try_for_each(|number| self.drop_copy(LogName { key, number }))
            }
        }
    }

    fn append(&mut self, key: PartitionKey, batch: &Batch) -> Result<(), VolumeError> {
        let replica = self.replica(key);
        if batch.base() != replica.row.end {
            return Err(VolumeError::Order { key, what: "a batch does not begin where the log ends" });
        }
        if !continues(&replica.row.vector, batch) {
            return Err(VolumeError::Order { key, what: "a batch's term is below the log's last" });
        }
        replica.row.vector.note(batch.term(), batch.base());
        replica.row.end = batch.end();
        replica.row.append_time_ms = replica.row.append_time_ms.max(batch.append_time_ms());
        replica.producers.note(batch);
        replica.since_producers += batch.size();
        if !self.packs.entry(key).or_default().takes(batch) {
            self.flush(key)?;
        }
        self.packs.entry(key).or_default().push(batch.clone());
        Ok(())
    }

    /// Puts a copy in the place of a damaged batch, unless retention, a cut or another log was faster.
    fn mend(&mut self, key: PartitionKey, batch: &Batch) -> Result<(), VolumeError> {
        self.flush(key)?;
        let LogRow { number, start, end, ref vector, .. } = self.replica(key).row;
        if batch.base() < start || batch.end() > end || vector.term_at(batch.base()) != Some(batch.term()) {
            return Ok(());
        }
        match mending::mend(&mut self.values, LogName { key, number }, batch, end)? {
            Mended::Whole => {}
            Mended::Unplaced => {
                tracing::warn!(partition = %key, offset = %batch.base(), "damaged batches before it hide the place of a batch");
            }
            Mended::Replaced => {
                tracing::info!(partition = %key, offset = %batch.base(), "a damaged batch is replaced");
            }
            Mended::Inserted(bytes) => {
                self.replica(key).row.bytes += bytes;
                tracing::info!(partition = %key, offset = %batch.base(), "a missing batch is put back");
            }
        }
        // What it says of its producer was not known since the start.
        let replica = self.replica(key);
        replica.producers.note_mended(batch);
        replica.unnoted.forget(batch.base()..batch.end());
        replica.store_producers = true;
        Ok(())
    }

    fn cut(&mut self, key: PartitionKey, to: Offset) -> Result<(), VolumeError> {
        if to < self.replica(key).row.start {
            return Err(VolumeError::Order { key, what: "a cut below the log's start" });
        }
        self.flush(key)?;
        let log = LogName { key, number: self.replica(key).row.number };
        let gone = batches::cut(&mut self.values, log, to)?;
        let replica = self.replica(key);
        replica.turns += 1;
        replica.row.bytes = replica.row.bytes.saturating_sub(gone);
        replica.row.end = replica.row.end.min(to);
        replica.row.high_watermark = replica.row.high_watermark.min(to);
        replica.row.vector.cut(to);
        replica.producers.cut(to);
        replica.forget_unheld();
        replica.store_producers = true;
        Ok(())
    }

    /// A cut that keeps what it takes, under a number of its own.
    fn set_aside(&mut self, key: PartitionKey, to: Offset, producers: &[u8]) -> Result<(), VolumeError> {
        let table = ProducerTable::decode(producers).map_err(|_| VolumeError::Order {
            key,
            what: "producers of a log that is set aside do not parse",
        })?;
        if to < self.replica(key).row.start {
            return Err(VolumeError::Order { key, what: "a cut below the log's start" });
        }
        self.flush(key)?;
        let swept = self.garbage.range((key, 0)..=(key, u32::MAX)).map(|((_, number), _)| *number);
        let copy = LogName { key, number: aside::next_number(self.copies_of(key).chain(swept)) };
        let log = LogName { key, number: self.replica(key).row.number };
        let (gone, kept) = batches::set_aside(&mut self.values, log, copy, to)?;
        let replica = self.replica(key);
        let whole = LogRow { number: copy.number, start: to, bytes: kept, ..replica.row.clone() };
        let former = std::mem::replace(&mut replica.producers, table);
        replica.turns += 1;
        replica.row.bytes = replica.row.bytes.saturating_sub(gone);
        replica.row.end = replica.row.end.min(to);
        replica.row.high_watermark = replica.row.high_watermark.min(to);
        replica.row.vector.cut(to);
        replica.forget_unheld();
        replica.store_producers = true;
        if kept == 0 {
            return Ok(());
        }
        tracing::warn!(partition = %key, from = %to, to = %whole.end, bytes = kept, "records that a person gave up are set aside");
        let name = aside::key(copy);
        self.copies
            .insert(&name, sealed::seal(&name, &aside::encode(&whole, &former.encode())).as_slice())?;
        self.aside.insert((key, copy.number), whole);
        let copies: Vec<u32> = self.copies_of(key).collect();
        let over = copies.len().saturating_sub(aside::COPIES_MAX);
        copies.into_iter().take(over).try_for_each(|number| self.drop_copy(LogName { key, number }))
    }

    fn copies_of(&self, key: PartitionKey) -> impl Iterator<Item = u32> {
        self.aside.range((key, 0)..=(key, u32::MAX)).map(|((_, number), _)| *number)
    }

    fn drop_copy(&mut self, copy: LogName) -> Result<(), VolumeError> {
        self.copies.remove(&aside::key(copy))?;
        let bytes = self.aside.remove(&(copy.key, copy.number)).map_or(0, |row| row.bytes);
        self.marks.insert(&garbage::encode(copy), ())?;
        self.garbage.insert((copy.key, copy.number), bytes);
        Ok(())
    }

    /// The log is left to be swept, and the next one begins, empty.
    fn leave_log(&mut self, key: PartitionKey) -> Result<(), VolumeError> {
        self.packs.remove(&key);
        let replica = self.replica(key);
        let left = LogName { key, number: replica.row.number };
        replica.turns += 1;
        let LogRow { uncertain, promised, append_time_ms, bytes, .. } = replica.row;
        replica.row =
            LogRow { number: left.number + 1, uncertain, promised, append_time_ms, ..LogRow::default() };
        replica.producers = ProducerTable::default();
        replica.unnoted = Unnoted::default();
        replica.store_producers = true;
        self.marks.insert(&garbage::encode(left), ())?;
        self.garbage.insert((left.key, left.number), bytes);
        Ok(())
    }

    fn flush(&mut self, key: PartitionKey) -> Result<(), VolumeError> {
        let Some(pack) = self.packs.remove(&key).filter(|pack| !pack.is_empty()) else { return Ok(()) };
        let log = LogName { key, number: self.replica(key).row.number };
        let bytes = batches::put(&mut self.values, log, &pack)?;
        self.replica(key).row.bytes += bytes;
        Ok(())
    }

    /// Never above what this transaction applies, and never from behind a cut that it does not.
    pub(super) fn note(&mut self, note: Note) {
        let Some(replica) = self.replicas.get_mut(&note.key) else { return };
        let high_watermark = note.high_watermark.min(replica.row.end);
        if replica.turns == note.turns && high_watermark > replica.row.high_watermark {
            replica.row.high_watermark = high_watermark;
            self.changed.insert(note.key);
        }
    }

    /// Writes what changed; gives how many replicas there are.
    pub(super) fn finish(&mut self, closing: bool) -> Result<u64, VolumeError> {
        while let Some(key) = self.packs.first_key_value().map(|(key, _)| *key) {
            self.flush(key)?;
        }
        if closing {
            self.changed.extend(
                self.replicas.iter().filter(|(_, replica)| replica.since_producers > 0).map(|(key, _)| *key),
            );
        }
        for key in std::mem::take(&mut self.changed) {
            let name = partition_bytes(key);
            let replica = self.replicas.get_mut(&key).expect("only known replicas change");
            let due = replica.store_producers || replica.since_producers > PRODUCERS_EVERY || closing;
            if due {
                let snapshot = replica.producers.encode();
                if replica.store_producers || closing || replica.since_producers > 8 * snapshot.len() {
                    self.producers.insert(&name, sealed::seal(&name, &snapshot).as_slice())?;
                    let lacking = unnoted::encode(replica.unnoted.stretches());
                    if lacking.is_empty() {
                        self.unnoted.remove(&name)?;
                    } else {
                        self.unnoted.insert(&name, sealed::seal(&name, &lacking).as_slice())?;
                    }
                    replica.row.producers_at = replica.row.end;
                    replica.since_producers = 0;
                    replica.store_producers = false;
                }
            }
            self.logs.insert(&name, sealed::seal(&name, &replica.row.encode()).as_slice())?;
        }
        Ok(self.replicas.len() as u64)
    }
}
