//! What ends a dev cluster whose `gtstore dev` was killed: a small process that holds the other
//! end of a pipe.
//!
//! `gtstore dev` tells it each server it starts (`+PID`), each that it has ended (`-PID`), the
//! temporary directory (`rmPATH`), and after an orderly end that all is done (`done`). When the
//! pipe ends, for whatever reason, it stops what is left and removes the directory.

use super::process::{ask_to_stop, signal};
use std::collections::BTreeSet;
use std::io::{BufRead, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

/// The name under which this executable is the watch.
pub(crate) const WATCH_NAME: &str = "gtstore-dev-watch";
const PATIENCE: Duration = Duration::from_secs(5);

/// The pipe to the watch.
#[derive(Debug)]
pub(super) struct Watch {
    child: Child,
    pipe: Option<ChildStdin>,
}

impl Watch {
    /// Starts the watch, out of reach of the terminal's Ctrl-C.
    pub(super) fn start() -> std::io::Result<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .arg0(WATCH_NAME)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()?;
        let pipe = child.stdin.take();
        Ok(Self { child, pipe })
    }

    pub(super) fn began(&mut self, pid: u32) {
        self.tell(&format!("+{pid}"));
    }

    pub(super) fn ended(&mut self, pid: u32) {
        self.tell(&format!("-{pid}"));
    }

    pub(super) fn remove_at_end(&mut self, dir: &Path) {
        self.tell(&format!("rm{}", dir.display()));
    }

    fn tell(&mut self, line: &str) {
        if let Some(pipe) = &mut self.pipe
            && let Err(error) = writeln!(pipe, "{line}")
        {
            log::warn!("the watch is gone: {error}");
        }
    }

    /// All is stopped: lets it end, and waits for it.
    pub(super) fn finish(&mut self) {
        self.tell("done");
        self.pipe = None;
        let _ = self.child.wait();
    }
}

/// The watch itself.
pub(crate) fn watch() -> ExitCode {
    let mut pids = BTreeSet::new();
    let mut temporary: Option<PathBuf> = None;
    for line in std::io::stdin().lock().lines() {
        let Ok(line) = line else { break };
        if let Some(pid) = line.strip_prefix('+').and_then(|pid| pid.parse::<u32>().ok()) {
            pids.insert(pid);
        } else if let Some(pid) = line.strip_prefix('-').and_then(|pid| pid.parse::<u32>().ok()) {
            pids.remove(&pid);
        } else if let Some(path) = line.strip_prefix("rm") {
            temporary = Some(PathBuf::from(path));
        } else if line == "done" {
            return ExitCode::SUCCESS;
        }
    }
    let mut left: Vec<u32> = pids.into_iter().filter(|pid| is_server(*pid)).collect();
    ask_to_stop(&left);
    let deadline = Instant::now() + PATIENCE;
    while !left.is_empty() && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(50));
        left.retain(|pid| is_server(*pid));
    }
    signal("KILL", &left);
    if let Some(path) = temporary {
        let _ = std::fs::remove_dir_all(path);
    }
    ExitCode::SUCCESS
}

/// Whether this is still the server that was started, and not another process to which the
/// system has given its number. One that has ended but was not waited for has no command line.
fn is_server(pid: u32) -> bool {
    match std::fs::read(format!("/proc/{pid}/cmdline")) {
        Ok(line) => line.starts_with(b"gtstore-"),
        // No such process, or no /proc to ask.
        Err(_) => !Path::new("/proc/self").exists() && signal("0", &[pid]),
    }
}
