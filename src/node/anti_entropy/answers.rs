//! The other side of anti-entropy: what an owner answers one that compares its copies with it.

use super::{COMPARE_RETRY_MS, LISTED_AT_ONCE, Taken, hash_of};
use crate::engine::Loaded;
use crate::node::Node;
use crate::node::load::{Then, Waiting};
use crate::types::{ConnId, Key, Now, RequestId};
use crate::wire::peer::{Listed, PeerReply, Place};
use std::collections::BTreeMap;

/// Places whose leaves are told in one answer: 2 KiB each.
const DIFFERING_MAX: usize = 24;
/// Keys offered in one answer.
const OFFERED_MAX: usize = 4096;

/// A peer's question for objects, while their values are being read.
#[derive(Debug)]
pub(in crate::node) struct Fetching {
    conn: ConnId,
    request: RequestId,
    place: Place,
    keys: Vec<Key>,
}

impl Node {
    /// Which of these places differ here, the first few of them with their leaves; and which cannot be
    /// compared, for another table is in force here or what is held is not whole.
    pub(in crate::node) fn compare_roots(&self, places: &[(Place, u64)]) -> PeerReply {
        let (mut differing, mut apart, mut compared) = (Vec::new(), Vec::new(), 0_u16);
        for &(place, root) in places {
            if differing.len() >= DIFFERING_MAX {
                break;
            }
            let at = (place.keyspace, place.sector);
            if self.agree(place, None).is_err() || self.engine.is_quarantined(at) {
                apart.push(compared);
            } else if self.engine.tree_root(at) != root {
                differing.push((place, self.engine.tree_leaves(at).to_vec()));
            }
            compared = compared.saturating_add(1);
        }
        PeerReply::Differ { compared, apart, places: differing }
    }

    /// What of these leaves differs from the list: keys to be fetched from here, and keys wanted.
    pub(in crate::node) fn compare_lists(&self, place: Place, leaves: &[u8], listed: &[Listed]) -> PeerReply {
        if let Err(refusal) = self.agree(place, None) {
            return refusal;
        }
        let at = (place.keyspace, place.sector);
        if self.engine.is_quarantined(at) {
            return PeerReply::Unreadable;
        }
        let mut theirs: BTreeMap<u64, u64> = listed.iter().map(|entry| (entry.key, entry.object)).collect();
        let (mut offered, mut wanted, mut done) = (Vec::new(), Vec::new(), 0_u16);
        let mut walked = 0;
        for &leaf in leaves {
            if walked >= LISTED_AT_ONCE || offered.len() >= OFFERED_MAX / 2 {
                break;
            }
            let before = (offered.len(), wanted.len());
            for (key, object) in self.engine.tree_leaf(at, leaf) {
                walked += 1;
                let name = hash_of(&key);
                match theirs.remove(&name) {
                    Some(same) if same == object => {}
                    Some(_) => {
                        wanted.push(name);
                        offered.push(key);
                    }
                    None => offered.push(key),
                }
            }
            // What is listed under this leaf and is not here: a key's leaf is its hash's first byte.
            let first = u64::from(leaf) << 56;
            wanted.extend(theirs.range(first..=first | (u64::MAX >> 8)).map(|entry| *entry.0));
            if offered.len() > OFFERED_MAX {
                // More than one answer takes: as the first leaf of the next one, and then bit by bit.
                if done > 0 {
                    offered.truncate(before.0);
                    wanted.truncate(before.1);
                }
                break;
            }
            done = done.saturating_add(1);
        }
        offered.truncate(OFFERED_MAX);
        PeerReply::Listing { done, offered, wanted }
    }

    /// Objects that a peer asks for, now or when their values have been read.
    pub(in crate::node) fn tell_objects(
        &mut self,
        now: Now,
        fetching: Fetching,
        loaded: &Loaded,
    ) -> Option<PeerReply> {
        if let Err(refusal) = self.agree(fetching.place, None) {
            return Some(refusal);
        }
        let at = (fetching.place.keyspace, fetching.place.sector);
        match self.take_objects(at, fetching.keys.iter(), loaded) {
            Taken::Whole { count, lacking, entries } => {
                let small = |count: usize| u16::try_from(count).unwrap_or(u16::MAX);
                let (taken, lacking) = (small(count), small(lacking));
                Some(PeerReply::Objects { taken, lacking, fence: self.fences.adopted(), entries })
            }
            Taken::OnDisk(_) if self.pending.is_full() => Some(PeerReply::Overloaded),
            Taken::OnDisk(wanted) => {
                let deadline = now.mono.after_ms(COMPARE_RETRY_MS);
                let keys = fetching.keys.iter().map(|key| Key::copy_from_slice(key)).collect();
                let then = Then::Objects(Fetching { keys, ..fetching });
                self.wait_for(Waiting::new(then, loaded.clone(), deadline), wanted);
                None
            }
        }
    }
}

impl Fetching {
    pub(in crate::node) fn new((conn, request): (ConnId, RequestId), place: Place, keys: Vec<Key>) -> Self {
        Self { conn, request, place, keys }
    }

    pub(in crate::node) fn asker(&self) -> (ConnId, RequestId) {
        (self.conn, self.request)
    }
}
