//! The manager.

pub mod io;

use crate::engine::Storage;
use crate::machine::Machine;
use crate::mutant::Planted;
use crate::types::{ClusterId, Instant, Now};
use crate::wire::hello::{Identity, Server};
use io::{Input, Output};

/// How a manager is started.
#[derive(Clone, Debug)]
pub struct Options {
    /// Copies per sector, for a new cluster.
    pub n: u8,
    /// Q, for a new cluster.
    pub sectors: u16,
    /// A random number for a new cluster.
    pub fresh_cluster: ClusterId,
    /// A planted bug, for the simulator.
    pub planted: Planted,
}

/// The manager.
#[derive(Debug)]
pub struct Manager {}

impl Manager {
    /// Opens a data directory, or begins a new cluster in an empty one.
    ///
    /// # Errors
    /// Why the directory cannot be served from, and what the operator can do, in words.
    pub fn open(_storage: &mut impl Storage, _options: Options) -> Result<Self, String> {
        Err("not built yet".to_owned())
    }

    /// Who the manager is, for Hello.
    #[must_use]
    pub fn identity(&self) -> Identity {
        Identity { cluster_id: ClusterId(0), server: Server::Manager, incarnation: Default::default() }
    }
}

impl Machine for Manager {
    type Input = Input;
    type Output = Output;
    fn handle(&mut self, _now: Now, _input: Input, _out: &mut Vec<Output>) {}
    fn deadline(&self) -> Option<Instant> {
        None
    }
}
