//! What a seed draws about a cluster and its use: swarms of settings find what one setting hides.

use super::rng::Rng;
use super::workload::Space;
use crate::ring::{Conflict, Durability, KeyspaceSettings};

/// How small the nodes of a run are, and how they look after what they hold.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Tuning {
    /// Values that a node has room for in memory.
    pub(super) cache_bytes: usize,
    pub(super) segment_bytes: u64,
    pub(super) scrub_bytes_per_second: u64,
    pub(super) hint_bytes_max: u64,
    pub(super) reap_after_ms: u64,
}

impl Tuning {
    /// Small in everything: little fills it.
    pub(super) const SMALL: Tuning = Tuning {
        cache_bytes: 64 << 10,
        segment_bytes: 16 << 10,
        scrub_bytes_per_second: 100_000,
        hint_bytes_max: 4 << 10,
        reap_after_ms: 3000,
    };

    /// In half of the seeds [`SMALL`](Self::SMALL), else whatever the seed says.
    pub(super) fn draw(rng: &mut Rng) -> Self {
        if rng.once_in(2) {
            return Self::SMALL;
        }
        Self {
            cache_bytes: one_of(rng, &[0, 2 << 10, 16 << 10, 1 << 20]),
            segment_bytes: one_of(rng, &[2 << 10, 8 << 10, 32 << 10, 1 << 20]),
            scrub_bytes_per_second: one_of(rng, &[0, 10_000, 1_000_000]),
            hint_bytes_max: one_of(rng, &[0, 1 << 10, 16 << 10, 1 << 20]),
            reap_after_ms: rng.range(500, 10_000),
        }
    }
}

/// What clients ask, and how often.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Mix {
    /// Of a thousand calls; the others are puts.
    pub(super) gets_per_mille: u64,
    pub(super) deletes_per_mille: u64,
    /// Writes in a thousand that say what they have seen.
    pub(super) contexts_per_mille: u64,
    /// Calls in a thousand that are about the first key.
    pub(super) hot_per_mille: u64,
    /// Puts in a thousand whose value is to be there for a while only.
    pub(super) fleeting_per_mille: u64,
    /// That while, in milliseconds.
    pub(super) ttl_ms: (u64, u64),
}

impl Mix {
    pub(super) fn draw(rng: &mut Rng) -> Self {
        Self {
            gets_per_mille: rng.range(250, 550),
            deletes_per_mille: one_of(rng, &[20, 100, 100, 250]),
            contexts_per_mille: one_of(rng, &[0, 400, 650, 650, 950]),
            hot_per_mille: one_of(rng, &[0, 0, 300, 700]),
            fleeting_per_mille: one_of(rng, &[0, 0, 50, 400]),
            ttl_ms: one_of(rng, &[(50, 1000), (500, 8000)]),
        }
    }
}

/// `default`, one with siblings, two whose quorums are drawn, and in some seeds such as promise
/// less than to keep what was acknowledged over a loss of power or of the process.
pub(super) fn draw_spaces(rng: &mut Rng, n: u8) -> Vec<Space> {
    let space = |name: &str, settings, strict| Space { name: name.to_owned(), settings, strict };
    let (carts, drawn) = (rng.once_in(2), rng.once_in(2));
    let majority = KeyspaceSettings::majority(n);
    let strict = overlapping(rng, n);
    let conflict = draw_conflict(rng);
    let loose = KeyspaceSettings { r: 1, w: 1, conflict, ..majority };
    let mut spaces = vec![
        space("default", majority, false),
        space("carts", KeyspaceSettings { conflict: Conflict::Siblings, ..majority }, carts),
        space("drawn", strict, drawn),
        space("loose", loose, false),
    ];
    for (name, durability) in [("unsynced", Durability::Os), ("fleeting", Durability::Memory)] {
        if rng.once_in(3) {
            let conflict = draw_conflict(rng);
            let settings = KeyspaceSettings { conflict, durability, ..overlapping(rng, n) };
            spaces.push(space(name, settings, rng.once_in(2)));
        }
    }
    spaces
}

/// Quorums that meet.
fn overlapping(rng: &mut Rng, n: u8) -> KeyspaceSettings {
    let w = u8::try_from(rng.range(1, u64::from(n))).unwrap_or(1);
    KeyspaceSettings { w, r: n + 1 - w, ..KeyspaceSettings::majority(n) }
}

fn draw_conflict(rng: &mut Rng) -> Conflict {
    if rng.once_in(2) { Conflict::Lww } else { Conflict::Siblings }
}

fn one_of<T: Copy, const N: usize>(rng: &mut Rng, list: &[T; N]) -> T {
    list[usize::try_from(rng.below(N as u64)).unwrap_or(0)]
}
