//! Pinning: what no plan may change now, and in how many zones each sector can be.
//!
//! A slot on its way is left alone. While it is, its old node can take no other slot of the sector,
//! so that a member that should leave may have to wait for it, and a sector may have to stay in
//! fewer zones than it should be in.

use super::{Draft, Slot};
use std::collections::BTreeSet;

impl Draft {
    /// Pins slots on their way, and those of members that must go but cannot yet; sets `limits`.
    pub(super) fn pin(&mut self) {
        for sector in 0..self.sectors.len() {
            let places = &mut self.sectors[sector];
            let mut is_plain = true;
            for place in places.iter_mut() {
                place.pinned = place.is_frozen();
                is_plain &= !place.pinned && place.owner < self.eligible;
            }
            if !is_plain {
                self.limits[sector] = self.pin_with_care(sector);
            }
        }
    }

    /// Lets as many of the sector's members as may not own go as can be replaced without being in
    /// fewer zones than it should, or is. Returns how many owners may repeat a zone.
    fn pin_with_care(&mut self, sector: usize) -> usize {
        let now = self.repeats(self.owners(sector));
        let must_go: Vec<_> = (0..self.sectors[sector].len())
            .filter(|&at| {
                let place = &self.sectors[sector][at];
                !place.pinned && place.owner >= self.eligible
            })
            .collect();
        for &place in &must_go {
            if let Some(repeats) = self.fewest_repeats(sector)
                && repeats <= now.max(self.repeats_max)
            {
                return repeats.max(self.repeats_max);
            }
            self.sectors[sector][place].pinned = true;
        }
        self.fewest_repeats(sector).unwrap_or(now).max(self.repeats_max)
    }

    /// How many owners must repeat a zone when those that are not pinned may be chosen anew;
    /// `None` when too few may be chosen.
    fn fewest_repeats(&self, sector: usize) -> Option<usize> {
        let places = &self.sectors[sector];
        let pinned = || places.iter().filter(|place| place.pinned).map(|place| place.owner);
        let on_the_move = |slot: Slot| matches!(slot, Slot::Moving { .. });
        let barred: Vec<_> = places
            .iter()
            .filter_map(|place| place.was)
            .filter(|slot| on_the_move(*slot))
            .flat_map(|slot| slot.nodes())
            .collect();
        let taken: BTreeSet<_> = pinned().map(|owner| self.nodes[owner].zone).collect();
        let open = || self.nodes[..self.eligible].iter().filter(|node| !barred.contains(&node.id));
        let free = places.iter().filter(|place| !place.pinned).count();
        if open().count() < free {
            return None;
        }
        let zones: BTreeSet<_> = open().map(|node| node.zone).filter(|zone| !taken.contains(zone)).collect();
        Some(pinned().count() - taken.len() + free.saturating_sub(zones.len()))
    }
}
