//! A client's request, whether it came from the client or was forwarded by a peer: what is wrong
//! with it, and who is to coordinate it.

use super::forward::Forward;
use super::io::{Lane, Output};
use super::load::{Then, Waiting};
use super::{Node, ReplyTo};
use crate::engine::{Loaded, Wanted};
use crate::limits::PENDING_BYTES_MAX;
use crate::ring::{KeyspaceSettings, Profile, Sector, Slot, Table};
use crate::types::{Instant, KeyspaceId, NodeId, Now, SectorId};
use crate::version::Content;
use crate::wire::client::{DataReply, DataRequest, Provenance, Reason};
use std::sync::Arc;

/// A request that passed every check.
#[derive(Clone, Debug)]
pub(super) struct Checked {
    pub(super) table: Arc<Table>,
    pub(super) keyspace: KeyspaceId,
    pub(super) settings: KeyspaceSettings,
    pub(super) sector: SectorId,
    /// R or W: the request's own, or the keyspace's.
    pub(super) quorum: u8,
    /// Owners alone count toward it.
    pub(super) strict: bool,
    pub(super) deadline: Instant,
}

impl Checked {
    pub(super) fn owners(&self) -> &Sector {
        self.table.sector(self.sector)
    }

    pub(super) fn n(&self) -> usize {
        usize::from(self.settings.n)
    }

    /// Nobody yet, of how many.
    pub(super) fn provenance(&self, coordinator: NodeId) -> Provenance {
        let slots = self.table.slots(self.sector, self.settings.n).len();
        Provenance {
            coordinator,
            answered: 0,
            fallbacks: 0,
            needed: self.quorum,
            slots: u8::try_from(slots).unwrap_or(u8::MAX),
            trace: Vec::new(),
        }
    }
}

/// What became of a request that nothing speaks against.
#[derive(Debug)]
pub(super) enum Begun {
    /// It is under way, or answered.
    Done,
    /// Values must be read from the disk first; nothing was done yet.
    Waits(Vec<Wanted>),
}

impl Node {
    /// Begins work on a data request, or refuses it. `deadline` is none if it came too late.
    pub(super) fn begin(
        &mut self,
        now: Now,
        to: ReplyTo,
        request: DataRequest,
        deadline: Option<Instant>,
        out: &mut Vec<Output>,
    ) {
        match deadline {
            Some(deadline) => self.begin_with(now, to, request, deadline, &Loaded::new(), out),
            None => self.reply(to, DataReply::refused(Reason::Expired), out),
        }
    }

    /// Begins it with what has been read from the disk for it.
    pub(super) fn begin_with(
        &mut self,
        now: Now,
        to: ReplyTo,
        request: DataRequest,
        deadline: Instant,
        loaded: &Loaded,
        out: &mut Vec<Output>,
    ) {
        let checked = match self.check(&request, deadline) {
            Ok(checked) => checked,
            Err(reason) => return self.reply(to, DataReply::refused(reason), out),
        };
        let me = self.me();
        let holds = checked.owners().holders(checked.n()).any(|node| node == me);
        match (to, holds) {
            (ReplyTo::Forwarder { .. }, true) => {
                match self.coordinate(now, to, &request, &checked, loaded, out) {
                    Ok(begun) => self.begin_later(to, request, &checked, loaded, begun),
                    Err(reason) => self.refuse(to, reason, &checked, out),
                }
            }
            (ReplyTo::Client { .. }, true) => match self.coordinate(now, to, &request, &checked, loaded, out)
            {
                Ok(begun) => self.begin_later(to, request, &checked, loaded, begun),
                // Another owner may reach the quorum that this one cannot, or have room.
                Err(reason @ (Reason::NoQuorum | Reason::DiskFull { .. } | Reason::Unreadable { .. })) => {
                    self.forward(now, to, request, &checked, Some(reason), out);
                }
                Err(reason) => self.refuse(to, reason, &checked, out),
            },
            (ReplyTo::Client { .. }, false) if !request.terms().direct => {
                self.forward(now, to, request, &checked, None, out);
            }
            (ReplyTo::Forwarder { .. } | ReplyTo::Client { .. }, false) => {
                self.refuse(to, Reason::NotOwner(checked.table.epoch), &checked, out);
            }
        }
    }

    fn refuse(&self, to: ReplyTo, reason: Reason, checked: &Checked, out: &mut Vec<Output>) {
        use crate::wire::client::DataResult;
        let unread = if let Reason::Unreadable { copies } = reason { copies } else { 0 };
        let answered = self.reachable(checked).saturating_sub(unread);
        let by = Provenance { answered, ..checked.provenance(self.me()) };
        self.reply(to, DataReply { by, result: DataResult::Refused(reason) }, out);
    }

    /// Slots of a key all of whose nodes this node can reach, itself included.
    pub(super) fn reachable(&self, checked: &Checked) -> u8 {
        let slots = checked.table.slots(checked.sector, checked.settings.n);
        let reached = slots.iter().filter(|slot| slot.nodes().all(|node| self.reaches(node)));
        u8::try_from(reached.count()).unwrap_or(u8::MAX)
    }

