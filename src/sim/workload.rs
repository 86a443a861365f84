//! What clients ask in a run, and the history of what they were told.

use super::process::ProcId;
use super::rng::Rng;
use super::swarm::Mix;
use crate::client::{Answer, Call, CallId, ErrorKind, Input, Item, Outcome};
use crate::ring::{Conflict, KeyspaceSettings};
use crate::types::{Dot, OpId};
use crate::version::{Context, VersionVector};
use bytes::Bytes;
use std::collections::BTreeMap;

/// A keyspace of the run.
#[derive(Clone, Debug)]
pub(super) struct Space {
    pub(super) name: String,
    pub(super) settings: KeyspaceSettings,
    /// Whether its requests count owners alone.
    pub(super) strict: bool,
}

impl Space {
    /// Whether every read quorum of owners meets every write quorum of owners.
    pub(super) fn quorums_meet(&self) -> bool {
        self.settings.r + self.settings.w > self.settings.n
    }

    /// Whether any two write quorums meet.
    pub(super) fn writes_meet(&self) -> bool {
        2 * self.settings.w > self.settings.n
    }

    pub(super) fn is_lww(&self) -> bool {
        self.settings.conflict == Conflict::Lww
    }
}

/// What was asked.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Asked {
    Get,
    Put(Bytes),
    Delete,
}

/// What was told.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Told {
    /// Nothing yet.
    Nothing,
    /// A write is durable; its dot.
    Stored(Dot),
    /// Values with their dots, and all that the reader was told of; none: "not found".
    Values(Vec<(Dot, Bytes)>, VersionVector),
    /// Provably not applied; or a read that did not succeed.
    Failed,
    /// May have been applied.
    Unknown,
}

/// One call of one client.
#[derive(Clone, Debug)]
pub(super) struct Op {
    pub(super) space: usize,
    pub(super) key: usize,
    pub(super) asked: Asked,
    /// How long what is put is to be there.
    pub(super) ttl_ms: Option<u64>,
    /// The context that the write carried.
    pub(super) given: VersionVector,
    pub(super) start_us: u64,
    pub(super) end_us: u64,
    pub(super) told: Told,
    pub(super) op: Option<OpId>,
    /// Slots that counted because a fallback stood in.
    pub(super) fallbacks: u8,
    /// Slots that it took.
    pub(super) needed: u8,
    /// A read of all owners after everything has healed.
    pub(super) is_last: bool,
}

/// Everything that clients asked and were told.
#[derive(Debug, Default)]
pub(super) struct History {
    pub(super) ops: Vec<Op>,
}

/// One client's side of the workload.
#[derive(Debug)]
pub(super) struct Driver {
    pub(super) proc: ProcId,
    pub(super) left: usize,
    /// The call in flight.
    pub(super) current: Option<usize>,
    /// What it last learnt of each key.
    contexts: BTreeMap<(usize, usize), Context>,
    values: u64,
}

impl Driver {
    pub(super) fn new(proc: ProcId, left: usize) -> Self {
        Self { proc, left, current: None, contexts: BTreeMap::new(), values: 0 }
    }

