//! Who a data directory is: cluster, node, disk, and which life this is.
//!
//! The incarnation is raised durably at every start, before anything else: dots of an earlier
//! life that the disk lost can then never be made again (CONSISTENCY.md, section 2).

use crate::engine::{FileName, Storage, replace};
use crate::mutant::{Mutant, Planted};
use crate::types::{Actor, ClusterId, DiskUuid, Incarnation, NodeId};
use crate::wire::codec::{DecodeError, Reader, Writer};
use bytes::Bytes;

const MAGIC: u64 = u64::from_le_bytes(*b"GTSID001");

/// The content of the identity file.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Identity {
    /// The cluster; 0 before the first join.
    pub cluster_id: ClusterId,
    /// The node; 0 before the first join.
    pub node: NodeId,
    /// The directory.
    pub disk_uuid: DiskUuid,
    /// Its present life.
    pub incarnation: Incarnation,
    /// The machine's boot in which the directory was made: as long as it lasts, nothing that was
    /// written is lost, synced or not.
    pub boot_id: u128,
}

/// An identity just raised, and what its earlier lives may have lost.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Raised {
    /// The present life.
    pub identity: Identity,
    /// There was an earlier life: what it held in memory alone is gone.
    pub lost_memory: bool,
    /// The machine has been started since: what was written and not synced may be gone.
    pub lost_unsynced: bool,
}

impl Identity {
    /// The writer of dots that this life is.
    #[must_use]
    pub fn actor(&self) -> Actor {
        Actor { node: self.node, incarnation: self.incarnation }
    }

    /// The file's bytes: magic, fields, checksum.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut out = Writer::default();
        out.u64(MAGIC);
        out.u128(self.cluster_id.0);
        out.u32(self.node.0);
        out.u128(self.disk_uuid.0);
        out.u32(self.incarnation.0);
        out.u128(self.boot_id);
        let body = out.into_bytes();
        let mut out = Writer::default();
        out.raw(&body);
        out.u32(crc32c::crc32c(&body));
        out.into_bytes()
    }

    /// Reads the file.
    ///
    /// # Errors
    /// It is damaged or of another format.
    pub fn decode(bytes: &Bytes) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes.clone());
        if reader.u64()? != MAGIC {
            return Err(DecodeError::Invalid("identity format"));
        }
        let identity = Self {
            cluster_id: ClusterId(reader.u128()?),
            node: NodeId(reader.u32()?),
            disk_uuid: DiskUuid(reader.u128()?),
            incarnation: Incarnation(reader.u32()?),
            boot_id: reader.u128()?,
        };
        let checked = bytes.len().saturating_sub(4);
        if reader.u32()? != crc32c::crc32c(bytes.get(..checked).unwrap_or_default()) {
            return Err(DecodeError::Invalid("identity checksum"));
        }
        reader.finish()?;
        Ok(identity)
    }

    /// Reads the identity of a directory, or gives an empty one a new identity, and begins a new
    /// life: the raised incarnation is durable when this returns.
    ///
    /// # Errors
    /// In words: the file is damaged, gone from a directory that has data, or the disk fails.
    pub fn raise(
        storage: &mut impl Storage,
        fresh: DiskUuid,
        boot_id: u128,
        planted: Planted,
    ) -> Result<Raised, String> {
        let read = storage.read(FileName::Identity).map_err(|error| format!("the identity file: {error}"))?;
        let before = match read {
            Some(bytes) => Some(Self::decode(&bytes).map_err(|error| {
                format!(
                    "the identity file is damaged ({error}): which node this was, and in which life, is not \
                     known, and two lives of one name would mix up their writes. Move the directory away, \
                     and start with an empty one to join as a new node; the other owners have copies of \
                     what was here, and gtstore-storage --dump DIR prints it"
                )
            })?),
            None => None,
        };
        let files = storage.list().map_err(|error| format!("the data directory: {error}"))?;
        if before.is_none() && files.iter().any(|file| matches!(file, FileName::Segment(_) | FileName::Table))
        {
            return Err("the directory has data but no identity file; \
                        restore the file, or move the directory away to join as a new node"
                .to_owned());
        }
        let mut identity = before.unwrap_or(Self { disk_uuid: fresh, ..Self::default() });
        if before.is_none() || !planted.is(Mutant::StableIncarnation) {
            identity.incarnation = Incarnation(identity.incarnation.0 + 1);
        }
        // After another boot, the boot of the lost data stays: that it is lost must not be forgotten
        // with the next start.
        if before.is_none() {
            identity.boot_id = boot_id;
        }
        replace(storage, FileName::Identity, &identity.encode())
            .map_err(|error| format!("the identity file cannot be written: {error}"))?;
        Ok(Raised {
            identity,
            lost_memory: before.is_some(),
            lost_unsynced: before.is_some_and(|old| old.boot_id != boot_id),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_damaged_identity_is_never_taken_for_another() {
        let identity = Identity { node: NodeId(7), incarnation: Incarnation(3), ..Identity::default() };
        let bytes = identity.encode();
        assert_eq!(Identity::decode(&bytes), Ok(identity));
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.to_vec();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(Identity::decode(&Bytes::from(flipped)).is_err());
        }
    }

    #[test]
    fn what_a_power_loss_took_is_not_forgotten_with_the_next_start() {
        let mut disk = crate::sim::SimDisk::default();
        let mut lost = |boot_id| {
            let raised = Identity::raise(&mut disk, DiskUuid(1), boot_id, Planted::NONE).unwrap();
            raised.lost_unsynced
        };
        assert_eq!([lost(1), lost(1), lost(2), lost(2)], [false, false, true, true]);
    }
}
