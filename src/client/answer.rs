//! What a server's reply means for the row that waits for it.

use super::error::{CHECK_ADDRESS, Error, ErrorKind};
use super::io::{Answer, Outcome, Output, ServerId};
use super::row::{Applied, Job, Phase, Row, RowId, Trouble};
use super::{Client, write_job};
use crate::limits::{CLIENT_RETRIES_MAX, CLIENT_RETRY_WORTH_MS};
use crate::types::{Epoch, Now, RequestId};
use crate::version::{Content, Context};
use crate::wire::client::{ClientReply, ContactInfo, DataReply, DataResult, Provenance, Reason, Terms};
use crate::wire::decode_table;

impl Client {
    /// A late answer, or one to a probe, finds no row; that the server answers is still news.
    pub(super) fn reply(
        &mut self,
        now: Now,
        server: ServerId,
        request: RequestId,
        message: ClientReply,
        out: &mut Vec<Output>,
    ) {
        if let Some(peer) = self.servers.peer_mut(server) {
            peer.heard(now);
        }
        let Some(id) = self.sent.remove(&request) else { return };
        let Some(mut row) = self.take(id) else { return };
        let was_left = row.left.take_if(|left| left.request == request).is_some();
        if let (Phase::Sent { at, .. }, false, Some(peer)) =
            (row.phase, was_left, self.servers.peer_mut(server))
        {
            peer.measure(now, at);
        }
        if was_left && let ClientReply::Data(DataReply { by, result: DataResult::Refused(reason) }) = message
        {
            return self.left_refused(now, id, row, reason, by, out);
        }
        match (&row.job, message) {
            (Job::Ask { .. }, ClientReply::Error(text)) => {
                self.finish(now, &row, Err(Error::new(ErrorKind::Refused, text)), out);
            }
            (Job::Ask { .. }, message) => {
                if let ClientReply::Contact(info) = &message {
                    // Whoever asked: it is news for all.
                    self.meet(now, info);
                }
                self.finish(now, &row, Ok(Answer::Told(message)), out);
            }
            (_, ClientReply::Data(reply)) => self.data_reply(now, id, row, server, reply, out),
            (
                _,
                ClientReply::Contact(_)
                | ClientReply::Table(_)
                | ClientReply::TableIsCurrent(_)
                | ClientReply::Status(_)
                | ClientReply::Dump { .. }
                | ClientReply::Hints(_)
                | ClientReply::Repair(_)
                | ClientReply::Plan(_)
                | ClientReply::Transfers(_)
                | ClientReply::FaultsSet
                | ClientReply::KeyspaceCreated(_)
                | ClientReply::Error(_),
            ) => {
                let error = Error::deadline(row.intent(), Some("the server's answer fits no read or write"));
                self.finish(now, &row, Err(error), out);
            }
        }
    }

    fn data_reply(
        &mut self,
        now: Now,
        id: RowId,
        row: Row,
        server: ServerId,
        reply: DataReply,
        out: &mut Vec<Output>,
    ) {
        let by = reply.by;
        let answer = match reply.result {
            DataResult::Refused(reason) => return self.refused(now, id, row, server, reason, by, out),
            DataResult::Stored { context } => Answer::Stored { context, by },
            DataResult::Found { values, context } => {
                if let Job::ReadToDelete { terms, w } = &row.job {
                    let (terms, w) = (terms.clone(), *w);
                    self.observe(now, &context);
                    return self.delete_what_was_read(now, id, row, terms, w, context, out);
                }
                Answer::Found { values, context, by }
            }
            DataResult::Missing { context } => Answer::Missing { context, by },
        };
        match &answer {
            Answer::Stored { context, .. }
            | Answer::Found { context, .. }
            | Answer::Missing { context, .. } => {
                self.observe(now, context);
            }
            Answer::Told(_) => {}
        }
        self.finish(now, &row, Ok(answer), out);
    }

    fn observe(&mut self, now: Now, context: &Context) {
        self.clock.observe(context.stamp, now.wall);
    }

    /// The second half of a delete: there is something, so a tombstone replaces it.
    #[allow(clippy::too_many_arguments, reason = "the two halves of one step")]
    fn delete_what_was_read(
        &mut self,
        now: Now,
        id: RowId,
        mut row: Row,
        terms: Terms,
        w: u8,
        context: Context,
        out: &mut Vec<Output>,
    ) {
        self.forget_requests(&row);
        row.left = None;
        row.job = write_job(Terms { quorum: w, ..terms }, Content::Tombstone, Some(context), None);
        row.phase = Phase::Placing;
        row.trouble = Trouble::None;
        self.place(now, id, row, out);
    }

