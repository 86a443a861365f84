//! What is counted while the load runs: operations, how long they took, and what went wrong when.

use crate::workload::OpKind;
use gtstore::types::Instant;
use gtstore::wire::client::Reason;
use hdrhistogram::Histogram;

/// Longest time told apart, in microseconds: above the longest timeout there is.
const TOOK_US_MAX: u64 = 120_000_000;
const DIGITS: u8 = 3;

/// Why an operation did not come to a right answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Trouble {
    /// Too few owners could be reached: nothing was written.
    NoQuorum,
    /// A put that may or may not have been applied: too few confirmed it in time, or its
    /// connection was closed before its answer came.
    Unknown,
    /// No answer in time. Of a put, nothing is known.
    Timeout,
    /// The node had too much work in hand.
    Overloaded,
    /// A get whose connection was closed before its answer came. It says nothing about the data.
    NoAnswer,
    /// The cluster has too few members.
    NotServing,
    /// The node asked directly does not own the key.
    NotOwner,
    /// The node is stopping.
    Stopping,
    /// No owner has room on its disk.
    DiskFull,
    /// Copies that cannot be read, and too few others.
    Unreadable,
    /// As many concurrent values as a key may have.
    Conflict,
    /// The request is not one that can be granted: a limit, a quorum, a keyspace.
    Rejected,
    /// An answer that cannot be right: a value that nobody wrote, or no answer to the question.
    Wrong,
}

impl Trouble {
    /// All of them, in the order in which they are told, each with its name.
    pub const ALL: [(Trouble, &'static str); 13] = [
        (Trouble::Wrong, "wrong"),
        (Trouble::Unknown, "unknown"),
        (Trouble::Timeout, "timeout"),
        (Trouble::NoAnswer, "no_answer"),
        (Trouble::NoQuorum, "no_quorum"),
        (Trouble::Overloaded, "overloaded"),
        (Trouble::NotServing, "not_serving"),
        (Trouble::NotOwner, "not_owner"),
        (Trouble::Stopping, "stopping"),
        (Trouble::DiskFull, "disk_full"),
        (Trouble::Unreadable, "unreadable"),
        (Trouble::Conflict, "conflict"),
        (Trouble::Rejected, "rejected"),
    ];

    /// What a refusal means for an operation of this kind.
    pub fn of(kind: OpKind, reason: Reason) -> Self {
        match (reason, kind) {
            (Reason::NoQuorum, _) => Trouble::NoQuorum,
            (Reason::Unconfirmed, OpKind::Put) => Trouble::Unknown,
            (Reason::Unconfirmed, OpKind::Get) | (Reason::Expired, _) => Trouble::Timeout,
            (Reason::Overloaded, _) => Trouble::Overloaded,
            (Reason::NotServing { .. }, _) => Trouble::NotServing,
            (Reason::NotOwner(_), _) => Trouble::NotOwner,
            (Reason::Stopping, _) => Trouble::Stopping,
            (Reason::DiskFull { .. }, _) => Trouble::DiskFull,
            (Reason::Unreadable { .. }, _) => Trouble::Unreadable,
            (Reason::TooManySiblings { .. }, _) => Trouble::Conflict,
            (
                Reason::EmptyKey
                | Reason::KeyTooLong { .. }
                | Reason::ValueTooLarge { .. }
                | Reason::UnknownKeyspace
                | Reason::BadQuorum { .. }
                | Reason::NotOnDataPath,
                _,
            ) => Trouble::Rejected,
        }
    }
}

/// What an operation came to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Done {
    /// A right answer.
    Right,
    /// A right answer to a get: there is nothing.
    Missing,
    /// None.
    Failed(Trouble),
}

/// One kind of trouble, counted.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Count {
    /// Gets that came to it.
    pub gets: u64,
    /// Puts that came to it.
    pub puts: u64,
    /// When it was first and last met, in microseconds from the load's beginning.
    pub first_us: u64,
    /// See `first_us`.
    pub last_us: u64,
}

/// All that is counted.
#[derive(Debug)]
pub struct Stats {
    began: Instant,
    /// When the last answer came.
    ended: Instant,
    /// Microseconds that right answers took.
    pub gets: Histogram<u64>,
    /// See `gets`.
    pub puts: Histogram<u64>,
    /// The same for both, since the last live line.
    pub lately: Histogram<u64>,
    /// Gets that rightly found nothing.
    pub missing: u64,
    /// Requests that were asked once more because their connection was lost.
    pub asked_again: u64,
    /// By the position of the trouble in [`Trouble::ALL`].
    troubles: [Count; Trouble::ALL.len()],
}

