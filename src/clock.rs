//! The hybrid logical clock that stamps writes (Kulkarni et al., "Logical Physical Clocks", 2014).
//!
//! A stamp breaks ties between concurrent writes and decides nothing else. Stored stamps are
//! never changed; only a process's *own* clock is clamped, so that one machine with a wrong
//! clock cannot drag the others into the future.

use crate::limits::CLOCK_DRAG_MS_MAX;
use crate::types::{Stamp, WallMs};

/// A process's source of stamps: each is above the one before it and above what it observed.
#[derive(Clone, Copy, Debug, Default)]
pub struct HybridClock {
    last: Stamp,
}

impl HybridClock {
    /// Takes note of a stamp made elsewhere. One more than [`CLOCK_DRAG_MS_MAX`] ahead of the
    /// wall is not followed further than that.
    pub fn observe(&mut self, seen: Stamp, wall: WallMs) {
        let ceiling = Stamp::at(WallMs(wall.0.saturating_add(CLOCK_DRAG_MS_MAX)));
        self.last = self.last.max(seen.min(ceiling));
    }

    /// A new stamp, above every earlier one of this clock and above `floor`.
    ///
    /// `floor` (a context's or an object's highest stamp) is obeyed however far ahead it is: a
    /// write must beat what it replaces. It does not move the clock beyond its clamp.
    pub fn stamp(&mut self, wall: WallMs, floor: Stamp) -> Stamp {
        self.observe(floor, wall);
        self.last = self.last.next().max(Stamp::at(wall));
        self.last.max(floor.next())
    }

    /// The latest stamp given or followed.
    #[must_use]
    pub fn latest(&self) -> Stamp {
        self.last
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stamps_rise_even_when_the_wall_stands_still_or_steps_back() {
        let mut clock = HybridClock::default();
        let first = clock.stamp(WallMs(1000), Stamp::default());
        let second = clock.stamp(WallMs(1000), Stamp::default());
        let third = clock.stamp(WallMs(10), Stamp::default());
        assert!(first < second && second < third);
    }

    #[test]
    fn a_stamp_from_the_far_future_is_beaten_but_not_followed() {
        let mut clock = HybridClock::default();
        let future = Stamp::at(WallMs(10_000_000));
        assert!(clock.stamp(WallMs(1000), future) > future);
        let next = clock.stamp(WallMs(1001), Stamp::default());
        assert!(next.wall().0 <= 1001 + CLOCK_DRAG_MS_MAX);
    }
}
