//! `gtstore-load`: puts load on a cluster and says how it bore it.
//!
//! One thread, one loop. Reading order: [`options`], [`workload`] (what is asked next), [`data`]
//! (keys, and values that can be checked), [`cluster`] (who is there), [`fleet`] (connections),
//! [`load`] (the loop), [`stats`] (what is counted), [`report`] (how it is told).

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command line speaks to its user")]

mod cluster;
mod data;
mod fleet;
mod load;
mod options;
mod report;
mod stats;
mod workload;

use gtstore::shell::args;
use gtstore::shell::net::Net;
use load::{Ending, Load};
use options::{Output, Settings};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;
use std::io::{self, Write};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// Exit code of a process that was interrupted twice, as a shell reports it.
const ENDED_AT_ONCE: i32 = 130;

fn main() -> ExitCode {
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or("warn")).init();
    let settings = match Settings::from_args(&args::of_process()) {
        Ok(settings) => settings,
        Err(code) => return code,
    };
    match run(&settings) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(Failure::Usage(text)) => options::usage_error(&text),
        Err(Failure::Other(text)) => {
            eprintln!("{}: {text}", options::NAME);
            ExitCode::FAILURE
        }
    }
}

/// Why there is no result.
#[derive(Debug)]
pub enum Failure {
    /// The command line asks for what this cluster does not have.
    Usage(String),
    /// Anything else.
    Other(String),
}

impl From<String> for Failure {
    fn from(text: String) -> Self {
        Failure::Other(text)
    }
}

/// Whether the load went through without an error.
fn run(settings: &Settings) -> Result<bool, Failure> {
    let mut net = Net::new().map_err(|error| format!("cannot poll sockets: {error}"))?;
    let cluster = cluster::find(&mut net, &settings.managers)?;
    let keyspace = cluster.keyspace(settings)?;
    eprintln!("{}", report::head(settings, &cluster, &keyspace));
    let stop = stop_flag().map_err(|error| format!("cannot take signals over: {error}"))?;
    let (stats, ending) = Load::new(settings, net, cluster, keyspace, stop)?.run()?;
    let text = match settings.output {
        Output::Table => report::table(&stats),
        Output::Json => report::json(settings, &stats).to_string(),
    };
    // Whoever closed the pipe does not want to read it.
    let _ = writeln!(io::stdout(), "{text}");
    match ending {
        Ending::Complete => Ok(stats.errors() == 0),
        Ending::GaveUp(why) => Err(why.into()),
    }
}

/// Raised by the first SIGINT or SIGTERM; a second one ends the process at once.
fn stop_flag() -> io::Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        // In this order: the first signal finds the flag down, and raises it.
        flag::register_conditional_shutdown(signal, ENDED_AT_ONCE, Arc::clone(&stop))?;
        flag::register(signal, Arc::clone(&stop))?;
    }
    Ok(stop)
}
