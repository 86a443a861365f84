//! Faults of system calls, injected with `strace`.
//!
//! `strace -D` stays beside the process instead of above it: whom we started is the node itself.
//! With `--seccomp-bpf` it stops the node at the calls it watches and at no others.

use crate::common::process::Server;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A trace to be put over a node's next start.
pub struct Trace {
    words: Vec<String>,
    log: PathBuf,
}

impl Trace {
    /// One with this injection, as `fdatasync:error=EIO:when=5`; none, and a line that says so, if
    /// `strace` is not there or may not do this. `when` counts the calls of each thread.
    pub fn injecting(dir: &Path, injection: &str) -> Option<Self> {
        let log = dir.join("strace");
        let inject = format!("inject={injection}");
        let options =
            ["strace", "-D", "-f", "-q", "--seccomp-bpf", "-e", "trace=fdatasync,fsync", "-e", &inject];
        let log_text = log.to_string_lossy();
        let words = options.into_iter().chain(["-o", &log_text]).map(str::to_owned).collect();
        let trace = Self { words, log };
        let tried = Command::new(&trace.words[0]).args(&trace.words[1..]).arg("true").output();
        match tried {
            Ok(output) if output.status.success() => Some(trace),
            Ok(output) => {
                println!("SKIPPED: strace may not trace: {}", String::from_utf8_lossy(&output.stderr).trim());
                None
            }
            Err(error) => {
                println!("SKIPPED: there is no strace: {error}");
                None
            }
        }
    }

    /// Puts it over the server's next start.
    pub fn over(&self, server: &mut Server) {
        let words: Vec<&str> = self.words.iter().map(String::as_str).collect();
        server.under(&words);
    }

    /// Syncs that succeeded, of the thread that met the injected error; none if no thread has.
    pub fn syncs_before_the_error(&self) -> Option<usize> {
        let text = std::fs::read_to_string(&self.log).unwrap();
        let thread = text.lines().find(|line| line.contains("(INJECTED)"))?.split_whitespace().next()?;
        let of_thread = text.lines().filter(|line| line.split_whitespace().next() == Some(thread));
        Some(of_thread.filter(|line| line.contains("fdatasync") && line.ends_with("= 0")).count())
    }
}
