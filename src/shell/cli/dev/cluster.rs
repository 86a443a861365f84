//! The processes of a dev cluster, together.

use super::process::{Process, ask_to_stop, listening_addr, ready_node};
use super::watch::Watch;
use crate::engine::FileName;
use crate::shell::cli::exit::{Exit, Failure};
use crate::shell::cli::options::DevOptions;
use crate::shell::files::check_directory;
use crate::shell::random;
use crate::wire::decode_table;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

const MANAGER: &str = "manager";
const MANAGER_PORT: u16 = 7400;
/// Time for an earlier life of a server to end.
const LET_GO: Duration = Duration::from_millis(500);
const ANY_PORT: &str = "127.0.0.1:0";

/// A server and where it can be reached.
#[derive(Debug)]
pub(super) struct Server {
    pub(super) process: Process,
    /// 0 for the manager, and for a node that has not joined yet.
    pub(super) id: u32,
    /// Empty until it was first started.
    pub(super) addr: String,
}

/// All of them.
#[derive(Debug)]
pub(crate) struct DevCluster {
    pub(super) dir: PathBuf,
    /// Whether the directory goes when the cluster does.
    pub(super) temporary: bool,
    /// Whether ports are left to the system from the start.
    any_ports: bool,
    pub(super) manager: Server,
    /// What every node is started with beside its own.
    node_args: Vec<String>,
    /// The numbers of the directories that nodes are to be started from.
    pub(super) numbers: Vec<u16>,
    /// The highest number that a directory has, or had: none is given out twice, for whoever is
    /// missing must find its place free.
    last_number: u16,
    /// By number of directory.
    pub(super) nodes: Vec<Server>,
    /// Why nodes did not start, by the names of their directories.
    pub(super) failed: Vec<(String, Failure)>,
    watch: Watch,
    stopped: bool,
    /// A signal has come: whoever waits for a server gives up.
    pub(super) stopping: Arc<AtomicBool>,
}

impl DevCluster {
    /// Finds or makes the directory and what is to run in it; starts nothing yet.
    pub(super) fn prepare(options: &DevOptions) -> Result<Self, Failure> {
        let failed =
            |what: &str, error: std::io::Error| Failure::new(Exit::Error, format!("{what}: {error}"));
        if let Some(dir) = &options.data_dir {
            check_directory(Path::new(dir)).map_err(|text| Failure::new(Exit::Error, text))?;
        }
        let mut watch = Watch::start().map_err(|error| failed("cannot start the watch", error))?;
        let (dir, temporary) = match &options.data_dir {
            Some(dir) => (PathBuf::from(dir), false),
            None => {
                let number = random::id().map_err(|error| failed("no random number", error))?;
                (std::env::temp_dir().join(format!("gtstore-dev-{:016x}", number >> 64)), true)
            }
        };
        std::fs::create_dir_all(&dir)
            .map_err(|error| failed(&format!("cannot make {}", dir.display()), error))?;
        let dir =
            dir.canonicalize().map_err(|error| failed(&format!("cannot use {}", dir.display()), error))?;
        if temporary {
            watch.remove_at_end(&dir);
        }
        let manager_dir = dir.join(MANAGER);
        let mut args = vec!["--data-dir".to_owned(), manager_dir.display().to_string()];
        // The manager refuses what its cluster is not: of an old one, only what was said is said on.
        let table = manager_dir.join(FileName::Table.to_text());
        let is_new = !table.exists();
        let (numbers, last_number) = numbers_to_start(&dir, Members::of(&table), options);
        if options.rep_given || is_new {
            args.extend(["--rep".to_owned(), options.rep.to_string()]);
        }
        if let Some(profile) = options.profile {
            args.extend(["--profile".to_owned(), profile.to_string()]);
        }
        let process = Process::new(&dir, MANAGER, "gtstore-manager", args);
        let manager = Server { process, id: 0, addr: String::new() };
        let stopping = Arc::new(AtomicBool::new(false));
        let cache = options.cache_bytes.iter().flat_map(|size| ["--cache-bytes".to_owned(), size.clone()]);
        let node_args = cache.chain(["--allow-fault-injection".to_owned()]).collect();
        Ok(Self {
            dir,
            temporary,
            any_ports: options.any_ports,
            manager,
            node_args,
            numbers,
            last_number,
            nodes: Vec::new(),
            failed: Vec::new(),
            watch,
            stopped: false,
            stopping,
        })
    }

