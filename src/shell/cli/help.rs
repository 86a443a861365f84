//! Every help text. The formats and exit codes promised here are kept.

use super::exit::Failure;

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

Trying out
  dev                 a whole cluster on this machine, and a shell in it
  shell               type commands without 'gtstore' in front; history, completion
  help [COMMAND]      more about one command

Options, before or after the command
  -m, --manager HOST:PORT[,...]  managers or storage nodes to begin with, several if
                      you like; or the environment's GTSTORE_MANAGER; else 127.0.0.1:7400.
                      A storage node answers too, so that all but 'keyspace create'
                      works while the manager is down.
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
  1 another error           5 a write whose outcome is unknown: read before repeating
  2 usage                   6 conflict with what is there; not applied (of 'resolve': see there)
  3 no such key             7 'health' has found something that is not well
                            141 whoever read the output has closed it (as SIGPIPE ends others)
";

/// Help about one command: its forms, and what to know.
const COMMANDS: &[(&str, &str)] = &[
    (
        "put",
        "\
gtstore put KEY VALUE

Writes a value. It is acknowledged once W replicas have it durably. In an 'lww' keyspace it
replaces what is there; in a 'siblings' keyspace it stands beside it, unless --context says
what it replaces. Exit code 4: nothing was written. 5: it may have been; read the key.
With --ttl the value is missing to every reader once that time is over; nobody deletes it, and
a later put starts anew. Nodes whose clocks differ end it so much earlier or later.

  gtstore put greeting hello
  gtstore put session:7 open --ttl 30m
  gtstore put greeting hello --strict    (W owners must have it; no fallback counts)
  gtstore -k carts put ann 'apples, pears' --context 00f0...   (from get -o json)
",
    ),
    (
        "get",
        "\
gtstore get KEY

Prints the value and a newline. Into a pipe or file, and with -o plain, the value is its bytes
as they are ('| head -c -1' takes the newline off again). On a terminal it is one line, in which
backslash, tab, newline, carriage return, other control characters and bytes that are not UTF-8
stand as \\\\ \\t \\n \\r \\xNN, as everywhere. Several concurrent values (in a 'siblings' keyspace)
are printed one after the other, with a note and the context on standard error; that is exit
code 0. No such key: 3.
'Not found' is only said when so many owners have nothing that no acknowledged write can
have been missed; else the answer is an error.

  gtstore get greeting
  gtstore get greeting -o json
  gtstore get greeting -r 1        (one replica is enough: fast, perhaps old)
",
    ),
    (
        "del",
        "\
gtstore del KEY

Reads the key, and deletes just what was read. A key that is not there: exit code 3, and
nothing is written. With --context it deletes what was read with that context.
",
    ),
    (
        "mget",
        "\
gtstore mget KEY...

Reads several keys at once: a line for each, in the order asked, keys and values escaped as get
does on a terminal. Exit code 3 if any of them was not found.
",
    ),
    (
        "siblings",
        "\
gtstore siblings KEY

Every version that the key has: its number, its name (node.life:write, of the node that
coordinated the write), when it was written by its writer's clock (UTC), until when it is
visible if not for good, its bytes and value, and the context that covers all of them, for
'resolve' and 'put --context'. Numbers are in the order of the names. In an 'lww' keyspace there
is one version at most; in a 'siblings' keyspace as many as were written concurrently and are
not settled. One version: there is nothing to settle. No such key: 3.

-o plain: number, name, written (ms since 1970), expires (the same, or '-'), bytes, value,
context.
-o json: found, key, versions[number, bytes, written, value, dot, wall_ms, expires_ms], and what
get gives of the answer, context among it.

  gtstore -k carts siblings ann
",
    ),
    (
        "resolve",
        "\
gtstore resolve KEY (--keep N | --value V | --latest | --delete) [--context HEX]

Settles a key's concurrent versions: reads it, and writes with the context that was read, so
that nothing unseen is replaced. --keep leaves the version of that number, or of that name, as
'siblings' shows them (a name stays what it is when other versions come and go); --latest the
one with the highest stamp, --value a value of yours, --delete none. A version that is kept is
written anew, with the time to live that it had left. With one version there is nothing to
settle, and nothing is changed. No such key: 3.

Exit code 6, nothing written: there is no such version any more; or, with the --context that
'siblings' gave, the key's versions are no longer those. Without it a number is one of the
versions that there are now: give both, or the name, where others write too.
Exit code 6, settled: a write that came in between stands beside the new one.

-o plain: OK (or NOTHING), coordinator, context. -o json: result (settled, nothing_to_settle),
versions (how many there were), key, and what put gives of the answer.

  gtstore -k carts resolve ann --keep 2
  gtstore -k carts resolve ann --value 'apples, pears'
",
    ),
    (
        "import",
        "\
gtstore import FILE|-  [--format jsonl|tsv]

Writes every key of a file, many at a time. The format is told by the name (.jsonl .json
.ndjson; .tsv .tab .txt), else by the first line.

  jsonl   one object per line: {\"key\":\"k\",\"value\":\"v\"}; bytes that are not UTF-8 as
          \"key_base64\" and \"value_base64\"; \"expires_ms\", where a value is to be visible for a
          while: until when, in milliseconds since 1970
  tsv     key, tab, value. In both, \\\\ \\t \\n \\r and \\xNN stand for backslash, tab, newline,
          carriage return and any byte; any other backslash stands for itself

In an 'lww' keyspace a line replaces what is there, and of two lines with one key the later one
wins. In a 'siblings' keyspace lines with one key are its concurrent values, as export writes
them. There each key is read first, and a value it has is not written again: it ends with the
values of the file beside those it had, and the same import once more changes nothing. To go
back to just what is in the file, import into a keyspace of its own. The last line printed
counts values: lines that were written, that failed, that were there already, and whose time
was over, which are not written; with -o json it is an object (imported, failed, already_there,
expired, seconds), with -o plain four numbers. --ttl is for the lines that do not say themselves
how long they are to be visible.
Lines that failed are told on standard error, and the exit code is that of the first failure.
At a line of more than 8 MiB, which no key and value need, the import stops. So it does when no
server has answered for 512 keys in a row, and says from which line to go on.

  dpkg-query -W -f='${Package}\\t${Version}\\n' | gtstore import -
",
    ),
    (
        "export",
        "\
gtstore export FILE|-  [--format jsonl|tsv]

Writes every key of the keyspace, in sector order, each read by quorum. The formats are those
of import, jsonl if the name says nothing. Keys written meanwhile may be in it or not.
Concurrent values are written as several lines. How long a value is to be visible goes along in
jsonl; tsv cannot carry it, and it is said how many values have lost it so. The count goes to
standard error: keys, and values where there are more of them.
It is written to FILE.partial, which replaces FILE when it is whole and on disk. If so many
nodes are down that keys may be missing, or keys cannot be read, it says so and the exit code
is 4: FILE.partial is kept, and an earlier FILE is left as it was. It stops when too few owners
answer for 512 keys in a row. With -r 1 a single copy of each key is enough, perhaps an old one.
",
    ),
    (
        "trace",
        "\
gtstore trace get KEY
gtstore trace put KEY VALUE

Reads or writes one key and shows each node's part: the forwarder that took the request, the
coordinator that ran the quorum, each replica, when it was asked and when it answered (on the
asker's clock, from its start), and the versions it holds or stored. A version is named
node.life:write; it is never used twice. No such key: 3, as of get. When the request fails, the
steps known are shown all the same; with nobody reached there are none.
",
    ),
    (
        "status",
        "\
gtstore status

One row per node. The first letter says how it is to whoever is asked, as does the word (U up;
S suspected: silent for a moment; C cut off: others hear it; D down: nobody does), the second
its standing (N normal, J joining, L leaving). The manager asks no others: it knows up and down.
'First in' counts the sectors whose preferred coordinator it is. Keys and data are as each node
last reported them, up to half a second ago;
a node keeps, and counts, its old copies of sectors that have moved away. 'Life' counts starts.
Whoever is asked tells what it sees: name a node with --manager to see the cluster from there.
What that one does not know of the others is shown as '-' (null in json): a node that is down
works on nothing, and one that the manager has not heard of since its own start has no keys.
A node that found its log damaged counts the sectors concerned ('Damaged', a column only when
there are any): their other owners serve them. 'Hints kept' (likewise) is what it has in store
for nodes that are away; see 'gtstore help hints'. 'Disk' (likewise) is 'low' where less is free
than the node's reserve, so that it refuses puts, and 'full' where it can write nothing. 'To
repair' (likewise) counts copies of sectors that are known to differ from another owner's, and
those that a 'repair' has yet to compare: they are seen to without your doing.
",
    ),
    (
        "ring",
        "\
gtstore ring

A bar per node with its share of sectors, and its keys (copies counted). Keys are as each node
last reported them, up to half a second ago, so that just after an import some are missing; of
a node that is down they may be older, and '-' stands for those never heard of.
",
    ),
    (
        "health",
        "\
gtstore health [--watch]

Asks every node, and the manager, and says 'All is well' (exit code 0), or what is not (7):
nodes that are suspected, cut off or down, and to whom, for nodes may differ; sectors with fewer
copies than they should have on nodes that are up, and sectors with none; disks without room,
whose nodes refuse puts; writes that are owed to nodes which missed them; damaged sectors; and
what can be done about it. When nobody answers at all: 4. --watch looks again each second until
Ctrl-C, in place on a terminal, else a line each time; how it ends says nothing of the cluster.
It is not for use inside the shell, where Ctrl-C has another meaning.

-o json: well, nodes, moving, repairs, findings[kind, node, count, text, advice]; kind is node,
manager, short, lost, disk, hints, damaged or not_serving; short and lost count sectors.
-o plain: kind, node, count, text of each finding; nothing where all is well.
",
    ),
    (
        "hints",
        "\
gtstore hints

A write whose owner is away is kept for it by a fallback, or noted by another owner, and handed
over when it is back. Every node is asked what it keeps: for whom, of how many keys ('hints'), of
how many bytes; and of how many keys it was to keep one since its own start ('missed'): each of
them is kept yet, or was handed over ('delivered'), or dropped for want of room. What was dropped
reaches its owner when copies are compared, and when a read finds it missing there. Nodes that do
not answer are named on standard error ('silent' in json); when none does: exit code 4.
-o plain: holder, owed to, hints, bytes, missed, delivered, dropped.
",
    ),
    (
        "repair",
        "\
gtstore repair [--sector S] [--no-wait]

Every node compares its copies with each other owner at once, and exchanges what differs: of all
sectors and keyspaces, or of one sector ('gtstore owners KEY' names a key's). Nodes do so by
themselves every ten seconds, one other owner at a time; this is for being sure now, or where
they were told never to (--compare-every 0). Requests of clients come first, as always.

A row per node: places compared (a place is a sector of a keyspace, shared with one other
owner), keys sent to other owners and fetched from them since this began, places left, and
places missed, whose other owner is away or cannot do it: those are tried again for some
seconds. Waits until nothing is left, with its progress on standard error; --timeout-ms sets an
end to that (exit code 4 if places are left then), and so does Ctrl-C. The nodes go on all the
same. --no-wait only begins. Asked again while it is under way it begins anew, and of all
sectors if they differ.

Nodes that do not answer are named on standard error; when none does: exit code 4. A sector that
there is not: 2. -o plain: node, compared, sent, fetched, left, missed. -o json: nodes[node,
compared, sent, fetched, left, missed], silent.
",
    ),
    (
        "owners",
        "\
gtstore owners KEY

The key's sector, its Redis Cluster hash slot, and the nodes that own it, the preferred one
first. Keys with the same {tag} are in the same sector.
",
    ),
    (
        "dump",
        "\
gtstore dump             the table: who owns which sectors ('2>4': moving from node 2 to 4)
gtstore dump --node N    what node N itself holds of the keyspace: sector, key, versions
                         (deleted keys included, until they can be forgotten)

-o json gives the table as one object, and a line per key with --node.
",
    ),
    (
        "keyspace",
        "\
gtstore keyspace create NAME [--n N --r R --w W --conflict lww|siblings
                              --durability sync|os|memory]
gtstore keyspace list

A keyspace is a named set of keys with its own copies (N), answers a read needs (R),
acknowledgements a write needs (W), what becomes of concurrent writes (lww: the latest wins;
siblings: readers see all), and durability. What is not given follows the cluster: its N, a
majority for R and W, lww, sync. Creating one needs the manager; doing so twice with equal
settings is harmless. One that is there with other settings: exit code 6, and it stays as it is.
",
    ),
    (
        "shell",
        "\
gtstore shell

Commands without 'gtstore' in front. Quotes and backslashes work as in sh. Tab completes
commands; history is kept in ~/.gtstore_history. Leave with exit [CODE], Ctrl-D, or Ctrl-C on
an empty line; on any other line Ctrl-C takes back what was typed. A script (standard input
is no terminal) ends with the exit code of its first failure, unless exit names one.
",
    ),
    (
        "dev",
        "\
gtstore dev [--nodes 3] [--rep 3] [--profile NAME] [--data-dir DIR] [--any-ports]
            [--cache-bytes SIZE] [--no-shell] [-o json]

Starts a manager and storage nodes on this machine, waits until they serve, and opens a shell
in which, beside all other commands,

  kill N      ends node N at once, as kill -9 does       add        starts one more node
  restart N   starts it (again) from its directory       pause N, resume N   SIGSTOP, SIGCONT
  processes   lists them
  partition 1,2|3,4,5   nodes of different groups do not hear each other, though all run and
                        clients and the manager reach them; those in no group hear all
  heal        ends that

N is a node's number, or 'manager'. Leaving the shell (see 'help shell') stops everything it
started, and so does Ctrl-C while a command runs.

Without --data-dir everything is temporary and deleted at the end. With one, data is kept
there (manager/, node-1/, ...) beside the servers' logs (manager.log, node-1.log, ...); given
again, what is found there is started again. New nodes are added only if --nodes says more than
the cluster has members, missing ones included; their numbers are above all there ever were.
--rep (copies of each key) and --profile (key and value limits: default, or gtstore with 20 and
1000 bytes) are the cluster's for good: an old one must have been made with what is given.
--cache-bytes is the memory that each node keeps values in, as 64MiB; usually each takes up to a
quarter of the machine's.
--no-shell runs until Ctrl-C or SIGTERM; with -o json it prints one line when ready:
  {\"manager\":\"HOST:PORT\",\"data_dir\":\"...\",\"nodes\":[{\"id\":1,\"addr\":\"HOST:PORT\",\"pid\":123},...],
   \"failed\":[directories of which no node started],\"missing\":[members that are not here]}
A node that does not start, or whose directory is gone, is told; the others are started and
serve what has enough copies on them. 'restart node-N' tries again, by the directory's name.
Ports are 7400 for the manager and 7401 on for nodes; where one is taken, the system chooses.
With --any-ports it chooses all of them: for clusters beside each other, and for tests, which
then never meet a client of another cluster that was on the usual ports.
The servers are the same programs as gtstore-manager and gtstore-storage: this executable,
started under those names, is them.
",
    ),
];

/// The names of all commands, for completion.
pub(crate) fn command_names() -> impl Iterator<Item = &'static str> {
    COMMANDS.iter().map(|entry| entry.0)
}

/// Help about one command, or about all.
///
/// # Errors
/// There is no such command.
pub(crate) fn text(about: Option<&str>) -> Result<String, Failure> {
    // Of help itself there is no more to say than what it gives.
    let Some(about) = about.filter(|about| *about != "help") else { return Ok(GENERAL.to_owned()) };
    let found = COMMANDS.iter().find(|entry| entry.0 == about);
    let text = found.map(|entry| entry.1.to_owned());
    text.ok_or_else(|| Failure::usage(format!("there is no command '{about}'")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_has_help_and_is_in_the_overview() {
        for name in command_names() {
            assert!(GENERAL.contains(&format!("  {name} ")), "{name}");
            assert!(text(Some(name)).unwrap().starts_with(&format!("gtstore {name}")), "{name}");
        }
        assert_eq!(text(Some("help")).unwrap(), GENERAL);
        assert!(text(Some("frobnicate")).is_err());
    }

    #[test]
    fn help_fits_a_terminal() {
        for (_, text) in COMMANDS.iter().chain([&("", GENERAL)]) {
            for line in text.lines() {
                assert!(line.chars().count() <= 96, "{line}");
            }
        }
    }
}