    /// Not done. Perhaps another node, or a little later.
    #[allow(clippy::too_many_arguments, reason = "a reply and the row it is for")]
    fn refused(
        &mut self,
        now: Now,
        id: RowId,
        mut row: Row,
        server: ServerId,
        reason: Reason,
        by: Provenance,
        out: &mut Vec<Output>,
    ) {
        row.attempt_failed(reason);
        let error = Error::refused(row.intent(), reason, &by);
        // Of room, a node that says so has asked every owner: to ask again would be hope.
        if !reason.may_pass() || matches!(reason, Reason::DiskFull { .. }) {
            return self.finish(now, &row, Err(error), out);
        }
        row.trouble = Trouble::Refused(reason, by);
        row.avoid = Some(server);
        match reason {
            Reason::NotOwner(epoch) => return self.not_owner(now, id, row, epoch, out),
            Reason::Stopping if row.retries < CLIENT_RETRIES_MAX => {
                // As good as a lost connection, but for knowing that nothing was done.
                if let Some(peer) = self.servers.peer_mut(server) {
                    peer.suspect(now, "it is stopping");
                }
                if self.route.move_on(server) {
                    self.ask_contacts(now, out);
                }
                row.retries += 1;
                row.phase = Phase::Placing;
                return self.place(now, id, row, out);
            }
            Reason::Stopping
            | Reason::NotServing { .. }
            | Reason::NoQuorum
            | Reason::Overloaded
            | Reason::Unreadable { .. } => {}
            // None of these comes so far.
            Reason::Unconfirmed
            | Reason::DiskFull { .. }
            | Reason::Expired
            | Reason::EmptyKey
            | Reason::KeyTooLong { .. }
            | Reason::ValueTooLarge { .. }
            | Reason::TooManySiblings { .. }
            | Reason::UnknownKeyspace
            | Reason::BadQuorum { .. }
            | Reason::NotOnDataPath => {}
        }
        let again = now.mono.after_ms(self.jitter.delay_ms(row.retries));
        // A retry that cannot be answered in time would make a clear outcome an unknown one.
        let in_time = row.deadline.ms_left(again) >= CLIENT_RETRY_WORTH_MS;
        if row.retries >= CLIENT_RETRIES_MAX || !in_time || !self.budget.spend() {
            return self.finish(now, &row, Err(error), out);
        }
        row.retries += 1;
        row.phase = Phase::Resting;
        row.wake = again;
        self.park(id, row);
    }

    /// An attempt that was left for another server comes back refused. If the one that is out now
    /// may still do better it is waited for, and this is what is told if it does not.
    fn left_refused(
        &mut self,
        now: Now,
        id: RowId,
        mut row: Row,
        reason: Reason,
        by: Provenance,
        out: &mut Vec<Output>,
    ) {
        let in_time = row.deadline.ms_left(now.mono) >= CLIENT_RETRY_WORTH_MS;
        if reason.may_pass() && in_time {
            row.trouble = Trouble::Refused(reason, by);
            return self.park(id, row);
        }
        let error = Error::refused(row.intent(), reason, &by);
        self.finish(now, &row, Err(error), out);
    }

    /// Our table is older than the node's, or the other way about. The number of times is
    /// bounded: after a few the row goes by way of a forwarder.
    fn not_owner(&mut self, now: Now, id: RowId, mut row: Row, epoch: Epoch, out: &mut Vec<Output>) {
        row.not_owner = row.not_owner.saturating_add(1);
        row.phase = Phase::Placing;
        let ours = self.route.table().map_or(Epoch(0), |table| table.epoch);
        if epoch <= ours {
            return self.place(now, id, row, out);
        }
        // With the new table nobody needs to be avoided.
        row.avoid = None;
        row.wake = row.deadline;
        self.park(id, row);
        self.ask_table(now, out);
    }

    /// Takes note of whom to talk to.
    fn meet(&mut self, now: Now, info: &ContactInfo) {
        self.clock.observe(info.stamp, now.wall);
        self.number = info.client_number;
        let contacts = info.nodes.iter().map(|(_, addr)| self.servers.id_of(addr)).collect();
        self.route.set_contacts(contacts);
        self.forget_unnamed();
    }

    /// What came of asking for contacts.
    pub(super) fn contacts_told(&mut self, now: Now, outcome: Outcome, out: &mut Vec<Output>) {
        self.route.asking_contacts = false;
        match outcome {
            Ok(Answer::Told(ClientReply::Contact(info))) if !info.nodes.is_empty() => {
                self.place_waiting(now, out);
            }
            Ok(Answer::Told(_) | Answer::Stored { .. } | Answer::Found { .. } | Answer::Missing { .. }) => {
                self.wait_and_see(now, "the cluster has no storage nodes yet", out);
            }
            Err(error) => {
                let why = error.text.strip_suffix(CHECK_ADDRESS).unwrap_or(&error.text);
                self.wait_and_see(now, why, out);
            }
        }
    }

    /// What came of asking for a table.
    pub(super) fn table_told(&mut self, now: Now, outcome: Outcome, out: &mut Vec<Output>) {
        self.route.asking_table = false;
        let table = match outcome {
            Ok(Answer::Told(ClientReply::Table(bytes))) => decode_table(bytes).ok(),
            Ok(_) | Err(_) => None,
        };
        match table {
            Some(table) => {
                self.route.set_table(table, &mut self.servers);
                self.forget_unnamed();
            }
            None => self.route.go_without_table(now),
        }
        self.place_waiting(now, out);
    }

    fn forget_unnamed(&mut self) {
        let (seeds, route) = (&self.seeds, &self.route);
        self.servers.keep_only(|id| seeds.contains(&id) || route.known().any(|known| known == id));
    }
}

impl Row {
    /// A refusal of the attempt that is out. If its outcome is `Failed` the attempt was not
    /// applied; an earlier one may still have been: then `attempt` is above 0.
    fn attempt_failed(&mut self, reason: Reason) {
        let nothing_done = match reason.outcome() {
            crate::wire::client::Outcome::Failed | crate::wire::client::Outcome::Conflict => true,
            crate::wire::client::Outcome::Unknown => false,
        };
        if let Job::Write { write, applied, .. } = &mut self.job
            && write.attempt == 0
            && nothing_done
        {
            *applied = Applied::No;
        }
    }
}
