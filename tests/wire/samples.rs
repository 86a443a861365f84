//! One message of every kind, and of every shape a kind can take, with fields that differ.
//!
//! Each family's `name` matches its enum without a catch-all: a new variant does not compile
//! until it is named here, and [`all`] fails until it has a sample.

use bytes::Bytes;
use gtstore::ring::{
    Change, Conflict, Durability, Keyspace, KeyspaceSettings, Member, MemberState, Profile, Sector, Slot,
    Table,
};
use gtstore::types::{
    Actor, ClientId, ClusterId, DiskUuid, Dot, Epoch, Fence, Health, Incarnation, KeyspaceId, NodeId, OpId,
    RequestId, Room, SectorId, Stamp, WallMs,
};
use gtstore::version::{Content, Context, Object, Sibling, VersionVector};
use gtstore::wire::client::{
    ClientReply, ClientRequest, ClusterCommand, ClusterPlan, ClusterStatus, ContactInfo, DataReply,
    DataRequest, DataResult, DumpEntry, HintStatus, NodeStatus, PlanRow, Provenance, Reason, RepairStatus,
    Terms, TraceRole, TraceStep, TransferStatus, Version, Write,
};
use gtstore::wire::codec::{DecodeError, Writer};
use gtstore::wire::frame::write_frame;
use gtstore::wire::hello::{Hello, Opening, RefusalCause, Refused, Role, Server, Welcome};
use gtstore::wire::manager::{Arrived, Join, ManagerToNode, NodeToManager};
use gtstore::wire::peer::{
    FenceStep, Listed, PeerReply, PeerRequest, Place, Relic, RoundId, Saying, Standing, Worth,
};
use gtstore::wire::{Message, Vitals};
use std::collections::BTreeSet;

/// The request id of every sample's frame.
pub const REQUEST: RequestId = RequestId(0x0123_4567_89ab_cdef);

/// A message as bytes, its type forgotten.
pub struct Sample {
    /// Family and variant, and which shape of it.
    pub name: String,
    /// Family and variant.
    pub variant: String,
    pub kind: u8,
    pub body: Bytes,
    pub frame: Bytes,
    /// Decodes as the sample's family, and encodes what came of it.
    pub decode: fn(u8, Bytes) -> Result<Bytes, DecodeError>,
}

fn body_of(message: &impl Message) -> Bytes {
    let mut out = Writer::default();
    message.encode(&mut out);
    out.into_bytes()
}

fn again<M: Message>(kind: u8, body: Bytes) -> Result<Bytes, DecodeError> {
    let message = M::decode(kind, body)?;
    assert_eq!(message.kind(), kind, "decoded as another kind than it came as");
    Ok(body_of(&message))
}

/// What each family must be able to do for its samples to be made.
trait Family: Message + PartialEq + std::fmt::Debug {
    /// The family, and every variant by name.
    const NAME: &'static str;
    const VARIANTS: &'static [&'static str];
    fn name(&self) -> &'static str;
}

fn samples_of<M: Family>(messages: Vec<(&str, M)>, out: &mut Vec<Sample>) {
    let mut seen = BTreeSet::new();
    for (shape, message) in messages {
        let mut frame = Writer::default();
        write_frame(&mut frame, REQUEST, &message);
        let (kind, body) = (message.kind(), body_of(&message));
        let variant = format!("{}::{}", M::NAME, message.name());
        let name = if shape.is_empty() { variant.clone() } else { format!("{variant}/{shape}") };
        let back = M::decode(kind, body.clone());
        assert_eq!(back.as_ref(), Ok(&message), "{name} does not come back as it went");
        seen.insert(message.name());
        out.push(Sample { name, variant, kind, body, frame: frame.into_bytes(), decode: again::<M> });
    }
    let wanted: BTreeSet<_> = M::VARIANTS.iter().copied().collect();
    assert_eq!(seen, wanted, "every variant of {} needs a sample", M::NAME);
}

