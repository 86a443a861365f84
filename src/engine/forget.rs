//! Forgetting: what a context accounts for leaves a key, durably.
//!
//! For hints that were delivered and for what is reaped. It is no write: nothing is put in the
//! place of what goes. The record says what is left, as every record does, and says so even of
//! nothing: it is then the last word on the key for as long as an older record of it may still
//! lie in the log.

use super::record::{MergeRecord, Record};
use super::store::{At, Engine, Merged};
use crate::ring::Durability;
use crate::types::Key;
use crate::version::VersionVector;

impl Engine {
    /// Takes away the siblings that `seen` covers, and what the key's context has of it.
    ///
    /// To be called when no copy of it can come back: a merge with one would bring it back here.
    pub fn forget(&mut self, place: At, key: &Key, seen: &VersionVector, durability: Durability) -> Merged {
        let before = self.outline(place, key);
        let mut after = before.clone().unwrap_or_default();
        let (Some(before), true) = (before, after.forget(seen)) else {
            return Merged { ticket: self.log.last_record(), changed: false };
        };
        if durability != Durability::Memory {
            let record = MergeRecord {
                keyspace: place.0,
                sector: place.1,
                key: key.clone(),
                context: after.context().clone(),
                kept: after.siblings().iter().map(|sibling| sibling.dot).collect(),
                added: Vec::new(),
            };
            let location = self.append(&Record::Merge(record), durability == Durability::Sync);
            self.note_statement(place, key, location);
        }
        self.account(Some(&before), &after);
        if after.is_nothing() {
            self.index.remove(place, key, &before);
        } else {
            self.index.install(place, key, Some(&before), &after);
        }
        Merged { ticket: self.log.last_record(), changed: true }
    }
}
