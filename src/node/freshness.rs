//! How much of a request's time is left when it is read, counting its wait in a socket.
//!
//! A message carries the milliseconds it had left and its sender's monotonic clock at sending.
//! The two clocks have nothing in common, but the smallest (arrival - sent) that a connection has
//! shown is as good as no wait at all; what is above it is time the message spent waiting, and is
//! taken off. The smallest is kept over two windows of a minute, so that clocks which drift apart
//! (50 ppm is 4 s a day) do not eat up everybody's time.

use crate::limits::{CONNECTIONS_MAX, REQUEST_TTL_MS_MAX};
use crate::lookup::Lookup;
use crate::types::{ConnId, Instant};
use crate::wire::peer::Worth;

const WINDOW_US: u64 = 60_000_000;

/// The smallest offsets seen on each accepted connection.
#[derive(Debug)]
pub struct Freshness {
    links: Lookup<ConnId, Offsets>,
}

#[derive(Debug)]
struct Offsets {
    window_began: Instant,
    current: i128,
    previous: i128,
}

impl Default for Freshness {
    fn default() -> Self {
        Self { links: Lookup::new(2 * CONNECTIONS_MAX) }
    }
}

impl Freshness {
    /// The instant after which the request is not worth working on; `None` if that has passed.
    pub fn deadline(&mut self, conn: ConnId, now: Instant, worth: Worth) -> Option<Instant> {
        let waited_us = self.waited_us(conn, now, worth.sent_us);
        let ttl_us = u64::from(worth.ttl_ms.min(REQUEST_TTL_MS_MAX)) * 1000;
        let left_us = ttl_us.checked_sub(waited_us).filter(|&left| left > 0)?;
        Some(Instant(now.0.saturating_add(left_us)))
    }

    fn waited_us(&mut self, conn: ConnId, now: Instant, sent_us: u64) -> u64 {
        let offset = i128::from(now.0) - i128::from(sent_us);
        let Some(offsets) = self.links.get_mut(&conn) else {
            self.links.insert(conn, Offsets { window_began: now, current: offset, previous: offset });
            return 0;
        };
        if now.micros_since(offsets.window_began) > WINDOW_US {
            offsets.previous = offsets.current;
            offsets.current = offset;
            offsets.window_began = now;
        }
        offsets.current = offsets.current.min(offset);
        let smallest = offsets.current.min(offsets.previous);
        u64::try_from(offset - smallest).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_spent_waiting_in_a_socket_is_taken_off() {
        let mut freshness = Freshness::default();
        let worth = |sent_us| Worth { ttl_ms: 100, sent_us };
        let conn = ConnId(1);
        // The sender's clock is 1 s behind ours; the first message took no time to speak of.
        assert_eq!(freshness.deadline(conn, Instant(1_000_000), worth(0)), Some(Instant(1_100_000)));
        // Sent at 10 ms, read 60 ms later than the first would have been: 40 ms are left.
        assert_eq!(freshness.deadline(conn, Instant(1_070_000), worth(10_000)), Some(Instant(1_110_000)));
        assert_eq!(freshness.deadline(conn, Instant(1_200_000), worth(20_000)), None);
    }

    #[test]
    fn clocks_that_drift_apart_do_not_eat_up_the_time() {
        let mut freshness = Freshness::default();
        for minute in 0..1000u64 {
            let sent_us = minute * 60_000_000;
            // Our clock gains 6 ms a minute on the sender's.
            let now = Instant(sent_us + minute * 6_000);
            assert!(freshness.deadline(ConnId(1), now, Worth { ttl_ms: 100, sent_us }).is_some());
        }
    }
}