impl Stats {
    /// Nothing yet, from now on.
    ///
    /// # Errors
    /// A histogram of these bounds cannot be made.
    pub fn new(now: Instant) -> Result<Self, String> {
        let histogram = || {
            Histogram::new_with_bounds(1, TOOK_US_MAX, DIGITS).map_err(|error| format!("histogram: {error}"))
        };
        Ok(Self {
            began: now,
            ended: now,
            gets: histogram()?,
            puts: histogram()?,
            lately: histogram()?,
            missing: 0,
            asked_again: 0,
            troubles: Default::default(),
        })
    }

    /// The load begins now.
    pub fn begin(&mut self, now: Instant) {
        (self.began, self.ended) = (now, now);
    }

    /// An operation that was begun at `sent` has come to its end.
    pub fn record(&mut self, now: Instant, kind: OpKind, sent: Instant, done: Done) {
        let took_us = now.micros_since(sent);
        match done {
            Done::Right | Done::Missing => {
                self.ended = now;
                self.missing += u64::from(done == Done::Missing);
                self.lately.saturating_record(took_us);
                match kind {
                    OpKind::Get => self.gets.saturating_record(took_us),
                    OpKind::Put => self.puts.saturating_record(took_us),
                }
            }
            Done::Failed(trouble) => self.record_trouble(now, kind, trouble),
        }
    }

    fn record_trouble(&mut self, now: Instant, kind: OpKind, trouble: Trouble) {
        let at_us = self.elapsed_us(now);
        for (_, count) in Trouble::ALL.iter().zip(&mut self.troubles).filter(|(known, _)| known.0 == trouble)
        {
            if count.gets + count.puts == 0 {
                count.first_us = at_us;
            }
            count.last_us = at_us;
            match kind {
                OpKind::Get => count.gets += 1,
                OpKind::Put => count.puts += 1,
            }
        }
    }

    /// The troubles that were met, by name.
    pub fn troubles(&self) -> impl Iterator<Item = (&'static str, Count)> + '_ {
        let named = Trouble::ALL.iter().zip(&self.troubles).map(|((_, name), count)| (*name, *count));
        named.filter(|(_, count)| count.gets + count.puts > 0)
    }

    /// Operations that came to no right answer.
    pub fn errors(&self) -> u64 {
        self.troubles.iter().map(|count| count.gets + count.puts).sum()
    }

    /// Operations that were answered rightly.
    pub fn right(&self) -> u64 {
        self.gets.len() + self.puts.len()
    }

    /// Microseconds from the beginning.
    pub fn elapsed_us(&self, now: Instant) -> u64 {
        now.micros_since(self.began)
    }

    /// Seconds from the beginning to the last right answer.
    pub fn seconds(&self) -> f64 {
        self.elapsed_us(self.ended) as f64 / 1e6
    }

    /// Right answers a second.
    pub fn ops_per_second(&self) -> f64 {
        if self.right() == 0 { 0.0 } else { self.right() as f64 / self.seconds().max(1e-6) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_counted_by_kind_and_operation_with_first_and_last_time() {
        let mut stats = Stats::new(Instant(0)).unwrap();
        stats.begin(Instant(1000));
        for (at, kind, trouble) in [
            (2000, OpKind::Get, Trouble::NoAnswer),
            (3000, OpKind::Put, Trouble::Unknown),
            (4000, OpKind::Get, Trouble::NoAnswer),
            (9000, OpKind::Put, Trouble::Unknown),
        ] {
            stats.record(Instant(at), kind, Instant(1500), Done::Failed(trouble));
        }
        let told: Vec<_> = stats.troubles().collect();
        assert_eq!(
            told,
            [
                ("unknown", Count { gets: 0, puts: 2, first_us: 2000, last_us: 8000 }),
                ("no_answer", Count { gets: 2, puts: 0, first_us: 1000, last_us: 3000 }),
            ]
        );
        assert_eq!((stats.errors(), stats.right()), (4, 0));
        assert_eq!(stats.ops_per_second(), 0.0);
    }

    #[test]
    fn the_rate_counts_right_answers_up_to_the_last_of_them() {
        let mut stats = Stats::new(Instant(0)).unwrap();
        stats.record(Instant(1_000_000), OpKind::Get, Instant(999_000), Done::Missing);
        stats.record(Instant(2_000_000), OpKind::Put, Instant(1_000_000), Done::Right);
        stats.record(Instant(9_000_000), OpKind::Put, Instant(2_000_000), Done::Failed(Trouble::Timeout));
        assert_eq!((stats.right(), stats.missing, stats.errors()), (2, 1, 1));
        assert_eq!(stats.ops_per_second(), 1.0);
        assert_eq!((stats.gets.max(), stats.lately.len()), (1000, 2));
    }

    #[test]
    fn every_trouble_has_a_place_and_a_name_of_its_own() {
        for (at, (trouble, name)) in Trouble::ALL.iter().enumerate() {
            let again = Trouble::ALL.iter().position(|other| other.0 == *trouble || other.1 == *name);
            assert_eq!(again, Some(at));
        }
    }
}
