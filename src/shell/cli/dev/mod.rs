//! `gtstore dev`: a whole cluster on this machine, and a shell in it.
//!
//! It starts the real servers, this executable under their names, and stops them again: when the
//! shell is left, on SIGINT, SIGTERM and SIGHUP (a thread waits for these), on a panic (a guard),
//! and, through [`watch`](mod@watch), even when it is itself killed.

mod cluster;
mod missing;
mod partition;
mod process;
mod watch;

pub(crate) use cluster::DevCluster;
pub(crate) use watch::{WATCH_NAME, watch};

use super::cluster::ask_status;
use super::exit::{CommandResult, Exit, Failure};
use super::options::{DevOptions, Format, Globals};
use super::output::{object, print_json, print_rows};
use super::shell;
use crate::client::{Store, StoreOptions, Target};
use crate::ring::MemberState;
use crate::wire::client::{ClientReply, ClientRequest, ClusterStatus};
use cluster::Server;
use serde_json::Value;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use std::io::{IsTerminal, Write};
use std::process::{Command, Stdio};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The cluster, shared with the thread that waits for signals.
pub(crate) type SharedCluster = Arc<Mutex<DevCluster>>;

/// The commands of its shell, as in help.
pub(crate) const COMMANDS: &[&str] =
    &["kill N", "restart N", "pause N", "resume N", "partition 1,2|3,4,5", "heal", "add", "processes"];

const READY_PATIENCE: Duration = Duration::from_secs(60);
const SEEN_PATIENCE: Duration = Duration::from_secs(5);
const READY_POLL: Duration = Duration::from_millis(50);

/// `dev`.
pub(crate) fn run(globals: &Globals, options: &DevOptions, out: &mut dyn Write) -> CommandResult {
    let cluster = Arc::new(Mutex::new(DevCluster::prepare(options)?));
    let _guard = StopGuard(Arc::clone(&cluster));
    stop_on_signals(&cluster)?;
    let stopping = Arc::clone(&lock(&cluster).stopping);
    let result = start_and_serve(globals, options, out, &cluster);
    if stopping.load(Ordering::Relaxed) {
        // A signal has come: the thread that got it ends the process when all is stopped.
        loop {
            std::thread::park();
        }
    }
    result
}

fn start_and_serve(
    globals: &Globals,
    options: &DevOptions,
    out: &mut dyn Write,
    cluster: &SharedCluster,
) -> CommandResult {
    if globals.format != Format::Json {
        writeln!(out, "Starting a manager and {} storage nodes ...", lock(cluster).numbers.len())?;
        out.flush()?;
    }
    lock(cluster).start()?;
    let (manager, nodes) = {
        let cluster = lock(cluster);
        let started = cluster.nodes.iter().filter(|server| server.id != 0).count();
        (cluster.manager.addr.clone(), started)
    };
    let mut store = Store::open(StoreOptions { addrs: vec![manager.clone()], ..globals.store.clone() })?;
    let status = wait_ready(&mut store, cluster, nodes)?;
    match globals.format {
        Format::Json => {
            print_json(out, json_ready(&mut lock(cluster), &status))?;
            // Standard output is one line of JSON, and this is always said.
            writeln!(std::io::stderr(), "export GTSTORE_MANAGER={manager}")?;
        }
        Format::Table | Format::Plain => print_ready(out, &mut lock(cluster))?,
    }
    out.flush()?;
    missing::tell(&lock(cluster).failed, &status)?;
    if !options.shell {
        loop {
            std::thread::park();
        }
    }
    // Also from the nodes, so that commands work while the manager is killed.
    let mut addrs = vec![manager];
    addrs.extend(lock(cluster).nodes.iter().filter(|node| node.id != 0).map(|node| node.addr.clone()));
    let mut own = globals.clone();
    own.store.addrs = addrs;
    let result = shell::run(Store::open(own.store.clone())?, &own, out, Some(cluster));
    if !is_stopping(cluster) {
        // Else the thread that got the signal has said so.
        writeln!(out, "Stopping ...")?;
        out.flush()?;
        lock(cluster).stop();
    }
    result
}

/// Stops everything however `run` is left.
struct StopGuard(SharedCluster);

impl Drop for StopGuard {
    fn drop(&mut self) {
        lock(&self.0).stop();
    }
}

/// The cluster; also after a panic, for what is left to do then is to stop it.
fn lock(cluster: &SharedCluster) -> MutexGuard<'_, DevCluster> {
    cluster.lock().unwrap_or_else(PoisonError::into_inner)
}

fn stop_on_signals(cluster: &SharedCluster) -> CommandResult {
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP])?;
    let cluster = Arc::clone(cluster);
    let stopping = Arc::clone(&lock(&cluster).stopping);
    std::thread::spawn(move || {
        if signals.forever().next().is_some() {
            // Standard output may be somebody's data, and is locked.
            let _ = writeln!(std::io::stderr(), "Stopping ...");
            stopping.store(true, Ordering::Relaxed);
            lock(&cluster).stop();
            restore_terminal();
            std::process::exit(0);
        }
    });
    Ok(())
}

