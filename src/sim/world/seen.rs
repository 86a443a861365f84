//! What passes over the wire that checkers want to know: dots, tables, attempts.

use super::World;
use crate::ring::Durability;
use crate::sim::process::ProcId;
use crate::types::{ClientId, Dot, Key, KeyspaceId, OpId};
use crate::version::{Content, Object, VersionVector};
use crate::wire::client::DataRequest;
use crate::wire::peer::{PeerReply, PeerRequest};
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};
use std::hash::Hasher;
use twox_hash::XxHash3_64;

/// What passed over the wire that checkers want to know.
#[derive(Debug, Default)]
pub(in crate::sim) struct Seen {
    /// Each dot's write, by a hash: a dot names one write for good.
    pub(in crate::sim) dots: BTreeMap<(u16, Bytes, Dot), u64>,
    /// Dots that were given to two writes.
    pub(in crate::sim) twice: Vec<String>,
    /// Writes of which a further attempt was made.
    pub(in crate::sim) retried: BTreeSet<OpId>,
    /// Each client's latest write, and the context it carried.
    pub(in crate::sim) last_op: BTreeMap<ClientId, (OpId, VersionVector)>,
    /// Each epoch's table, by a hash.
    pub(in crate::sim) tables: BTreeMap<u64, u64>,
    /// What machines and processes have lost, and when.
    losses: Vec<Loss>,
    /// What has been let go of, by keyspace and key.
    reaped: BTreeMap<(KeyspaceId, Key), Vec<Reaped>>,
}

/// A node has lost what was no safer than this.
#[derive(Debug)]
struct Loss {
    at_us: u64,
    node: ProcId,
    of: Durability,
}

/// A key that was let go of, or its context trimmed.
#[derive(Debug)]
struct Reaped {
    at_us: u64,
    context: VersionVector,
    /// The siblings left. If there are none, no value of the context may ever be read again.
    left: Vec<Dot>,
}

impl Seen {
    pub(super) fn note_reaped(
        &mut self,
        at_us: u64,
        of: (KeyspaceId, Key),
        context: VersionVector,
        left: Vec<Dot>,
    ) {
        let known = self.reaped.entry(of).or_default();
        // Every owner does it; the first counts.
        if !known.iter().any(|reaped| reaped.context == context && reaped.left == left) {
            known.push(Reaped { at_us, context, left });
        }
    }

    pub(in crate::sim) fn note_loss(&mut self, at_us: u64, node: ProcId, of: Durability) {
        self.losses.push(Loss { at_us, node, of });
    }

    /// Of what a node's disk holds not all can be read any more.
    pub(in crate::sim) fn note_rot(&mut self, node: ProcId) {
        self.note_loss(u64::MAX, node, Durability::Sync);
    }

    /// How many nodes may have lost a copy of a write that was begun then, by no fault of theirs.
    pub(in crate::sim) fn lost_since(&self, since_us: u64, durability: Durability) -> usize {
        let is_lost = |loss: &&Loss| {
            loss.at_us >= since_us
                && match durability {
                    Durability::Sync => loss.of == Durability::Sync,
                    Durability::Os => loss.of != Durability::Memory,
                    Durability::Memory => true,
                }
        };
        self.losses.iter().filter(is_lost).map(|loss| loss.node).collect::<BTreeSet<_>>().len()
    }

    /// Whether one of them may know nothing of what it has lost; of what has rotted it does.
    pub(in crate::sim) fn is_forgotten_since(&self, since_us: u64, durability: Durability) -> bool {
        let of_this = |of: Durability| match durability {
            Durability::Sync => false,
            Durability::Os => of == Durability::Os,
            Durability::Memory => of != Durability::Sync,
        };
        self.losses.iter().any(|loss| loss.at_us >= since_us && of_this(loss.of))
    }

