//! The simulator: a whole cluster, with its manager and clients, on one virtual clock.
//!
//! It runs the very machines that the shell runs, and drives them by a queue of events whose
//! every choice is drawn from one seed: the same seed gives the same run, event by event. First
//! *weather* (faults), then *heal*, then it is *demanded* that the cluster answers and converges.
//!
//! | file | owns |
//! |---|---|
//! | `world` | the event queue, processes, connections, the network and the disks |
//! | `process` | one process: its machine, its disk, its links, its clocks |
//! | `boot` | how the machines of processes are started |
//! | `disk` | what a crash does to files |
//! | `crash` | one engine alone, crashed after every operation of its disk |
//! | `swarm` | the settings a seed draws, of the nodes and of their use |
//! | `weather` | the faults a seed draws, and when |
//! | `operator` | changes of the membership amid the weather |
//! | `workload` | what clients ask, and the history of what they were told |
//! | `checks` | what must hold of a history, apart from the code it judges |
//! | `staleness` | how soon reads see a write, measured and computed |
//! | `run` | one seed from start to verdict |

mod boot;
mod checks;
mod crash;
mod disk;
mod operator;
mod process;
mod rng;
mod run;
pub mod staleness;
mod swarm;
mod weather;
mod workload;
mod world;

pub use crash::{CrashReport, CrashSettings, FlipReport, crash_sweep, flip_sweep};
pub use disk::{DiskCall, Replay, SimDisk};
pub use rng::Rng;
pub use run::{Report, Settings, Shape, run};
pub use weather::{Fault, LeftOut};
