//! One node among peers that are played by hand: interleavings too narrow to be met by chance.

mod faults;
mod hints;
mod reaping;
mod rebuild;

use super::io::{Input, Lane, Output};
use super::{Node, Options};
use crate::engine::{DiskEvent, Fetched, Loaded, LogWriter, ReadDone, ReadFault, ReadRequest};
use crate::machine::Machine;
use crate::mutant::Planted;
use crate::ring::{Member, MemberState, Slot, Table};
use crate::sim::SimDisk;
use crate::types::{
    Actor, ClientId, ClusterId, ConnId, DiskUuid, Dot, Epoch, Fence, Incarnation, Instant, Key, KeyspaceId,
    NodeId, Now, OpId, RequestId, SectorId, Stamp, WallMs,
};
use crate::version::{Content, Context, Object, Replaces, Sibling, VersionVector};
use crate::wire::client::{
    ClientReply, ClientRequest, DataReply, DataRequest, DataResult, Reason, Terms, Write,
};
use crate::wire::encode_table;
use crate::wire::manager::ManagerToNode;
use crate::wire::peer::{PeerReply, PeerRequest, Place, Standing, Worth};
use bytes::Bytes;

const CLUSTER: ClusterId = ClusterId(7);
const CLIENT: ConnId = ConnId(1);

/// Node 1, and everything it asked for that was not looked at yet.
struct Stage {
    node: Node,
    disk: SimDisk,
    writer: LogWriter,
    now_us: u64,
    out: Vec<Output>,
}

impl Stage {
    /// Node 1 with this table, linked to every other member.
    fn with(table: &Table) -> Self {
        Self::on(SimDisk::default(), table)
    }

    /// The same on a disk of an earlier life.
    fn on(mut disk: SimDisk, table: &Table) -> Self {
        let node = Node::open(&mut disk, options("node1")).unwrap();
        let mut stage = Self { node, disk, writer: LogWriter::default(), now_us: 1_000_000, out: Vec::new() };
        let joined = ManagerToNode::Joined { node: NodeId(1), cluster_id: CLUSTER };
        stage.tell(Input::Manager(joined));
        stage.adopt(table);
        for peer in table.members.keys().copied().filter(|&peer| peer != NodeId(1)) {
            stage.tell(Input::LinkUp { peer, lane: Lane::Foreground });
            stage.tell(Input::LinkUp { peer, lane: Lane::Bulk });
        }
        stage.sync();
        stage.out.clear();
        stage
    }

    fn tell(&mut self, input: Input) {
        let now = Now { mono: Instant(self.now_us), wall: WallMs(1_000) };
        self.node.handle(now, input, &mut self.out);
    }

    fn adopt(&mut self, table: &Table) {
        self.tell(Input::Manager(ManagerToNode::Table(encode_table(table))));
    }

    /// The turn ends, and the disk does all that it was asked for.
    fn sync(&mut self) {
        self.tell(Input::TurnEnd);
        let (disk, rest) =
            std::mem::take(&mut self.out).into_iter().partition(|output| matches!(output, Output::Disk(_)));
        self.out = rest;
        for output in disk {
            if let Output::Disk(request) = output {
                self.writer.write(&mut self.disk, &request).unwrap();
            }
        }
        self.writer.sync(&mut self.disk).unwrap();
        let synced = self.writer.synced();
        self.tell(Input::Disk(DiskEvent::Synced(synced)));
    }

    fn ask(&mut self, request: DataRequest) {
        let worth = Worth { ttl_ms: 2000, sent_us: self.now_us };
        let message = ClientRequest::Data { worth, request };
        self.tell(Input::Client { conn: CLIENT, request: RequestId(9), message });
    }

    fn answer(&mut self, from: u32, request: RequestId, message: PeerReply) {
        self.tell(Input::PeerReply { from: NodeId(from), request, message });
    }

