//! Help about the commands that look at the cluster.

pub(super) const CLUSTER: &[(&str, &str)] = &[
    (
        "status",
        "\
gtstore status

One row per node. The first letter says how it is to whoever is asked, as does the word (U up;
S suspected: silent for a moment; C cut off: others hear it; D down: nobody does), the second
its standing: N normal; J joining, being given its first sectors; L leaving, handing over all
it has; W waiting, owning nothing until 'cluster join', as a node that is started with --manual
does; G given up, its copies being rebuilt on other nodes, and not let in again. A node that
has left is no longer shown. The manager asks no others: it knows up and down.
'First in' counts the sectors whose preferred coordinator it is. Keys and data are as each node
last reported them, up to half a second ago;
a node keeps, and counts, its old copies of sectors that have moved away. 'Life' counts starts.
Whoever is asked tells what it sees: name a node with --manager to see the cluster from there.
What that one does not know of the others is shown as '-' (null in json): a node that is down
works on nothing, and one that the manager has not heard of since its own start has no keys.
A node that found its log damaged counts the sectors concerned ('Damaged', a column only when
there are any): their other owners serve them, and fill them again. 'Hints kept' (likewise) is
what it has in store for nodes that are away; see 'gtstore help hints'. 'Disk' (likewise) is
'low' where less is free than the node's reserve, so that it refuses puts, and 'full' where it
can write nothing. 'To repair' (likewise) counts copies of sectors that are known to differ from
another owner's, and those that a 'repair' has yet to compare: they are seen to without your
doing.
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
given_up, manager, short, lost, disk, hints, damaged or not_serving; given_up, short and lost
count sectors.
-o plain: kind, node, count, text of each finding; nothing where all is well.
",
    ),
    (
        "hints",
        "\
gtstore hints

A write whose owner is away is kept for it by a fallback, or noted by another owner, and handed
over when it is back. Every node is asked what it keeps: for whom, of how many keys ('hints'),
of how many bytes; and of how many keys it was to keep one since its own start ('missed'): each
of them is kept yet, or was handed over ('delivered'), or dropped for want of room. What was
dropped reaches its owner when copies are compared, and when a read finds it missing there.
Nodes that do not answer are named on standard error ('silent' in json); when none does: exit
code 4.
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
seconds. Copies in quarantine are missed, too, and filled all the same: see 'gtstore health'.
Waits until nothing is left, with its progress on standard error; --timeout-ms sets an end to
that (exit code 4 if places are left then), and so does Ctrl-C. The nodes go on all the same.
--no-wait only begins. Asked again while it is under way it begins anew, and of all sectors if
they differ.

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
];
