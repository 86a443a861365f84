//! Help about changes of who the members are and what they own.

pub(super) const MEMBERSHIP: &[(&str, &str)] = &[
    (
        "cluster",
        "\
gtstore cluster join NODE...      gtstore cluster plan
gtstore cluster leave NODE...     gtstore cluster apply --epoch E
gtstore cluster replace DEAD [NEW]    gtstore cluster revert
gtstore cluster move NODE FIRST LAST  gtstore cluster cancel
gtstore cluster weight NODE W     gtstore cluster transfers [--watch]

Who the members are and what they own is changed in three steps: changes are staged, looked at
together, and carried out together, with the least data moved that brings it about. Reads and
writes go on all the while. More about each: 'gtstore help cluster join' and so on.

  gtstore cluster join 4 5
  gtstore cluster plan
  gtstore cluster apply --epoch 12
  gtstore cluster transfers --watch

NODE is a node's number, as in 'gtstore status', or the address HOST:PORT of one. With --apply
the staging forms do all three steps at once, for scripts; not if anything else is staged. The
manager does all of this (transfers are told by the nodes): name it with --manager.

Of servers: a node that is started joins by itself, and is given sectors at once, unless it is
started with --manual: then it waits for 'cluster join'. One that is started with
--leave-on-stop hands over all it has when it is told to stop (SIGTERM), and has left for good
when it ends; told a second time it stops at once, and stays a member. A manager of
--evict-after SECONDS replaces by itself a node that has been away for so long. --min-nodes K
of a new cluster's manager has nothing served, and no sectors given out, before K nodes have
joined: so that the first do not get all.

Exit codes: 2 there is no such node or sector; 6 refused, for what there is, and nothing was
changed; 4 the manager does not answer; 5 it may have done it: look at the plan.
-o json, of all but transfers: epoch, applied, staged[change, node and, of some, by, first,
last, weight], obstacle (why it cannot be carried out now, else null), moves, bytes, seconds,
orphans, nodes[id, state, state_after, sectors, sectors_after, first_in, first_in_after, gets,
bytes]: the plan as it is after the command; where nothing is staged, what is under way.
-o plain: rows that begin with what they are. plan: epoch, moves, bytes, orphans, seconds,
obstacle. staged: change, node, then by, or first and last, or weight. node: the fields of json
in order.
In the shell 'join NODE...', 'leave NODE...' and 'move NODE FIRST LAST' are the same with
--apply.
",
    ),
    (
        "cluster join",
        "\
gtstore cluster join NODE... [--apply]

Stages that nodes are to own sectors: nodes that wait, being started with --manual or left over
when a join was called off; and nodes that are leaving, which stay then. Nothing moves before
'cluster apply'. Several nodes in one plan move less data than one after the other.
",
    ),
    (
        "cluster leave",
        "\
gtstore cluster leave NODE... [--apply]

Stages that nodes are to hand over all they have, sectors and hints, and go. A node that has
done so says 'safe to stop' in its log, and is no longer in 'gtstore status': from then on
nothing depends on it, and its process can be stopped in any way. Its number is not used again;
to have the machine back, start it with an empty directory. Refused (6) where fewer nodes would
be left than each sector has copies.
A node that is down cannot hand over: see 'gtstore help cluster replace'.
",
    ),
    (
        "cluster replace",
        "\
gtstore cluster replace DEAD [NEW] [--apply]

Stages that a node which is lost for good is given up, and its copies rebuilt from those of the
other owners: on NEW, a node that waits or a member; else on whichever nodes have most room for
them. Once that is applied the dead node is not let in again: should it come back, it ends at
once, with its data untouched. Refused (6) while it answers: have it leave, or stop its process
first.
Sectors of which every copy is on dead nodes are lost; the plan says how many ('orphans').
Alone among changes it can be applied while sectors are moving; what the dead node owns beside
those that move is planned for when the moves are over.
",
    ),
    (
        "cluster move",
        "\
gtstore cluster move NODE FIRST LAST [--apply]

Stages that a node is to own the sectors FIRST to LAST, each in place of one of its owners;
which sectors nodes own is shown by 'gtstore query', and a key's by 'gtstore owners KEY'. A
later plan may move them again, to even out what nodes have: for lasting shares see 'cluster
weight'.
",
    ),
    (
        "cluster weight",
        "\
gtstore cluster weight NODE W [--apply]

Stages that a node is to have another share of the data: W relative to the others', 100 being
usual, and 0 nothing at all, while it stays a member. It replaces the --weight that the node
was started with.
",
    ),
    (
        "cluster plan",
        "\
gtstore cluster plan [--bytes-per-second SIZE]

What is staged, and what it would come to: a row for each node with its state, sectors and
those it is first in, now and after it; the copies and bytes that it gets, as far as it is
known what their givers hold; and the command that carries it out, which names the table's
epoch: if the table changes before that, so may the plan, and it is to be looked at again. With
--bytes-per-second, as 50MiB, how long it takes if so much moves in a second in the whole
cluster (--transfer-bytes-per-second of storage nodes limits what each of them sends).
'WARNING' names sectors whose every copy is on dead nodes ('orphans'): applying gives up what
was in them. Where nothing is staged: what is under way.
",
    ),
    (
        "cluster apply",
        "\
gtstore cluster apply --epoch E

Carries out what is staged, if the table is still of epoch E, as 'cluster plan' has shown it.
Refused (6) if it is not, and while sectors are moving: one plan at a time, but for dead nodes
that are given up ('replace'). When it returns the
moves have begun: 'gtstore cluster transfers --watch' waits for their end.
",
    ),
    (
        "cluster revert",
        "\
gtstore cluster revert

Forgets what is staged. What was applied goes on: see 'gtstore help cluster cancel'.
",
    ),
    (
        "cluster cancel",
        "\
gtstore cluster cancel

Calls off the moves that are under way: what has not arrived stays where it is. Nodes that were
leaving stay members; nodes that were joining and own nothing yet wait for 'cluster join'. What
has arrived is not moved back, and what is rebuilt for nodes that are given up goes on.
",
    ),
    (
        "cluster transfers",
        "\
gtstore cluster transfers [--watch]

Copies of sectors on their way, by who sends them and who gets them: how many have arrived,
their keys and bytes, bytes in a second and the time left, measured over half a second. (A copy
that is rebuilt for a dead node is sent by all its other owners.) --watch looks twice a second,
in place on a terminal, else a line for each change, and ends when nothing moves any more and
nobody is joining or leaving. What had arrived before the first look is not in its counts.
Works without the manager.

-o plain: from, to, copies done, copies, keys, keys in all, bytes sent, bytes in a second,
seconds left. -o json: moving, copies, done, keys, keys_total, bytes, bytes_per_second,
seconds_left, pairs[from, to and the same], silent (nodes that are to send something, and do
not answer).
",
    ),
    (
        "query",
        "\
gtstore query

The table by node: how many sectors each owns a whole copy of, and which; and those on their
way, by the node they come from and the one they go to. In a table for people long lists are
cut short; the whole is in -o plain (node: number, address, state, sectors, ranges; moving:
from, to, sectors, ranges) and -o json (epoch, nodes[id, addr, state, sectors, ranges],
moves[from, to, ranges]).
",
    ),
];