/// Names a family's variants once, for the match and for the list.
macro_rules! family {
    ($family:ident { $($variant:ident),* $(,)? }) => {
        impl Family for $family {
            const NAME: &'static str = stringify!($family);
            const VARIANTS: &'static [&'static str] = &[$(stringify!($variant)),*];
            fn name(&self) -> &'static str {
                match self {
                    $($family::$variant { .. } => stringify!($variant),)*
                }
            }
        }
    };
}

family!(Opening { Hello, Welcome, Refused });
family!(ClientRequest {
    Data,
    Contact,
    Table,
    Status,
    Dump,
    Hints,
    Repair,
    Cluster,
    Transfers,
    Faults,
    CreateKeyspace
});
family!(ClientReply {
    Data,
    Contact,
    Table,
    TableIsCurrent,
    Status,
    Dump,
    Hints,
    Repair,
    Plan,
    Transfers,
    FaultsSet,
    KeyspaceCreated,
    Error
});
family!(PeerRequest {
    Forward,
    Store,
    Read,
    Transfer,
    Probe,
    FetchTable,
    PushTable,
    AskAfter,
    Compare,
    List,
    Fetch,
    Settle,
    RaiseFence,
    Gossip
});
family!(PeerReply {
    Forwarded,
    Stored,
    Same,
    Held,
    Absent,
    Stale,
    Behind,
    Alive,
    Table,
    Overloaded,
    Unreadable,
    Full,
    Heard,
    Differ,
    Listing,
    Objects,
    Settled,
    FenceRaised,
    Fenced,
    Gossip
});
family!(NodeToManager { Join, Report, Streamed, HandedOver, Leave, Table });
family!(ManagerToNode { Joined, Rejected, CannotLeave, Table, OfferTable });

/// Every sample of every family.
pub fn all() -> Vec<Sample> {
    let mut out = Vec::new();
    samples_of(openings(), &mut out);
    samples_of(client_requests(), &mut out);
    samples_of(client_replies(), &mut out);
    samples_of(peer_requests(), &mut out);
    samples_of(peer_replies(), &mut out);
    samples_of(to_manager(), &mut out);
    samples_of(from_manager(), &mut out);
    out
}

fn dot(node: u32, seq: u64) -> Dot {
    Dot { actor: Actor { node: NodeId(node), incarnation: Incarnation(node + 1) }, seq }
}

fn vitals(first: u32) -> Vitals {
    Vitals {
        epoch: Epoch(u64::from(first) + 2),
        keys: u64::from(first) + 3,
        bytes: u64::from(first) + 4,
        pending: first + 5,
        damaged: 3,
        repairs: first + 7,
        hint_bytes: u64::from(first) + 6,
        room: Room::Full,
    }
}

fn saying(first: u32) -> Saying {
    Saying { incarnation: Incarnation(first), beat: first + 1, vitals: vitals(first) }
}

fn context() -> Context {
    let entries = [dot(1, 40), dot(2, 7), dot(9, 0x0102_0304_0506)].map(|dot| (dot.actor, dot.seq));
    Context { vector: VersionVector::from_entries(entries), stamp: Stamp(0x1234_5678_9abc) }
}

fn sibling(dot: Dot, expiry: Option<u64>, content: Content) -> Sibling {
    Sibling { dot, stamp: Stamp(dot.seq << 16), expiry: expiry.map(WallMs), content }
}

/// An object with a value, an expiring value, an empty value and a tombstone.
pub fn object() -> Object {
    let value = |text: &'static str| Content::Value(Bytes::from_static(text.as_bytes()));
    let siblings = vec![
        sibling(dot(1, 40), None, value("forty")),
        sibling(dot(2, 7), Some(1_700_000_000_000), value("seven")),
        sibling(dot(3, 1), None, value("")),
        sibling(dot(4, 2), None, Content::Tombstone),
    ];
    Object::from_parts(context().vector, siblings)
}

/// A write of one value, as a coordinator sends it.
pub fn store(value: Bytes) -> PeerRequest {
    let object =
        Object::from_parts(VersionVector::default(), vec![sibling(dot(1, 1), None, Content::Value(value))]);
    PeerRequest::Store {
        worth: worth(),
        place: place(),
        fence: Fence(44),
        key: key(),
        object,
        write: None,
        owed_to: None,
    }
}

