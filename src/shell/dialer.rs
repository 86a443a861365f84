//! One connection that is to be there always: dialed, and dialed again whenever it breaks.
//!
//! ```text
//! Waiting --due--> Dialing --welcomed--> Up
//!    ^                |                   |
//!    +---- failed ----+------ broken -----+
//! ```

use super::net::Net;
use super::random::jittered;
use crate::limits::REDIAL_MS;
use crate::types::{ConnId, Instant};
use crate::wire::hello::Hello;
use std::fmt::Display;

/// Keeps one connection up.
#[derive(Debug)]
pub(super) struct Dialer {
    /// Who is dialed, for the log.
    whom: String,
    /// Where; tried in turn.
    addrs: Vec<String>,
    next: usize,
    /// How long to wait after the next failure.
    backoff_ms: u64,
    /// Whether the failure to reach it has been logged already.
    is_told: bool,
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Waiting { until: Instant },
    Dialing(ConnId),
    Up(ConnId),
}

impl Dialer {
    /// Dials at once, as soon as it is asked what is due.
    pub(super) fn new(whom: String, addrs: Vec<String>, now: Instant) -> Self {
        let state = State::Waiting { until: now };
        Self { whom, addrs, next: 0, backoff_ms: REDIAL_MS.0, is_told: false, state }
    }

    /// When to dial next, if it is not connected or connecting.
    pub(super) fn due(&self) -> Option<Instant> {
        match self.state {
            State::Waiting { until } => Some(until),
            State::Dialing(_) | State::Up(_) => None,
        }
    }

    /// Dials, if it is time to.
    pub(super) fn dial_if_due(&mut self, net: &mut Net, now: Instant, hello: Hello) -> Option<ConnId> {
        if self.due()? > now {
            return None;
        }
        let conn = net.dial(self.addr(), hello);
        self.state = State::Dialing(conn);
        Some(conn)
    }

    /// The connection was welcomed.
    pub(super) fn came_up(&mut self, conn: ConnId) {
        log::info!("connected to {} at {}", self.whom, self.addr());
        self.state = State::Up(conn);
        self.backoff_ms = REDIAL_MS.0;
        self.is_told = false;
    }

    /// The connection is gone or never came to be. Says whether it had been up.
    pub(super) fn went_down(&mut self, now: Instant, why: &dyn Display) -> bool {
        if self.is_told {
            log::debug!("{} at {}: {why}", self.whom, self.addr());
        } else {
            log::warn!("no connection to {} at {}: {why}; trying again", self.whom, self.addr());
            self.is_told = true;
        }
        let was_up = self.conn().is_some();
        self.next = (self.next + 1) % self.addrs.len().max(1);
        self.state = State::Waiting { until: now.after_ms(jittered(self.backoff_ms)) };
        self.backoff_ms = (self.backoff_ms * 2).min(REDIAL_MS.1);
        was_up
    }

    /// The connection, while it is open for requests.
    pub(super) fn conn(&self) -> Option<ConnId> {
        match self.state {
            State::Up(conn) => Some(conn),
            State::Waiting { .. } | State::Dialing(_) => None,
        }
    }

    /// The connection, even while it is only being dialed.
    pub(super) fn any_conn(&self) -> Option<ConnId> {
        match self.state {
            State::Up(conn) | State::Dialing(conn) => Some(conn),
            State::Waiting { .. } => None,
        }
    }

    /// The address being dialed, or dialed next.
    pub(super) fn addr(&self) -> &str {
        self.addrs.get(self.next).map_or("", String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{ClusterId, Incarnation, NodeId};
    use crate::wire::hello::Role;

    fn hello() -> Hello {
        Hello::new(Role::Member(NodeId(0)), ClusterId(0), Incarnation(0))
    }

    #[test]
    fn addresses_are_tried_in_turn_with_growing_pauses_until_one_answers() {
        let mut net = Net::new().unwrap();
        let mut dialer = Dialer::new("it".to_owned(), vec!["a".to_owned(), "b".to_owned()], Instant(0));
        let (mut now, mut pauses) = (Instant(0), Vec::new());
        for round in 0..12 {
            assert_eq!(dialer.addr(), ["a", "b"][round % 2]);
            assert!(dialer.dial_if_due(&mut net, now, hello()).is_some());
            assert_eq!(dialer.due(), None);
            assert!(!dialer.went_down(now, &"refused"));
            let due = dialer.due().unwrap();
            assert!(dialer.dial_if_due(&mut net, now, hello()).is_none(), "too early");
            pauses.push(due.micros_since(now) / 1000);
            now = due;
        }
        assert!(pauses[0] <= REDIAL_MS.0 && pauses[11] >= REDIAL_MS.1 / 2 && pauses[11] <= REDIAL_MS.1);
        let conn = dialer.dial_if_due(&mut net, now, hello()).unwrap();
        dialer.came_up(conn);
        assert_eq!(dialer.conn(), Some(conn));
        assert!(dialer.went_down(now, &"broken"));
        assert!(dialer.due().unwrap().micros_since(now) / 1000 <= REDIAL_MS.0);
    }
}
