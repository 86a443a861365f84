//! One process: started, listened to, signalled, and killed when it is dropped.

#![allow(clippy::print_stderr)] // What a process logged is shown when its test fails.

use super::{MANAGER, STORAGE, wait_until};
use socket2::{Domain, Socket, Type};
use std::io::{BufRead, BufReader, Read};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};

/// Lines of a failed test's process that are shown.
const LAST_WORDS: usize = 20;

/// A running process.
pub struct Process {
    child: Child,
    /// What it printed.
    pub said: Lines,
    /// What it logged.
    pub logged: Lines,
}

/// Everything a process has written to a pipe so far.
#[derive(Clone)]
pub struct Lines(Arc<Mutex<Vec<String>>>);

/// A port of the kernel's choice that stays ours until it is dropped.
///
/// A socket is bound to it but never listens. A server can listen there all the same (both allow
/// the address to be reused), again and again, and nobody else is given the port in between.
pub struct Port {
    addr: SocketAddr,
    _held: Socket,
}

/// A server that may be started, ended and started again, with the same directory.
pub struct Server {
    /// What it is started with: the program and its arguments, behind those of a wrapper.
    command: Vec<String>,
    /// Words that [`under`](Self::under) put first.
    wrapper_len: usize,
    /// Its data directory.
    pub dir: PathBuf,
    port: Port,
    process: Option<Process>,
}

impl Lines {
    /// Reads a pipe on a thread, line by line, so that the process never waits for us.
    fn of(pipe: impl Read + Send + 'static) -> Self {
        let lines = Self(Arc::default());
        let mine = lines.clone();
        std::thread::spawn(move || {
            for line in BufReader::new(pipe).lines().map_while(Result::ok) {
                mine.0.lock().unwrap().push(line);
            }
        });
        lines
    }

    /// The lines so far that have this text in them.
    pub fn with(&self, text: &str) -> Vec<String> {
        self.0.lock().unwrap().iter().filter(|line| line.contains(text)).cloned().collect()
    }

    /// What follows this text in the first line that has it; waits for that line.
    pub fn after(&self, text: &str) -> String {
        let line = wait_until(&format!("a line with {text:?}"), || self.with(text).into_iter().next());
        line.split_once(text).unwrap().1.to_owned()
    }
}

impl Process {
    /// Starts a program as it would be started by hand.
    pub fn start(program: &str, args: &[&str]) -> Self {
        let mut child = Command::new(program)
            .args(args)
            .env_remove("GTSTORE_MANAGER")
            .env("RUST_LOG", "info")
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (said, logged) =
            (Lines::of(child.stdout.take().unwrap()), Lines::of(child.stderr.take().unwrap()));
        Self { child, said, logged }
    }

    /// Its process id.
    pub fn pid(&self) -> String {
        self.child.id().to_string()
    }

    /// Sends it a signal, by name.
    pub fn signal(&self, name: &str) {
        let status = Command::new("kill").args(["-s", name, &self.pid()]).status().unwrap();
        assert!(status.success());
    }

    /// Waits for its end.
    pub fn wait(&mut self) -> ExitStatus {
        wait_until("the end of a process", || self.child.try_wait().unwrap())
    }

    /// Whether it still runs.
    pub fn runs(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Its resident memory.
    pub fn resident_kib(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches("kB").trim().parse().unwrap()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Ended already, or ended now.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            let logged = self.logged.with("");
            let last = logged.len().saturating_sub(LAST_WORDS);
            eprintln!("--- process {} said {:?} and logged:", self.pid(), self.said.with(""));
            logged[last..].iter().for_each(|line| eprintln!("{line}"));
        }
    }
}

impl Port {
    /// One that nobody has.
    pub fn any() -> Self {
        let held = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        held.set_reuse_address(true).unwrap();
        held.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).unwrap();
        Self { addr: held.local_addr().unwrap().as_socket().unwrap(), _held: held }
    }
}

impl Server {
    /// A manager, not started yet.
    pub fn manager(dir: &Path, args: &[&str]) -> Self {
        Self::new(MANAGER, dir, args)
    }

    /// A storage node, not started yet.
    pub fn storage(dir: &Path, args: &[&str]) -> Self {
        Self::new(STORAGE, dir, args)
    }

    fn new(program: &'static str, dir: &Path, args: &[&str]) -> Self {
        let command = [program].iter().chain(args).map(|&word| word.to_owned()).collect();
        Self { command, wrapper_len: 0, dir: dir.to_owned(), port: Port::any(), process: None }
    }

    /// From its next start on it is started by these words, which must become it: its process id
    /// and its exit code are taken for the server's. No words: by itself again.
    pub fn under(&mut self, wrapper: &[&str]) {
        let words = wrapper.iter().map(|&word| word.to_owned());
        self.command.splice(..self.wrapper_len, words);
        self.wrapper_len = wrapper.len();
    }

    /// Where it listens, or would.
    pub fn addr(&self) -> String {
        self.port.addr.to_string()
    }

    /// Starts it and waits until it listens. A storage node is told where the manager is.
    pub fn start(&mut self, manager: Option<&str>) {
        self.launch(manager);
        assert_eq!(self.process().said.after("listening on "), self.addr());
    }

    /// Starts it and waits for nothing.
    pub fn launch(&mut self, manager: Option<&str>) {
        let (addr, dir) = (self.addr(), self.dir.to_string_lossy().into_owned());
        let mut args: Vec<&str> = self.command[1..].iter().map(String::as_str).collect();
        args.extend(["--listen", &addr, "--data-dir", &dir]);
        args.extend(manager.into_iter().flat_map(|manager| ["--manager", manager]));
        self.process = Some(Process::start(&self.command[0], &args));
    }

    /// Ends it with SIGKILL, if it runs.
    pub fn kill(&mut self) {
        self.process = None;
    }

    /// Gives it another port for its next start.
    pub fn move_away(&mut self) {
        assert!(self.process.is_none(), "it still listens");
        self.port = Port::any();
    }

    /// Whether it was started and has not been ended.
    pub fn is_started(&self) -> bool {
        self.process.is_some()
    }

    /// Its process id, if it was started.
    pub fn pid(&self) -> Option<String> {
        self.process.as_ref().map(Process::pid)
    }

    /// Its process.
    pub fn process(&mut self) -> &mut Process {
        self.process.as_mut().unwrap()
    }

    /// A bare connection to it.
    pub fn connect(&self) -> TcpStream {
        TcpStream::connect(self.port.addr).unwrap()
    }
}