    fn reaped_of(&self, keyspace: KeyspaceId, key: &Key, dot: Dot) -> impl Iterator<Item = &Reaped> {
        let all = self.reaped.get(&(keyspace, key.clone())).into_iter().flatten();
        all.filter(move |reaped| reaped.context.covers(dot) && !reaped.left.contains(&dot))
    }

    /// Whether a write had been let go of by then: nobody needs to know of it any more.
    pub(in crate::sim) fn is_reaped(&self, keyspace: KeyspaceId, key: &Key, dot: Dot, by_us: u64) -> bool {
        self.reaped_of(keyspace, key, dot).any(|reaped| reaped.at_us <= by_us)
    }

    /// Whether it had, and nothing of its key was left.
    pub(in crate::sim) fn is_gone(&self, keyspace: KeyspaceId, key: &Key, dot: Dot, by_us: u64) -> bool {
        self.reaped_of(keyspace, key, dot).any(|reaped| reaped.left.is_empty() && reaped.at_us <= by_us)
    }

    /// How often keys were let go of, and contexts trimmed.
    pub(in crate::sim) fn reaped(&self) -> (usize, usize) {
        let all = || self.reaped.values().flatten();
        let gone = all().filter(|reaped| reaped.left.is_empty()).count();
        (gone, all().count() - gone)
    }
}

impl World {
    pub(super) fn notice_write(&mut self, data: &DataRequest) {
        if let DataRequest::Put { write, .. } = data {
            let known = self.seen.last_op.get(&write.op.client).is_some_and(|last| last.0 >= write.op);
            if !known {
                let given = write.context.as_ref().map(|context| context.vector.clone()).unwrap_or_default();
                self.seen.last_op.insert(write.op.client, (write.op, given));
            }
            if write.attempt > 0 {
                self.seen.retried.insert(write.op);
            }
        }
    }

    pub(super) fn notice_request(&mut self, message: &PeerRequest) {
        match message {
            PeerRequest::Forward { request, .. } => self.notice_write(request),
            PeerRequest::Store { place, key, object, .. } => {
                self.notice_object(place.keyspace.0, key, object);
            }
            PeerRequest::PushTable(bytes) => self.notice_table(bytes),
            PeerRequest::Transfer { .. }
            | PeerRequest::Settle { .. }
            | PeerRequest::RaiseFence { .. }
            | PeerRequest::Read { .. }
            | PeerRequest::Probe { .. }
            | PeerRequest::AskAfter { .. }
            | PeerRequest::Gossip { .. }
            | PeerRequest::Compare { .. }
            | PeerRequest::List { .. }
            | PeerRequest::Fetch { .. }
            | PeerRequest::FetchTable => {}
        }
    }

    pub(super) fn notice_reply(&mut self, message: &PeerReply) {
        if let PeerReply::Table(bytes) = message {
            self.notice_table(bytes);
        }
    }

    pub(super) fn notice_table(&mut self, bytes: &Bytes) {
        let Ok(table) = crate::wire::decode_table(bytes.clone()) else { return };
        let hash = XxHash3_64::oneshot(bytes);
        let known = *self.seen.tables.entry(table.epoch.0).or_insert(hash);
        if known != hash {
            self.seen.twice.push(format!("two tables of epoch {}", table.epoch));
        }
    }

    pub(super) fn notice_object(&mut self, keyspace: u16, key: &Bytes, object: &Object) {
        for sibling in object.siblings() {
            if sibling.expiry.is_some() && sibling.content == Content::Tombstone {
                // Emptied when its time was over: what it was is known to others.
                continue;
            }
            let mut hasher = XxHash3_64::new();
            hasher.write_u64(sibling.stamp.0);
            hasher.write(format!("{:?}", sibling.content).as_bytes());
            let hash = hasher.finish();
            let known = *self.seen.dots.entry((keyspace, key.clone(), sibling.dot)).or_insert(hash);
            if known != hash {
                self.seen.twice.push(format!("dot {} names two writes of {key:?}", sibling.dot));
            }
        }
    }
}