    /// What node 1 asked this peer since this was last called for it, probes left out.
    fn asked(&mut self, peer: u32) -> Vec<(RequestId, PeerRequest)> {
        let mut asked = Vec::new();
        self.out.retain(|output| match output {
            Output::Peer { to, request, message, .. } if *to == NodeId(peer) => {
                if !matches!(
                    message,
                    PeerRequest::Probe { .. } | PeerRequest::Gossip { .. } | PeerRequest::AskAfter { .. }
                ) {
                    asked.push((*request, message.clone()));
                }
                false
            }
            _ => true,
        });
        asked
    }

    /// What node 1 wants to read from its disk.
    fn wanted(&mut self) -> Vec<ReadRequest> {
        self.tell(Input::TurnEnd);
        let mut wanted = Vec::new();
        self.out.retain(|output| match output {
            Output::Read(request) => {
                wanted.push(request.clone());
                false
            }
            _ => true,
        });
        wanted
    }

    /// What the client was told, if it was.
    fn told(&mut self) -> Option<DataResult> {
        self.told_by().map(|reply| reply.result)
    }

    /// The same, and by whom.
    fn told_by(&mut self) -> Option<DataReply> {
        let at = self.out.iter().position(|output| matches!(output, Output::Reply { .. }))?;
        match self.out.remove(at) {
            Output::Reply { message: ClientReply::Data(reply), .. } => Some(reply),
            other => panic!("{other:?}"),
        }
    }
}

/// Options of a node that is played with.
pub(super) fn options(addr: &str) -> Options {
    Options {
        addr: addr.to_owned(),
        zone: String::new(),
        weight: 100,
        manual: false,
        leave_on_stop: false,
        transfer_bytes_per_second: 0,
        cache_bytes: 1 << 20,
        segment_bytes: 64 << 10,
        scrub_bytes_per_second: 0,
        hint_bytes_max: 4096,
        compare_every_ms: 10_000,
        reap_after_ms: 3000,
        allow_fault_injection: true,
        disk_reserve_bytes: 1000,
        fresh_uuid: DiskUuid(1),
        boot_id: 1,
        planted: Planted::NONE,
    }
}

/// One sector of these slots, at this epoch, of four members.
fn table(epoch: u64, slots: Vec<Slot>) -> Table {
    let mut table = Table::new(CLUSTER, 3, 1);
    table.epoch = Epoch(epoch);
    for id in 1..=4u32 {
        let member = Member {
            addr: format!("node{id}"),
            disk_uuid: DiskUuid(u128::from(id)),
            zone: String::new(),
            weight: 100,
            state: MemberState::Normal,
        };
        table.members.insert(NodeId(id), member);
    }
    table.next_node = NodeId(5);
    table.sectors[0].conf_epoch = Epoch(epoch);
    table.sectors[0].slots = slots;
    table
}

/// Where the key lies, at the first epoch.
fn place() -> Place {
    Place { keyspace: KeyspaceId(0), sector: SectorId(0), conf_epoch: Epoch(1) }
}

fn settled(nodes: &[u32]) -> Vec<Slot> {
    nodes.iter().map(|&node| Slot::Settled(NodeId(node))).collect()
}

fn terms() -> Terms {
    Terms {
        keyspace: String::new(),
        key: Key::from_static(b"k"),
        quorum: 0,
        direct: false,
        strict: false,
        trace: false,
    }
}

fn put(client: u128, context: Option<Context>, value: &'static str) -> DataRequest {
    let write = Write {
        op: OpId { client: ClientId(client), seq: 1 },
        attempt: 0,
        stamp: Stamp::at(WallMs(900)),
        context,
        content: Content::Value(Bytes::from_static(value.as_bytes())),
        ttl_ms: None,
    };
    DataRequest::Put { terms: terms(), write }
}

fn object_of(node: u32, stamp: Stamp) -> Object {
    let actor = Actor { node: NodeId(node), incarnation: Incarnation(1) };
    let content = Content::Value(Bytes::from_static(b"theirs"));
    let mut object = Object::default();
    let sibling = Sibling { dot: Dot { actor, seq: 1 }, stamp, expiry: None, content };
    object.put(Replaces::All, &VersionVector::default(), sibling);
    object
}

