//! What happens, and when it is meant for somebody who is frozen.

use fulmar_core::batch::ProducedBatch;
use fulmar_core::control;
use fulmar_core::control::{Document, PushedPage, Revision};
use fulmar_core::entry::Entry;
use fulmar_core::id::{Ordinal, PartitionKey, ReplicaId};
use fulmar_core::offset::Offset;
use fulmar_core::partition::{Message, Report, Ticket};
use fulmar_core::term::{Epoch, Process};

use crate::world::World;

/// Something that happens at its time.
#[derive(Debug)]
pub(crate) enum Event {
    Message {
        to: usize,
        life: u64,
        from: ReplicaId,
        process: Process,
        key: PartitionKey,
        message: Message,
    },
    PeerDown {
        node: usize,
        life: u64,
        peer: ReplicaId,
        process: Process,
    },
    Sync {
        node: usize,
        life: u64,
    },
    Tick {
        node: usize,
        life: u64,
    },
    Shipped {
        node: usize,
        life: u64,
        key: PartitionKey,
        to: ReplicaId,
        until: Offset,
        bytes: u64,
    },
    /// A batch of the log was found damaged.
    Unreadable {
        node: usize,
        life: u64,
        key: PartitionKey,
        offset: Offset,
    },
    Start {
        node: usize,
    },
    /// A broker that ran on another Cluster's volume gets its own back.
    OwnVolume {
        node: usize,
    },
    /// The time that a broker has for stopping is over.
    Stopped {
        node: usize,
        life: u64,
    },
    Connect,
    Produce {
        node: usize,
        life: u64,
        key: PartitionKey,
        ticket: Ticket,
        batch: ProducedBatch,
    },
    Client(usize),
    Reader(usize),
    Government(Government),
    Blow,
    /// A look at how many brokers there are to be.
    Scale,
    Calm,
    Rest,
}

/// What concerns operators, their streams and the API server.
#[derive(Debug)]
pub(crate) enum Government {
    /// Somebody must hold the Lease.
    Lease,
    /// An operator's clock, and its watches.
    Tick {
        operator: usize,
        life: u64,
    },
    /// The controller hears it.
    Hear {
        operator: usize,
        life: u64,
        input: Box<control::Input>,
    },
    Dial {
        operator: usize,
        life: u64,
        ordinal: Ordinal,
        number: u64,
    },
    /// An operator's hello arrives.
    Greet {
        stream: u64,
    },
    Down {
        stream: u64,
        down: Down,
    },
    Up {
        stream: u64,
        input: Box<control::Input>,
    },
    /// An operator learns that its stream is gone.
    StreamLost {
        operator: usize,
        life: u64,
        ordinal: Ordinal,
        number: u64,
        refused: bool,
    },
    /// A broker learns that its operator's stream is gone.
    PlaceLeft {
        node: usize,
        life: u64,
        stream: u64,
    },
    /// A write arrives at the API server; `answer` says whether its sender will hear what came of it.
    Write {
        operator: usize,
        life: u64,
        document: Document,
        expected: Option<Revision>,
        answer: bool,
    },
    Load {
        operator: usize,
        life: u64,
    },
    /// A person accepts a loss of records.
    Word {
        topic: String,
        word: control::LossWord,
    },
    /// The capricious operator's turn.
    Capricious,
    Order {
        to: ReplicaId,
        key: PartitionKey,
        order: Order,
    },
    Report {
        key: PartitionKey,
        generation: u64,
        from: ReplicaId,
        report: Option<Report>,
    },
}

/// What goes down an operator's stream.
#[derive(Debug, Clone)]
pub(crate) enum Down {
    Page(PushedPage),
    Ask(u64),
    Release(PartitionKey, Epoch),
    StopAppends(PartitionKey),
    Addresses,
}

/// What the capricious operator tells a broker about a partition.
#[derive(Debug, Clone)]
pub(crate) enum Order {
    Assign(Entry),
    Release(Epoch),
    /// Report; the tenure is echoed.
    Ask(u64),
    StopAppends,
}

impl World {
    /// Until when it waits, because who it is for is frozen.
    pub(crate) fn waits(&self, event: &Event) -> Option<u64> {
        let node = |node: usize, life: u64| {
            let node = self.nodes.get(node).filter(|node| node.life == life && node.broker.is_some())?;
            Some(node.frozen_until)
        };
        let operator = |operator: usize, life: u64| {
            let operator = self.operators.get(operator).filter(|operator| operator.life == life)?;
            Some(operator.frozen_until)
        };
        let until = match event {
            Event::Message { to, life, .. } => node(*to, *life),
            Event::PeerDown { node: number, life, .. }
            | Event::Sync { node: number, life }
            | Event::Tick { node: number, life }
            | Event::Shipped { node: number, life, .. }
            | Event::Unreadable { node: number, life, .. }
            | Event::Stopped { node: number, life }
            | Event::Produce { node: number, life, .. } => node(*number, *life),
            Event::Government(government) => match government {
                Government::Tick { operator: number, life }
                | Government::Hear { operator: number, life, .. }
                | Government::Dial { operator: number, life, .. }
                | Government::StreamLost { operator: number, life, .. } => operator(*number, *life),
                Government::Greet { stream } | Government::Down { stream, .. } => {
                    self.streams.get(stream).and_then(|stream| node(stream.node, stream.node_life))
                }
                Government::Up { stream, .. } => self
                    .streams
                    .get(stream)
                    .and_then(|stream| operator(stream.operator, stream.operator_life)),
                Government::PlaceLeft { node: number, life, .. } => node(*number, *life),
                Government::Lease
                | Government::Write { .. }
                | Government::Load { .. }
                | Government::Word { .. }
                | Government::Capricious
                | Government::Order { .. }
                | Government::Report { .. } => None,
            },
            Event::Start { .. }
            | Event::OwnVolume { .. }
            | Event::Connect
            | Event::Client(_)
            | Event::Reader(_)
            | Event::Blow
            | Event::Scale
            | Event::Calm
            | Event::Rest => None,
        };
        until.filter(|until| *until > self.now_ms)
    }
}
