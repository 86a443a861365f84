//! The fence: which copies on their way may still be merged, and a member's part in raising it.
//!
//! ```text
//! round of a leader      Adopt --> what is read from now on is marked with the new fence
//! (reaping)              Enforce --> what was read before it is refused
//! ```
//! Whatever carries an object from node to node says under which fence it was read. Once every member
//! has adopted a fence while it kept nothing for others, has ended what it began before, and refuses
//! what is older, no copy read before the round is left anywhere but with the owners. On that alone
//! rests that a tombstone may go (CONSISTENCY.md, section 4). There it is a fence per sector; one for
//! the whole cluster is as good, since a round needs every member anyway, and is one number.
//!
//! A node that is told by one that enforces a fence that its own is older was no member when that
//! fence was raised, for each of them had adopted it durably before any enforced it. It joined later,
//! what it has was read behind the fence, and it may adopt it at once.

use super::io::Output;
use super::{Node, Row};
use crate::engine::{FileName, Storage, Ticket};
use crate::limits::FENCE_STEP_MAX;
use crate::mutant::Mutant;
use crate::ring::Table;
use crate::types::{Epoch, Fence, NodeId, SectorId, Stamp};
use crate::wire::codec::{DecodeError, Reader, Writer};
use crate::wire::peer::{FenceStep, PeerReply, RoundId};
use bytes::Bytes;

const MAGIC: u64 = u64::from_le_bytes(*b"GTSFEN01");

/// The fences of a node.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Fences {
    /// What is read here is marked with this one.
    adopted: Fence,
    /// What was read before this one is refused here.
    enforced: Fence,
    /// The table's epoch when that was raised.
    epoch: Epoch,
    /// The highest stamp of what has been let go of here: a new write of a key of which nothing is held
    /// goes above it, as it would above the tombstone, which another owner may still have.
    reaped_stamp: Stamp,
    /// The round in which `adopted` was; unknown after a restart.
    round: RoundId,
    /// When all of this is durable.
    ticket: Ticket,
}

impl Fences {
    /// Reads the file of a data directory.
    ///
    /// # Errors
    /// In words: it is damaged, or the disk fails.
    pub(super) fn read(storage: &mut impl Storage) -> Result<Self, String> {
        let read = storage.read(FileName::Fence).map_err(|error| format!("the fence file: {error}"))?;
        let Some(bytes) = read else { return Ok(Self::default()) };
        Self::decode(&bytes).map_err(|error| {
            format!(
                "the fence file is damaged ({error}): which copies are too old to be merged is not known, and \
                 deleted values could come back. Move the directory away, and start with an empty one to join \
                 as a new node; the other owners have copies of what was here, and gtstore-storage --dump DIR \
                 prints it"
            )
        })
    }

    /// What is read now is marked with it.
    pub(super) fn adopted(&self) -> Fence {
        self.adopted
    }

    /// Above this goes every new write of a key of which nothing is held.
    pub(super) fn reaped_stamp(&self) -> Stamp {
        self.reaped_stamp
    }

    pub(super) fn raise_stamp(&mut self, stamp: Stamp) {
        self.reaped_stamp = self.reaped_stamp.max(stamp);
    }

    /// What is taken in now may have been read before the fence that was adopted last: the round in
    /// which that was comes to nothing here.
    pub(super) fn void_round(&mut self) {
        self.round = RoundId::default();
    }

    /// Whether a fence may be the next: one bad number must not use them all up.
    fn is_near(&self, fence: Fence) -> bool {
        fence > self.adopted && fence.0 - self.adopted.0 <= FENCE_STEP_MAX
    }

    /// Whether what was read before a fence is refused here.
    pub(super) fn enforces(&self, fence: Fence) -> bool {
        self.enforced >= fence
    }

    fn encode(&self) -> Bytes {
        let mut out = Writer::default();
        out.u64(MAGIC);
        out.u32(self.adopted.0);
        out.u32(self.enforced.0);
        out.u64(self.epoch.0);
        out.u64(self.reaped_stamp.0);
        let body = out.into_bytes();
        let mut out = Writer::default();
        out.raw(&body);
        out.u32(crc32c::crc32c(&body));
        out.into_bytes()
    }

    /// The content of the file.
    ///
    /// # Errors
    /// It is damaged or of another format.
    pub(crate) fn decode(bytes: &Bytes) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes.clone());
        if reader.u64()? != MAGIC {
            return Err(DecodeError::Invalid("fence format"));
        }
        let (adopted, enforced) = (Fence(reader.u32()?), Fence(reader.u32()?));
        let (epoch, reaped_stamp) = (Epoch(reader.u64()?), Stamp(reader.u64()?));
        let fences = Self { adopted, enforced, epoch, reaped_stamp, ..Self::default() };
        let checked = bytes.len().saturating_sub(4);
        if reader.u32()? != crc32c::crc32c(bytes.get(..checked).unwrap_or_default()) {
            return Err(DecodeError::Invalid("fence checksum"));
        }
        reader.finish()?;
        Ok(fences)
    }
}

/// Why bytes are no fence file, if they are none.
#[must_use]
pub fn fence_fault(bytes: &Bytes) -> Option<DecodeError> {
    Fences::decode(bytes).err()
}