fn worth() -> Worth {
    Worth { ttl_ms: 1999, sent_us: 123_456_789 }
}

fn place() -> Place {
    Place { keyspace: KeyspaceId(3), sector: SectorId(1023), conf_epoch: Epoch(77) }
}

fn key() -> Bytes {
    Bytes::from_static(b"user:{42}:cart")
}

fn op() -> OpId {
    OpId { client: ClientId(0xfeed_face_cafe_beef_0123_4567_89ab_cdef), seq: 5 }
}

fn get(direct: bool, trace: bool) -> DataRequest {
    let (keyspace, strict) = ("carts".to_owned(), !direct);
    DataRequest::Get { terms: Terms { keyspace, key: key(), quorum: 2, direct, strict, trace } }
}

fn put(content: Content, context: Option<Context>) -> DataRequest {
    let terms = Terms { key: key(), ..Terms::default() };
    let write = Write { content, context, op: op(), attempt: 2, stamp: Stamp(99), ttl_ms: Some(60_000) };
    DataRequest::Put { terms, write }
}

fn put_value() -> DataRequest {
    put(Content::Value(Bytes::from_static(b"milk, bread")), Some(context()))
}

fn settings(conflict: Conflict, durability: Durability) -> KeyspaceSettings {
    KeyspaceSettings { n: 3, r: 2, w: 1, conflict, durability }
}

fn provenance() -> Provenance {
    let step = |node, role, answered_us, dots| TraceStep {
        node: NodeId(node),
        role,
        asked_us: 10 * node,
        answered_us,
        dots,
    };
    let trace = vec![
        step(1, TraceRole::Forwarder, Some(900), vec![]),
        step(2, TraceRole::Coordinator, Some(800), vec![dot(2, 7)]),
        step(3, TraceRole::Replica, None, vec![dot(1, 40), dot(2, 7)]),
    ];
    Provenance { coordinator: NodeId(2), answered: 2, fallbacks: 1, needed: 3, slots: 4, trace }
}

fn reply(result: DataResult) -> DataReply {
    DataReply { by: Provenance { coordinator: NodeId(2), answered: 2, ..Provenance::default() }, result }
}

fn found() -> DataReply {
    let value = |seq, text: &'static str| Version {
        dot: dot(1, seq),
        stamp: Stamp(seq),
        expiry: text.is_empty().then_some(WallMs(seq + 1)),
        value: Bytes::from_static(text.as_bytes()),
    };
    let values = vec![value(40, "forty"), value(41, "")];
    DataReply { by: provenance(), result: DataResult::Found { values, context: context() } }
}

const REASONS: [(&str, Reason); 16] = [
    ("not-serving", Reason::NotServing { members: 258, needed: 3 }),
    ("no-quorum", Reason::NoQuorum),
    ("unconfirmed", Reason::Unconfirmed),
    ("overloaded", Reason::Overloaded),
    ("expired", Reason::Expired),
    ("empty-key", Reason::EmptyKey),
    ("key-too-long", Reason::KeyTooLong { max: 1024 }),
    ("value-too-large", Reason::ValueTooLarge { max: 1 << 20 }),
    ("too-many-siblings", Reason::TooManySiblings { max: 64 }),
    ("unknown-keyspace", Reason::UnknownKeyspace),
    ("bad-quorum", Reason::BadQuorum { n: 3 }),
    ("not-owner", Reason::NotOwner(Epoch(u64::MAX))),
    ("not-on-data-path", Reason::NotOnDataPath),
    ("stopping", Reason::Stopping),
    ("disk-full", Reason::DiskFull { node: NodeId(3) }),
    ("unreadable", Reason::Unreadable { copies: 1 }),
];

