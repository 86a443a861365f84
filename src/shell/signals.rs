//! The operator's wish that the process end: SIGTERM, SIGINT or SIGHUP.

use super::net::Net;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::flag;
use signal_hook_mio::v1_0::Signals;
use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

const STOP_SIGNALS: [i32; 3] = [SIGTERM, SIGINT, SIGHUP];
/// Exit code of a process that was told twice: as a shell reports an interrupt.
const ENDED_AT_ONCE: i32 = 130;

/// Wakes the loop at the first signal. A second one ends the process at once, even if the loop
/// stands still.
pub(crate) struct StopSignals {
    signals: Signals,
}

impl StopSignals {
    /// Takes the signals over and wakes this poll with them.
    pub(crate) fn install(net: &mut Net) -> io::Result<Self> {
        let seen_one = Arc::new(AtomicBool::new(false));
        for signal in STOP_SIGNALS {
            // In this order: the first signal finds the flag down, and raises it.
            flag::register_conditional_shutdown(signal, ENDED_AT_ONCE, Arc::clone(&seen_one))?;
            flag::register(signal, Arc::clone(&seen_one))?;
        }
        let mut signals = Signals::new(STOP_SIGNALS)?;
        net.watch(&mut signals)?;
        Ok(Self { signals })
    }

    /// Whether one has come since this was last asked.
    pub(crate) fn take(&mut self) -> bool {
        self.signals.pending().count() > 0
    }
}