impl Node {
    /// Whether what was read under a fence may be merged here; else the refusal.
    pub(super) fn passes(&self, fence: Fence) -> Result<(), PeerReply> {
        let Fences { enforced, epoch, .. } = self.fences;
        if fence < enforced && !self.options.planted.is(Mutant::AcceptOldFence) {
            return Err(PeerReply::Fenced { fence: enforced, epoch });
        }
        Ok(())
    }

    /// One that enforces a fence says that ours is older.
    pub(super) fn learn_fence(&mut self, from: NodeId, fence: Fence, epoch: Epoch, out: &mut Vec<Output>) {
        let Some(table) = self.table().cloned() else { return };
        if table.epoch < epoch {
            // It may be that this node is a member no more.
            return self.compare_epoch(from, epoch, out);
        }
        if self.fences.is_near(fence) && table.present().any(|(node, _)| node == self.me()) {
            (self.fences.adopted, self.fences.round) = (fence, RoundId::default());
            self.store_fences(out);
        }
    }

    /// A member's part in a round. The answer is given when what it says is durable.
    pub(super) fn raise_fence(
        &mut self,
        from: NodeId,
        (round, step, fence): (RoundId, FenceStep, Fence),
        sectors: &[SectorId],
        out: &mut Vec<Output>,
    ) -> (PeerReply, Ticket) {
        let is_same = self.view.as_ref().is_some_and(|view| view.durable && view.table.epoch == round.epoch);
        let done = is_same
            && from == round.leader
            && match step {
                FenceStep::Adopt => self.adopt_fence(round, fence, out),
                FenceStep::Enforce => self.enforce_fence(round, fence, out),
            };
        let strange = match self.table().cloned() {
            Some(table) if done => {
                sectors.iter().copied().filter(|&sector| self.is_strange(&table, sector)).collect()
            }
            Some(_) | None => Vec::new(),
        };
        (PeerReply::FenceRaised { done, fence: self.fences.adopted, strange }, self.fences.ticket)
    }

    /// Returns whether nothing read before is left in hand.
    fn adopt_fence(&mut self, round: RoundId, fence: Fence, out: &mut Vec<Output>) -> bool {
        let is_known = fence == self.fences.adopted && round == self.fences.round;
        if !is_known {
            let keeps = self.keeps_copies() && !self.options.planted.is(Mutant::ReapWithHints);
            if !self.fences.is_near(fence) || keeps {
                return false;
            }
            (self.fences.adopted, self.fences.round) = (fence, round);
            // With it everything becomes durable that was written before, the end of hints above all.
            self.store_fences(out);
        }
        !self.has_rows_before(fence)
    }

    fn enforce_fence(&mut self, round: RoundId, fence: Fence, out: &mut Vec<Output>) -> bool {
        let is_known = fence == self.fences.adopted && round == self.fences.round;
        if !is_known || self.has_rows_before(fence) {
            return false;
        }
        if self.fences.enforced < fence {
            (self.fences.enforced, self.fences.epoch) = (fence, round.epoch);
            self.store_fences(out);
        }
        true
    }

    /// Whether a request in hand holds copies that were read before a fence.
    fn has_rows_before(&self, fence: Fence) -> bool {
        let is_before = |id| match self.pending.get(id) {
            Some(Row::Put(row)) => row.fence() < fence,
            Some(Row::Get(row)) => row.fence() < fence,
            // These hold no copies, or read them when they send them.
            Some(
                Row::Forward(_)
                | Row::Chunk(_)
                | Row::Piece(_)
                | Row::Comparing(_)
                | Row::Load(_)
                | Row::Settling(_),
            )
            | None => false,
        };
        !self.options.planted.is(Mutant::ReapWithOldRows) && self.pending.ids().into_iter().any(is_before)
    }

    /// Whether this node has a copy of a sector that nobody compares with the owners': it is none of
    /// them, or its copy is damaged.
    fn is_strange(&self, table: &Table, sector: SectorId) -> bool {
        let me = self.me();
        table.keyspaces.iter().any(|(&keyspace, entry)| {
            let at = (keyspace, sector);
            let owns = table.sector(sector).nodes(usize::from(entry.settings.n)).any(|node| node == me);
            self.engine.is_quarantined(at) || (!owns && self.engine.walk(at, None).next().is_some())
        })
    }

    /// Orders the fence file to be written, behind all that was written before.
    pub(super) fn store_fences(&mut self, out: &mut Vec<Output>) {
        out.extend(self.engine.take_batch().map(Output::Disk));
        let request = self.engine.replace(FileName::Fence, self.fences.encode());
        self.fences.ticket = self.engine.last_request();
        out.push(Output::Disk(request));
    }

    /// The number of the disk request with which all is durable that is held now.
    pub(super) fn sync_all(&mut self, out: &mut Vec<Output>) -> Ticket {
        self.store_fences(out);
        self.fences.ticket
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_damaged_fence_is_never_taken_for_another() {
        let fences = Fences {
            adopted: Fence(7),
            enforced: Fence(6),
            epoch: Epoch(9),
            reaped_stamp: Stamp(8),
            ..Fences::default()
        };
        let bytes = fences.encode();
        assert_eq!(Fences::decode(&bytes), Ok(fences));
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.to_vec();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(fence_fault(&Bytes::from(flipped)).is_some(), "bit {bit}");
        }
    }
}