    /// Whether so many slots can answer as are needed, fallbacks counted where they may be.
    pub(super) fn can_reach_quorum(&self, checked: &Checked) -> bool {
        let reached = usize::from(self.reachable(checked));
        let needed = usize::from(checked.quorum);
        if reached >= needed || checked.strict {
            return reached >= needed;
        }
        let slots = checked.table.slots(checked.sector, checked.settings.n);
        let away = slots.iter().flat_map(Slot::nodes).filter(|&node| !self.reaches(node)).count();
        let standing = self.fallbacks(&checked.table, checked.sector).take(away).count();
        // Of a moving slot both nodes may be away.
        reached + standing.min(slots.len() - reached) >= needed
    }

    /// Further nodes that can stand in for owners that are away, in the sector's order.
    pub(super) fn fallbacks<'a>(
        &'a self,
        table: &'a Table,
        sector: SectorId,
    ) -> impl Iterator<Item = NodeId> + 'a {
        table.fallbacks(sector).into_iter().filter(|&node| node != self.me() && self.reaches(node))
    }

    /// Whether a request can be sent to a node, or is for this one.
    pub(super) fn reaches(&self, node: NodeId) -> bool {
        node == self.me() || self.peers.is_up(node, Lane::Foreground)
    }

    /// Coordinates a request here, or says why nothing was begun.
    pub(super) fn coordinate(
        &mut self,
        now: Now,
        to: ReplyTo,
        request: &DataRequest,
        checked: &Checked,
        loaded: &Loaded,
        out: &mut Vec<Output>,
    ) -> Result<Begun, Reason> {
        if self.withholds((checked.keyspace, checked.sector)) {
            // Our own copy is not whole: another owner is to run it.
            return Err(Reason::Unreadable { copies: 1 });
        }
        match request {
            DataRequest::Get { terms } => self.begin_get(now, to, terms, checked, out),
            DataRequest::Put { terms, write } => self.begin_put(now, to, terms, write, checked, loaded, out),
        }
    }

    /// A request that waits for the disk is begun again when the values are there.
    fn begin_later(
        &mut self,
        to: ReplyTo,
        mut request: DataRequest,
        checked: &Checked,
        loaded: &Loaded,
        begun: Begun,
    ) {
        match begun {
            Begun::Done => {}
            Begun::Waits(wanted) => {
                // Kept past this turn: it must not pin the receive buffer.
                request.detach();
                let then = Then::Begin { to, request };
                self.wait_for(Waiting::new(then, loaded.clone(), checked.deadline), wanted);
            }
        }
    }

    /// What is wrong with a request now, if anything.
    pub(super) fn check(&self, request: &DataRequest, deadline: Instant) -> Result<Checked, Reason> {
        if self.stopping {
            return Err(Reason::Stopping);
        }
        let Some(view) = &self.view else { return Err(Reason::NotServing { members: 0, needed: 1 }) };
        let table = Arc::clone(&view.table);
        if !table.is_serving() {
            let members = u16::try_from(table.present().count()).unwrap_or(u16::MAX);
            return Err(Reason::NotServing { members, needed: table.members_min });
        }
        check_sizes(request, table.profile)?;
        let terms = request.terms();
        let (keyspace, entry) = table.keyspace(&terms.keyspace).ok_or(Reason::UnknownKeyspace)?;
        let settings = entry.settings;
        let usual = match request {
            DataRequest::Get { .. } => settings.r,
            DataRequest::Put { .. } => settings.w,
        };
        let quorum = if terms.quorum == 0 { usual } else { terms.quorum };
        if quorum > settings.n {
            return Err(Reason::BadQuorum { n: settings.n });
        }
        if self.pending.is_full() || self.forwarded_bytes > PENDING_BYTES_MAX {
            return Err(Reason::Overloaded);
        }
        let sector = table.sector_of(&terms.key);
        let strict = terms.strict;
        Ok(Checked { table, keyspace, settings, sector, quorum, strict, deadline })
    }

    /// Hands a request on to an owner; `refused` is why this one, if it is one, does not do it.
    fn forward(
        &mut self,
        now: Now,
        to: ReplyTo,
        mut request: DataRequest,
        checked: &Checked,
        refused: Option<Reason>,
        out: &mut Vec<Output>,
    ) {
        // Kept past this turn, for a second try: it must not pin the receive buffer.
        request.detach();
        self.forwarded_bytes += request.payload_bytes();
        let id = self.pending.reserve();
        let by = Provenance { answered: self.reachable(checked), ..checked.provenance(NodeId(0)) };
        let tried = refused.map(|_| self.me()).into_iter().collect();
        let mut row = Forward::new(now, to, request, checked, by, tried);
        refused.into_iter().for_each(|reason| row.note_refusal(reason));
        self.forward_next(now, id, row, out);
    }
}

fn check_sizes(request: &DataRequest, profile: Profile) -> Result<(), Reason> {
    let key_bytes = request.terms().key.len();
    if key_bytes == 0 {
        return Err(Reason::EmptyKey);
    }
    if key_bytes > profile.key_bytes_max() {
        return Err(Reason::KeyTooLong { max: u32_of(profile.key_bytes_max()) });
    }
    let value_bytes = match request {
        DataRequest::Get { .. } => 0,
        DataRequest::Put { write, .. } => match &write.content {
            Content::Value(value) => value.len(),
            Content::Tombstone => 0,
        },
    };
    if value_bytes > profile.value_bytes_max() {
        return Err(Reason::ValueTooLarge { max: u32_of(profile.value_bytes_max()) });
    }
    Ok(())
}

fn u32_of(size: usize) -> u32 {
    u32::try_from(size).unwrap_or(u32::MAX)
}
