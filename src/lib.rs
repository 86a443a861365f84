//! GTStore: a distributed key-value store of the Dynamo family.
//!
//! # The one rule
//! Everything in this crate is **pure**, except [`shell`] and the binaries: no sockets, files,
//! clocks, threads, random source or environment, and no iteration order taken from a hash map.
//! The storage node, the manager and the client are [machines](machine::Machine): they are told
//! what happened and when, and answer with values that say what they want done. `shell` carries
//! those values out with system calls; `sim` carries the very same values out on a virtual clock,
//! network and disk. That is how a whole cluster, with its crashes, runs inside one test.
//!
//! # Where things are
//! | module | owns |
//! |---|---|
//! | [`types`], [`limits`], [`clock`] | newtypes and units; every cap with its reason; the hybrid logical clock |
//! | [`machine`] | the trait that node, manager and client implement |
//! | [`lookup`] | the one hash map of the core: it can be asked, never walked |
//! | [`wire`] | frames, Hello, and the client, peer and manager messages as bytes |
//! | [`version`] | dots, version vectors, objects and their merge |
//! | [`quorum`] | counting acknowledgements over replica slots |
//! | [`ring`] | key -> sector, the epoch-numbered table, placement |
//! | [`engine`] | the index, the commit log and its recovery, behind a small storage trait |
//! | [`node`] | the storage node: forwarder, coordinator, replica |
//! | [`manager`] | members, ids and the table |
//! | [`client`] | the sans-IO client; [`client::Store`], the blocking one on top, lives in `shell` |
//! | [`sim`] | a cluster on a virtual clock, its faults and its checkers |
//! | [`mutant`] | bugs that can be planted, to see the simulator catch them |
//! | [`shell`] | the `mio` loop, files, signals, the command line: the only impure part |
//!
//! # One PUT, in reading order
//! `shell::net` (bytes) -> `wire` (message) -> `shell::storage` (the loop) -> `node` (dispatch) ->
//! `node::request` (checks) -> `node::forward` -> `node::coordinate_put` -> `engine` (merge,
//! record) -> `node::replica` on the other owners, `node::sync_gate` -> back through
//! `node::coordinate_put` -> `shell::net`.
//!
//! # Vocabulary
//! *Sector*: one of Q equal slices of the hash space. *Table*: the map from sectors to replica
//! slots, numbered by *epoch*. *Forwarder*: the node a client talks to. *Coordinator*: the owner
//! that runs a key's quorum. *Replica*: an owner storing one copy. *Dot*: the name of one write,
//! (actor, sequence), never used twice. *Context*: the version vector a reader was given.

pub mod client;
pub mod clock;
pub mod engine;
pub mod limits;
pub mod lookup;
pub mod machine;
pub mod manager;
pub mod mutant;
pub mod node;
pub mod quorum;
pub mod ring;
pub mod shell;
pub mod sim;
pub mod types;
pub mod version;
pub mod wire;

/// The README's examples, compiled with the tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
