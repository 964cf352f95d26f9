//! How the memory that a broker may use is shared out, so that load never decides it.

/// Parts of the limit. What is not shared out here is for code, stacks, TLS and the connections' own buffers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shares {
    /// The storage: the hot ring (which holds what is not applied), redb's cache, the journal's buffer. Half: a bigger ring
    /// is what keeps followers and readers off the disk.
    pub storage: u64,
    /// Publishes that were received and are not in the storage yet. An eighth: at 512 Mi eight of the largest batches.
    pub publishes: usize,
    /// Batches that were read for consumers and wait for their sockets. An eighth.
    pub reads: usize,
    /// Answers that wait for programs' sockets, of all streams. A sixteenth: at 512 Mi sixty-four of the largest pieces.
    pub answers: usize,
    /// The same of one connection: an eighth of that, so that one program that does not read leaves room for the others, and
    /// eight of them lose their connections soon.
    pub connection_answers: usize,
    /// Programs' connections at a time, on each port: an eighth, an idle one being measured at 28 KiB; at most 10,000, for
    /// file descriptors.
    pub connections: usize,
    /// What waits for one peer's socket; beyond it the connection is dropped. A sixteenth, at most 32 MiB: more than
    /// the credit of 4 MiB a partition of a handful of busy partitions only delays the verdict that a peer does not read.
    pub peer: usize,
}

impl Shares {
    /// Shares out `limit` bytes.
    pub fn of(limit: u64) -> Self {
        let part = |divisor: u64| usize::try_from(limit / divisor).unwrap_or(usize::MAX);
        Self {
            storage: limit / 2,
            publishes: part(8),
            reads: part(8),
            answers: part(16),
            connection_answers: part(128),
            connections: part(8 * 32 * 1024).clamp(256, 10_000),
            peer: part(16).clamp(2 * fulmar_core::batch::BATCH_BYTES_MAX, 32 << 20),
        }
    }
}