/// Every reason is among [`REASONS`]: this match does not compile when one is new.
fn reason_has_a_sample(reason: Reason) -> bool {
    match reason {
        Reason::NotServing { .. }
        | Reason::NoQuorum
        | Reason::Unconfirmed
        | Reason::Overloaded
        | Reason::Expired
        | Reason::EmptyKey
        | Reason::KeyTooLong { .. }
        | Reason::ValueTooLarge { .. }
        | Reason::TooManySiblings { .. }
        | Reason::UnknownKeyspace
        | Reason::BadQuorum { .. }
        | Reason::NotOwner(_)
        | Reason::NotOnDataPath
        | Reason::Stopping
        | Reason::DiskFull { .. }
        | Reason::Unreadable { .. } => REASONS.iter().any(|entry| entry.1 == reason),
    }
}

fn openings() -> Vec<(&'static str, Opening)> {
    let cluster_id = ClusterId(0x1111_2222_3333_4444_5555_6666_7777_8888);
    let hello = |role| {
        let fixed = Hello::new(role, cluster_id, Incarnation(4));
        Opening::Hello(Hello { versions: (1, 2), capabilities: 5, nonce: 6, auth: 7, ..fixed })
    };
    let welcome = |server| {
        let (incarnation, capabilities, nonce) = (Incarnation(9), 10, 11);
        Opening::Welcome(Welcome { version: 1, cluster_id, server, incarnation, capabilities, nonce })
    };
    let refused = |cause| Opening::Refused(Refused { cause, text: "not here".to_owned() });
    vec![
        ("client", hello(Role::Client(op().client))),
        ("peer", hello(Role::Peer(NodeId(1)))),
        ("peer-bulk", hello(Role::PeerBulk(NodeId(2)))),
        ("member", hello(Role::Member(NodeId(3)))),
        ("manager", welcome(Server::Manager)),
        ("node", welcome(Server::Node(NodeId(8)))),
        ("version", refused(RefusalCause::Version)),
        ("cluster", refused(RefusalCause::Cluster)),
        ("auth", refused(RefusalCause::Auth)),
        ("role", refused(RefusalCause::Role)),
        ("full", refused(RefusalCause::Full)),
    ]
}

fn staged(change: Change) -> ClientRequest {
    ClientRequest::Cluster(ClusterCommand::Stage(change))
}

fn client_requests() -> Vec<(&'static str, ClientRequest)> {
    let data = |request| ClientRequest::Data { worth: worth(), request };
    let create = |conflict, durability| ClientRequest::CreateKeyspace {
        name: "carts".to_owned(),
        settings: settings(conflict, durability),
    };
    vec![
        ("get", data(get(false, false))),
        ("get-direct", data(get(true, false))),
        ("get-trace", data(get(false, true))),
        ("put", data(put_value())),
        ("put-blind", data(put(Content::Value(Bytes::new()), None))),
        ("delete", data(put(Content::Tombstone, Some(Context::default())))),
        ("", ClientRequest::Contact),
        ("", ClientRequest::Table { known: Epoch(6) }),
        ("", ClientRequest::Status),
        ("plan", ClientRequest::Cluster(ClusterCommand::Plan)),
        ("join", staged(Change::Join(NodeId(1)))),
        ("leave", staged(Change::Leave(NodeId(2)))),
        ("replace", staged(Change::Replace { dead: NodeId(3), by: Some(NodeId(4)) })),
        ("give-up", staged(Change::Replace { dead: NodeId(3), by: None })),
        ("move", staged(Change::Move { to: NodeId(5), first: SectorId(6), last: SectorId(7) })),
        ("weight", staged(Change::Weight { node: NodeId(8), weight: 9 })),
        ("revert", ClientRequest::Cluster(ClusterCommand::Revert)),
        ("apply", ClientRequest::Cluster(ClusterCommand::Apply { epoch: Epoch(10) })),
        ("cancel", ClientRequest::Cluster(ClusterCommand::Cancel)),
        ("", ClientRequest::Transfers),
        ("", ClientRequest::Hints),
        ("all", ClientRequest::Repair { begin: true, sector: None }),
        ("sector", ClientRequest::Repair { begin: false, sector: Some(SectorId(0x0102)) }),
        ("", ClientRequest::Faults { drop_from: vec![NodeId(1), NodeId(0x0102_0304)] }),
        ("first", ClientRequest::Dump { keyspace: String::new(), after: None }),
        ("next", ClientRequest::Dump { keyspace: "a".to_owned(), after: Some((SectorId(9), key())) }),
        ("lww-sync", create(Conflict::Lww, Durability::Sync)),
        ("siblings-os", create(Conflict::Siblings, Durability::Os)),
        ("lww-memory", create(Conflict::Lww, Durability::Memory)),
    ]
}