/// The shell's line editor may be in the middle of a line, with the terminal in raw mode.
fn restore_terminal() {
    if std::io::stdin().is_terminal() {
        let _ = Command::new("stty").arg("sane").stdin(Stdio::inherit()).status();
    }
}

/// Waits until every node is up and normal, or waits to join, and all sectors have settled. With members missing that
/// are not among the started, sectors may never settle: then until the others serve.
fn wait_ready(store: &mut Store, cluster: &SharedCluster, nodes: usize) -> Result<ClusterStatus, Failure> {
    let deadline = Instant::now() + READY_PATIENCE;
    let stopping = Arc::clone(&lock(cluster).stopping);
    loop {
        let seen = ask_status(store);
        if let Ok(status) = &seen
            && is_ready(status, nodes)
            && see_each_other(store, status, nodes)
        {
            return Ok(status.clone());
        }
        if stopping.load(Ordering::Relaxed) {
            return Err(Failure::new(Exit::Error, "interrupted"));
        }
        if Instant::now() > deadline {
            let why = match seen {
                Ok(status) => {
                    let up = status.nodes.iter().filter(|node| node.health.is_up()).count();
                    format!(
                        "{up} of {nodes} nodes are up, serving: {}, {} sectors moving",
                        status.serving, status.moving
                    )
                }
                Err(failure) => failure.text,
            };
            let dir = lock(cluster).dir.display().to_string();
            return Err(Failure::new(
                Exit::Error,
                format!("the cluster did not get ready: {why}; logs are in {dir}"),
            ));
        }
        std::thread::sleep(READY_POLL);
    }
}

/// Waits a little until the manager sees every process that runs, so that the next `status`
/// shows what was just done. A killed manager sees nothing, and that is no error here.
fn wait_seen(shared: &SharedCluster) -> CommandResult {
    let (manager, running) = {
        let mut cluster = lock(shared);
        let conditions = cluster.nodes.iter_mut().map(|node| node.process.condition());
        let running = conditions.filter(|condition| *condition == "running").count();
        (cluster.manager.addr.clone(), running)
    };
    let mut store = Store::open(StoreOptions::new(&manager))?;
    let deadline = Instant::now() + SEEN_PATIENCE;
    while Instant::now() < deadline {
        match ask_status(&mut store) {
            Ok(status) if status.nodes.iter().filter(|node| node.health.is_up()).count() < running => {}
            Ok(_) | Err(_) => return Ok(()),
        }
        std::thread::sleep(READY_POLL);
    }
    Ok(())
}

fn is_ready(status: &ClusterStatus, nodes: usize) -> bool {
    let is_settled = |state| matches!(state, MemberState::Normal | MemberState::Waiting);
    let is_whole = status.nodes.iter().all(|node| node.health.is_up() && is_settled(node.state));
    let is_short = status.nodes.iter().any(|node| !node.health.is_up());
    let up = status.nodes.iter().filter(|node| node.health.is_up()).count();
    status.serving && up >= nodes && (is_short || (is_whole && status.moving == 0))
}

/// Whether every node that is up says that it reaches all the others that are: the manager, which
/// is connected to all of them, cannot know. Before that a first write may find too few owners.
fn see_each_other(store: &mut Store, status: &ClusterStatus, nodes: usize) -> bool {
    status.nodes.iter().filter(|node| node.health.is_up()).all(|node| {
        match store.ask(Target::Addr(node.addr.clone()), ClientRequest::Status) {
            Ok(ClientReply::Status(own)) => is_ready(&own, nodes) && own.epoch == status.epoch,
            Ok(_) | Err(_) => false,
        }
    })
}

fn json_ready(cluster: &mut DevCluster, status: &ClusterStatus) -> serde_json::Map<String, Value> {
    let node = |server: &mut Server| -> Value {
        let pid = server.process.pid().map_or(Value::Null, Into::into);
        object([("id", server.id.into()), ("addr", server.addr.clone().into()), ("pid", pid)]).into()
    };
    let nodes: Vec<Value> = cluster.nodes.iter_mut().filter(|server| server.id != 0).map(node).collect();
    let failed: Vec<Value> = cluster.failed.iter().map(|(name, _)| name.clone().into()).collect();
    let missing: Vec<Value> = missing::members(status).map(|node| node.node.0.into()).collect();
    object([
        ("manager", cluster.manager.addr.clone().into()),
        ("data_dir", cluster.dir.display().to_string().into()),
        ("nodes", nodes.into()),
        ("failed", failed.into()),
        ("missing", missing.into()),
    ])
}