#[test]
fn what_a_node_said_while_it_was_being_filled_is_asked_again_once_it_owns_alone() {
    let mut moving = settled(&[1, 2]);
    moving.push(Slot::Moving { old: NodeId(3), new: NodeId(4), since: Epoch(0) });
    let mut stage = Stage::with(&table(1, moving));
    // Nodes 2 and 3 hold an acknowledged write; node 4 is still empty. Node 2 is slow to answer.
    stage.ask(DataRequest::Get { terms: terms() });
    stage.now_us += 40_000;
    stage.tell(Input::Tick);
    let early = stage.asked(4);
    assert!(!early.is_empty(), "the moving slot was not asked: {:?}", stage.out);
    stage.answer(4, early[0].0, PeerReply::Absent { vouched: true });
    assert_eq!(stage.told(), None);
    // Everything has arrived at node 4, and the slot is its own.
    stage.adopt(&table(2, settled(&[1, 2, 4])));
    assert_eq!(stage.told(), None, "an absence from before everything had arrived was counted");
    // Nor does a late copy of that answer count.
    stage.answer(4, early[0].0, PeerReply::Absent { vouched: true });
    assert_eq!(stage.told(), None);
    let again = stage.asked(4);
    assert_eq!(again.len(), 1, "it was not asked again");
    stage.answer(4, again[0].0, PeerReply::Held(object_of(3, Stamp::at(WallMs(900)))));
    assert!(matches!(stage.told(), Some(DataResult::Found { .. })));
}

#[test]
fn a_write_that_may_have_been_applied_is_never_told_as_failed_by_a_forwarder_that_became_an_owner() {
    let mut stage = Stage::with(&table(1, settled(&[2, 3, 4])));
    stage.ask(put(5, None, "mine"));
    assert_eq!(stage.asked(2).len(), 1);
    // Node 2 may have applied it; nobody else can be asked just now.
    for peer in [3, 4, 2] {
        stage.tell(Input::LinkDown { peer: NodeId(peer), lane: Lane::Foreground });
    }
    stage.adopt(&table(2, settled(&[1, 3, 4])));
    stage.tell(Input::Stop);
    for _ in 0..40 {
        stage.now_us += 100_000;
        stage.tell(Input::Tick);
    }
    assert_eq!(stage.told(), Some(DataResult::Refused(Reason::Unconfirmed)));
}

#[test]
fn a_later_write_beats_one_of_equal_stamp_by_a_higher_actor() {
    let stamp = Stamp::at(WallMs(900));
    let mut stage = Stage::with(&table(1, settled(&[1, 2, 3])));
    // Node 3's write was acknowledged before node 2's began, in the same millisecond.
    let place = place();
    let worth = Worth { ttl_ms: 2000, sent_us: stage.now_us };
    for (from, object) in [(3u32, object_of(3, stamp)), (2, object_of(2, stamp))] {
        let dot = object.siblings()[0].dot;
        let write = Some((OpId { client: ClientId(u128::from(from)), seq: 1 }, dot));
        let message = PeerRequest::Store {
            worth,
            place,
            fence: Fence(0),
            key: Key::from_static(b"k"),
            object: object.clone(),
            write,
            owed_to: None,
        };
        stage.tell(Input::Peer { conn: ConnId(50), from: NodeId(from), request: RequestId(3), message });
        stage.sync();
    }
    let standings: Vec<_> = stage
        .out
        .iter()
        .filter_map(|output| match output {
            Output::PeerReply { message: PeerReply::Stored { standing }, .. } => Some(*standing),
            _ => None,
        })
        .collect();
    assert_eq!(standings, [Standing::Highest, Standing::Below(stamp)]);
}

#[test]
fn a_write_raised_above_an_older_one_does_not_come_back_over_what_replaced_it() {
    let mut stage = Stage::with(&table(1, settled(&[1, 2, 3])));
    let place = (place().keyspace, place().sector);
    stage.ask(put(5, None, "first"));
    let sent = stage.asked(2);
    // Somebody reads it before it is acknowledged, and replaces what was read.
    let seen = stage.node.engine().outline(place, b"k").unwrap().client_context();
    stage.ask(put(6, Some(seen), "second"));
    // An owner holds an older, higher write: the first is written once more, above that.
    let standing = Standing::Below(Stamp::at(WallMs(950)));
    stage.answer(2, sent[0].0, PeerReply::Stored { standing });
    stage.sync();
    let key = Key::from_static(b"k");
    let Fetched::Whole(held) = stage.node.engine_mut().read(place, &key, |_| true, &Loaded::new()) else {
        panic!("not in memory");
    };
    let winner = held.winner().unwrap();
    assert!(winner.stamp > Stamp::at(WallMs(950)), "it was not raised: {held:?}");
    assert_eq!(winner.content, Content::Value(Bytes::from_static(b"second")));
}

