//! What must hold of a history. Knows nothing of how the cluster works: it judges by what clients
//! asked and were told, and by when.

use super::workload::{Asked, History, Op, Space, Told, key_bytes};
use super::world::Seen;
use crate::types::{Dot, Key, KeyspaceId};
use std::collections::BTreeMap;

/// An attempt at a write is over by then, wherever it was held up on its way.
const ATTEMPT_US: u64 = 10_000_000;

/// Every broken promise, in words.
///
/// `spaces`: the keyspaces, each with its number in the cluster. `skew_ms`: no clock was ever further
/// from the truth.
pub(super) fn check(
    history: &History,
    spaces: &[(Space, KeyspaceId)],
    seen: &Seen,
    skew_ms: u64,
) -> Vec<String> {
    let mut broken: Vec<String> = seen.twice.clone();
    let mut by_key: BTreeMap<(usize, usize), Vec<&Op>> = BTreeMap::new();
    for op in &history.ops {
        by_key.entry((op.space, op.key)).or_default().push(op);
    }
    for ((space, key), ops) in by_key {
        let Some((space, id)) = spaces.get(space) else { continue };
        let judge = Judge { space, id: *id, key: key_bytes(key), ops: &ops, seen, skew_us: skew_ms * 1000 };
        for op in &ops {
            if let Told::Values(values, _) = &op.told
                && op.asked == Asked::Get
            {
                judge.values(op, values, &mut broken);
            }
            if matches!(op.told, Told::Values(..)) {
                judge.covers_acknowledged(op, &mut broken);
            }
            if space.strict && op.fallbacks > 0 {
                broken.push(judge.say(op, "a fallback was counted although owners alone were to be"));
            }
        }
    }
    broken
}

/// All that happened to one key.
struct Judge<'a> {
    space: &'a Space,
    id: KeyspaceId,
    key: Key,
    ops: &'a [&'a Op],
    seen: &'a Seen,
    skew_us: u64,
}