fn client_replies() -> Vec<(&'static str, ClientReply)> {
    let hints =
        HintStatus { owed_to: NodeId(38), hints: 39, bytes: 40, missed: 122, delivered: 41, dropped: 42 };
    let repair = RepairStatus { compared: 43, sent: 44, fetched: 45, missed: 46, left: 47 };
    let data = |result| ClientReply::Data(reply(result));
    let contact = ContactInfo {
        client_number: 12,
        stamp: Stamp(13),
        nodes: vec![(NodeId(1), "127.0.0.1:7401".to_owned()), (NodeId(2), "[::1]:7402".to_owned())],
    };
    let entry = |length| DumpEntry {
        sector: SectorId(4),
        key: key(),
        siblings: vec![(dot(1, 40), Stamp(41), length), (dot(2, 7), Stamp(8), None)],
    };
    let row = PlanRow {
        node: NodeId(48),
        state: (MemberState::Waiting, MemberState::Joining),
        sectors: (49, 50),
        first: (51, 52),
        gets: 53,
        bytes: 54,
    };
    let (staged, epoch) = (vec![Change::Join(NodeId(48)), Change::Leave(NodeId(55))], Epoch(56));
    let plan = ClusterPlan { epoch, staged, rows: vec![row], moves: 57, orphans: 58 };
    let transfer = TransferStatus {
        sector: SectorId(59),
        to: NodeId(60),
        keys: 61,
        keys_total: 62,
        bytes: 63,
        done: true,
    };
    let mut messages = vec![
        ("", ClientReply::Plan(plan)),
        ("", ClientReply::Transfers(vec![transfer])),
        ("stored", data(DataResult::Stored { context: context() })),
        ("found-traced", ClientReply::Data(found())),
        ("missing", data(DataResult::Missing { context: Context::default() })),
        ("", ClientReply::Contact(contact)),
        ("", ClientReply::Table(Bytes::from_static(b"a table"))),
        ("", ClientReply::TableIsCurrent(Epoch(14))),
        ("", ClientReply::Status(status())),
        ("", ClientReply::Hints(vec![hints])),
        ("", ClientReply::Repair(repair)),
        ("", ClientReply::FaultsSet),
        ("last", ClientReply::Dump { entries: vec![entry(Some(5))], next: None }),
        ("more", ClientReply::Dump { entries: vec![], next: Some((SectorId(5), key())) }),
        ("", ClientReply::KeyspaceCreated(KeyspaceId(2))),
        ("", ClientReply::Error("no such keyspace".to_owned())),
    ];
    for (name, reason) in REASONS {
        assert!(reason_has_a_sample(reason));
        messages.push((name, data(DataResult::Refused(reason))));
    }
    messages
}

fn status() -> ClusterStatus {
    let row = |id: u32, state, health| NodeStatus {
        node: NodeId(id),
        addr: format!("10.0.0.{id}:7401"),
        zone: if health == Health::Up { "east".to_owned() } else { String::new() },
        state,
        health,
        sectors: (100, 34),
        incarnation: Incarnation(16),
        vitals: vitals(17),
    };
    ClusterStatus {
        observer: NodeId(1),
        cluster_id: ClusterId(2),
        epoch: Epoch(3),
        n: 3,
        sectors: 1024,
        serving: true,
        moving: 4,
        nodes: vec![
            row(1, MemberState::Joining, Health::Up),
            row(2, MemberState::Normal, Health::Suspected),
            row(3, MemberState::Leaving, Health::CutOff),
            row(4, MemberState::Left, Health::Down),
        ],
    }
}

fn relics() -> Vec<(Place, Vec<Relic>)> {
    let relic = Relic { key: key(), digest: 52, context: object().context().clone() };
    vec![(place(), vec![relic.clone(), relic])]
}