#[test]
fn a_context_that_claims_writes_not_yet_made_covers_none_of_them() {
    let mut stage = Stage::with(&table(1, settled(&[1, 2, 3])));
    let actor = Actor { node: NodeId(1), incarnation: Incarnation(1) };
    let claimed = Context { vector: VersionVector::from_entries([(actor, 1_000_000)]), stamp: Stamp(5) };
    let mut request = put(1, Some(claimed), "first");
    request.terms_mut().quorum = 1;
    stage.ask(request);
    stage.sync();
    let Some(DataResult::Stored { context }) = stage.told() else { panic!("not stored") };
    assert!(context.vector.seq_of(actor) > 1_000_000, "{context:?}");
}

fn delete(client: u128) -> DataRequest {
    let mut request = put(client, None, "");
    if let DataRequest::Put { write, .. } = &mut request {
        write.content = Content::Tombstone;
    }
    request
}

fn is_store(asked: &[(RequestId, PeerRequest)]) -> bool {
    matches!(asked, [(_, PeerRequest::Store { .. })])
}

#[test]
fn below_the_reserve_a_put_goes_to_another_owner_and_is_refused_before_it_has_a_dot() {
    let mut stage = Stage::with(&table(1, settled(&[1, 2, 3])));
    stage.tell(Input::Disk(DiskEvent::Free(999)));
    stage.ask(put(5, None, "value"));
    for peer in [2, 3] {
        assert_eq!(stage.told(), None);
        let asked = stage.asked(peer);
        assert!(matches!(asked[..], [(_, PeerRequest::Forward { .. })]), "{asked:?}");
        let reply = DataReply::refused(Reason::DiskFull { node: NodeId(peer) });
        stage.answer(peer, asked[0].0, PeerReply::Forwarded(reply));
    }
    let full = DataResult::Refused(Reason::DiskFull { node: NodeId(3) });
    assert_eq!(stage.told(), Some(full), "no owner has room: that is to be said, and at once");
    assert_eq!((stage.node.seq, stage.node.engine().size()), (0, (0, 0)), "something was begun");
    // A delete is taken, and so is a put once there is room again.
    stage.ask(delete(6));
    assert!(is_store(&stage.asked(2)) && is_store(&stage.asked(3)));
    stage.tell(Input::Disk(DiskEvent::Free(1250)));
    stage.ask(put(7, None, "value"));
    assert!(is_store(&stage.asked(2)));
}

#[test]
fn below_the_reserve_a_replica_refuses_values_and_takes_tombstones_and_transfers() {
    let mut stage = Stage::with(&table(1, settled(&[1, 2, 3])));
    let place = place();
    let worth = Worth { ttl_ms: 2000, sent_us: stage.now_us };
    let key = Key::from_static(b"k");
    let value = object_of(3, Stamp::at(WallMs(900)));
    let mut tombstone = Object::default();
    let dot = Dot { actor: Actor { node: NodeId(2), incarnation: Incarnation(1) }, seq: 1 };
    let sibling = Sibling { dot, stamp: Stamp(7), expiry: None, content: Content::Tombstone };
    tombstone.put(Replaces::All, &VersionVector::default(), sibling);
    let write = Some((OpId { client: ClientId(5), seq: 1 }, dot));
    let store = |object: &Object, write| PeerRequest::Store {
        worth,
        place,
        fence: Fence(0),
        key: key.clone(),
        object: object.clone(),
        write,
        owed_to: None,
    };
    let transfer =
        PeerRequest::Transfer { place, fence: Fence(0), entries: vec![(key.clone(), value.clone())] };
    let mut ask = |event, message: &PeerRequest| {
        stage.tell(Input::Disk(event));
        let (conn, from) = (ConnId(50), NodeId(2));
        stage.tell(Input::Peer { conn, from, request: RequestId(3), message: message.clone() });
        stage.sync();
        let answers = stage.out.drain(..).filter_map(|output| match output {
            Output::PeerReply { message, .. } => Some(matches!(message, PeerReply::Stored { .. })),
            _ => None,
        });
        answers.collect::<Vec<_>>()
    };
    let low = DiskEvent::Free(999);
    assert_eq!(ask(low, &store(&value, None)), [false], "a value for repair");
    assert_eq!(ask(low, &store(&tombstone, write)), [true], "a delete");
    assert_eq!(ask(low, &store(&tombstone, None)), [true], "a delete for repair");
    assert_eq!(ask(low, &transfer), [true], "a transfer");
    // Of a full disk nothing is asked, not even deletes.
    for message in [store(&tombstone, write), transfer] {
        assert_eq!(ask(DiskEvent::Full, &message), [false]);
    }
}

