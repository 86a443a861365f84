//! Help about the shell, and about clusters to try things out with.

pub(super) const TRYING: &[(&str, &str)] = &[
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
