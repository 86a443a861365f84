//! The manager: members, their ids, and the table, of which it is the only author.
//!
//! Off the data path: reads and writes go on while it is down. All of its durable state *is* the
//! table, changed by one rule:
//!
//! ```text
//! wishes (joins, keyspaces, an operator's commands, arrived sectors, a plan that is due)
//!   --table durable, and some time since the last epoch--> one new table with all of them
//!   --on disk--> told to everybody, wishes answered
//! ```
//! A table is never told before it is durable: a manager that forgot an epoch would author
//! another of the same number. At most five epochs a second, so that tables never flood the cluster.

pub mod io;
mod members;
mod membership;
mod status;
#[cfg(test)]
mod tests;

use crate::clock::HybridClock;
use crate::engine::{DiskEvent, DiskRequest, FileName, Storage, Ticket, replace};
use crate::limits::{EPOCH_GAP_MS, PLAN_SETTLE_MS, REPLICAS_DEFAULT, SECTORS_DEFAULT};
use crate::machine::Machine;
use crate::mutant::{Mutant, Planted};
use crate::ring::{Fault, Keyspace, KeyspaceSettings, MemberState, Profile, Table, plan, validate};
use crate::types::{ClusterId, ConnId, Epoch, Incarnation, Instant, KeyspaceId, NodeId, Now, RequestId};
use crate::wire::client::ClientReply;
use crate::wire::client::ClusterCommand;
use crate::wire::hello::{Identity, Server};
use crate::wire::manager::{Join, ManagerToNode};
use crate::wire::{decode_table, encode_table};
use bytes::Bytes;
use io::{Input, Output};
use members::Members;
use membership::Arrivals;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;

/// How long the making of a keyspace waits for nodes to have heard of it.
const KEYSPACE_WAIT_MS: u64 = 1000;

/// How a manager is started. What is said of the cluster makes a new one so; an existing one must
/// be so already, for none of it can change.
#[derive(Clone, Debug)]
pub struct Options {
    /// Copies per sector; [`REPLICAS_DEFAULT`] in a new cluster if unsaid.
    pub n: Option<u8>,
    /// Q; [`SECTORS_DEFAULT`] in a new cluster if unsaid.
    pub sectors: Option<u16>,
    /// Key and value limits; [`Profile::Default`] in a new cluster if unsaid.
    pub profile: Option<Profile>,
    /// Members there must be before a new cluster serves; at least N.
    pub members_min: Option<u16>,
    /// Milliseconds for which a member may be away before it is given up, and its sectors are rebuilt
    /// on the others; none: for an operator to say.
    pub evict_after_ms: Option<u64>,
    /// A random number for a new cluster.
    pub fresh_cluster: ClusterId,
    /// A planted bug, for the simulator.
    pub planted: Planted,
}

/// The manager.
#[derive(Debug)]
pub struct Manager {
    planted: Planted,
    table: Table,
    bytes: Bytes,
    /// The latest durable table, as its epoch and bytes: what is told to whoever asks.
    durable: (Epoch, Bytes),
    /// The disk request that makes the table durable, until it has.
    storing: Option<Ticket>,
    next_ticket: Ticket,
    members: Members,
    evict_after_ms: Option<u64>,
    /// The first moment of this life.
    started: Option<Instant>,
    arrivals: Arrivals,
    wishes: Wishes,
    /// When the next table may be made.
    epoch_at: Instant,
    /// When members and sectors are next planned for, if something changed.
    plan_at: Option<Instant>,
    /// A member holds a newer table: nothing is authored before it is seen.
    behind: Option<(ConnId, Epoch)>,
    created: Vec<CreatedWait>,
    clock: HybridClock,
    /// Contacts given out, and clients told apart for display.
    contacts: u32,
    stopping: bool,
}

/// What the next table is to bring.
#[derive(Debug, Default)]
struct Wishes {
    joins: Vec<(ConnId, Join)>,
    keyspaces: Vec<(ConnId, RequestId, String, KeyspaceSettings)>,
    commands: Vec<(ConnId, RequestId, ClusterCommand)>,
    /// Members that are to leave, and have nothing left.
    handed_over: BTreeSet<NodeId>,
    /// Members that want to leave, and their connections.
    leaves: BTreeMap<NodeId, ConnId>,
    /// Answers to give once the table being stored is durable.
    told_when_durable: Vec<Output>,
}

/// A keyspace made, and told to its maker once the nodes know it.
#[derive(Debug)]
struct CreatedWait {
    conn: ConnId,
    request: RequestId,
    keyspace: KeyspaceId,
    epoch: Epoch,
    until: Instant,
}