impl Judge<'_> {
    fn say(&self, read: &Op, what: &str) -> String {
        format!("{} key{} at {} us: {what}", self.space.name, read.key, read.end_us)
    }

    fn acknowledged_before(&self, read: &Op) -> impl Iterator<Item = (&Op, Dot)> {
        let start_us = read.start_us;
        self.ops.iter().filter_map(move |op| match op.told {
            Told::Stored(dot) if op.end_us < start_us => Some((*op, dot)),
            Told::Stored(_) | Told::Nothing | Told::Values(..) | Told::Failed | Told::Unknown => None,
        })
    }

    /// Whether some copy of an acknowledged write must be left.
    fn is_kept(&self, write: &Op) -> bool {
        let lost = self.seen.lost_since(write.start_us, self.space.settings.durability);
        lost < usize::from(write.needed)
    }

    /// Whether some node may know nothing any more of a write that was begun then.
    fn is_forgotten_since(&self, since_us: u64) -> bool {
        self.seen.is_forgotten_since(since_us, self.space.settings.durability)
    }

    /// The time from which on what a write put may be taken for expired by somebody.
    fn may_expire_us(&self, write: &Op) -> u64 {
        let expires_us = |ttl_ms| write.start_us.saturating_add(ttl_ms * 1000);
        write.ttl_ms.map_or(u64::MAX, |ttl_ms| expires_us(ttl_ms).saturating_sub(2 * self.skew_us))
    }

    /// The time from which on it is expired for everybody.
    fn must_expire_us(&self, write: &Op) -> u64 {
        let Some(ttl_ms) = write.ttl_ms else { return u64::MAX };
        let once = write.op.is_none_or(|op| !self.seen.retried.contains(&op));
        let is_done = matches!(write.told, Told::Stored(_)) && once;
        let done_us = if is_done { write.end_us } else { write.start_us.saturating_add(ATTEMPT_US) };
        done_us.saturating_add(ttl_ms * 1000).saturating_add(2 * self.skew_us + 2000)
    }

    /// Writes that were acknowledged before a read was asked, and that it must know of: their
    /// quorums are of owners, and meet, and no copy of them is forgotten. After everything has healed:
    /// all of which some copy must be left.
    fn known_to(&self, read: &Op) -> impl Iterator<Item = (&Op, Dot)> {
        let by_owners = self.space.quorums_meet() && read.fallbacks == 0;
        let is_last = read.is_last;
        self.acknowledged_before(read)
            .filter(move |(write, _)| is_last || (by_owners && write.fallbacks == 0))
            .filter(move |(write, _)| {
                self.is_kept(write) && (is_last || !self.is_forgotten_since(write.start_us))
            })
    }

    /// When a write can no longer take effect: after its answer, if it was sent but once and all
    /// who write after it meet it.
    fn over_us(&self, write: &Op) -> u64 {
        let once = write.op.is_none_or(|op| !self.seen.retried.contains(&op));
        match write.told {
            Told::Stored(_) if once && write.fallbacks == 0 => write.end_us,
            Told::Stored(_) | Told::Nothing | Told::Values(..) | Told::Failed | Told::Unknown => u64::MAX,
        }
    }

    /// A reader is told of every write acknowledged before it asked.
    fn covers_acknowledged(&self, read: &Op, broken: &mut Vec<String>) {
        let Told::Values(values, context) = &read.told else { return };
        for (write, dot) in self.known_to(read) {
            if !context.covers(dot) && !self.seen.is_reaped(self.id, &self.key, dot, read.end_us) {
                broken.push(
                    self.say(read, &format!("acknowledged write {dot} ({:?}) is not known", write.asked)),
                );
            }
        }
        let nothing = values.is_empty() && context.is_empty();
        let is_there = |dot: Dot| !self.seen.is_reaped(self.id, &self.key, dot, read.end_us);
        let mut by_owners = self
            .acknowledged_before(read)
            .filter(|(write, dot)| write.fallbacks == 0 && self.is_kept(write) && is_there(*dot));
        if nothing && by_owners.next().is_some() {
            broken.push(self.say(read, "nothing was found although a write was acknowledged"));
        }
    }

    fn values(&self, read: &Op, values: &[(Dot, bytes::Bytes)], broken: &mut Vec<String>) {
        for (dot, value) in values {
            let writer = self.ops.iter().find(|op| op.asked == Asked::Put(value.clone()));
            match writer {
                None => broken.push(self.say(read, &format!("value {value:?} was never written"))),
                Some(write) if write.start_us > read.end_us => {
                    broken.push(self.say(read, &format!("value {value:?} was read before it was written")));
                }
                Some(write) if write.told == Told::Failed => {
                    broken
                        .push(self.say(read, &format!("value {value:?} was read although its write failed")));
                }
                Some(write) if self.must_expire_us(write) < read.start_us => {
                    broken.push(self.say(read, &format!("value {value:?} was read, and had expired")));
                }
                Some(_) => {}
            }
            if self.seen.is_gone(self.id, &self.key, *dot, read.start_us) {
                broken.push(self.say(read, &format!("value {value:?} ({dot}) is back from the dead")));
            }
            let replaced = self.known_to(read).find(|(write, _)| write.given.covers(*dot));
            if let Some((write, by)) = replaced {
                let what =
                    format!("value {value:?} ({dot}) is back after {:?} ({by}) replaced it", write.asked);
                broken.push(self.say(read, &what));
            }
        }
        if self.space.is_lww() {
            self.latest(read, values, broken);
            self.stays_replaced(read, values, broken);
        } else {
            self.all_there(read, values, broken);
        }
    }

    /// In an `lww` keyspace a value that somebody saw and replaced is not back under another dot
    /// either: a write repeated elsewhere keeps its first stamp.
    fn stays_replaced(&self, read: &Op, values: &[(Dot, bytes::Bytes)], broken: &mut Vec<String>) {
        for (_, value) in values {
            let replaced = self.known_to(read).find(|(write, _)| {
                self.ops.iter().any(|other| match &other.told {
                    Told::Values(earlier, _) => {
                        earlier.iter().any(|(dot, old)| old == value && write.given.covers(*dot))
                    }
                    Told::Stored(_) | Told::Nothing | Told::Failed | Told::Unknown => false,
                })
            });
            if let Some((write, by)) = replaced {
                let what = format!("value {value:?} is back by a retry after {:?} ({by})", write.asked);
                broken.push(self.say(read, &what));
            }
        }
    }

    /// In a `siblings` keyspace an acknowledged value is there, or somebody who saw it replaced it.
    fn all_there(&self, read: &Op, values: &[(Dot, bytes::Bytes)], broken: &mut Vec<String>) {
        for (write, dot) in self.known_to(read) {
            let there = values.iter().any(|entry| entry.0 == dot);
            let replaced = self.ops.iter().any(|other| {
                other.asked != Asked::Get
                    && other.told != Told::Failed
                    && other.start_us < read.end_us
                    && other.given.covers(dot)
            });
            let expired = self.may_expire_us(write) <= read.end_us;
            if matches!(write.asked, Asked::Put(_)) && !there && !replaced && !expired {
                broken.push(self.say(read, &format!("acknowledged value {:?} ({dot}) is lost", write.asked)));
            }
        }
    }

    /// In an `lww` keyspace no value is read that was over before an acknowledged write began.
    /// A write that was repeated elsewhere may lose to an older one, as the documents say.
    fn latest(&self, read: &Op, values: &[(Dot, bytes::Bytes)], broken: &mut Vec<String>) {
        // The stamp of a write is above that of the one before it only if that was not lost.
        if !self.space.writes_meet() || self.is_forgotten_since(0) {
            return;
        }
        let over_us = match values.first() {
            Some((_, value)) => {
                let writer = self.ops.iter().find(|op| op.asked == Asked::Put(value.clone()));
                writer.map_or(u64::MAX, |write| self.over_us(write))
            }
            None => {
                let ends = self.ops.iter().filter(|op| {
                    let leaves_nothing = op.asked == Asked::Delete || self.may_expire_us(op) <= read.end_us;
                    leaves_nothing && op.told != Told::Failed && op.start_us < read.end_us
                });
                ends.map(|write| self.over_us(write)).max().unwrap_or(0)
            }
        };
        let newer = self
            .known_to(read)
            .find(|(write, _)| write.start_us > over_us && self.over_us(write) != u64::MAX);
        if let Some((write, dot)) = newer {
            let told = values.first().map(|entry| &entry.1);
            let what = format!("{told:?} was read, older than acknowledged {:?} ({dot})", write.asked);
            broken.push(self.say(read, &what));
        }
    }
}