    /// Starts the manager, then the nodes. One that does not start is left out and noted: the others
    /// may serve without it.
    ///
    /// # Errors
    /// The manager or every node did not start, or a signal has come.
    pub(super) fn start(&mut self) -> Result<(), Failure> {
        if self.numbers.is_empty() {
            let dir = self.dir.display();
            let text = format!(
                "{dir} has a cluster's table, but no directory of a node is left there: put them back \
                 (node-1/, ...), or name an empty directory to make a new cluster"
            );
            return Err(Failure::new(Exit::Error, text));
        }
        let listen = self.listen(MANAGER_PORT);
        self.manager.start(&listen, &mut self.watch, &self.stopping)?;
        for number in self.numbers.clone() {
            if let Err(failure) = self.add_server(number) {
                self.note_failed(self.nodes.len() - 1, failure)?;
            }
        }
        for at in 0..self.nodes.len() {
            let server = &mut self.nodes[at];
            if server.process.pid().is_none() {
                continue;
            }
            match server.process.wait_for(ready_node, &self.stopping) {
                Ok(id) => server.id = id,
                Err(failure) => self.note_failed(at, failure)?,
            }
        }
        if self.nodes.iter().any(|server| server.id != 0) {
            return Ok(());
        }
        let all: Vec<String> = self.failed.drain(..).map(|(_, failure)| failure.text).collect();
        Err(Failure::new(Exit::Error, all.join("\n")))
    }

    /// A node did not start: whatever is left of it is ended.
    fn note_failed(&mut self, at: usize, failure: Failure) -> Result<(), Failure> {
        if self.stopping.load(Ordering::Relaxed) {
            return Err(failure);
        }
        let process = &mut self.nodes[at].process;
        let pid = process.pid();
        process.kill();
        self.failed.push((process.name.clone(), failure));
        pid.into_iter().for_each(|pid| self.watch.ended(pid));
        Ok(())
    }

    /// Starts one more node. Returns where it is in the list.
    pub(super) fn add(&mut self) -> Result<usize, Failure> {
        self.last_number = self.last_number.saturating_add(1);
        let at = self.add_server(self.last_number)?;
        let server = &mut self.nodes[at];
        match server.process.wait_for(ready_node, &self.stopping) {
            Ok(id) => server.id = id,
            Err(failure) if server.process.pid().is_none() => return Err(failure),
            Err(failure) => {
                let text = format!(
                    "{failure}. It runs and goes on trying; once it has joined, 'processes' shows its number"
                );
                return Err(Failure { text, ..failure });
            }
        }
        Ok(at)
    }

    /// Takes note of nodes that have joined since they were waited for.
    pub(super) fn learn_ids(&mut self) {
        self.nodes.iter_mut().for_each(Server::learn_id);
    }

    /// Where a server is to listen whose port is this one if all is well.
    fn listen(&self, port: u16) -> String {
        if self.any_ports { ANY_PORT.to_owned() } else { preferred(port) }
    }

    fn add_server(&mut self, number: u16) -> Result<usize, Failure> {
        let name = format!("node-{number}");
        let mut args = vec![
            "--manager".to_owned(),
            self.manager.addr.clone(),
            "--data-dir".to_owned(),
            self.dir.join(&name).display().to_string(),
        ];
        args.extend(self.node_args.iter().cloned());
        let process = Process::new(&self.dir, &name, "gtstore-storage", args);
        self.nodes.push(Server { process, id: 0, addr: String::new() });
        let at = self.nodes.len() - 1;
        let listen = self.listen(MANAGER_PORT.saturating_add(number));
        self.nodes[at].start(&listen, &mut self.watch, &self.stopping)?;
        Ok(at)
    }

    /// The server of this name: a node's number, the name of its directory, or `manager`.
    pub(super) fn find(&mut self, name: &str) -> Result<&mut Server, Failure> {
        find(&mut self.manager, &mut self.nodes, name)
    }