impl Options {
    fn new_cluster(&self) -> Table {
        let n = self.n.unwrap_or(REPLICAS_DEFAULT);
        let table = Table::new(self.fresh_cluster, n, self.sectors.unwrap_or(SECTORS_DEFAULT));
        let members_min = self.members_min.unwrap_or_default().max(table.members_min);
        Table { profile: self.profile.unwrap_or_default(), members_min, ..table }
    }

    /// What was said of the cluster must be so.
    fn check(&self, table: &Table) -> Result<(), String> {
        fn same<T: PartialEq + Display>(option: &str, said: Option<T>, is: T) -> Result<(), String> {
            match said.filter(|said| *said != is) {
                None => Ok(()),
                Some(said) => Err(format!(
                    "--{option} {said} was given, but the cluster in this directory was made with \
                     --{option} {is}, which cannot change; leave the option out, or make a new cluster \
                     in an empty --data-dir"
                )),
            }
        }
        same("rep", self.n.map(usize::from), usize::from(table.n))?;
        same("sectors", self.sectors.map(usize::from), table.sectors.len())?;
        let members_min = self.members_min.map(|least| least.max(u16::from(table.n)));
        same("min-nodes", members_min, table.members_min)?;
        same("profile", self.profile, table.profile)
    }
}

/// Whether a manager has such a file. A table alone may have come from a storage node: that is how a
/// lost manager is made anew.
fn is_managers(file: FileName) -> bool {
    match file {
        FileName::Table | FileName::TableDraft | FileName::TableDamaged(_) => true,
        FileName::Segment(_)
        | FileName::SegmentDraft(_)
        | FileName::SegmentIndex(_)
        | FileName::SegmentIndexDraft(_)
        | FileName::Manifest
        | FileName::ManifestDraft
        | FileName::Identity
        | FileName::IdentityDraft
        | FileName::Fence
        | FileName::FenceDraft => false,
    }
}

impl Manager {
    /// Opens a data directory, or begins a new cluster in an empty one.
    ///
    /// # Errors
    /// Why the directory cannot be served from, and what the operator can do, in words.
    pub fn open(storage: &mut impl Storage, options: Options) -> Result<Self, String> {
        let files = storage.list().map_err(|error| format!("the data directory: {error}"))?;
        if !files.into_iter().all(is_managers) {
            return Err("the data directory is a storage node's: give the manager one of its own with \
                        --data-dir; nothing here was changed"
                .to_owned());
        }
        let read = storage.read(FileName::Table).map_err(|error| format!("the table file: {error}"))?;
        let table = match read {
            Some(bytes) => {
                let table = decode_table(bytes).map_err(|error| {
                    format!("the table file: {error}; restore it from a copy: it holds all the manager knows")
                })?;
                options.check(&table)?;
                table
            }
            None => options.new_cluster(),
        };
        let bytes = encode_table(&table);
        replace(storage, FileName::Table, &bytes)
            .map_err(|error| format!("the table file cannot be written: {error}"))?;
        // Sectors that an operator moved, or kept from moving, stay as they are.
        let is_unfinished = !table.is_serving()
            || table.members.values().any(|member| match member.state {
                MemberState::Joining | MemberState::Leaving | MemberState::Lost => true,
                MemberState::Waiting | MemberState::Normal | MemberState::Left | MemberState::Removed => {
                    false
                }
            });
        Ok(Self {
            planted: options.planted,
            durable: (table.epoch, bytes.clone()),
            table,
            bytes,
            storing: None,
            next_ticket: Ticket(1),
            members: Members::default(),
            evict_after_ms: options.evict_after_ms,
            started: None,
            arrivals: Arrivals::default(),
            wishes: Wishes::default(),
            epoch_at: Instant::default(),
            plan_at: is_unfinished.then(Instant::default),
            behind: None,
            created: Vec::new(),
            clock: HybridClock::default(),
            contacts: 0,
            stopping: false,
        })
    }

    /// Who the manager is, for Hello.
    #[must_use]
    pub fn identity(&self) -> Identity {
        Identity { cluster_id: self.table.cluster_id, server: Server::Manager, incarnation: Incarnation(0) }
    }

    /// The latest table, durable or about to be.
    #[must_use]
    pub fn table(&self) -> &Table {
        &self.table
    }

