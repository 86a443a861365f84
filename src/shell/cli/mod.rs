//! The `gtstore` command line: keys, files of keys, the cluster, a shell, and a cluster of one's
//! own for trying things out.
//!
//! Owns arguments, output formats and exit codes. It decides nothing about the store: every
//! command is a few calls of the [`Store`]. Called by `src/bin/gtstore.rs`.
//!
//! | file | owns |
//! |---|---|
//! | `options` | the command line as a value |
//! | `help` | every `--help` |
//! | `keys`, `trace` | put, get, del, mget; the protocol at work |
//! | `siblings` | concurrent versions, and how they are settled |
//! | `import`, `export` | files of keys; `bulk`, `lines`, `progress`, `target` serve them |
//! | `cluster`, `keyspace` | status, ring, owners, dump; keyspaces |
//! | `health`, `hints` | whether all is well; what is kept for nodes that are away |
//! | `repair` | comparing all copies now |
//! | `membership`, `plan` | who the members are and what they own: staged, shown, carried out |
//! | `transfers`, `query` | sectors on their way; the table by node |
//! | `standing` | members that wait, leave or are given up |
//! | `everyone` | one question to all nodes at once |
//! | `shell` | the interactive shell |
//! | `dev` | a whole cluster on this machine |
//! | `output`, `text`, `exit` | tables and JSON; bytes as text; exit codes |

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "answering the user is the job here")]

mod bulk;
mod cluster;
mod dev;
mod everyone;
mod exit;
mod export;
mod health;
mod help;
mod hints;
mod import;
mod keys;
mod keyspace;
mod lines;
mod membership;
mod options;
mod output;
mod plan;
mod progress;
mod query;
mod repair;
mod shell;
mod siblings;
mod standing;
mod target;
pub(crate) mod text;
mod trace;
mod transfers;

use crate::client::{ErrorKind, Store};
use crate::shell::args;
use exit::{CommandResult, Exit, Failure, exit_of};
use options::{Command, Globals, MANAGER_VARIABLE, Parsed, parse};
use std::io::{BufWriter, Write};
use std::path::Path;
use std::process::ExitCode;

/// The whole program. Under the name `gtstore-manager` or `gtstore-storage` it is that server:
/// so `gtstore dev` finds the servers wherever it was built or copied to, even alone.
#[must_use]
pub fn main(args: &[String]) -> ExitCode {
    let (name, rest) = args.split_first().map_or(("gtstore", args), |(name, rest)| (name.as_str(), rest));
    match Path::new(name).file_name().and_then(|name| name.to_str()) {
        Some("gtstore-manager") => return crate::shell::manager::main(rest),
        Some("gtstore-storage") => return crate::shell::storage::main(rest),
        Some(dev::WATCH_NAME) => return dev::watch(),
        Some(_) | None => {}
    }
    // Warnings of the socket layer are for servers; here every failure is told in its place.
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or("off")).init();
    let mut out = BufWriter::new(std::io::stdout().lock());
    let result = inherited().and_then(|globals| run(rest, &globals, &mut out));
    let result = result.and_then(|()| Ok(out.flush()?));
    match result {
        Ok(()) => Exit::Ok.into(),
        Err(failure) => {
            tell(&failure);
            failure.exit.into()
        }
    }
}

/// What the environment says.
fn inherited() -> Result<Globals, Failure> {
    let mut globals = Globals::default();
    if let Ok(text) = std::env::var(MANAGER_VARIABLE)
        && !text.is_empty()
    {
        globals.store.addrs = args::addr_list(&text)
            .map_err(|why| Failure::usage(format!("the environment's {MANAGER_VARIABLE}: {why}")))?;
    }
    Ok(globals)
}

/// A failure, on standard error.
fn tell(failure: &Failure) {
    if !failure.text.is_empty() {
        eprintln!("gtstore: {failure}");
    }
}

fn run(args: &[String], inherited: &Globals, out: &mut dyn Write) -> CommandResult {
    match parse(args, inherited)? {
        Parsed::Help(about) => Ok(out.write_all(help::text(about.as_deref())?.as_bytes())?),
        Parsed::Version => Ok(writeln!(out, "gtstore {}", env!("CARGO_PKG_VERSION"))?),
        Parsed::Nothing => {
            eprint!("{}", help::text(None)?);
            Err(Failure::new(Exit::Usage, ""))
        }
        Parsed::Run(globals, command) => match *command {
            Command::Dev(options) => dev::run(&globals, &options, out),
            Command::Shell => {
                let mut store = Store::open(globals.store.clone())?;
                // Better to hear now that nobody is there.
                meet(&mut store)?;
                shell::run(store, &globals, out, None)
            }
            Command::HealthWatch => health::watch(&mut Store::open(globals.store.clone())?, &globals, out),
            command => {
                let mut store = Store::open(globals.store.clone())?;
                meet(&mut store)?;
                execute(&mut store, &globals, out, &command)?;
                Ok(store.close()?)
            }
        },
    }
}

/// Finds the cluster. When there is none to be found, whoever types is told how to get one.
fn meet(store: &mut Store) -> CommandResult {
    match store.contact() {
        Ok(_) => Ok(()),
        Err(error) if error.kind == ErrorKind::Failed => {
            let advice =
                "Name another address with --manager HOST:PORT, or start a cluster with 'gtstore dev'.";
            Err(Failure::new(exit_of(&error), format!("{error}\n{advice}")))
        }
        Err(error) => Err(error.into()),
    }
}

/// Runs one command against a store.
fn execute(store: &mut Store, globals: &Globals, out: &mut dyn Write, command: &Command) -> CommandResult {
    match command {
        Command::Put { key, value } => keys::put(store, globals, out, key, value),
        Command::Get { key } => keys::get(store, globals, out, key),
        Command::Delete { key } => keys::delete(store, globals, out, key),
        Command::GetMany { keys } => keys::get_many(store, globals, out, keys),
        Command::AssignedPut { key, value } => keys::assigned_put(store, globals, out, key, value),
        Command::AssignedGet { key } => keys::assigned_get(store, globals, out, key),
        Command::Siblings { key } => siblings::siblings(store, globals, out, key),
        Command::Resolve { key, choice } => siblings::resolve(store, globals, out, key, choice),
        Command::Import { file, format } => import::import(store, out, globals.format, file, *format),
        Command::Export { file, format } => export::export(store, out, file, *format),
        Command::Owners { key } => cluster::owners(store, globals, out, key),
        Command::Dump { node: None } => cluster::dump_table(store, globals, out),
        Command::Dump { node: Some(node) } => cluster::dump_node(store, globals, out, *node),
        Command::Status => cluster::status(store, globals, out),
        Command::Ring => cluster::ring(store, globals, out),
        Command::Hints => hints::hints(store, globals, out),
        Command::Repair(asked) => repair::repair(store, globals, out, *asked),
        Command::Health => health::health(store, globals, out),
        Command::Cluster(action) => membership::run(store, globals, out, action),
        Command::Query => query::query(store, globals, out),
        Command::TraceGet { key } => trace::get(store, globals, out, key),
        Command::TracePut { key, value } => trace::put(store, globals, out, key, value),
        Command::KeyspaceCreate(new) => keyspace::create(store, globals, out, new),
        Command::KeyspaceList => keyspace::list(store, globals, out),
        Command::Shell | Command::Dev(_) | Command::HealthWatch => {
            Err(Failure::usage("this cannot be started from inside the shell: leave it first"))
        }
    }
}
