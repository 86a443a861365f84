//! Copies of sectors on their way, added up over one look after another. Pure: no questions, no output.
//!
//! A copy that has arrived is soon gone from its giver's list; to whoever has seen it on its way it counts
//! as done as long as the table has it where it went.

use crate::ring::{Slot, Table};
use crate::shell::cli::everyone::Answers;
use crate::types::{NodeId, SectorId};
use crate::wire::client::TransferStatus;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Instant;

/// Looks back over which rates are measured.
const LOOKS_MEASURED: usize = 10;

/// From whom, to whom.
type Pair = (NodeId, NodeId);

/// Keys that have arrived and bytes that were sent, by pair.
type Arrived = BTreeMap<Pair, (u64, u64)>;

/// All copies that were seen.
#[derive(Debug, Default)]
pub(super) struct Tally {
    copies: BTreeMap<(Pair, SectorId), Copy>,
    /// How far each pair was at the latest looks, the oldest first.
    looks: VecDeque<(Instant, Arrived)>,
}

/// One copy.
#[derive(Clone, Copy, Debug, Default)]
struct Copy {
    keys: u64,
    keys_total: u64,
    bytes: u64,
    done: bool,
    is_gone: bool,
}

/// What copies come to.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Sums {
    pub(super) copies: u64,
    pub(super) done: u64,
    pub(super) keys: u64,
    pub(super) keys_total: u64,
    pub(super) bytes: u64,
    /// None as long as there was one look.
    pub(super) bytes_per_second: Option<u64>,
    /// None if nothing has come between looks.
    pub(super) seconds_left: Option<u64>,
}

impl Tally {
    /// Adds what was seen at a look: the table, and what each node says that it sends.
    pub(super) fn add(&mut self, now: Instant, table: &Table, told: &Answers<Vec<TransferStatus>>) {
        let mut there = BTreeSet::new();
        for (id, sector) in (0..).map(SectorId).zip(&table.sectors) {
            for &slot in &sector.slots {
                if let Slot::Moving { new, .. } = slot {
                    there.extend(table.sources(id, slot).into_iter().map(|from| ((from, new), id)));
                }
            }
        }
        for (&from, rows) in told.iter().filter_map(|(from, said)| Some((from, said.as_ref().ok()?))) {
            for row in rows {
                let id = ((from, row.to), row.sector);
                there.insert(id);
                let TransferStatus { keys, keys_total, bytes, done, .. } = *row;
                self.copies.insert(id, Copy { keys, keys_total, bytes, done, is_gone: false });
            }
        }
        self.copies.retain(|id, copy| {
            if there.contains(id) {
                return true;
            }
            // Arrived, or else called off.
            *copy = Copy { keys: copy.keys_total, done: true, is_gone: true, ..*copy };
            let ((_, to), sector) = *id;
            table.sector(sector).slots.iter().any(|slot| slot.holder() == to)
        });
        for id in there {
            self.copies.entry(id).or_default().is_gone = false;
        }
        if self.looks.len() >= LOOKS_MEASURED {
            self.looks.pop_front();
        }
        let sums = self.added_up();
        self.looks
            .push_back((now, sums.into_iter().map(|(pair, sum)| (pair, (sum.keys, sum.bytes))).collect()));
    }

    /// Whether any is on its way, be it that its arrival is yet to be taken note of.
    pub(super) fn is_moving(&self) -> bool {
        self.copies.values().any(|copy| !copy.is_gone)
    }

    /// Whether a node is to send something yet.
    pub(super) fn waits_for(&self, node: NodeId) -> bool {
        self.copies.iter().any(|(((from, _), _), copy)| *from == node && !copy.done)
    }

    /// By pair, with rates.
    pub(super) fn pairs(&self) -> BTreeMap<Pair, Sums> {
        let mut pairs = self.added_up();
        for (pair, sums) in &mut pairs {
            self.measure(sums, |look| look.get(pair).copied().unwrap_or_default());
        }
        pairs
    }

    /// All of them.
    pub(super) fn sums(&self) -> Sums {
        let mut all = Sums::default();
        for sums in self.added_up().values() {
            all.copies += sums.copies;
            all.done += sums.done;
            all.keys += sums.keys;
            all.keys_total += sums.keys_total;
            all.bytes += sums.bytes;
        }
        self.measure(&mut all, |look| {
            look.values().fold((0, 0), |sum, (keys, bytes)| (sum.0 + keys, sum.1 + bytes))
        });
        all
    }

    fn added_up(&self) -> BTreeMap<Pair, Sums> {
        let mut pairs: BTreeMap<Pair, Sums> = BTreeMap::new();
        for ((pair, _), copy) in &self.copies {
            let sums = pairs.entry(*pair).or_default();
            sums.copies += 1;
            sums.done += u64::from(copy.done);
            sums.keys += copy.keys;
            sums.keys_total += copy.keys_total;
            sums.bytes += copy.bytes;
        }
        pairs
    }