    /// Makes the next table, if there is something for it to bring and it may be made now.
    fn work(&mut self, now: Now, out: &mut Vec<Output>) {
        if self.storing.is_some()
            || self.behind.is_some()
            || now.mono < self.epoch_at
            || !self.has_wishes(now)
        {
            return;
        }
        let mut next = self.table.clone();
        next.epoch = Epoch(next.epoch.0 + 1);
        let mut tell = Vec::new();
        let joined = self.grant_joins(now, &mut next, &mut tell);
        self.grant_keyspaces(now, &mut next, &mut tell);
        self.settle_arrived(&mut next);
        let done = self.carry_out(now, &mut next);
        self.grant_leaves(now, &mut next, &mut tell);
        self.evict(now, &mut next);
        self.plan_when_due(now, &mut next);
        self.retire(&mut next);
        let same = Table { epoch: self.table.epoch, ..next.clone() } == self.table;
        tell.extend(self.answers(done, if same { &self.table } else { &next }));
        if same {
            // A keyspace that was there already is in the table that there is.
            for wait in self.created.iter_mut().filter(|wait| wait.epoch == next.epoch) {
                wait.epoch = self.table.epoch;
            }
            out.append(&mut tell);
            for conn in joined {
                out.push(Output::Node { conn, message: ManagerToNode::Table(self.bytes.clone()) });
            }
            return;
        }
        if let Err(fault) = validate(&self.table, &next) {
            return self.drop_table(now, &next, fault, tell, out);
        }
        log::info!("making the table of epoch {}", next.epoch);
        self.wishes.told_when_durable.append(&mut tell);
        self.store(now, next, out);
    }

    /// A table that must not be was planned: nobody is told of it, and whoever asked for something is
    /// told that it was not done.
    fn drop_table(&mut self, now: Now, next: &Table, fault: Fault, tell: Vec<Output>, out: &mut Vec<Output>) {
        log::error!("a table that must not be was planned, and is dropped: {fault}");
        self.epoch_at = now.mono.after_ms(EPOCH_GAP_MS);
        let text = format!("this cannot be done now: {fault}; nothing was changed");
        let mut refuse = |conn, request| {
            out.push(Output::Reply { conn, request, message: ClientReply::Error(text.clone()) });
        };
        for output in tell {
            if let Output::Reply { conn, request, .. } = output {
                refuse(conn, request);
            }
        }
        self.created.retain(|wait| {
            let stays = wait.epoch != next.epoch;
            if !stays {
                refuse(wait.conn, wait.request);
            }
            stays
        });
    }

    fn has_wishes(&self, now: Now) -> bool {
        let wishes = &self.wishes;
        !wishes.joins.is_empty()
            || !wishes.keyspaces.is_empty()
            || !wishes.commands.is_empty()
            || !wishes.handed_over.is_empty()
            || !wishes.leaves.is_empty()
            || self.arrivals.is_fresh
            || self.evict_at().is_some_and(|at| at <= now.mono)
            || self.plan_at.is_some_and(|at| at <= now.mono)
    }

    /// A table becomes ours: on its way to the disk, to be told when it is there.
    fn store(&mut self, now: Now, next: Table, out: &mut Vec<Output>) {
        self.bytes = encode_table(&next);
        self.table = next;
        self.arrivals.is_fresh = true;
        self.epoch_at = now.mono.after_ms(EPOCH_GAP_MS);
        let ticket = self.next_ticket;
        self.next_ticket = Ticket(ticket.0 + 1);
        self.storing = Some(ticket);
        out.push(Output::Disk(DiskRequest::Replace {
            ticket,
            file: FileName::Table,
            bytes: self.bytes.clone(),
        }));
        if self.planted.is(Mutant::TellBeforeDurable) {
            self.tell(out);
        }
    }

    fn tell(&mut self, out: &mut Vec<Output>) {
        out.append(&mut self.wishes.told_when_durable);
        for conn in self.members.connections() {
            out.push(Output::Node { conn, message: ManagerToNode::Table(self.bytes.clone()) });
        }
    }

    fn on_disk(&mut self, now: Now, event: DiskEvent, out: &mut Vec<Output>) {
        let DiskEvent::Synced(done) = event else { return };
        if self.storing.is_some_and(|ticket| ticket <= done) {
            self.storing = None;
            self.durable = (self.table.epoch, self.bytes.clone());
            self.tell(out);
            self.work(now, out);
        }
    }

    fn grant_keyspaces(&mut self, now: Now, next: &mut Table, tell: &mut Vec<Output>) {
        for (conn, request, name, settings) in std::mem::take(&mut self.wishes.keyspaces) {
            match make_keyspace(next, &name, settings) {
                Ok(keyspace) => {
                    let until = now.mono.after_ms(KEYSPACE_WAIT_MS);
                    let wait = CreatedWait { conn, request, keyspace, epoch: next.epoch, until };
                    self.created.push(wait);
                }
                Err(text) => tell.push(Output::Reply { conn, request, message: ClientReply::Error(text) }),
            }
        }
    }