    /// Ends a server at once.
    pub(super) fn kill(&mut self, name: &str) -> Result<(), Failure> {
        let server = find(&mut self.manager, &mut self.nodes, name)?;
        let pid = server.process.pid();
        server.process.kill();
        pid.into_iter().for_each(|pid| self.watch.ended(pid));
        Ok(())
    }

    /// Starts a server again where it was, stopping it first if it runs.
    pub(super) fn restart(&mut self, name: &str) -> Result<(), Failure> {
        let server = find(&mut self.manager, &mut self.nodes, name)?;
        if let Some(pid) = server.process.pid() {
            ask_to_stop(&[pid]);
            server.process.wait_stopped();
            self.watch.ended(pid);
        }
        let listen = if server.addr.is_empty() { ANY_PORT.to_owned() } else { server.addr.clone() };
        server.start(&listen, &mut self.watch, &self.stopping)?;
        if name != MANAGER {
            server.id = server.process.wait_for(ready_node, &self.stopping)?;
        }
        Ok(())
    }

    /// Stops everything, nodes first, and removes what was temporary. Once.
    pub(super) fn stop(&mut self) {
        if std::mem::replace(&mut self.stopped, true) {
            return;
        }
        let pids: Vec<u32> = self.nodes.iter_mut().filter_map(|server| server.process.pid()).collect();
        ask_to_stop(&pids);
        for server in &mut self.nodes {
            server.process.wait_stopped();
        }
        let manager: Vec<u32> = self.manager.process.pid().into_iter().collect();
        ask_to_stop(&manager);
        self.manager.process.wait_stopped();
        if self.temporary
            && let Err(error) = std::fs::remove_dir_all(&self.dir)
        {
            log::warn!("{} could not be removed: {error}", self.dir.display());
        }
        self.watch.finish();
    }
}

impl Server {
    /// Takes note of its number if it has one by now: it has joined only after nobody waited any more,
    /// the manager having been away.
    fn learn_id(&mut self) {
        if self.id == 0
            && let Some(id) = self.process.heard(ready_node)
        {
            self.id = id;
        }
    }

    /// Starts it and waits until it listens. If somebody has taken the port meanwhile, or an earlier
    /// life of it has not quite let go of its directory, it is started once more, on a port that the
    /// system chooses.
    fn start(&mut self, listen: &str, watch: &mut Watch, stopping: &AtomicBool) -> Result<(), Failure> {
        watch.began(self.process.start(listen)?);
        self.addr = match self.process.wait_for(listening_addr, stopping) {
            Err(failure) if may_pass(&failure) && !stopping.load(Ordering::Relaxed) => {
                std::thread::sleep(LET_GO);
                watch.began(self.process.start(ANY_PORT)?);
                self.process.wait_for(listening_addr, stopping)?
            }
            result => result?,
        };
        Ok(())
    }
}

/// Whether a server that ended while starting may do better at once: by what it said last.
fn may_pass(failure: &Failure) -> bool {
    ["cannot listen on", "in use by another process"].iter().any(|said| failure.text.contains(said))
}

/// The server of this name: a node's number, the name of its directory, or `manager`.
fn find<'a>(manager: &'a mut Server, nodes: &'a mut [Server], name: &str) -> Result<&'a mut Server, Failure> {
    if name == MANAGER {
        return Ok(manager);
    }
    let wanted: Option<u32> = name.parse().ok().filter(|id| *id != 0);
    let is_it =
        |server: &&mut Server| (wanted.is_some() && Some(server.id) == wanted) || server.process.name == name;
    let found = nodes.iter_mut().find(is_it);
    found.ok_or_else(|| {
        Failure::usage(format!("'{name}' is neither a node here nor 'manager'; see 'processes'"))
    })
}

fn is_free(addr: &str) -> bool {
    TcpListener::bind(addr).is_ok()
}

/// This port if it is free, else one that the system chooses.
fn preferred(port: u16) -> String {
    let addr = format!("127.0.0.1:{port}");
    if is_free(&addr) { addr } else { ANY_PORT.to_owned() }
}