    /// What came in a second between the oldest look and the latest, and when the rest will have come.
    fn measure(&self, sums: &mut Sums, at: impl Fn(&Arrived) -> (u64, u64)) {
        let (Some((start, first)), Some((end, last))) = (self.looks.front(), self.looks.back()) else {
            return;
        };
        let seconds = end.duration_since(*start).as_secs_f64();
        if seconds <= 0.0 {
            return;
        }
        let ((keys_then, bytes_then), (keys_now, bytes_now)) = (at(first), at(last));
        sums.bytes_per_second = Some((bytes_now.saturating_sub(bytes_then) as f64 / seconds) as u64);
        let keys_per_second = keys_now.saturating_sub(keys_then) as f64 / seconds;
        let keys_left = sums.keys_total.saturating_sub(sums.keys);
        if sums.done == sums.copies {
            sums.seconds_left = Some(0);
        } else if keys_per_second > 0.0 {
            sums.seconds_left = Some((keys_left as f64 / keys_per_second).ceil() as u64);
        }
    }
}

impl Sums {
    /// How much of it has arrived, by keys; by copies, where there are no keys.
    pub(super) fn progress_percent(&self) -> u64 {
        let by_copies = || (self.done * 100).checked_div(self.copies).unwrap_or(100);
        (self.keys * 100).checked_div(self.keys_total).unwrap_or_else(by_copies)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ring::Sector;
    use crate::types::{ClusterId, Epoch};
    use std::time::Duration;

    /// Sectors that move from node 1 to node 2, of two there are.
    fn table(moving: usize) -> Table {
        let slot = |at: usize| match at {
            at if at < moving => Slot::Moving { old: NodeId(1), new: NodeId(2), since: Epoch(1) },
            _ => Slot::Settled(NodeId(2)),
        };
        let sector = |at| Sector { conf_epoch: Epoch(1), slots: vec![slot(at)] };
        Table { sectors: (0..2).map(sector).collect(), ..Table::new(ClusterId(1), 1, 2) }
    }

    fn told(rows: &[(u16, u64, bool)]) -> Answers<Vec<TransferStatus>> {
        let row = |&(sector, keys, done): &(u16, u64, bool)| TransferStatus {
            sector: SectorId(sector),
            to: NodeId(2),
            keys,
            keys_total: 100,
            bytes: 10 * keys,
            done,
        };
        Answers::from([(NodeId(1), Ok(rows.iter().map(row).collect()))])
    }

    #[test]
    fn what_was_on_its_way_and_is_gone_has_arrived() {
        let (mut tally, start) = (Tally::default(), Instant::now());
        assert!(!tally.is_moving());
        tally.add(start, &table(2), &told(&[(0, 20, false), (1, 100, true)]));
        let first = tally.sums();
        assert_eq!((first.copies, first.done, first.keys, first.bytes_per_second), (2, 1, 120, None));
        tally.add(start + Duration::from_secs(2), &table(1), &told(&[(0, 60, false)]));
        let sums = tally.pairs()[&(NodeId(1), NodeId(2))];
        assert_eq!((sums.copies, sums.done, sums.keys, sums.progress_percent()), (2, 1, 160, 80));
        assert_eq!((sums.bytes_per_second, sums.seconds_left), (Some(200), Some(2)));
        tally.add(start + Duration::from_secs(4), &table(0), &told(&[]));
        assert_eq!((tally.sums().done, tally.sums().keys, tally.is_moving()), (2, 200, false));
        assert_eq!(tally.sums().seconds_left, Some(0));
    }

    #[test]
    fn what_was_called_off_has_not_arrived() {
        let mut tally = Tally::default();
        tally.add(Instant::now(), &table(2), &told(&[(0, 20, false), (1, 50, false)]));
        let mut settled = table(0);
        settled.sectors[1].slots = vec![Slot::Settled(NodeId(1))];
        tally.add(Instant::now(), &settled, &told(&[]));
        assert_eq!((tally.sums().copies, tally.sums().done, tally.sums().keys), (1, 1, 100));
    }

    #[test]
    fn a_giver_that_says_nothing_is_waited_for_as_the_table_has_it() {
        let mut tally = Tally::default();
        let silent = Answers::from([(NodeId(1), Err("it hangs".to_owned()))]);
        tally.add(Instant::now(), &table(2), &silent);
        assert!(tally.is_moving() && tally.waits_for(NodeId(1)) && !tally.waits_for(NodeId(2)));
        assert_eq!((tally.sums().copies, tally.sums().done, tally.sums().progress_percent()), (2, 0, 0));
    }
}
