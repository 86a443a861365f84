//! The addresses a client talks to, and how each of them is doing.

use super::io::ServerId;
use crate::limits::{CLIENT_HEDGE_MS, CLIENT_HOP_MS, PEER_SUSPECT_MS, REDIAL_MS};
use crate::types::{Instant, Now};
use crate::wire::hello::Server;
use std::collections::BTreeMap;

/// The one connection to a server.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Link {
    /// None.
    Down,
    /// Dialed, not yet welcomed.
    Dialing {
        /// When it was dialed.
        since: Instant,
        /// Whether its machine has taken the connection.
        connected: bool,
    },
    /// Welcomed: requests may be sent.
    Up,
}

/// How a dial ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Dial {
    /// In a welcome; or there was none yet.
    Well,
    /// It failed: there is nobody.
    Refused,
    /// The connection was taken, and never welcomed.
    Hangs,
    /// In nothing at all.
    Nothing,
}

/// One address.
#[derive(Clone, Debug)]
pub(crate) struct Peer {
    /// `HOST:PORT`.
    pub(crate) addr: String,
    /// Its connection.
    pub(crate) link: Link,
    /// What it said it is, when it was last welcomed.
    pub(crate) kind: Option<Server>,
    /// When it last answered anything.
    pub(crate) heard: Instant,
    /// When it was last asked whether it is there.
    pub(crate) probed: Instant,
    /// Why it was last given up, in words.
    pub(crate) why: String,
    /// How the last dial ended.
    pub(crate) dial: Dial,
    /// It is passed over until then.
    rests_until: Instant,
    /// Failures since it last answered.
    failures: u32,
    /// Smoothed time of its answers in microseconds; 0 until there was one.
    latency_us: u64,
}

/// All addresses, by id and by name.
#[derive(Debug, Default)]
pub(crate) struct Servers {
    peers: BTreeMap<ServerId, Peer>,
    by_addr: BTreeMap<String, ServerId>,
    last: u32,
}

impl Servers {
    /// The id of an address, given out at first sight.
    pub(crate) fn id_of(&mut self, addr: &str) -> ServerId {
        if let Some(&id) = self.by_addr.get(addr) {
            return id;
        }
        self.last += 1;
        let id = ServerId(self.last);
        let peer = Peer {
            addr: addr.to_owned(),
            link: Link::Down,
            kind: None,
            heard: Instant(0),
            probed: Instant(0),
            why: String::new(),
            dial: Dial::Well,
            rests_until: Instant(0),
            failures: 0,
            latency_us: 0,
        };
        self.peers.insert(id, peer);
        self.by_addr.insert(addr.to_owned(), id);
        id
    }

    pub(crate) fn peer(&self, id: ServerId) -> Option<&Peer> {
        self.peers.get(&id)
    }

    pub(crate) fn peer_mut(&mut self, id: ServerId) -> Option<&mut Peer> {
        self.peers.get_mut(&id)
    }

    /// Whether the server is worth choosing: it has not just failed.
    pub(crate) fn is_usable(&self, id: ServerId, now: Now) -> bool {
        self.peers.get(&id).is_some_and(|peer| peer.rests_until <= now.mono)
    }

    /// Whether the server was dialed a while ago and has not welcomed us yet: another one may be
    /// quicker.
    pub(crate) fn is_slow(&self, id: ServerId, now: Now) -> bool {
        self.peers.get(&id).is_some_and(|peer| match peer.link {
            Link::Dialing { since, .. } => since.after_ms(CLIENT_HEDGE_MS) <= now.mono,
            Link::Down | Link::Up => false,
        })
    }

    /// Whether there are servers, and the last dial of each of them was refused.
    pub(crate) fn all_refuse(&self, ids: &[ServerId]) -> bool {
        !ids.is_empty()
            && ids.iter().all(|id| {
                let refuses = |peer: &Peer| peer.link == Link::Down && peer.dial == Dial::Refused;
                self.peers.get(id).is_some_and(refuses)
            })
    }

    /// Lets those that refused be dialed again at once.
    pub(crate) fn dial_again(&mut self, now: Now) {
        for peer in self.peers.values_mut().filter(|peer| peer.dial == Dial::Refused) {
            peer.rests_until = peer.rests_until.min(now.mono);
        }
    }

    /// When the server may be chosen again.
    pub(crate) fn rests_until(&self, id: ServerId) -> Instant {
        self.peers.get(&id).map_or(Instant(u64::MAX), |peer| peer.rests_until)
    }

    /// Smoothed time of its answers in microseconds; 0 until there was one.
    pub(crate) fn latency_us(&self, id: ServerId) -> u64 {
        self.peers.get(&id).map_or(u64::MAX, |peer| peer.latency_us)
    }

    /// Forgets addresses nobody names any more, unless they are connected.
    pub(crate) fn keep_only(&mut self, named: impl Fn(ServerId) -> bool) {
        self.peers.retain(|&id, peer| peer.link != Link::Down || named(id));
        let peers = &self.peers;
        self.by_addr.retain(|_, id| peers.contains_key(id));
    }
}

impl Peer {
    /// Its connection is gone or never came to be. It rests, longer each time in a row.
    pub(crate) fn failed(&mut self, now: Now, why: String) {
        let (first, most) = REDIAL_MS;
        let rest_ms = (first << self.failures.min(16)).min(most);
        self.link = Link::Down;
        self.why = why;
        self.failures += 1;
        self.rests_until = self.rests_until.max(now.mono.after_ms(rest_ms));
    }

    /// Whether it has had as long to welcome us as anybody gets.
    pub(crate) fn is_overdue(&self, now: Now) -> bool {
        match self.link {
            Link::Dialing { since, .. } => since.after_ms(CLIENT_HOP_MS) <= now.mono,
            Link::Down | Link::Up => false,
        }
    }

    /// Whether its machine has taken our connection and it has not welcomed us.
    pub(crate) fn hangs(&self) -> bool {
        matches!(self.link, Link::Dialing { connected: true, .. })
    }

    /// What is to be said of it if it is given up now, before it has welcomed us.
    pub(crate) fn no_welcome(&self) -> String {
        match self.link {
            Link::Dialing { connected: true, .. } => {
                format!("{} accepts connections but does not answer", self.addr)
            }
            Link::Dialing { connected: false, .. } | Link::Down | Link::Up => {
                format!("no connection to {} could be made in time", self.addr)
            }
        }
    }

    /// What can be done about one that hangs.
    pub(crate) fn hang_advice(&self) -> String {
        format!("restart it, or name storage nodes too, as in --manager {},NODE:PORT", self.addr)
    }

    /// Which server, and why it was last given up.
    pub(crate) fn trouble(&self) -> String {
        if self.why.contains(&self.addr) { self.why.clone() } else { format!("{}: {}", self.addr, self.why) }
    }

    /// It is connected but slow to answer, or says that it is stopping: others are preferred.
    pub(crate) fn suspect(&mut self, now: Now, why: &str) {
        why.clone_into(&mut self.why);
        self.rests_until = self.rests_until.max(now.mono.after_ms(PEER_SUSPECT_MS));
    }

    /// It has answered something.
    pub(crate) fn heard(&mut self, now: Now) {
        self.heard = now.mono;
        self.failures = 0;
    }

    /// It has answered a request of `sent`.
    pub(crate) fn measure(&mut self, now: Now, sent: Instant) {
        let took_us = now.mono.micros_since(sent).max(1);
        self.latency_us = if self.latency_us == 0 { took_us } else { (self.latency_us * 7 + took_us) / 8 };
    }
}
