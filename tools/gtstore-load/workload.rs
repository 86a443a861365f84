//! What is asked next: which operation, of which key. A function of the seed alone, so that the
//! same seed asks the same things in the same order.

use crate::options::Settings;

/// One operation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Op {
    /// Read or write.
    pub kind: OpKind,
    /// The key's number.
    pub key: u64,
}

/// What is done to a key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OpKind {
    /// Read.
    Get,
    /// Write.
    Put,
}

/// The sequence of operations.
#[derive(Debug)]
pub struct Workload {
    chance: Chance,
    ratio: f64,
    keys: u64,
}

impl Workload {
    /// From the beginning.
    pub fn new(settings: &Settings) -> Self {
        Self { chance: Chance(settings.seed), ratio: settings.ratio, keys: settings.keys }
    }

    /// The next operation: keys are chosen evenly.
    pub fn next_op(&mut self) -> Op {
        let kind = if self.chance.fraction() < self.ratio { OpKind::Get } else { OpKind::Put };
        Op { kind, key: self.chance.below(self.keys) }
    }
}

/// Pseudo-random numbers: SplitMix64 (Steele, Lea, Flood, "Fast splittable pseudorandom number
/// generators", 2014).
#[derive(Debug)]
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ mixed >> 31
    }

    /// 0 to 1, the end left out.
    fn fraction(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// 0 to `end`, the end left out, by multiplication: even but for a share of `end` in 2^64.
    fn below(&mut self, end: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(end)) >> 64) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ops(seed: u64, ratio: f64, keys: u64, count: usize) -> Vec<Op> {
        let mut workload = Workload { chance: Chance(seed), ratio, keys };
        (0..count).map(|_| workload.next_op()).collect()
    }

    #[test]
    fn the_same_seed_asks_the_same_and_another_does_not() {
        assert_eq!(ops(7, 0.5, 1000, 100), ops(7, 0.5, 1000, 100));
        assert_ne!(ops(7, 0.5, 1000, 100), ops(8, 0.5, 1000, 100));
    }

    #[test]
    fn the_ratio_is_the_share_of_gets() {
        for (ratio, low, high) in [(0.0, 0, 0), (1.0, 10_000, 10_000), (0.9, 8_800, 9_200)] {
            let gets = ops(1, ratio, 10, 10_000).iter().filter(|op| op.kind == OpKind::Get).count();
            assert!((low..=high).contains(&gets), "{ratio}: {gets}");
        }
    }

    #[test]
    fn every_key_gets_its_share_and_no_other_is_asked() {
        let mut counts = [0; 10];
        for op in ops(1, 0.5, 10, 10_000) {
            counts[op.key as usize] += 1;
        }
        assert!(counts.iter().all(|count| (800..1200).contains(count)), "{counts:?}");
        assert!(ops(1, 0.5, 1, 100).iter().all(|op| op.key == 0));
    }
}