    /// The next call, as an input for the client.
    pub(super) fn next(
        &mut self,
        now_us: u64,
        rng: &mut Rng,
        (spaces, keys): (&[Space], usize),
        mix: Mix,
        history: &mut History,
    ) -> Input {
        self.left -= 1;
        let space = usize::try_from(rng.below(spaces.len() as u64)).unwrap_or(0);
        let is_hot = rng.chance(mix.hot_per_mille);
        let key = if is_hot { 0 } else { usize::try_from(rng.below(keys as u64)).unwrap_or(0) };
        let name = spaces.get(space).map_or("", |space| space.name.as_str());
        let strict = spaces.get(space).is_some_and(|space| space.strict);
        let item = Item { strict, ..Item::new(name, key_bytes(key)) };
        let known = self.contexts.get(&(space, key)).filter(|_| rng.chance(mix.contexts_per_mille)).cloned();
        let (draw, mut ttl_ms) = (rng.below(1000), None);
        let (asked, request) = if draw < mix.gets_per_mille {
            (Asked::Get, Call::Get { item })
        } else if draw < mix.gets_per_mille + mix.deletes_per_mille {
            (Asked::Delete, Call::Delete { item, context: known.clone() })
        } else {
            self.values += 1;
            ttl_ms = rng.chance(mix.fleeting_per_mille).then(|| rng.range(mix.ttl_ms.0, mix.ttl_ms.1));
            let item = Item { ttl_ms, ..item };
            let value = Bytes::from(format!("client {} value {}", self.proc.0, self.values));
            (Asked::Put(value.clone()), Call::Put { item, value, context: known.clone() })
        };
        let given = known.map(|context| context.vector).unwrap_or_default();
        let id = history.ops.len();
        self.current = Some(id);
        history.ops.push(Op {
            space,
            key,
            asked,
            ttl_ms,
            given,
            start_us: now_us,
            end_us: u64::MAX,
            told: Told::Nothing,
            op: None,
            fallbacks: 0,
            needed: 0,
            is_last: false,
        });
        Input::Call { call: CallId(id as u64), request, ttl_ms: 0 }
    }

    /// Notes a read that the run makes itself.
    pub(super) fn begin_read(&mut self, now_us: u64, space: usize, key: usize, history: &mut History) {
        self.current = Some(history.ops.len());
        history.ops.push(Op {
            space,
            key,
            asked: Asked::Get,
            ttl_ms: None,
            given: VersionVector::default(),
            start_us: now_us,
            end_us: u64::MAX,
            told: Told::Nothing,
            op: None,
            fallbacks: 0,
            needed: 0,
            is_last: true,
        });
    }

    /// The call in flight is answered. `sent` is the write as it went over the wire, if one did.
    pub(super) fn answered(
        &mut self,
        now_us: u64,
        outcome: Outcome,
        sent: Option<(OpId, VersionVector)>,
        history: &mut History,
    ) {
        let Some(op) = self.current.take().and_then(|id| history.ops.get_mut(id)) else { return };
        op.end_us = now_us;
        if let Some((id, given)) = sent {
            op.op = Some(id);
            op.given = given;
        }
        let at = (op.space, op.key);
        match outcome {
            Ok(Answer::Stored { context, by, .. }) => {
                (op.fallbacks, op.needed) = (by.fallbacks, by.needed);
                op.told = match new_dot(&op.given, &context.vector) {
                    Some(dot) => Told::Stored(dot),
                    None => Told::Unknown,
                };
                self.contexts.insert(at, context);
            }
            Ok(Answer::Found { values, context, by, .. }) => {
                op.fallbacks = by.fallbacks;
                let values = values.into_iter().map(|version| (version.dot, version.value)).collect();
                op.told = Told::Values(values, context.vector.clone());
                self.contexts.insert(at, context);
            }
            Ok(Answer::Missing { context, by, .. }) => {
                op.fallbacks = by.fallbacks;
                op.told = Told::Values(Vec::new(), context.vector.clone());
                self.contexts.insert(at, context);
            }
            Ok(Answer::Told(_)) => {}
            Err(error) => {
                op.told = match error.kind {
                    ErrorKind::Unknown => Told::Unknown,
                    ErrorKind::Failed
                    | ErrorKind::Refused
                    | ErrorKind::Conflict
                    | ErrorKind::Timeout
                    | ErrorKind::Usage => Told::Failed,
                };
            }
        }
    }
}

pub(super) fn key_bytes(key: usize) -> Bytes {
    Bytes::from(format!("key{key}"))
}

/// The one entry of an answer's context that the request's did not cover: the new write.
fn new_dot(given: &VersionVector, answered: &VersionVector) -> Option<Dot> {
    let dots = answered.entries().iter().map(|&(actor, seq)| Dot { actor, seq });
    dots.rev().find(|&dot| !given.covers(dot))
}
