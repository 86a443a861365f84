//! The storage node's process: its loop around [`Node`].
//!
//! Events of the sockets and of the disk become inputs; outputs become messages, links and disk
//! requests, in the order given. What is asked on a connection depends on what it was opened
//! for: clients and peers ask on connections they dialed, peers and the manager answer on those
//! that we dialed (`links`).

mod inspect;
mod links;
mod settings;

use super::files::Files;
use super::net::NetEvent;
use super::random;
use super::read_thread::Readers;
use super::server::{Server, Turn, announce, exit, init_logging, listen};
use crate::engine::DiskRequest;
use crate::limits::DISK_RESERVE_BYTES;
use crate::machine::Machine;
use crate::mutant::Planted;
use crate::node::io::{Input, Output};
use crate::node::{Node, Options};
use crate::types::{ConnId, DiskUuid, Instant, NodeId, Now};
use crate::wire::Message;
use crate::wire::client::ClientRequest;
use crate::wire::codec::DecodeError;
use crate::wire::frame::Frame;
use crate::wire::hello::{Hello, Role};
use crate::wire::manager::ManagerToNode;
use crate::wire::peer::{PeerReply, PeerRequest};
use ahash::AHashMap;
use links::{Line, Links, own_id};
use settings::Settings;
use std::collections::VecDeque;
use std::process::ExitCode;

/// The program's name, as in its messages and ready lines.
pub const NAME: &str = "gtstore-storage";

/// Runs a storage node until it is told to stop, or looks at a data directory; `args` are those
/// after the program's name.
#[must_use]
pub fn main(args: &[String]) -> ExitCode {
    let settings = match Settings::from_args(args) {
        Ok(settings) => settings,
        Err(code) => return code,
    };
    if let Some(inspection) = &settings.inspection {
        return inspection.run();
    }
    init_logging();
    exit(NAME, Process::start(settings).and_then(Process::run))
}

/// The running process.
struct Process {
    server: Server,
    readers: Readers,
    node: Node,
    /// Where others reach us.
    addr: String,
    /// Whether it has been announced that the node is a member and serves.
    is_announced: bool,
    /// Connections that others dialed.
    askers: AHashMap<ConnId, Asker>,
    /// Connections that we dial.
    links: Links,
    /// What the node has not been told yet.
    inputs: VecDeque<Input>,
    outputs: Vec<Output>,
    is_stopped: bool,
}

/// Who is on a connection that was dialed to us.
#[derive(Clone, Copy)]
enum Asker {
    Client,
    Peer(NodeId),
}

impl Process {
    fn start(settings: Settings) -> Result<Self, String> {
        let (net, bound) = listen(settings.listen)?;
        let addr = settings.advertised(bound);
        let mut files = Files::open(&settings.data_dir(bound))?;
        let options = Options {
            addr: addr.clone(),
            zone: settings.zone,
            weight: settings.weight,
            manual: settings.manual,
            leave_on_stop: settings.leave_on_stop,
            transfer_bytes_per_second: settings.transfer_bytes_per_second,
            cache_bytes: settings.cache_bytes,
            segment_bytes: settings.segment_bytes,
            scrub_bytes_per_second: settings.scrub_bytes_per_second,
            hint_bytes_max: settings.hint_bytes_max,
            compare_every_ms: settings.compare_every_ms,
            reap_after_ms: settings.reap_after_ms,
            allow_fault_injection: settings.allow_fault_injection,
            disk_reserve_bytes: match settings.disk_reserve_bytes {
                Some(bytes) => bytes,
                None => usual_reserve(&files)?,
            },
            fresh_uuid: DiskUuid(random::id().map_err(|error| format!("no random numbers: {error}"))?),
            boot_id: random::boot_id(),
            planted: Planted::default(),
        };
        let node = Node::open(&mut files, options)?;
        let readers = Readers::start(&files, &net.waker())
            .map_err(|error| format!("cannot start the threads that read: {error}"))?;
        let mut server = Server::start(net, files)?;
        announce(&format_args!("{NAME}: listening on {bound}"));
        let links = Links::new(settings.managers, server.now().mono);
        let mut process = Self {
            server,
            readers,
            node,
            addr,
            is_announced: false,
            askers: AHashMap::new(),
            links,
            inputs: VecDeque::new(),
            outputs: Vec::new(),
            is_stopped: false,
        };
        process.introduce();
        Ok(process)
    }

