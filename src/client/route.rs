//! Where a request goes: the contact node, or an owner by the table.

use super::budget::Jitter;
use super::io::{Routing, ServerId};
use super::servers::Servers;
use crate::limits::{CLIENT_EXPLORE_ONE_IN, PEER_SUSPECT_MS};
use crate::ring::Table;
use crate::types::{Instant, NodeId, Now};
use crate::wire::client::Terms;
use std::collections::BTreeMap;

/// What the client knows of the cluster.
#[derive(Debug)]
pub(crate) struct Route {
    mode: Routing,
    /// Nodes to talk to, in the order they were named.
    contacts: Vec<ServerId>,
    /// The one kept to.
    at: usize,
    /// Whether contacts are being asked for.
    pub(crate) asking_contacts: bool,
    /// When they were last asked for.
    pub(crate) asked: Option<Instant>,
    /// When contacts that all refuse are dialed once more.
    pub(crate) round: Option<Instant>,
    table: Option<Table>,
    /// The table's nodes as servers.
    owners: BTreeMap<NodeId, ServerId>,
    /// Whether the table is being asked for.
    pub(crate) asking_table: bool,
    /// No table is to be had: until then, owners are found through the contact.
    tableless_until: Instant,
}

/// A choice.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Pick {
    /// Send it there; `direct` says that we think it an owner.
    Server {
        /// Where.
        server: ServerId,
        /// Whether it is told that we go by a table.
        direct: bool,
    },
    /// Nobody is known, or all have just failed: ask for contacts and look again then.
    AskContacts {
        /// When one of those that failed may be tried again.
        or_at: Option<Instant>,
    },
    /// Ask for the table and look again when it is there.
    AskTable,
}

impl Route {
    pub(crate) fn new(mode: Routing) -> Self {
        Self {
            mode,
            contacts: Vec::new(),
            at: 0,
            asking_contacts: false,
            asked: None,
            round: None,
            table: None,
            owners: BTreeMap::new(),
            asking_table: false,
            tableless_until: Instant(0),
        }
    }

    /// Takes a new list of contacts. An empty one is no news.
    pub(crate) fn set_contacts(&mut self, contacts: Vec<ServerId>) {
        if !contacts.is_empty() {
            self.contacts = contacts;
            self.at = 0;
        }
    }

    /// Takes a table, unless a newer one is held.
    pub(crate) fn set_table(&mut self, table: Table, servers: &mut Servers) {
        if self.table.as_ref().is_some_and(|held| held.epoch >= table.epoch) {
            return;
        }
        self.owners = table.present().map(|(node, member)| (node, servers.id_of(&member.addr))).collect();
        self.table = Some(table);
    }

    /// Nobody gave a table.
    pub(crate) fn go_without_table(&mut self, now: Now) {
        self.tableless_until = now.mono.after_ms(PEER_SUSPECT_MS);
    }

    /// The table held.
    pub(crate) fn table(&self) -> Option<&Table> {
        self.table.as_ref()
    }

    /// Whether requests are routed by the table.
    pub(crate) fn uses_table(&self) -> bool {
        self.mode != Routing::Forwarder
    }

    /// Nodes to talk to, as they were last named.
    pub(crate) fn contacts(&self) -> &[ServerId] {
        &self.contacts
    }

    /// Every node heard of, contacts first.
    pub(crate) fn known(&self) -> impl Iterator<Item = ServerId> + '_ {
        self.contacts.iter().chain(self.owners.values()).copied()
    }

    /// Chooses for a request. `avoid` has just refused or lost it; without `by_table` it goes to
    /// a contact.
    pub(crate) fn pick(
        &mut self,
        terms: &Terms,
        avoid: Option<ServerId>,
        by_table: bool,
        servers: &Servers,
        jitter: &mut Jitter,
        now: Now,
    ) -> Pick {
        if by_table && self.uses_table() {
            if self.table.is_none() && self.tableless_until <= now.mono {
                return Pick::AskTable;
            }
            if let Some(server) = self.pick_owner(terms, avoid, servers, jitter, now) {
                return Pick::Server { server, direct: true };
            }
        }
        self.pick_contact(avoid, servers, now)
    }

    /// An owner that has not just failed; none if there is none.
    fn pick_owner(
        &self,
        terms: &Terms,
        avoid: Option<ServerId>,
        servers: &Servers,
        jitter: &mut Jitter,
        now: Now,
    ) -> Option<ServerId> {
        let table = self.table.as_ref()?;
        let n = table.keyspace(&terms.keyspace).map_or(table.n, |(_, keyspace)| keyspace.settings.n);
        let sector = table.sector(table.sector_of(&terms.key));
        let owners: Vec<_> = sector
            .holders(usize::from(n))
            .filter_map(|node| self.owners.get(&node).copied())
            .filter(|&id| Some(id) != avoid && servers.is_usable(id, now) && !servers.is_slow(id, now))
            .collect();
        match self.mode {
            Routing::Forwarder | Routing::Direct => owners.first().copied(),
            Routing::Fastest => {
                // Now and then another one, or a slow hour would be held against it for ever.
                if jitter.below(CLIENT_EXPLORE_ONE_IN) == 0 {
                    let at = jitter.below(owners.len() as u64);
                    return usize::try_from(at).ok().and_then(|at| owners.get(at).copied());
                }
                owners.into_iter().min_by_key(|&id| servers.latency_us(id))
            }
        }
    }

    /// The contact kept to, or the next one that has not just failed; one that is slow to welcome us
    /// only if there is no other.
    fn pick_contact(&mut self, avoid: Option<ServerId>, servers: &Servers, now: Now) -> Pick {
        let count = self.contacts.len();
        let order = (0..count).map(|step| (self.at + step) % count);
        let usable = order.filter(|&at| servers.is_usable(self.contacts[at], now));
        // The one to be avoided is better than none, or than one that hangs.
        let rank = |&id: &ServerId| (servers.is_slow(id, now), Some(id) == avoid);
        match usable.map(|at| self.contacts[at]).min_by_key(rank) {
            Some(server) => Pick::Server { server, direct: false },
            None => {
                let or_at = self.contacts.iter().map(|&id| servers.rests_until(id)).min();
                Pick::AskContacts { or_at }
            }
        }
    }

    /// A server has failed. If it is the contact, the next one becomes it. Returns whether the
    /// list is used up, so that another should be asked for.
    pub(crate) fn move_on(&mut self, failed: ServerId) -> bool {
        if self.contacts.get(self.at) != Some(&failed) {
            return false;
        }
        self.at += 1;
        if self.at < self.contacts.len() {
            return false;
        }
        self.at = 0;
        true
    }
}