    /// Spreads the sectors over the members, unless sectors are moving: one plan at a time.
    fn plan_when_due(&mut self, now: Now, next: &mut Table) {
        if self.plan_at.is_none_or(|at| at > now.mono) {
            return;
        }
        if next.is_moving() {
            // Looked at again when the moves have settled.
            self.plan_at = Some(now.mono.after_ms(PLAN_SETTLE_MS));
            return;
        }
        self.plan_at = None;
        let first = !next.is_serving();
        if first && next.eligible().count() < usize::from(next.members_min) {
            return log::info!("waiting for members: {} of {}", next.eligible().count(), next.members_min);
        }
        let changes = plan(next).changes;
        log::info!("placing {} sectors over {} members", changes.len(), next.present().count());
        for (id, slots) in changes {
            if let Some(sector) = next.sectors.get_mut(usize::from(id.0)) {
                sector.slots = slots;
                sector.conf_epoch = next.epoch;
            }
        }
        if next.is_moving() {
            self.plan_at = Some(now.mono.after_ms(PLAN_SETTLE_MS));
        }
    }

    /// Answers the makers of keyspaces that every connected node has heard of.
    fn answer_created(&mut self, now: Now, out: &mut Vec<Output>) {
        let known = self.members.lowest_epoch(now.mono);
        let durable = self.storing.is_none();
        self.created.retain(|wait| {
            let heard = durable && known.is_none_or(|epoch| epoch >= wait.epoch);
            let done = heard || wait.until <= now.mono;
            if done {
                let message = ClientReply::KeyspaceCreated(wait.keyspace);
                out.push(Output::Reply { conn: wait.conn, request: wait.request, message });
            }
            !done
        });
    }
}

/// Adds a keyspace, or finds the one of equal name and settings.
fn make_keyspace(table: &mut Table, name: &str, settings: KeyspaceSettings) -> Result<KeyspaceId, String> {
    use crate::ring::NameError;
    Keyspace::check(name, &settings, table.n).map_err(|error| match error {
        NameError::BadName => format!("{name:?} is no keyspace name: 1 to 64 of a-z A-Z 0-9 _ . -"),
        NameError::BadQuorum { n_max } => {
            format!("a keyspace needs 1 <= r <= n, 1 <= w <= n and n <= {n_max}, the copies of this cluster")
        }
    })?;
    if let Some((id, existing)) = table.keyspace(name) {
        return if existing.settings == settings {
            Ok(id)
        } else {
            Err(format!("keyspace {name:?} exists with other settings; see `gtstore keyspace list`"))
        };
    }
    if table.keyspaces.len() >= crate::limits::KEYSPACES_MAX {
        return Err(format!("there are {} keyspaces already, the most there can be", table.keyspaces.len()));
    }
    let id = table.keyspaces.last_key_value().map_or(KeyspaceId(0), |(last, _)| KeyspaceId(last.0 + 1));
    table.keyspaces.insert(id, Keyspace { name: name.to_owned(), settings });
    Ok(id)
}

impl Machine for Manager {
    type Input = Input;
    type Output = Output;

    fn handle(&mut self, now: Now, input: Input, out: &mut Vec<Output>) {
        self.started.get_or_insert(now.mono);
        match input {
            Input::Client { conn, request, message } => self.on_client(now, conn, request, message, out),
            Input::Node { conn, message } => self.on_node(now, conn, message, out),
            Input::Gone { conn } => self.gone(conn),
            Input::Disk(event) => self.on_disk(now, event, out),
            Input::Tick => {}
            Input::Stop => self.stopping = true,
        }
        self.work(now, out);
        self.answer_created(now, out);
        if self.stopping && self.storing.is_none() {
            out.push(Output::Stopped);
        }
    }

    fn deadline(&self) -> Option<Instant> {
        let created = self.created.iter().map(|wait| wait.until).min();
        let wishes = &self.wishes;
        let waiting = !(wishes.joins.is_empty()
            && wishes.keyspaces.is_empty()
            && wishes.commands.is_empty()
            && wishes.handed_over.is_empty()
            && wishes.leaves.is_empty())
            || self.arrivals.is_fresh;
        let next_table = if self.storing.is_some() || self.behind.is_some() {
            None
        } else if waiting {
            Some(self.epoch_at)
        } else {
            let due = [self.plan_at, self.evict_at()].into_iter().flatten().min();
            due.map(|at| at.max(self.epoch_at))
        };
        [created, next_table].into_iter().flatten().min()
    }
}
