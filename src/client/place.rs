//! Where a row goes next: to a server, to one that is being dialed, or nowhere for a while.

use super::Client;
use super::error::{CHECK_ADDRESS, Error, ErrorKind};
use super::io::{Output, ServerId, Target};
use super::route::Pick;
use super::row::{Applied, Job, Owner, Patience, Phase, Row, RowId};
use super::servers::{Dial, Link};
use crate::limits::{CLIENT_ASK_AGAIN_MS, CLIENT_GRACE_MS, CLIENT_HEDGE_MS, CLIENT_HOP_MS, REQUEST_TTL_MS};
use crate::types::{Epoch, Instant, Now, OpId, RequestId};
use crate::wire::client::{ClientRequest, DataRequest};
use crate::wire::hello::Server;
use crate::wire::peer::Worth;

impl Client {
    /// Finds a server for a row that has none.
    pub(super) fn place(&mut self, now: Now, id: RowId, mut row: Row, out: &mut Vec<Output>) {
        if now.mono >= row.deadline {
            let error = self.deadline_error(now, &row);
            return self.finish(now, &row, Err(error), out);
        }
        let Some(terms) = row.terms() else { return self.place_ask(now, id, row, out) };
        let by_table = row.not_owner <= NOT_OWNER_MAX;
        match self.route.pick(terms, row.avoid, by_table, &self.servers, &mut self.jitter, now) {
            Pick::Server { server, direct } => self.go(now, id, row, server, direct, out),
            Pick::AskContacts { or_at } => self.wait_for_contacts(now, id, row, or_at, out),
            Pick::AskTable => {
                row.wake = row.deadline;
                self.park(id, row);
                self.ask_table(now, out);
            }
        }
    }

    /// Nobody is known, or all have just failed. If they all refuse, they are dialed once more after
    /// a moment; if that is no better, it is over.
    fn wait_for_contacts(
        &mut self,
        now: Now,
        id: RowId,
        mut row: Row,
        or_at: Option<Instant>,
        out: &mut Vec<Output>,
    ) {
        let refused = row.left.is_none() && self.servers.all_refuse(self.route.contacts());
        // Whoever names the same ones again at once is not asked again at once.
        let ask_at = self.route.asked.map_or(now.mono, |at| at.after_ms(CLIENT_ASK_AGAIN_MS));
        row.wake = match (refused, row.last_round) {
            (true, Some(at)) if at <= now.mono => return self.give_up(now, &row, out),
            (true, Some(at)) => at,
            (true, None) => *row.last_round.insert(self.round_at(now)),
            (false, _) => {
                let again = or_at.unwrap_or(row.deadline).max(now.mono.after_ms(1));
                if ask_at > now.mono { again.min(ask_at) } else { again }
            }
        };
        row.wake = row.wake.min(row.deadline);
        self.park(id, row);
        if ask_at <= now.mono {
            self.ask_contacts(now, out);
        }
    }

    fn ask_again_at(&mut self, now: Now) -> Instant {
        now.mono.after_ms(CLIENT_ASK_AGAIN_MS + self.jitter.below(CLIENT_ASK_AGAIN_MS / 2))
    }

    /// When those that refuse are all dialed once more: one time for all rows that wait for it.
    fn round_at(&mut self, now: Now) -> Instant {
        let under_way = self.route.round.filter(|&at| at > now.mono);
        let at = under_way.unwrap_or_else(|| self.ask_again_at(now));
        self.route.round = Some(at);
        at
    }

    /// Every address that is known refuses, and did so twice.
    fn give_up(&mut self, now: Now, row: &Row, out: &mut Vec<Output>) {
        let why = match self.route.contacts() {
            [] => self.seeds_refused(),
            contacts => {
                format!("no storage node could be reached ({})", self.troubles(contacts))
            }
        };
        let error = Error::nobody_there(row.intent(), &why);
        self.finish(now, row, Err(error), out);
    }

    fn seeds_refused(&self) -> String {
        format!("no manager or storage node could be reached ({})", self.troubles(&self.seeds))
    }

    /// What went wrong with each of these, in words.
    fn troubles(&self, servers: &[ServerId]) -> String {
        let mut troubles: Vec<String> = Vec::new();
        for peer in servers.iter().filter_map(|&id| self.servers.peer(id)) {
            let trouble = peer.trouble();
            if !troubles.contains(&trouble) {
                troubles.push(trouble);
            }
        }
        troubles.join("; ")
    }

