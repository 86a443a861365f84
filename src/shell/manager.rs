//! The manager's process: its command line and its loop around [`Manager`].

use super::args::{Program, given, listen_addr};
use super::files::Files;
use super::net::NetEvent;
use super::random;
use super::server::{Server, Turn, announce, exit, init_logging, listen};
use crate::limits::{REPLICAS_MAX, SECTORS_MAX};
use crate::machine::Machine;
use crate::manager::io::{Input, Output};
use crate::manager::{Manager, Options};
use crate::mutant::Planted;
use crate::ring::Profile;
use crate::types::{ClusterId, ConnId, Now, RequestId};
use crate::wire::Message;
use crate::wire::client::ClientRequest;
use crate::wire::frame::Frame;
use crate::wire::hello::{Hello, Role};
use crate::wire::manager::NodeToManager;
use ahash::AHashMap;
use getopts::Matches;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

/// The program's name, as in its messages and ready lines.
pub const NAME: &str = "gtstore-manager";
const LISTEN_DEFAULT: &str = "127.0.0.1:7400";
const DATA_DIR_DEFAULT: &str = "gtstore-data/manager";

/// Runs a manager until it is told to stop; `args` are those after the program's name.
#[must_use]
pub fn main(args: &[String]) -> ExitCode {
    let settings = match Settings::from_args(args) {
        Ok(settings) => settings,
        Err(code) => return code,
    };
    init_logging();
    exit(NAME, Process::start(&settings).and_then(Process::run))
}

/// A machine that is started again is back within it.
const EVICT_AFTER_SECONDS_MIN: u64 = 10;

/// What the command line says.
#[derive(Debug)]
struct Settings {
    listen: SocketAddr,
    data_dir: PathBuf,
    rep: Option<u8>,
    sectors: Option<u16>,
    profile: Option<Profile>,
    min_nodes: Option<u16>,
    evict_after_ms: Option<u64>,
}

impl Settings {
    fn from_args(args: &[String]) -> Result<Self, ExitCode> {
        let mut program = program();
        let matches = program.parse(args)?;
        Self::from_matches(&matches).map_err(|what| program.usage_error(&what))
    }

    fn from_matches(matches: &Matches) -> Result<Self, String> {
        let rep: Option<u8> = given(matches, "rep")?;
        if let Some(rep) = rep.filter(|&rep| rep == 0 || usize::from(rep) > REPLICAS_MAX) {
            return Err(format!("--rep is 1 to {REPLICAS_MAX}, not {rep}"));
        }
        let sectors: Option<u16> = given(matches, "sectors")?;
        if let Some(q) = sectors.filter(|q| !q.is_power_of_two() || usize::from(*q) > SECTORS_MAX) {
            return Err(format!("--sectors is a power of two up to {SECTORS_MAX}, not {q}"));
        }
        let min_nodes: Option<u16> = given(matches, "min-nodes")?;
        if let (Some(least), Some(rep)) = (min_nodes, rep)
            && least < u16::from(rep)
        {
            return Err(format!("--min-nodes {least} is fewer than the {rep} copies of --rep"));
        }
        let evict_after: Option<u64> = given(matches, "evict-after")?;
        if evict_after.is_some_and(|seconds| seconds < EVICT_AFTER_SECONDS_MIN) {
            return Err(format!(
                "--evict-after is {EVICT_AFTER_SECONDS_MIN} seconds or more: a restart is no loss"
            ));
        }
        let profile = matches.opt_str("profile").map(|text| text.parse()).transpose();
        let listen = matches.opt_str("listen").unwrap_or_else(|| LISTEN_DEFAULT.to_owned());
        Ok(Self {
            listen: listen_addr(&listen).map_err(|error| format!("--listen: {error}"))?,
            data_dir: matches.opt_str("data-dir").unwrap_or_else(|| DATA_DIR_DEFAULT.to_owned()).into(),
            rep,
            sectors,
            profile: profile.map_err(|error: String| format!("--profile: {error}"))?,
            min_nodes,
            evict_after_ms: evict_after.map(|seconds| seconds.saturating_mul(1000)),
        })
    }
}

fn program() -> Program {
    let mut options = getopts::Options::new();
    options
        .optopt("", "listen", "where to listen (127.0.0.1:7400); port 0 picks a free one", "HOST:PORT")
        .optopt("", "data-dir", "where the table is kept (gtstore-data/manager)", "DIR")
        .optopt("", "rep", "copies of each key (3); fixed when the cluster is made", "K")
        .optopt(
            "",
            "min-nodes",
            "nodes that must have joined before anything is served (--rep); fixed when the cluster is made",
            "K",
        )
        .optopt(
            "",
            "evict-after",
            "give a node up that has been away for so long, and rebuild its copies elsewhere (never)",
            "SECONDS",
        )
        .optopt(
            "",
            "sectors",
            "slices of the hash space, a power of two up to 16384 (1024); fixed when the cluster is made",
            "Q",
        )
        .optopt(
            "",
            "profile",
            "key and value limits: 'default' (1024 B, 1 MiB) or 'gtstore' (20 B, 1000 B); fixed when \
             the cluster is made",
            "NAME",
        );
    Program {
        name: NAME,
        summary: "keeps the membership and the table of a GTStore cluster.\n\
                  Reads and writes of keys go on while it is down.",
        examples: &[
            ("gtstore-manager", "a manager on 127.0.0.1:7400; then start storage nodes"),
            (
                "gtstore-manager --listen 0.0.0.0:7400 --data-dir /var/lib/gtstore/manager",
                "one that other machines can reach",
            ),
            ("gtstore-manager --rep 1 --data-dir /tmp/one", "a cluster that keeps one copy of each key"),
            ("RUST_LOG=debug gtstore-manager", "one that logs more, on standard error"),
        ],
        options,
    }
}

