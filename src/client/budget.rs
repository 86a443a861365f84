//! Retries: how many, how soon. One layer retries, at most a tenth of requests, jittered.

use crate::limits::{CLIENT_RETRY_BURST, CLIENT_RETRY_MS};

/// A token bucket: each request puts in a tenth of a token, each retry takes one out.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Budget {
    /// Tenths of a token.
    tenths: u32,
}

impl Default for Budget {
    fn default() -> Self {
        Self { tenths: CLIENT_RETRY_BURST * 10 }
    }
}

impl Budget {
    /// A new request was made.
    pub(crate) fn earn(&mut self) {
        self.tenths = (self.tenths + 1).min(CLIENT_RETRY_BURST * 10);
    }

    /// Whether one may be retried; counts it if so.
    pub(crate) fn spend(&mut self) -> bool {
        match self.tenths.checked_sub(10) {
            Some(left) => {
                self.tenths = left;
                true
            }
            None => false,
        }
    }
}

/// Small random numbers from a given seed (SplitMix64, Steele et al. 2014): for jitter and
/// exploration, never for identity.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Jitter(u64);

impl Jitter {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A number in `0..bound`; 0 if the bound is.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (mixed ^ (mixed >> 31)).checked_rem(bound).unwrap_or(0)
    }

    /// Milliseconds to wait before retry number `retry` (from 0): doubling, half of it random.
    pub(crate) fn delay_ms(&mut self, retry: u8) -> u64 {
        let (first, most) = CLIENT_RETRY_MS;
        let whole = (first << retry.min(16)).min(most);
        whole / 2 + self.below(whole / 2 + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retries_are_a_tenth_of_requests_after_the_burst() {
        let mut budget = Budget::default();
        let burst = (0..1000).filter(|_| budget.spend()).count();
        assert_eq!(burst, CLIENT_RETRY_BURST as usize);
        for _ in 0..100 {
            budget.earn();
        }
        assert_eq!((0..1000).filter(|_| budget.spend()).count(), 10);
    }

    #[test]
    fn delays_grow_to_a_ceiling_and_differ_between_seeds() {
        let delays = |seed| {
            let mut jitter = Jitter::new(seed);
            (0..8).map(|retry| jitter.delay_ms(retry)).collect::<Vec<_>>()
        };
        assert!(delays(1).iter().all(|&ms| ms <= CLIENT_RETRY_MS.1));
        assert_ne!(delays(1), delays(2));
    }
}
