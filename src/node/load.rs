//! What waits for values from the disk, and how it goes on when they are there.
//!
//! ```text
//! engine says "on disk" --> Load row --every value read, or found unreadable--> resumed
//!                                    --deadline--> refused: nothing had been done
//! ```
//! A request is resumed by being done again, with the values in hand: whatever has changed in the
//! meantime is then seen, and a merge never waits.

use super::anti_entropy::Fetching;
use super::io::Output;
use super::pending::RowId;
use super::replica::Tell;
use super::transfer::Paused;
use super::{Node, ReplyTo, Row};
use crate::engine::{Loaded, ReadDone, ReadFault, ReadId, Wanted};
use crate::types::{Instant, NodeId, Now};
use crate::wire::client::{DataReply, DataRequest, Reason};
use crate::wire::peer::PeerReply;

/// Something that waits for values from the disk.
#[derive(Debug)]
pub(super) struct Waiting {
    then: Then,
    loaded: Loaded,
    waiting: Vec<ReadId>,
    /// A value was not read although it is there: why the request is refused.
    refused: Option<Reason>,
    deadline: Instant,
}

/// What goes on when they are there.
#[derive(Debug)]
pub(super) enum Then {
    /// A client's request, from its beginning.
    Begin { to: ReplyTo, request: DataRequest },
    /// A request that was to be forwarded and came round to us.
    Forward(RowId),
    /// An answer to a peer.
    Tell(Tell),
    /// A read that we coordinate, with our own copy.
    Own(RowId),
    /// A sector on its way out.
    Chunk(Paused),
    /// Hints on their way to a node.
    Piece(NodeId),
    /// Objects that another owner asked for.
    Objects(Fetching),
    /// Objects that another owner is to be sent.
    Repair,
}

impl Waiting {
    pub(super) fn new(then: Then, loaded: Loaded, deadline: Instant) -> Self {
        Self { then, loaded, waiting: Vec::new(), refused: None, deadline }
    }

    pub(super) fn wake(&self) -> Instant {
        self.deadline
    }

    /// Whether it is for somebody's request, not for work of the node's own.
    pub(super) fn is_for_request(&self) -> bool {
        match self.then {
            Then::Begin { .. } | Then::Forward(_) | Then::Tell(_) | Then::Own(_) => true,
            Then::Chunk(_) | Then::Piece(_) | Then::Objects(_) | Then::Repair => false,
        }
    }

    pub(super) fn owes_answer(&self) -> bool {
        match self.then {
            Then::Begin { .. } => true,
            Then::Forward(_)
            | Then::Tell(_)
            | Then::Own(_)
            | Then::Chunk(_)
            | Then::Piece(_)
            | Then::Objects(_)
            | Then::Repair => false,
        }
    }
}

impl Node {
    /// Puts it by until everything that is wanted has been read.
    pub(super) fn wait_for(&mut self, mut load: Waiting, wanted: Vec<Wanted>) {
        let id = self.pending.reserve();
        load.waiting = wanted.iter().map(|wanted| wanted.read).collect();
        for wanted in wanted {
            self.reads.insert(wanted.read, id);
        }
        self.put_row_back(id, Row::Load(load));
    }

    /// Something has been read from the disk, or could not be.
    pub(super) fn on_read(&mut self, now: Now, done: ReadDone, out: &mut Vec<Output>) {
        let read = done.id;
        // Otherwise it was the engine's own, for work in the background.
        let Some(value) = self.engine.on_read(done) else { return };
        let Some(id) = self.reads.remove(&read) else { return };
        let Some(Row::Load(mut load)) = self.pending.take(id) else { return };
        load.waiting.retain(|&waiting| waiting != read);
        match value {
            (dot, Ok(bytes)) => {
                load.loaded.insert(dot, bytes);
            }
            (_, Err(ReadFault::Busy)) => load.refused = Some(Reason::Overloaded),
            // Another owner's disk may be better; to ask this one again and again is no use.
            (_, Err(ReadFault::Failed)) => load.refused = Some(Reason::NoQuorum),
            // Known to the engine now: it will not be asked for again.
            (_, Err(ReadFault::Missing | ReadFault::Damaged)) => {}
        }
        if load.waiting.is_empty() {
            self.pending.end(id);
            self.resume(now, load, out);
        } else {
            self.put_row_back(id, Row::Load(load));
        }
    }

    fn resume(&mut self, now: Now, load: Waiting, out: &mut Vec<Output>) {
        if let Some(reason) = load.refused {
            return self.give_up(now, load.then, reason, out);
        }
        if now.mono >= load.deadline {
            return self.give_up(now, load.then, Reason::Expired, out);
        }
        match load.then {
            Then::Begin { to, request } => {
                self.begin_with(now, to, request, load.deadline, &load.loaded, out);
            }
            Then::Tell(tell) => {
                let (conn, request) = (tell.conn, tell.request);
                if let Some(message) = self.tell_copy(tell, &load.loaded) {
                    out.push(Output::PeerReply { conn, request, message });
                }
            }
            Then::Forward(id) => self.forward_loaded(now, id, &load.loaded, out),
            Then::Own(id) => self.own_loaded(now, id, &load.loaded, out),
            Then::Chunk(paused) => self.chunk_loaded(now, &paused, &load.loaded, out),
            Then::Piece(owed_to) => self.piece_loaded(now, owed_to, &load.loaded, out),
            Then::Objects(fetching) => {
                let (conn, request) = fetching.asker();
                if let Some(message) = self.tell_objects(now, fetching, &load.loaded) {
                    out.push(Output::PeerReply { conn, request, message });
                }
            }
            Then::Repair => self.repair_loaded(now, &load.loaded, out),
        }
    }

    /// Its time is over, and nothing was done.
    pub(super) fn load_wake(&mut self, now: Now, id: RowId, load: Waiting, out: &mut Vec<Output>) {
        self.pending.end(id);
        for read in &load.waiting {
            self.reads.remove(read);
        }
        self.give_up(now, load.then, Reason::Expired, out);
    }

    /// It does not come to what was to be done.
    fn give_up(&mut self, now: Now, then: Then, reason: Reason, out: &mut Vec<Output>) {
        match then {
            Then::Begin { to, .. } => self.reply(to, DataReply::refused(reason), out),
            Then::Tell(tell) => {
                let (conn, request) = (tell.conn, tell.request);
                // Not "unreadable": what is held needs no mending.
                out.push(Output::PeerReply { conn, request, message: PeerReply::Overloaded });
            }
            Then::Own(id) => self.own_refused(now, id, out),
            // The row tries the next owner when its hop is over.
            Then::Forward(_) => {}
            Then::Chunk(paused) => self.chunk_again(now, paused, out),
            Then::Piece(owed_to) => self.piece_again(now, owed_to),
            Then::Objects(fetching) => {
                let (conn, request) = fetching.asker();
                out.push(Output::PeerReply { conn, request, message: PeerReply::Overloaded });
            }
            Then::Repair => self.repair_again(now),
        }
    }
}