fn raise_fence(step: FenceStep) -> PeerRequest {
    let round = RoundId { epoch: Epoch(53), leader: NodeId(54), incarnation: Incarnation(55), number: 56 };
    PeerRequest::RaiseFence { round, step, fence: Fence(57), sectors: vec![SectorId(0), SectorId(58)] }
}

fn peer_requests() -> Vec<(&'static str, PeerRequest)> {
    let store = |write| PeerRequest::Store {
        worth: worth(),
        place: place(),
        fence: Fence(44),
        key: key(),
        object: object(),
        write,
        owed_to: None,
    };
    let read = |digest| PeerRequest::Read {
        worth: worth(),
        place: place(),
        key: key(),
        digest,
        kept: false,
        fence: Fence(59),
    };
    let hint = PeerRequest::Store {
        worth: worth(),
        place: place(),
        fence: Fence(44),
        key: key(),
        object: object(),
        write: Some((op(), dot(3, 4))),
        owed_to: Some(NodeId(6)),
    };
    let kept = PeerRequest::Read {
        worth: worth(),
        place: place(),
        key: key(),
        digest: None,
        kept: true,
        fence: Fence(59),
    };
    let entries = vec![(key(), object()), (Bytes::from_static(b"k"), Object::default())];
    let listed = vec![Listed { key: 33, object: 34 }, Listed { key: 35, object: 36 }];
    vec![
        ("get", PeerRequest::Forward { worth: worth(), begin_ms: 400, request: get(true, true) }),
        ("put", PeerRequest::Forward { worth: worth(), begin_ms: 400, request: put_value() }),
        ("write", store(Some((op(), dot(3, 4))))),
        ("repair", store(None)),
        ("digest", read(Some(0xdead_beef_dead_beef))),
        ("whole", read(None)),
        ("hint", hint),
        ("kept", kept),
        ("", PeerRequest::Transfer { place: place(), fence: Fence(45), entries }),
        ("", PeerRequest::Probe { epoch: Epoch(20) }),
        ("", PeerRequest::AskAfter { node: NodeId(26) }),
        ("", PeerRequest::Compare { places: vec![(place(), 31), (place(), 32)] }),
        ("", PeerRequest::List { place: place(), leaves: vec![0, 255], listed }),
        ("", PeerRequest::Fetch { place: place(), keys: vec![key(), Bytes::from_static(b"k")] }),
        ("", PeerRequest::Gossip { rumors: vec![(NodeId(27), saying(28)), (NodeId(29), saying(30))] }),
        ("ask", PeerRequest::Settle { reap: false, fence: Fence(47), places: relics() }),
        ("reap", PeerRequest::Settle { reap: true, fence: Fence(47), places: relics() }),
        ("adopt", raise_fence(FenceStep::Adopt)),
        ("enforce", raise_fence(FenceStep::Enforce)),
        ("", PeerRequest::FetchTable),
        ("", PeerRequest::PushTable(Bytes::from_static(b"a table"))),
    ]
}

fn peer_replies() -> Vec<(&'static str, PeerReply)> {
    vec![
        ("found", PeerReply::Forwarded(found())),
        ("highest", PeerReply::Stored { standing: Standing::Highest }),
        ("below", PeerReply::Stored { standing: Standing::Below(Stamp(21)) }),
        ("repeated", PeerReply::Stored { standing: Standing::Repeated }),
        ("", PeerReply::Same),
        ("", PeerReply::Held(object())),
        ("vouched", PeerReply::Absent { vouched: true }),
        ("not-vouched", PeerReply::Absent { vouched: false }),
        ("", PeerReply::Stale(Epoch(22))),
        ("", PeerReply::Behind(Epoch(23))),
        ("", PeerReply::Alive(saying(24))),
        ("", PeerReply::Differ { compared: 37, apart: vec![52, 53], places: vec![(place(), vec![38, 39])] }),
        ("", PeerReply::Listing { done: 43, offered: vec![key()], wanted: vec![40, 41] }),
        (
            "",
            PeerReply::Objects { taken: 42, lacking: 54, fence: Fence(46), entries: vec![(key(), object())] },
        ),
        ("", PeerReply::Settled { differ: vec![0, 7] }),
        ("done", PeerReply::FenceRaised { done: true, fence: Fence(48), strange: vec![SectorId(49)] }),
        ("not done", PeerReply::FenceRaised { done: false, fence: Fence(48), strange: Vec::new() }),
        ("", PeerReply::Fenced { fence: Fence(50), epoch: Epoch(51) }),
        ("", PeerReply::Heard { node: NodeId(27), ms_ago: Some(28) }),
        ("not at all", PeerReply::Heard { node: NodeId(27), ms_ago: None }),
        ("", PeerReply::Gossip { rumors: vec![(NodeId(29), saying(30)), (NodeId(31), saying(32))] }),
        ("", PeerReply::Table(Bytes::from_static(b"a table"))),
        ("", PeerReply::Overloaded),
        ("", PeerReply::Unreadable),
        ("", PeerReply::Full),
    ]
}