/// Node 1 in a second life, with a write on its disk and nothing in memory, asked for it; and what
/// its disk is asked for.
fn read_after_a_restart(table: &Table) -> (Stage, ReadRequest) {
    let mut stage = Stage::with(table);
    stage.ask(put(5, None, "value"));
    stage.sync();
    let mut stage = Stage::on(stage.disk, table);
    stage.ask(DataRequest::Get { terms: terms() });
    let mut wanted = stage.wanted();
    assert_eq!(wanted.len(), 1, "{wanted:?}");
    (stage, wanted.remove(0))
}

fn read_id(request: &ReadRequest) -> crate::engine::ReadId {
    match request {
        ReadRequest::Value(stretch) | ReadRequest::Scan(stretch) => stretch.id,
        ReadRequest::Index { id, .. } => *id,
    }
}

/// The write of node 1's first life, as another owner holds it.
fn first_write() -> Object {
    let dot = Dot { actor: Actor { node: NodeId(1), incarnation: Incarnation(1) }, seq: 1 };
    let content = Content::Value(Bytes::from_static(b"value"));
    let sibling = Sibling { dot, stamp: Stamp::at(WallMs(900)), expiry: None, content };
    Object::from_parts(VersionVector::default(), vec![sibling])
}

#[test]
fn a_copy_that_cannot_be_read_is_not_served_and_is_mended_by_the_read_that_met_it() {
    let table = table(1, settled(&[1, 2, 3]));
    let (mut stage, wanted) = read_after_a_restart(&table);
    let done = ReadDone { id: read_id(&wanted), result: Err(ReadFault::Damaged) };
    stage.tell(Input::Read(done));
    let (second, third) = (stage.asked(2), stage.asked(3));
    assert_eq!((second.len(), third.len()), (1, 1), "our own copy was counted");
    stage.answer(2, second[0].0, PeerReply::Held(first_write()));
    assert_eq!(stage.told(), None);
    stage.answer(3, third[0].0, PeerReply::Held(first_write()));
    assert!(matches!(stage.told(), Some(DataResult::Found { .. })));
    let at = (place().keyspace, place().sector);
    let held = stage.node.engine_mut().read(at, &Key::from_static(b"k"), |_| true, &Loaded::new());
    assert_eq!(held, Fetched::Whole(first_write()));
}

#[test]
fn a_disk_that_gives_an_error_is_asked_once_and_what_it_holds_is_not_written_off() {
    let table = table(1, settled(&[1, 2, 3]));
    let (mut stage, wanted) = read_after_a_restart(&table);
    let done = ReadDone { id: read_id(&wanted), result: Err(ReadFault::Failed) };
    stage.tell(Input::Read(done));
    assert_eq!(stage.wanted(), [], "the same is read over and over");
    assert_eq!((stage.asked(2).len(), stage.asked(3).len()), (1, 1), "others have to make up for it");
    let at = (place().keyspace, place().sector);
    let held = stage.node.engine_mut().read(at, &Key::from_static(b"k"), |_| true, &Loaded::new());
    assert!(matches!(held, Fetched::OnDisk(_)), "{held:?}");
}
