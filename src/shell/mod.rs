//! The only impure part: sockets, files, clocks, threads, signals. It turns what the system says
//! into inputs of the machines, and their outputs into system calls. It decides nothing.
//!
//! | module | owns |
//! |---|---|
//! | [`net`] | sockets and the `mio` poll: whole frames in, whole messages out |
//! | [`files`] | a data directory; after start its owner is the log thread |
//! | `log_thread` | group commit: writes that never wait for a sync, syncs on a thread of their own |
//! | `read_thread` | reads from the disk: at once where they are in memory, else on threads |
//! | `server` | what the two servers' loops stand on: poll, disk, clock, signals, one turn's haul |
//! | `dialer` | one connection that is to be there always |
//! | [`storage`], [`manager`] | the two processes: command line, loop |
//! | [`blocking`] | the client with real sockets: [`Store`](blocking::Store) |
//! | [`cli`] | the `gtstore` command line, and `gtstore dev` |
//! | [`args`], [`clock`], [`random`] | command lines; time; chance |

pub mod args;
pub mod blocking;
pub mod cli;
pub mod clock;
mod dialer;
pub mod files;
mod log_limit;
mod log_thread;
pub mod manager;
mod memory;
pub mod net;
pub mod random;
mod read_thread;
mod server;
mod signals;
pub mod storage;
