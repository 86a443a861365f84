//! A node that hands requests on to one other node, input by input.

use super::*;
use crate::machine::Machine;
use crate::node::io::Input;
use crate::node::tests::options;
use crate::ring::{Member, MemberState, Sector, Slot, Table};
use crate::sim::SimDisk;
use crate::types::{ClusterId, ConnId, DiskUuid, Epoch, OpId, RequestId, Stamp, WallMs};
use crate::version::{Content, Context};
use crate::wire::client::{ClientReply, ClientRequest, Terms, Write};
use crate::wire::encode_table;
use crate::wire::manager::ManagerToNode;
use bytes::Bytes;

const ME: NodeId = NodeId(2);
const OTHER: NodeId = NodeId(1);
const CLUSTER: ClusterId = ClusterId(7);

/// Node 2, and its virtual clock.
struct Bench {
    node: Node,
    ms: u64,
}

impl Bench {
    /// A member of a cluster in which these nodes own everything.
    fn new(owners: &[NodeId]) -> Self {
        let mut bench = Self { node: Node::open(&mut SimDisk::default(), options("b:1")).unwrap(), ms: 0 };
        bench.tell(Input::Manager(ManagerToNode::Joined { node: ME, cluster_id: CLUSTER }));
        bench.tell(Input::Manager(ManagerToNode::Table(encode_table(&table(owners)))));
        bench
    }

    fn tell(&mut self, input: Input) -> Vec<Output> {
        let now = Now { mono: Instant(self.ms * 1000), wall: WallMs(self.ms) };
        let mut out = Vec::new();
        self.node.handle(now, input, &mut out);
        out
    }

    fn tick_after_ms(&mut self, ms: u64) -> Vec<Output> {
        self.ms += ms;
        self.tell(Input::Tick)
    }

    fn ask(&mut self, request: DataRequest) -> Vec<Output> {
        let message = ClientRequest::Data { worth: Worth { ttl_ms: 2000, sent_us: 0 }, request };
        self.tell(Input::Client { conn: ConnId(1), request: RequestId(1), message })
    }

    fn answer(&mut self, request: RequestId, result: DataResult) -> Vec<Output> {
        let reply = DataReply { by: Provenance::default(), result };
        self.tell(Input::PeerReply { from: OTHER, request, message: PeerReply::Forwarded(reply) })
    }
}

fn table(owners: &[NodeId]) -> Table {
    let mut table = Table::new(CLUSTER, owners.len().try_into().unwrap(), 1);
    table.epoch = Epoch(1);
    for (id, addr) in [(OTHER, "a:1"), (ME, "b:1")] {
        let member = Member {
            addr: addr.to_owned(),
            disk_uuid: DiskUuid(id.0.into()),
            zone: String::new(),
            weight: 100,
            state: MemberState::Normal,
        };
        table.members.insert(id, member);
    }
    let slots = owners.iter().copied().map(Slot::Settled).collect();
    table.sectors = vec![Sector { conf_epoch: Epoch(1), slots }];
    table
}

fn put() -> DataRequest {
    let write = Write {
        content: Content::Value(Bytes::from_static(b"value")),
        context: None,
        op: OpId::default(),
        attempt: 0,
        stamp: Stamp::default(),
        ttl_ms: None,
    };
    DataRequest::Put { terms: Terms { key: Bytes::from_static(b"key"), ..Terms::default() }, write }
}

/// The attempts handed on to the other node.
fn handed_on(out: &[Output]) -> Vec<(RequestId, u8)> {
    let attempt = |output: &Output| {
        let Output::Peer { to: OTHER, request, message, .. } = output else { return None };
        let PeerRequest::Forward { request: DataRequest::Put { write, .. }, .. } = message else {
            return None;
        };
        Some((*request, write.attempt))
    };
    out.iter().filter_map(attempt).collect()
}

/// What the client was told.
fn told(out: &[Output]) -> Option<DataResult> {
    out.iter().find_map(|output| {
        let Output::Reply { message: ClientReply::Data(reply), .. } = output else { return None };
        Some(reply.result.clone())
    })
}

#[test]
fn a_refusal_is_relayed_as_it_is_while_nothing_can_have_been_applied() {
    let mut bench = Bench::new(&[OTHER]);
    bench.tell(Input::LinkUp { peer: OTHER, lane: Lane::Foreground });
    let sent = handed_on(&bench.ask(put()));
    assert_eq!(sent.len(), 1);
    let refused = DataResult::Refused(Reason::TooManySiblings { max: 64 });
    assert_eq!(told(&bench.answer(sent[0].0, refused.clone())), Some(refused));
}

#[test]
fn a_refusal_of_a_later_attempt_does_not_speak_for_an_earlier_one() {
    let mut bench = Bench::new(&[OTHER]);
    bench.tell(Input::LinkUp { peer: OTHER, lane: Lane::Foreground });
    bench.ask(put());
    // The owner had it in hand when its link broke.
    bench.tell(Input::LinkDown { peer: OTHER, lane: Lane::Foreground });
    bench.tell(Input::LinkUp { peer: OTHER, lane: Lane::Foreground });
    let sent = handed_on(&bench.tick_after_ms(ROUND_WAIT_MS));
    assert_eq!(sent.iter().map(|sent| sent.1).collect::<Vec<_>>(), [1]);
    let out = bench.answer(sent[0].0, DataResult::Refused(Reason::TooManySiblings { max: 64 }));
    assert_eq!(told(&out), Some(DataResult::Refused(Reason::Unconfirmed)));
}

