//! Forgetting: a key leaves, durably, with all that is known of it.
//!
//! For hints that were delivered and for what is reaped. It is no write: nothing is put in the
//! place of what goes. Nor is part of an object ever forgotten: its context would go on to cover
//! the siblings that went, and wherever it was merged they would count as replaced.
//!
//! The record says what is left, as every record does: nothing. It is the last word on the key for
//! as long as an older record of it may still lie in the log.

use super::outline::Outline;
use super::record::{MergeRecord, Record};
use super::store::{At, Engine, Merged};
use crate::ring::Durability;
use crate::types::Key;
use crate::version::VersionVector;

impl Engine {
    /// Takes a key away if `seen` accounts for all that is held of it: nothing has come since.
    ///
    /// To be called when no copy of it can come back: a merge with one would bring it back here.
    pub fn forget(&mut self, place: At, key: &Key, seen: &VersionVector, durability: Durability) -> Merged {
        let held = self.outline(place, key).filter(|outline| seen.descends(outline.context()));
        let Some(before) = held else {
            return Merged { ticket: self.log.last_record(), changed: false };
        };
        if durability != Durability::Memory {
            let record = MergeRecord {
                keyspace: place.0,
                sector: place.1,
                key: key.clone(),
                context: VersionVector::default(),
                kept: Vec::new(),
                added: Vec::new(),
            };
            let location = self.append(&Record::Merge(record), durability == Durability::Sync);
            self.note_statement(place, key, location);
        }
        self.account(Some(&before), &Default::default());
        self.index.remove(place, key, &before);
        Merged { ticket: self.log.last_record(), changed: true }
    }

    /// Cuts a key's context down to its siblings' own dots.
    ///
    /// To be called when no copy of anything that the rest of it replaced is left anywhere.
    pub fn trim(&mut self, place: At, key: &Key, durability: Durability) -> Merged {
        let nothing = Merged { ticket: self.log.last_record(), changed: false };
        let Some(before) = self.outline(place, key) else { return nothing };
        // Of a node's dots the siblings' highest counts: a context covers all below.
        let context = VersionVector::from_entries(
            before.siblings().iter().map(|sibling| (sibling.dot.actor, sibling.dot.seq)),
        );
        if context == *before.context() {
            return nothing;
        }
        let after = Outline::from_parts(context, before.siblings().to_vec());
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
        self.index.install(place, key, Some(&before), &after);
        Merged { ticket: self.log.last_record(), changed: true }
    }
}
