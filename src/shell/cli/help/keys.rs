//! Help about the commands for keys, and for files of them.

pub(super) const KEYS: &[(&str, &str)] = &[
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
];