    /// Finds a server for a row that waits for the welcome of one: another one if that is slow and
    /// there is one, else the same.
    pub(super) fn place_beside(&mut self, now: Now, id: RowId, mut row: Row, out: &mut Vec<Output>) {
        match row.phase {
            Phase::Waiting { server, .. } if self.servers.is_slow(server, now) => {
                row.phase = Phase::Placing;
                self.place(now, id, row, out);
            }
            Phase::Waiting { .. } | Phase::Placing | Phase::Resting | Phase::Sent { .. } => {
                self.park(id, row);
            }
        }
    }

    /// Finds a server for a question that is not about a key: the first candidate that has not
    /// failed it. There being none is an answer.
    fn place_ask(&mut self, now: Now, id: RowId, row: Row, out: &mut Vec<Output>) {
        let Job::Ask { to, tried, .. } = &row.job else { return self.park(id, row) };
        let candidates: Vec<ServerId> = match to {
            Target::Any => self.seeds.iter().copied().chain(self.route.known()).collect(),
            Target::Manager => {
                let is_node = |id: &ServerId| {
                    let kind = self.servers.peer(*id).and_then(|peer| peer.kind);
                    matches!(kind, Some(Server::Node(_)))
                };
                self.seeds.iter().copied().filter(|id| !is_node(id)).collect()
            }
            Target::Addr(addr) => vec![self.servers.id_of(addr)],
        };
        let left = candidates.iter().copied().filter(|id| !tried.contains(id));
        // One that has just failed others, or is slow to welcome us, is asked last.
        match left.min_by_key(|&id| (self.servers.is_slow(id, now), !self.servers.is_usable(id, now))) {
            Some(server) => self.go(now, id, row, server, false, out),
            None => {
                let error = self.nobody(to, &candidates);
                self.finish(now, &row, Err(error), out);
            }
        }
    }

    /// Every candidate has failed.
    fn nobody(&self, to: &Target, candidates: &[ServerId]) -> Error {
        if candidates.is_empty() {
            let seeds = self.options.seeds.join(", ");
            let text = format!(
                "no manager among the addresses given ({seeds}); this needs one: name it with \
                 --manager or GTSTORE_MANAGER"
            );
            return Error::new(ErrorKind::Failed, text);
        }
        let hangs = candidates
            .iter()
            .filter_map(|&id| self.servers.peer(id))
            .find(|peer| peer.dial == Dial::Hangs && peer.link == Link::Down);
        let who = match to {
            Target::Any => "no manager or storage node could be reached",
            Target::Manager => "the manager could not be reached",
            Target::Addr(_) => "the server could not be reached",
        };
        let advice = match (hangs, to) {
            (Some(peer), Target::Any) => format!("; {}", peer.hang_advice()),
            // Nobody can answer in its place.
            (Some(_), Target::Manager | Target::Addr(_)) => "; it hangs: restart it".to_owned(),
            (None, _) => CHECK_ADDRESS.to_owned(),
        };
        let text = format!("{who} ({}){advice}", self.troubles(candidates));
        Error::new(ErrorKind::Failed, text)
    }

    /// Takes a row to a server: sends if it is connected, else waits for its welcome.
    fn go(
        &mut self,
        now: Now,
        id: RowId,
        mut row: Row,
        server: ServerId,
        direct: bool,
        out: &mut Vec<Output>,
    ) {
        let Some(peer) = self.servers.peer_mut(server) else { return self.park(id, row) };
        let since = match peer.link {
            Link::Up => return self.send(now, id, row, server, direct, out),
            Link::Dialing { since, .. } => since,
            Link::Down => {
                peer.link = Link::Dialing { since: now.mono, connected: false };
                out.push(Output::Dial { server, addr: peer.addr.clone() });
                now.mono
            }
        };
        row.phase = Phase::Waiting { server, direct };
        let beside = since.after_ms(CLIENT_HEDGE_MS);
        let until = if beside > now.mono { beside } else { since.after_ms(CLIENT_HOP_MS) };
        row.wake = until.min(row.deadline);
        self.park(id, row);
    }