fn to_manager() -> Vec<(&'static str, NodeToManager)> {
    let join = Join {
        node: NodeId(27),
        disk_uuid: DiskUuid(28),
        incarnation: Incarnation(29),
        addr: "node-27:7401".to_owned(),
        zone: "west".to_owned(),
        weight: 100,
        epoch: Epoch(30),
        manual: true,
    };
    let arrived =
        |sector, to, since| Arrived { sector: SectorId(sector), to: NodeId(to), since: Epoch(since) };
    let streamed = vec![arrived(35, 1, 36), arrived(37, 2, 38)];
    vec![
        ("", NodeToManager::Join(join)),
        ("", NodeToManager::Report(vitals(31))),
        ("", NodeToManager::Streamed(streamed)),
        ("", NodeToManager::HandedOver),
        ("", NodeToManager::Leave),
        ("", NodeToManager::Table(Bytes::from_static(b"a table"))),
    ]
}

fn from_manager() -> Vec<(&'static str, ManagerToNode)> {
    vec![
        ("", ManagerToNode::Joined { node: NodeId(39), cluster_id: ClusterId(40) }),
        ("", ManagerToNode::Rejected { text: "this directory is of another node".to_owned() }),
        ("", ManagerToNode::CannotLeave { text: "too few would be left".to_owned() }),
        ("", ManagerToNode::Table(Bytes::from_static(b"a table"))),
        ("", ManagerToNode::OfferTable),
    ]
}

/// A table with members in every state, two keyspaces, and slots settled and moving.
pub fn table() -> Table {
    let mut table = Table::new(ClusterId(0xc1u128 << 120), 2, 4);
    let states = [
        MemberState::Joining,
        MemberState::Normal,
        MemberState::Leaving,
        MemberState::Left,
        MemberState::Waiting,
        MemberState::Lost,
        MemberState::Removed,
    ];
    for (id, state) in (1u32..).zip(states) {
        let member = Member {
            addr: format!("127.0.0.1:740{id}"),
            disk_uuid: DiskUuid(u128::from(id) << 64),
            zone: if id == 2 { "east".to_owned() } else { String::new() },
            weight: 100 + id as u16,
            state,
        };
        table.members.insert(NodeId(id), member);
    }
    table.epoch = Epoch(41);
    table.profile = Profile::Gtstore;
    table.members_min = 5;
    table.staged = vec![Change::Leave(NodeId(2)), Change::Weight { node: NodeId(1), weight: 50 }];
    table.next_node = NodeId(8);
    let settings =
        KeyspaceSettings { n: 2, r: 1, w: 2, conflict: Conflict::Siblings, durability: Durability::Os };
    table.keyspaces.insert(KeyspaceId(1), Keyspace { name: "carts".to_owned(), settings });
    let moving = Slot::Moving { old: NodeId(3), new: NodeId(1), since: Epoch(6) };
    table.sectors[0] = Sector { conf_epoch: Epoch(40), slots: vec![Slot::Settled(NodeId(2)), moving] };
    table.sectors[3] = Sector { conf_epoch: Epoch(2), slots: vec![Slot::Settled(NodeId(1))] };
    table
}