/// What the manager's table says of the nodes of an old cluster.
#[derive(Clone, Copy, Debug, Default)]
struct Members {
    /// Those there are.
    present: usize,
    /// Those there ever were.
    ever: u16,
}

impl Members {
    /// None are known where there is no table, or one that the manager will refuse in words.
    fn of(table: &Path) -> Self {
        let Some(table) = std::fs::read(table).ok().and_then(|bytes| decode_table(bytes.into()).ok()) else {
            return Self::default();
        };
        Self {
            present: table.present().count(),
            ever: u16::try_from(table.members.len()).unwrap_or(u16::MAX),
        }
    }
}

/// The numbers of the directories that nodes are to be started from, and the highest number that one
/// has or had. An old cluster is started with what is there: it gets new nodes, above all old numbers,
/// only if more were asked for than it has members, missing ones included.
fn numbers_to_start(dir: &Path, members: Members, options: &DevOptions) -> (Vec<u16>, u16) {
    let mut numbers = node_numbers(dir, "");
    let is_old = members.present > 0;
    let known = if is_old { node_numbers(dir, ".log").last().copied().max(Some(members.ever)) } else { None };
    let mut last = numbers.last().copied().max(known).unwrap_or(0);
    let there = members.present.max(numbers.len());
    if options.nodes_given || !is_old {
        for _ in there..options.nodes {
            last = last.saturating_add(1);
            numbers.push(last);
        }
    }
    (numbers, last)
}

/// The numbers of the `node-N` directories, or of the files whose names go on like this, in order.
fn node_numbers(dir: &Path, ending: &str) -> Vec<u16> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let wanted =
        entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir() == ending.is_empty()));
    let number = |name: String| name.strip_prefix("node-")?.strip_suffix(ending)?.parse().ok();
    let mut numbers: Vec<u16> =
        wanted.filter_map(|entry| entry.file_name().into_string().ok()).filter_map(number).collect();
    numbers.sort_unstable();
    numbers
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shell::cli::options::{Command, Globals, Parsed, parse};

    #[test]
    fn nodes_are_found_again_by_their_directories() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["node-2", "node-10", "node-x", "manager"] {
            std::fs::create_dir(dir.path().join(name)).unwrap();
        }
        std::fs::write(dir.path().join("node-3"), b"a file").unwrap();
        assert_eq!(node_numbers(dir.path(), ""), [2, 10]);
    }

    #[test]
    fn no_number_is_given_out_twice_and_new_nodes_come_only_if_asked_for() {
        let dir = tempfile::tempdir().unwrap();
        let to_start = |present, ever, nodes: &str| {
            let args = format!("dev {nodes}").split_whitespace().map(str::to_owned).collect::<Vec<_>>();
            let Ok(Parsed::Run(_, command)) = parse(&args, &Globals::default()) else { panic!("{nodes}") };
            let Command::Dev(options) = *command else { panic!("{nodes}") };
            numbers_to_start(dir.path(), Members { present, ever }, &options)
        };
        assert_eq!(to_start(0, 0, ""), (vec![1, 2, 3], 3));
        std::fs::create_dir(dir.path().join("node-1")).unwrap();
        std::fs::create_dir(dir.path().join("node-3")).unwrap();
        assert_eq!(to_start(3, 3, ""), (vec![1, 3], 3), "node-2 is missing");
        assert_eq!(to_start(3, 3, "--nodes 3"), (vec![1, 3], 3));
        assert_eq!(to_start(3, 3, "--nodes 5"), (vec![1, 3, 4, 5], 5));
        std::fs::remove_dir(dir.path().join("node-3")).unwrap();
        assert_eq!(to_start(3, 3, "--nodes 4"), (vec![1, 4], 4), "node-3 was there");
        std::fs::write(dir.path().join("node-6.log"), b"").unwrap();
        assert_eq!(to_start(3, 3, "--nodes 4"), (vec![1, 7], 7), "node-6 was never a member, and ran");
        assert_eq!(to_start(1, 3, ""), (vec![1], 6));
    }

    #[test]
    fn a_port_that_is_taken_is_left_to_the_system() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        assert_eq!(preferred(taken.local_addr().unwrap().port()), "127.0.0.1:0");
    }
}