    /// Sends a row's request to a server that has welcomed us.
    pub(super) fn send(
        &mut self,
        now: Now,
        id: RowId,
        mut row: Row,
        server: ServerId,
        direct: bool,
        out: &mut Vec<Output>,
    ) {
        if let Some(left) = row.left.take_if(|left| left.server == server) {
            // It has the request in hand already.
            row.phase =
                Phase::Sent { server, request: left.request, at: now.mono, patience: Patience::Fresh };
            row.wake = now.mono.after_ms(CLIENT_HOP_MS / 2).min(row.deadline);
            return self.park(id, row);
        }
        self.name_write(now, &mut row);
        row.last_round = None;
        let left_ms = row.deadline.ms_left(now.mono);
        // A little less than we wait ourselves, or a server's last word would come too late.
        let ttl_ms = left_ms - (left_ms / 10).min(CLIENT_GRACE_MS);
        let worth = Worth { ttl_ms, sent_us: now.mono.0 };
        let message = match &mut row.job {
            Job::Read { terms } | Job::ReadToDelete { terms, .. } => {
                terms.direct = direct;
                ClientRequest::Data { worth, request: DataRequest::Get { terms: terms.clone() } }
            }
            Job::Write { terms, write, .. } => {
                terms.direct = direct;
                let request = DataRequest::Put { terms: terms.clone(), write: write.clone() };
                ClientRequest::Data { worth, request }
            }
            Job::Ask { request, .. } => request.clone(),
        };
        self.last_request += 1;
        let request = RequestId(self.last_request);
        self.sent.insert(request, id);
        row.phase = Phase::Sent { server, request, at: now.mono, patience: Patience::Fresh };
        row.wake = now.mono.after_ms(CLIENT_HOP_MS / 2).min(row.deadline);
        self.park(id, row);
        out.push(Output::Send { server, request, message });
    }

    /// A write that goes out for the first time gets its name and stamp, for good.
    fn name_write(&mut self, now: Now, row: &mut Row) {
        let floor = row.context().map(|context| context.stamp).unwrap_or_default();
        let Job::Write { write, applied, .. } = &mut row.job else { return };
        if *applied == Applied::Unsent {
            self.last_op += 1;
            write.op = OpId { client: self.options.id, seq: self.last_op };
            write.stamp = self.clock.stamp(now.wall, floor);
        }
        *applied = Applied::Maybe;
    }

    /// Asks a server whether it is there. Whatever it answers finds no row, but is an answer.
    pub(super) fn probe(&mut self, now: Now, server: ServerId, out: &mut Vec<Output>) {
        let Some(peer) = self.servers.peer_mut(server) else { return };
        if now.mono >= peer.probed.after_ms(CLIENT_HOP_MS / 4) {
            peer.probed = now.mono;
            self.last_request += 1;
            let request = RequestId(self.last_request);
            out.push(Output::Send { server, request, message: ClientRequest::Contact });
        }
    }

    /// Asks whom to talk to, unless that is being asked already.
    pub(super) fn ask_contacts(&mut self, now: Now, out: &mut Vec<Output>) {
        if !self.route.asking_contacts {
            self.route.asking_contacts = true;
            self.route.asked = Some(now.mono);
            let job = Job::Ask { to: Target::Any, request: ClientRequest::Contact, tried: Vec::new() };
            self.begin(now, Owner::Contacts, job, REQUEST_TTL_MS, 0, out);
        }
    }

    /// Asks for a newer table, unless that is being asked already.
    pub(super) fn ask_table(&mut self, now: Now, out: &mut Vec<Output>) {
        if !self.route.asking_table {
            self.route.asking_table = true;
            let known = self.route.table().map_or(Epoch(0), |table| table.epoch);
            let job =
                Job::Ask { to: Target::Any, request: ClientRequest::Table { known }, tried: Vec::new() };
            self.begin(now, Owner::Table, job, REQUEST_TTL_MS, 0, out);
        }
    }

    /// Places every row that waits without a server.
    pub(super) fn place_waiting(&mut self, now: Now, out: &mut Vec<Output>) {
        for id in self.rows_where(|row| row.phase == Phase::Placing) {
            if let Some(row) = self.take(id) {
                self.place(now, id, row, out);
            }
        }
    }

    /// Nothing came of asking for contacts or a table: those that wait for it try again a little
    /// later, and remember why.
    pub(super) fn wait_and_see(&mut self, now: Now, why: &str, out: &mut Vec<Output>) {
        let again = self.ask_again_at(now);
        // With contacts known, it is they who decide when it is over.
        let refused = self.route.contacts().is_empty() && self.servers.all_refuse(&self.seeds);
        for id in self.rows_where(|row| row.phase == Phase::Placing) {
            let Some(mut row) = self.take(id) else { continue };
            row.note_lost(why.to_owned());
            let at = match row.last_round {
                Some(at) if refused && at <= now.mono => {
                    self.give_up(now, &row, out);
                    continue;
                }
                Some(at) if at > now.mono => at,
                Some(_) | None => again,
            };
            row.wake = at.min(row.deadline);
            row.last_round = refused.then_some(at);
            self.park(id, row);
        }
    }
}

/// Times a node may say that it is no owner before a row goes by way of a forwarder.
const NOT_OWNER_MAX: u8 = 3;