#[test]
fn a_later_attempts_success_is_success() {
    let mut bench = Bench::new(&[OTHER]);
    bench.tell(Input::LinkUp { peer: OTHER, lane: Lane::Foreground });
    bench.ask(put());
    bench.tell(Input::LinkDown { peer: OTHER, lane: Lane::Foreground });
    bench.tell(Input::LinkUp { peer: OTHER, lane: Lane::Foreground });
    let sent = handed_on(&bench.tick_after_ms(ROUND_WAIT_MS));
    let stored = DataResult::Stored { context: Context::default() };
    assert_eq!(told(&bench.answer(sent[0].0, stored.clone())), Some(stored));
}

#[test]
fn a_quorum_that_cannot_be_had_is_refused_after_a_few_tries_and_not_at_the_deadline() {
    // It owns the key itself, needs the other one too, and has no link to it.
    let mut bench = Bench::new(&[ME, OTHER]);
    let mut answer = told(&bench.ask(put()));
    for _ in 0..SENDS_MAX {
        answer = answer.or_else(|| told(&bench.tick_after_ms(ROUND_WAIT_MS)));
    }
    assert_eq!(answer, Some(DataResult::Refused(Reason::NoQuorum)));
    assert_eq!(bench.node.requests_in_hand(), 0);
}

fn get() -> DataRequest {
    DataRequest::Get { terms: Terms { key: Bytes::from_static(b"key"), ..Terms::default() } }
}

/// The reads handed on to the other node, as request and time they are worth.
fn reads_handed_on(out: &[Output]) -> Vec<(RequestId, u32)> {
    let read = |output: &Output| {
        let Output::Peer { to: OTHER, request, message, .. } = output else { return None };
        let PeerRequest::Forward { worth, request: DataRequest::Get { .. }, .. } = message else {
            return None;
        };
        Some((*request, worth.ttl_ms))
    };
    out.iter().filter_map(read).collect()
}

/// What the client was told, and how many answered.
fn told_with_count(out: &[Output]) -> Option<(DataResult, (u8, u8, u8))> {
    out.iter().find_map(|output| {
        let Output::Reply { message: ClientReply::Data(reply), .. } = output else { return None };
        let by = &reply.by;
        Some((reply.result.clone(), (by.answered, by.needed, by.slots)))
    })
}

/// A read whose owner has let the time of every try pass, at 1650 ms of its 2000.
fn read_in_vain(bench: &mut Bench) -> RequestId {
    bench.tell(Input::LinkUp { peer: OTHER, lane: Lane::Foreground });
    let sent = reads_handed_on(&bench.ask(get()));
    assert_eq!(sent.len(), 1);
    assert!(sent[0].1 < 2000, "the coordinator's last word comes before ours is due");
    let mut sends = 1;
    for _ in 0..33 {
        let out = bench.tick_after_ms(50);
        assert_eq!(told(&out), None, "after {} ms", bench.ms);
        sends += reads_handed_on(&out).len();
    }
    assert!(sends > 1 && sends <= usize::from(SENDS_MAX), "{sends} sends");
    sent[0].0
}

#[test]
fn an_owner_given_up_on_for_being_slow_still_tells_how_many_answered() {
    let mut bench = Bench::new(&[OTHER]);
    let request = read_in_vain(&mut bench);
    let by =
        Provenance { coordinator: OTHER, answered: 1, fallbacks: 0, needed: 2, slots: 3, trace: Vec::new() };
    let mut out = Vec::new();
    for _ in 0..SENDS_MAX {
        let reply = DataReply { by: by.clone(), result: DataResult::Refused(Reason::NoQuorum) };
        let message = PeerReply::Forwarded(reply);
        out.extend(bench.tell(Input::PeerReply { from: OTHER, request, message }));
    }
    assert_eq!(told_with_count(&out), Some((DataResult::Refused(Reason::NoQuorum), (1, 2, 3))));
    assert_eq!(bench.node.requests_in_hand(), 0, "nobody is left to listen to");
}

#[test]
fn an_owner_given_up_on_for_being_slow_may_still_answer() {
    let mut bench = Bench::new(&[OTHER]);
    let request = read_in_vain(&mut bench);
    let found = DataResult::Missing { context: Context::default() };
    assert_eq!(told(&bench.answer(request, found.clone())), Some(found));
}

#[test]
fn owners_that_never_answer_are_not_counted_among_those_that_did() {
    let mut bench = Bench::new(&[OTHER]);
    read_in_vain(&mut bench);
    let out = bench.tick_after_ms(2000 - bench.ms);
    assert_eq!(told_with_count(&out), Some((DataResult::Refused(Reason::NoQuorum), (0, 1, 1))));
    assert_eq!(bench.node.requests_in_hand(), 0);
}
