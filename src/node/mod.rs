//! The storage node.

pub mod freshness;
pub mod identity;
pub mod io;
pub mod pending;
pub mod sync_gate;

use crate::engine::Storage;
use crate::machine::Machine;
use crate::mutant::Planted;
use crate::types::{DiskUuid, Instant, Now};
use crate::wire::hello::{Identity, Server};
use io::{Input, Output};

/// How a node is started.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where peers and clients reach it, `HOST:PORT`.
    pub addr: String,
    /// Failure domain; empty when unsaid.
    pub zone: String,
    /// Share of the data relative to other members; 100 is the usual.
    pub weight: u16,
    /// Longest key taken.
    pub key_bytes_max: usize,
    /// Longest value taken.
    pub value_bytes_max: usize,
    /// A random number for a directory that has no identity yet.
    pub fresh_uuid: DiskUuid,
    /// The machine's boot, as a number: when it changed, unsynced data may be gone.
    pub boot_id: u128,
    /// A planted bug, for the simulator.
    pub planted: Planted,
}

/// A storage node.
#[derive(Debug)]
pub struct Node {}

impl Node {
    /// Opens a data directory: recovers the log, raises the incarnation durably.
    ///
    /// # Errors
    /// Why the directory cannot be served from, and what the operator can do, in words.
    pub fn open(_storage: &mut impl Storage, _options: Options) -> Result<Self, String> {
        Err("not built yet".to_owned())
    }

    /// Who the node is, for Hello; before its first join with cluster and node 0.
    #[must_use]
    pub fn identity(&self) -> Identity {
        Identity {
            cluster_id: Default::default(),
            server: Server::Node(Default::default()),
            incarnation: Default::default(),
        }
    }
}

impl Machine for Node {
    type Input = Input;
    type Output = Output;
    fn handle(&mut self, _now: Now, _input: Input, _out: &mut Vec<Output>) {}
    fn deadline(&self) -> Option<Instant> {
        None
    }
}
