//! A key's sector: Redis Cluster's slot function, top bits first.
//!
//! Source: the Redis Cluster specification, "Keys distribution model" and "Hash tags".

use crate::types::SectorId;
use crc::{CRC_16_XMODEM, Crc, Table};

/// Redis Cluster's hash slots: 14 bits.
pub const HASH_SLOTS: u16 = 16384;

/// Sixteen bytes a step: every request asks for the sector of its key.
static CRC16: Crc<u16, Table<16>> = Crc::<u16, Table<16>>::new(&CRC_16_XMODEM);

/// The part of a key that is hashed: what stands between the first `{` and the next `}`, if that
/// is not empty; else the whole key. Lets users keep keys together.
fn tag(key: &[u8]) -> &[u8] {
    let Some(open) = key.iter().position(|&byte| byte == b'{') else { return key };
    let rest = key.get(open + 1..).unwrap_or_default();
    match rest.iter().position(|&byte| byte == b'}') {
        Some(0) | None => key,
        Some(close) => rest.get(..close).unwrap_or(key),
    }
}

/// The key's hash slot, 0..16384, as `CLUSTER KEYSLOT` gives it.
#[must_use]
pub fn hash_slot(key: &[u8]) -> u16 {
    CRC16.checksum(tag(key)) % HASH_SLOTS
}

/// The key's sector of `sectors` (a power of two up to 16384): its hash slot's top bits, so that
/// a sector is a run of neighbouring hash slots.
#[must_use]
pub fn sector_of(key: &[u8], sectors: usize) -> SectorId {
    let slots_per_sector = usize::from(HASH_SLOTS) / sectors.clamp(1, usize::from(HASH_SLOTS));
    let sector = usize::from(hash_slot(key)) / slots_per_sector;
    SectorId(u16::try_from(sector).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_check_value_of_the_specification() {
        assert_eq!(CRC16.checksum(b"123456789"), 0x31C3);
        assert_eq!(hash_slot(b"123456789"), 0x31C3 % HASH_SLOTS);
    }

    #[test]
    fn tags_keep_keys_together() {
        assert_eq!(hash_slot(b"{user1000}.following"), hash_slot(b"{user1000}.followers"));
        assert_eq!(tag(b"foo{}{bar}"), b"foo{}{bar}");
        assert_eq!(tag(b"foo{{bar}}zap"), b"{bar");
        assert_eq!(tag(b"foo{bar}{zap}"), b"bar");
        assert_eq!(tag(b"foo{bar"), b"foo{bar");
    }

    #[test]
    fn a_sector_is_a_run_of_hash_slots() {
        for key in [&b"a"[..], b"key1", b"123456789", b""] {
            assert_eq!(sector_of(key, 1024).0, hash_slot(key) >> 4);
            assert_eq!(sector_of(key, 16384).0, hash_slot(key));
            assert_eq!(sector_of(key, 1).0, 0);
        }
    }
}