    fn run(mut self) -> Result<(), String> {
        let mut turn = Turn::default();
        while !self.is_stopped && !turn.is_overdue {
            let now = self.server.now().mono;
            self.links.dial_due(&mut self.server.net, now, self.node.identity());
            self.server.wait(&mut turn, self.deadline())?;
            for event in turn.net.drain(..) {
                let input = self.input(turn.now, event);
                self.inputs.extend(input);
            }
            self.inputs.extend(turn.disk.drain(..).map(Input::Disk));
            self.readers.take_done(|done| self.inputs.push_back(Input::Read(done)));
            self.inputs.extend(turn.stop.then_some(Input::Stop));
            self.tell_node(turn.now)?;
            self.server.end_turn();
        }
        self.server.finish()
    }

    fn deadline(&self) -> Option<Instant> {
        self.node.deadline().into_iter().chain(self.links.due()).min()
    }

    /// Tells the node all that has happened, and that this was all. A deadline counts as passed
    /// only once everything that had arrived by then was heard: a process that was stopped for a
    /// while must not take the answers waiting in its sockets for missing ones.
    fn tell_node(&mut self, now: Now) -> Result<(), String> {
        loop {
            while let Some(input) = self.inputs.pop_front() {
                self.handle(now, input)?;
            }
            if self.node.deadline().is_some_and(|due| due <= now.mono) {
                self.handle(now, Input::Tick)?;
            }
            self.handle(now, Input::TurnEnd)?;
            // Carrying outputs out may have ended a link, written a record or read a value at once,
            // which is news of this very turn.
            if self.inputs.is_empty() {
                return Ok(());
            }
        }
    }

    /// Gives the node one input and carries out what it asks for, in order.
    fn handle(&mut self, now: Now, input: Input) -> Result<(), String> {
        let mut outputs = std::mem::take(&mut self.outputs);
        self.node.handle(now, input, &mut outputs);
        for output in outputs.drain(..) {
            self.carry_out(now.mono, output)?;
        }
        self.outputs = outputs;
        Ok(())
    }

    fn carry_out(&mut self, now: Instant, output: Output) -> Result<(), String> {
        let (net, links) = (&mut self.server.net, &mut self.links);
        match output {
            // A connection that is gone is no error.
            Output::Reply { conn, request, message } => drop(net.send(conn, request, &message)),
            Output::PeerReply { conn, request, message } => drop(net.send(conn, request, &message)),
            Output::Peer { to, lane, request, message } => {
                self.inputs.extend(links.ask(net, now, (to, lane), (request, &message)));
            }
            Output::Connect { peer, addr } => self.inputs.extend(links.connect(net, now, peer, &addr)),
            Output::Disconnect { peer } => self.inputs.extend(links.disconnect(net, peer)),
            Output::Manager(message) => self.inputs.extend(links.tell_manager(net, now, &message)),
            Output::Disk(request) => self.submit(request)?,
            Output::Read(request) => self.inputs.extend(self.readers.submit(request).map(Input::Read)),
            Output::Left => announce(&format_args!("{NAME}: has left the cluster: safe to stop")),
            Output::Reaped { .. } => {}
            Output::IdentityChanged => self.introduce(),
            Output::Stopped => self.is_stopped = true,
            Output::Fatal(text) => return Err(text),
        }
        Ok(())
    }