fn print_ready(out: &mut dyn Write, cluster: &mut DevCluster) -> CommandResult {
    let dir = cluster.dir.display().to_string();
    writeln!(out)?;
    print_processes(out, cluster)?;
    if cluster.temporary {
        writeln!(
            out,
            "\nEverything is temporary: {dir}\nis deleted at the end. Use --data-dir DIR to keep it."
        )?;
    } else {
        writeln!(out, "\nData and logs are kept in {dir}")?;
    }
    let program = std::env::args().next().unwrap_or_else(|| "gtstore".to_owned());
    let manager = &cluster.manager.addr;
    writeln!(out, "\nFrom another terminal:\n\n    export GTSTORE_MANAGER={manager}")?;
    for line in [
        "put greeting hello",
        "get greeting",
        "trace put greeting 'hello again'",
        "owners greeting",
        "status",
    ] {
        writeln!(out, "    {program} {line}")?;
    }
    Ok(writeln!(out)?)
}

fn print_processes(out: &mut dyn Write, cluster: &mut DevCluster) -> CommandResult {
    let row = |what: String, server: &mut Server| {
        let pid = server.process.pid().map_or("-".to_owned(), |pid| pid.to_string());
        let condition = server.process.condition().to_owned();
        let addr = if server.addr.is_empty() { "-".to_owned() } else { server.addr.clone() };
        vec![what, addr, pid, condition, server.process.log.display().to_string()]
    };
    let mut rows = vec![row("manager".to_owned(), &mut cluster.manager)];
    for server in &mut cluster.nodes {
        let name = if server.id == 0 { server.process.name.clone() } else { format!("node {}", server.id) };
        rows.push(row(name, server));
    }
    Ok(print_rows(out, Format::Table, &["Process", "Address", "PID", "Is", "Log"], &[2], rows)?)
}

/// Whether a signal has come. If so, all is stopped when this returns.
pub(crate) fn is_stopping(shared: &SharedCluster) -> bool {
    lock(shared).stopping.load(Ordering::Relaxed)
}

/// Whether a line is a command to the processes.
pub(crate) fn is_command(words: &[String]) -> bool {
    let mut firsts = COMMANDS.iter().filter_map(|form| form.split(' ').next());
    words.first().is_some_and(|word| firsts.any(|first| first == word))
}

/// Runs a command to the processes.
pub(crate) fn run_command(shared: &SharedCluster, words: &[String], out: &mut dyn Write) -> CommandResult {
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    lock(shared).learn_ids();
    match words[..] {
        ["partition", groups] => return partition::part(shared, groups, out),
        ["heal"] => return partition::heal(shared, out),
        _ => {}
    }
    let mut cluster = lock(shared);
    match words[..] {
        ["processes"] => print_processes(out, &mut cluster)?,
        ["add"] => {
            writeln!(out, "Starting one more node ...")?;
            out.flush()?;
            let at = cluster.add()?;
            let server = &cluster.nodes[at];
            writeln!(
                out,
                "node {} is there, on {}; 'status' shows what it is given",
                server.id, server.addr
            )?;
        }
        ["kill", name] => {
            must_run(&mut cluster, name)?;
            cluster.kill(name)?;
            writeln!(out, "{} killed, as with kill -9; 'restart {name}' brings it back", label(name))?;
        }
        ["restart", name] => {
            cluster.restart(name)?;
            drop(cluster);
            wait_seen(shared)?;
            writeln!(out, "{} is there again", label(name))?;
        }
        ["pause", name] => {
            must_run(&mut cluster, name)?;
            cluster.find(name)?.process.set_paused(true);
            writeln!(out, "{} stands still; 'resume {name}' lets it go on", label(name))?;
        }
        ["resume", name] => {
            if must_run(&mut cluster, name)? != "paused" {
                return Err(Failure::new(Exit::Error, format!("{} runs already", label(name))));
            }
            cluster.find(name)?.process.set_paused(false);
            writeln!(out, "{} goes on", label(name))?;
        }
        _ => {
            let form = COMMANDS.iter().find(|form| form.split(' ').next() == words.first().copied());
            return Err(Failure::usage_of("dev", &format!("usage: {}", form.unwrap_or(&""))));
        }
    }
    Ok(())
}

/// Whether it runs or stands still.
///
/// # Errors
/// It does neither: nothing is said to be done to a process that is not there.
fn must_run(cluster: &mut DevCluster, name: &str) -> Result<&'static str, Failure> {
    match cluster.find(name)?.process.condition() {
        "stopped" => {
            let text = format!("{} does not run; 'restart {name}' starts it", label(name));
            Err(Failure::new(Exit::Error, text))
        }
        condition => Ok(condition),
    }
}

fn label(name: &str) -> String {
    match name {
        "manager" => "the manager".to_owned(),
        dir if dir.starts_with("node-") => dir.to_owned(),
        number => format!("node {number}"),
    }
}
