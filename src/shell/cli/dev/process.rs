//! One server process of a dev cluster.

use crate::shell::cli::exit::{Exit, Failure};
use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

/// How long a server may take to say that it is there.
const START_PATIENCE: Duration = Duration::from_secs(30);
/// How long a server may take to finish what is in hand.
const STOP_PATIENCE: Duration = Duration::from_secs(5);
const POLL: Duration = Duration::from_millis(10);
/// Lines of its log that are shown when a server ends unexpectedly.
const LOG_TAIL: usize = 8;

/// A server process, running or not.
#[derive(Debug)]
pub(super) struct Process {
    /// `manager`, `node-1`: also its directory and log.
    pub(super) name: String,
    program: &'static str,
    args: Vec<String>,
    pub(super) log: PathBuf,
    /// How long the log was before the last start.
    log_start: u64,
    state: State,
}

#[derive(Debug)]
enum State {
    Stopped,
    Running { child: Child, lines: Receiver<String>, paused: bool },
}

impl Process {
    /// Not started yet.
    pub(super) fn new(dir: &Path, name: &str, program: &'static str, args: Vec<String>) -> Self {
        let log = dir.join(format!("{name}.log"));
        Self { name: name.to_owned(), program, args, log, log_start: 0, state: State::Stopped }
    }

    /// Starts it: this executable under the server's name, in a process group of its own, so that
    /// Ctrl-C in the terminal is ours alone. It listens on `listen`.
    pub(super) fn start(&mut self, listen: &str) -> Result<u32, Failure> {
        let failed = |error: std::io::Error| {
            Failure::new(Exit::Error, format!("cannot start {}: {error}", self.program))
        };
        let log = OpenOptions::new().create(true).append(true).open(&self.log).map_err(failed)?;
        self.log_start = log.metadata().map_err(failed)?.len();
        let mut child = Command::new(std::env::current_exe().map_err(failed)?)
            .arg0(self.program)
            .args(&self.args)
            .args(["--listen", listen])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log.try_clone().map_err(failed)?)
            .process_group(0)
            .spawn()
            .map_err(failed)?;
        let (sender, lines) = channel();
        if let Some(stdout) = child.stdout.take() {
            // Ends with the process. What nobody waits for any more is in the log all the same.
            std::thread::spawn(move || copy_lines(stdout, log, |line| drop(sender.send(line))));
        }
        let pid = child.id();
        self.state = State::Running { child, lines, paused: false };
        Ok(pid)
    }

    /// Waits until it prints a line that `wanted` makes something of.
    pub(super) fn wait_for<T>(
        &mut self,
        wanted: impl Fn(&str) -> Option<T>,
        stopping: &AtomicBool,
    ) -> Result<T, Failure> {
        let deadline = Instant::now() + START_PATIENCE;
        while Instant::now() < deadline {
            if stopping.load(Ordering::Relaxed) {
                return Err(Failure::new(Exit::Error, "interrupted"));
            }
            let State::Running { lines, .. } = &self.state else { break };
            match lines.recv_timeout(Duration::from_millis(50)) {
                Ok(line) => {
                    if let Some(found) = wanted(&line) {
                        return Ok(found);
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Err(self.ended_early()),
            }
        }
        Err(Failure::new(Exit::Error, format!("{} did not get ready; see {}", self.name, self.log.display())))
    }

    /// What `wanted` makes of the lines that nobody has waited for.
    pub(super) fn heard<T>(&self, wanted: impl Fn(&str) -> Option<T>) -> Option<T> {
        match &self.state {
            State::Running { lines, .. } => lines.try_iter().find_map(|line| wanted(&line)),
            State::Stopped => None,
        }
    }

    fn ended_early(&mut self) -> Failure {
        let how = match &mut self.state {
            State::Running { child, .. } => {
                child.wait().map_or_else(|error| error.to_string(), |s| s.to_string())
            }
            State::Stopped => "not started".to_owned(),
        };
        self.state = State::Stopped;
        let text = std::fs::read(&self.log).unwrap_or_default();
        let start = usize::try_from(self.log_start).unwrap_or(0);
        let text = String::from_utf8_lossy(text.get(start..).unwrap_or_default()).into_owned();
        let lines: Vec<&str> = text.lines().collect();
        let tail = lines[lines.len().saturating_sub(LOG_TAIL)..].join("\n  ");
        let log = self.log.display();
        Failure::new(
            Exit::Error,
            format!("{} ended while starting ({how}); the end of {log}:\n  {tail}", self.name),
        )
    }

    /// Its process id, while it runs.
    pub(super) fn pid(&mut self) -> Option<u32> {
        match &mut self.state {
            State::Running { child, .. } => match child.try_wait() {
                Ok(None) => Some(child.id()),
                Ok(Some(_)) | Err(_) => {
                    self.state = State::Stopped;
                    None
                }
            },
            State::Stopped => None,
        }
    }

    /// `running`, `paused` or `stopped`.
    pub(super) fn condition(&mut self) -> &'static str {
        match (self.pid(), &self.state) {
            (Some(_), State::Running { paused: true, .. }) => "paused",
            (Some(_), State::Running { paused: false, .. }) => "running",
            (Some(_), State::Stopped) | (None, _) => "stopped",
        }
    }

    /// Ends it at once, as `kill -9` does.
    pub(super) fn kill(&mut self) {
        if let State::Running { child, .. } = &mut self.state {
            // One that has ended already needs no killing.
            let _ = child.kill();
            let _ = child.wait();
        }
        self.state = State::Stopped;
    }

    /// Stops its work where it stands, or lets it go on.
    pub(super) fn set_paused(&mut self, pause: bool) {
        if let State::Running { child, paused, .. } = &mut self.state {
            signal(if pause { "STOP" } else { "CONT" }, &[child.id()]);
            *paused = pause;
        }
    }

    /// Waits until it has ended after being asked to; ends it at once if it takes too long.
    pub(super) fn wait_stopped(&mut self) {
        let deadline = Instant::now() + STOP_PATIENCE;
        while self.pid().is_some() && Instant::now() < deadline {
            std::thread::sleep(POLL);
        }
        self.kill();
    }
}