    fn submit(&mut self, request: DiskRequest) -> Result<(), String> {
        if let DiskRequest::Remove { files, .. } = &request {
            self.readers.forget(files);
        }
        self.server.submit(request)?;
        self.inputs.extend(self.server.disk_events()?.into_iter().map(Input::Disk));
        Ok(())
    }

    /// Answers Hellos as who the node is, once it is a member: before that it has no name to give.
    fn introduce(&mut self) {
        let us = self.node.identity();
        let node = own_id(us);
        if node == NodeId(0) {
            return;
        }
        self.server.net.set_identity(us);
        if !std::mem::replace(&mut self.is_announced, true) {
            announce(&format_args!(
                "{NAME}: node {node} of cluster {} ready on {}",
                us.cluster_id, self.addr
            ));
        }
    }

    /// What something on the sockets means to the node.
    fn input(&mut self, now: Now, event: NetEvent) -> Option<Input> {
        let net = &mut self.server.net;
        match event {
            NetEvent::Opened { conn, hello } => {
                self.opened(conn, hello);
                None
            }
            NetEvent::Welcomed { conn, welcome } => {
                self.links.welcomed(net, now.mono, self.node.identity(), (conn, welcome))
            }
            NetEvent::Frame { conn, frame } => self.frame(now, conn, frame),
            NetEvent::Closed { conn, why } => {
                self.askers.remove(&conn);
                self.links.lost(conn, now.mono, &why)
            }
            // Only a welcome makes a link; the disk and the signals are looked at in every turn.
            NetEvent::Connected { .. } | NetEvent::Woken => None,
        }
    }

    fn opened(&mut self, conn: ConnId, hello: Hello) {
        let asker = match hello.role {
            Role::Client(_) => Asker::Client,
            Role::Peer(node) | Role::PeerBulk(node) => Asker::Peer(node),
            Role::Member(_) => return self.server.net.reject(conn, &"a node has no members"),
        };
        self.askers.insert(conn, asker);
    }

    /// A frame, by what its connection was opened for. One that makes no sense ends it.
    fn frame(&mut self, now: Now, conn: ConnId, frame: Frame) -> Option<Input> {
        let input = match (self.links.line(conn), self.askers.get(&conn)) {
            (Some(line), _) => answer(line, frame),
            (None, Some(asker)) => question(conn, *asker, frame),
            // Closed earlier in this turn.
            (None, None) => return None,
        };
        match input {
            Ok(input) => Some(input),
            Err(error) => {
                self.server.net.reject(conn, &error);
                self.askers.remove(&conn);
                self.links.lost(conn, now.mono, &error)
            }
        }
    }
}

/// The reserve of whoever did not say otherwise.
fn usual_reserve(files: &Files) -> Result<u64, String> {
    let total = files.total_bytes().map_err(|error| format!("cannot see the size of the disk: {error}"))?;
    Ok((total / 100).clamp(DISK_RESERVE_BYTES.0, DISK_RESERVE_BYTES.1))
}

/// What someone asks, on a connection that they dialed.
fn question(conn: ConnId, asker: Asker, frame: Frame) -> Result<Input, DecodeError> {
    let request = frame.request;
    Ok(match asker {
        Asker::Client => {
            Input::Client { conn, request, message: ClientRequest::decode(frame.kind, frame.body)? }
        }
        Asker::Peer(from) => {
            Input::Peer { conn, from, request, message: PeerRequest::decode(frame.kind, frame.body)? }
        }
    })
}

/// What someone answers, on a connection that we dialed.
fn answer(line: Line, frame: Frame) -> Result<Input, DecodeError> {
    let request = frame.request;
    Ok(match line {
        Line::Manager => Input::Manager(ManagerToNode::decode(frame.kind, frame.body)?),
        Line::Link(from, _) => {
            Input::PeerReply { from, request, message: PeerReply::decode(frame.kind, frame.body)? }
        }
    })
}