/// The running process.
struct Process {
    server: Server,
    manager: Manager,
    /// Open connections.
    conns: AHashMap<ConnId, Asker>,
    outputs: Vec<Output>,
    is_stopped: bool,
}

/// Who is on a connection.
#[derive(Clone, Copy)]
enum Asker {
    Client,
    Node,
}

impl Process {
    fn start(settings: &Settings) -> Result<Self, String> {
        let (mut net, addr) = listen(settings.listen)?;
        let mut files = Files::open(&settings.data_dir)?;
        let options = Options {
            n: settings.rep,
            sectors: settings.sectors,
            profile: settings.profile,
            members_min: settings.min_nodes,
            evict_after_ms: settings.evict_after_ms,
            fresh_cluster: ClusterId(random::id().map_err(|error| format!("no random numbers: {error}"))?),
            planted: Planted::default(),
        };
        let manager = Manager::open(&mut files, options)?;
        let identity = manager.identity();
        net.set_identity(identity);
        let server = Server::start(net, files)?;
        announce(&format_args!("{NAME}: cluster {} listening on {addr}", identity.cluster_id));
        Ok(Self { server, manager, conns: AHashMap::new(), outputs: Vec::new(), is_stopped: false })
    }

    fn run(mut self) -> Result<(), String> {
        let mut turn = Turn::default();
        while !self.is_stopped && !turn.is_overdue {
            self.server.wait(&mut turn, self.manager.deadline())?;
            for event in turn.net.drain(..) {
                if let Some(input) = self.input(event) {
                    self.handle(turn.now, input)?;
                }
            }
            for event in turn.disk.drain(..) {
                self.handle(turn.now, Input::Disk(event))?;
            }
            if turn.stop {
                self.handle(turn.now, Input::Stop)?;
            }
            if self.manager.deadline().is_some_and(|due| due <= turn.now.mono) {
                self.handle(turn.now, Input::Tick)?;
            }
            self.server.end_turn();
        }
        self.server.finish()
    }

    /// What something on the sockets means to the machine.
    fn input(&mut self, event: NetEvent) -> Option<Input> {
        match event {
            NetEvent::Opened { conn, hello } => self.opened(conn, hello),
            NetEvent::Frame { conn, frame } => self.frame(conn, frame),
            NetEvent::Closed { conn, .. } => self.conns.remove(&conn).map(|_| Input::Gone { conn }),
            // The manager dials nobody; being woken is about the disk and the signals.
            NetEvent::Connected { .. } | NetEvent::Welcomed { .. } | NetEvent::Woken => None,
        }
    }

    fn opened(&mut self, conn: ConnId, hello: Hello) -> Option<Input> {
        match hello.role {
            Role::Client(_) => self.conns.insert(conn, Asker::Client),
            Role::Member(_) => self.conns.insert(conn, Asker::Node),
            Role::Peer(_) | Role::PeerBulk(_) => {
                self.server.net.reject(conn, &"the manager has no links");
                None
            }
        };
        None
    }

    fn frame(&mut self, conn: ConnId, frame: Frame) -> Option<Input> {
        let request = frame.request;
        let input = match self.conns.get(&conn)? {
            Asker::Client => ClientRequest::decode(frame.kind, frame.body).map(|message| Input::Client {
                conn,
                request,
                message,
            }),
            Asker::Node => {
                NodeToManager::decode(frame.kind, frame.body).map(|message| Input::Node { conn, message })
            }
        };
        input
            .inspect_err(|error| self.server.net.reject(conn, error))
            .ok()
            .or_else(|| self.conns.remove(&conn).map(|_| Input::Gone { conn }))
    }

    /// Gives the machine one input and carries out what it asks for, in order.
    fn handle(&mut self, now: Now, input: Input) -> Result<(), String> {
        let mut outputs = std::mem::take(&mut self.outputs);
        self.manager.handle(now, input, &mut outputs);
        for output in outputs.drain(..) {
            let net = &mut self.server.net;
            match output {
                // A connection that is gone is no error.
                Output::Reply { conn, request, message } => drop(net.send(conn, request, &message)),
                Output::Node { conn, message } => drop(net.send(conn, RequestId(0), &message)),
                Output::Disk(request) => self.server.submit(request)?,
                Output::Stopped => self.is_stopped = true,
            }
        }
        self.outputs = outputs;
        Ok(())
    }
}
