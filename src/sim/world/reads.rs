//! What nodes read from their disks: in any order, beside the writes, each after a while.

use super::{ProcId, What, World};
use crate::engine::{ReadDone, ReadFault, ReadRequest, index_file, read_stretch};
use crate::node;
use bytes::Bytes;

/// How long a read takes, in microseconds: from memory, or from a slow disk behind others.
const READ_US: (u64, u64) = (10, 20_000);

impl World {
    pub(super) fn order_read(&mut self, proc: ProcId, request: ReadRequest) {
        let wait_us = self.rng.range(READ_US.0, READ_US.1);
        let life = self.procs[proc.0].life;
        self.at(self.now_us + wait_us, What::Read { proc, life, request });
    }

    pub(super) fn read(&mut self, proc: ProcId, life: u64, request: &ReadRequest) {
        let process = &mut self.procs[proc.0];
        if process.life != life {
            return;
        }
        let done = match request {
            ReadRequest::Value(stretch) | ReadRequest::Scan(stretch) => {
                ReadDone { id: stretch.id, result: read_stretch(&mut process.disk, stretch) }
            }
            ReadRequest::Index { id, segment, end } => {
                let built = index_file::build(&mut process.disk, *segment, *end);
                ReadDone { id: *id, result: built.map(|()| Bytes::new()).map_err(ReadFault::from) }
            }
        };
        self.tell_node(proc, node::io::Input::Read(done));
    }
}
