//! Every help text. The formats and exit codes promised here are kept.

mod cluster;
mod keys;
mod membership;
mod trying;

use super::exit::Failure;
use cluster::CLUSTER;
use keys::KEYS;
use membership::MEMBERSHIP;
use trying::TRYING;

const GENERAL: &str = "\
gtstore - a distributed, replicated key-value store

Usage: gtstore [OPTIONS] COMMAND [ARGUMENTS]

Keys
  put KEY VALUE       write a value
  get KEY             read it
  del KEY             delete it; a key that is not there is said to be missing
  mget KEY...         read several at once
  siblings KEY        the concurrent versions of a key, and their context
  resolve KEY ...     settle them: --keep N, --value V, --latest or --delete
  import FILE|-       write every key of a file (JSON Lines or tab-separated)
  export FILE|-       write every key of the keyspace to a file
  trace get|put ...   read or write one key and show what each node did

Cluster
  status              one row per node: is it up, what does it hold
  ring                each node's share of sectors and keys
  health [--watch]    whether all is well, and what is not
  hints               writes kept for nodes that are away, by who keeps them
  repair [--sector S] compare all copies now, and make them equal
  owners KEY          a key's sector and its owners in order
  dump [--node N]     the table; or what one node holds
  keyspace create NAME, keyspace list
  query               the table by node: the sectors each owns, and which are on their way

Growing, shrinking, replacing ('gtstore help cluster')
  cluster join NODE...     nodes that wait are to own sectors
  cluster leave NODE...    nodes are to hand over all they have, and go
  cluster replace DEAD [NEW]   a dead node's copies are to be rebuilt elsewhere
  cluster move NODE FIRST LAST   a node is to own these sectors
  cluster weight NODE W    a node is to have another share of the data
  cluster plan             what is staged, and what it would come to
  cluster apply --epoch E  carry it out
  cluster revert           forget what is staged
  cluster cancel           call off what is under way
  cluster transfers [--watch]   copies of sectors on their way, how far, how fast

Trying out
  dev                 a whole cluster on this machine, and a shell in it
  shell               type commands without 'gtstore' in front; history, completion
  help [COMMAND]      more about one command

Options, before or after the command
  -m, --manager HOST:PORT[,...]  managers or storage nodes to begin with, several if
                      you like; or the environment's GTSTORE_MANAGER; else 127.0.0.1:7400.
                      A storage node answers too, so that all but 'keyspace create' and
                      'cluster' (its 'transfers' apart) works while the manager is down.
  -k, --keyspace NAME the keyspace of the keys; 'default' if not given. For commands about
                      keys; the others are of the whole cluster
  -o, --output FORMAT table (for people), json or plain (stable, see below)
  -r R, -w W          replicas that must answer a read, or acknowledge a write,
                      instead of the keyspace's numbers; for commands that read, or write
  --strict            count owners alone toward R and W; usually, for an owner that is away,
                      a fallback counts that stands in for it
  --ttl SPAN          for put, trace put and import: the value is missing to readers after
                      this time: 1500ms, 10s, 5m, 2h or 1d
  --context HEX       for put, del and trace put: this replaces what was read with that
                      context; what came between is kept beside it. For resolve: see there
  --timeout-ms MS     how long a request is worth waiting for, 1 to 60000; 2000 if not given.
                      Nothing is wrong with 1 where all is well, but below about 10 a busy
                      machine alone can use the time up
  --routing MODE      forwarder (one contact node relays), direct (ask an owner),
                      fastest (ask the owner that lately answered soonest)
  -h, --help   -V, --version   -- (what follows is no option)

The assignment's forms
  gtstore --put KEY --val VALUE     prints: OK, server3
  gtstore --get KEY                 prints: KEY, VALUE, server3

Output that programs may rely on
  -o json   one JSON value per line. Keys and values that are not UTF-8 stand as
            \"key_base64\" and \"value_base64\". get: found, key, values[value, dot,
            wall_ms, expires_ms], coordinator, answered, fallbacks, needed, replicas, context.
            put, del: result, key, coordinator, answered, fallbacks, needed, replicas,
            context. ('fallbacks' of those that answered stood in for owners.)
  -o plain  tab-separated, no headings. get: the value's bytes and a newline, each
            value on its own line. mget: key, value (with \\\\ \\t \\n \\r \\xNN). put, del:
            OK, coordinator, context. status: state, node, address, zone, sectors,
            first in, keys, bytes, working on, epoch, life, damaged sectors, health,
            bytes of hints kept, disk (ok, low, full), copies to repair. Columns are only
            ever added at the end.
  Results go to standard output, everything else to standard error.

Exit codes
  0 done                    4 too few nodes reached or in time; nothing applied
  1 another error           5 a write or change of unknown outcome: look before repeating
  2 usage                   6 conflict with what is there; not applied (of 'resolve': see there)
  3 no such key             7 'health' has found something that is not well
                            141 whoever read the output has closed it (as SIGPIPE ends others)
";

/// Help about each command: its forms, and what to know.
fn commands() -> impl Iterator<Item = &'static (&'static str, &'static str)> {
    KEYS.iter().chain(CLUSTER).chain(MEMBERSHIP).chain(TRYING)
}

/// The names of all commands, for completion.
pub(crate) fn command_names() -> impl Iterator<Item = &'static str> {
    commands().map(|entry| entry.0).filter(|name| !name.contains(' '))
}

/// Help about one command, or about all.
///
/// # Errors
/// There is no such command.
pub(crate) fn text(about: Option<&str>) -> Result<String, Failure> {
    // Of help itself there is no more to say than what it gives.
    let Some(about) = about.filter(|about| *about != "help") else { return Ok(GENERAL.to_owned()) };
    let first = about.split(' ').next().unwrap_or(about);
    let found = |name: &str| commands().find(|entry| entry.0 == name).map(|entry| entry.1.to_owned());
    let text = found(about).or_else(|| found(first)).or_else(|| found(&format!("cluster {first}")));
    text.ok_or_else(|| Failure::usage(format!("there is no command '{first}'")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_has_help_and_is_in_the_overview() {
        for (name, _) in commands() {
            assert!(GENERAL.contains(&format!("  {name} ")), "{name}");
            assert!(text(Some(name)).unwrap().starts_with(&format!("gtstore {name}")), "{name}");
        }
        assert_eq!(text(Some("help")).unwrap(), GENERAL);
        assert_eq!(text(Some("leave")).unwrap(), text(Some("cluster leave")).unwrap(), "as the shell has it");
        assert_eq!(text(Some("get k")).unwrap(), text(Some("get")).unwrap());
        assert!(text(Some("frobnicate")).is_err());
    }

    #[test]
    fn help_fits_a_terminal() {
        for (_, text) in commands().chain([&("", GENERAL)]) {
            for line in text.lines() {
                assert!(line.chars().count() <= 96, "{line}");
            }
        }
    }
}