/// Asks processes to finish what is in hand and end, paused ones too.
pub(super) fn ask_to_stop(pids: &[u32]) {
    signal("TERM", pids);
    signal("CONT", pids);
}

/// Sends a signal by way of `sh`, whose `kill` is built in: the standard library sends only
/// SIGKILL, and the system call would be `unsafe`.
pub(super) fn signal(name: &str, pids: &[u32]) -> bool {
    let pids: Vec<String> = pids.iter().map(ToString::to_string).collect();
    if pids.is_empty() {
        return true;
    }
    let status = Command::new("sh")
        .args(["-c", &format!("kill -{name} {}", pids.join(" "))])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    status.is_ok_and(|status| status.success())
}

fn copy_lines(from: impl std::io::Read, mut log: File, mut tell: impl FnMut(String)) {
    for line in BufReader::new(from).lines() {
        let Ok(line) = line else { return };
        // A log that cannot be written is no reason to stop listening.
        let _ = writeln!(log, "{line}");
        tell(line);
    }
}

/// The address in `... listening on HOST:PORT`.
pub(super) fn listening_addr(line: &str) -> Option<String> {
    line.split_once(" listening on ").map(|(_, addr)| addr.trim().to_owned())
}

/// The node in `gtstore-storage: node 3 of cluster ... ready on HOST:PORT`.
pub(super) fn ready_node(line: &str) -> Option<u32> {
    let (_, rest) = line.split_once(": node ")?;
    let (node, rest) = rest.split_once(' ')?;
    if rest.contains(" ready on ") { node.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_nobody_waited_for_is_heard_later() {
        let dir = tempfile::tempdir().unwrap();
        let mut process = Process::new(dir.path(), "node-4", "gtstore-storage", Vec::new());
        assert_eq!(process.heard(ready_node), None);
        let child = Command::new("sleep").arg("1000").spawn().unwrap();
        let (sender, lines) = channel();
        process.state = State::Running { child, lines, paused: false };
        assert_eq!(process.heard(ready_node), None);
        for line in ["gtstore-storage: something else", "gtstore-storage: node 4 of cluster 00 ready on a:1"]
        {
            sender.send(line.to_owned()).unwrap();
        }
        assert_eq!(process.heard(ready_node), Some(4));
        process.kill();
    }

    #[test]
    fn what_servers_print_is_understood() {
        let line = "gtstore-manager: cluster 00ff listening on 127.0.0.1:7400";
        assert_eq!(listening_addr(line).as_deref(), Some("127.0.0.1:7400"));
        let line = "gtstore-storage: listening on 127.0.0.1:7401";
        assert_eq!(listening_addr(line).as_deref(), Some("127.0.0.1:7401"));
        assert_eq!(ready_node("gtstore-storage: node 3 of cluster 00ff ready on 127.0.0.1:7401"), Some(3));
        assert_eq!(ready_node(line), None);
    }
}
