//! Owners that are away: who stands in for them, what is owed to them, and how they get it.

use super::*;
use crate::node::hints::Owed;

/// Two sectors of four members: the key's is held by 1, 2 and 3, and 4 may stand in for them.
fn four() -> Table {
    let mut table = table(1, settled(&[1, 2, 3]));
    let mut other = table.sectors[0].clone();
    other.slots = settled(&[2, 3, 4]);
    table.sectors.push(other);
    if table.sector_of(b"k") == SectorId(1) {
        table.sectors.swap(0, 1);
    }
    table
}

fn place_in(table: &Table) -> Place {
    Place { sector: table.sector_of(b"k"), ..place() }
}

impl Stage {
    fn lose(&mut self, peer: u32) {
        for lane in [Lane::Foreground, Lane::Bulk] {
            self.tell(Input::LinkDown { peer: NodeId(peer), lane });
        }
    }

    /// A peer is back, and answers.
    fn regain(&mut self, peer: u32) {
        for lane in [Lane::Foreground, Lane::Bulk] {
            self.tell(Input::LinkUp { peer: NodeId(peer), lane });
        }
        self.answer(peer, RequestId(0), PeerReply::Alive(Default::default()));
        self.pass(200);
    }

    fn pass(&mut self, ms: u64) {
        for _ in 0..ms / 100 {
            self.now_us += 100_000;
            self.tell(Input::Tick);
        }
    }

    fn owed(&self, peer: u32) -> Owed {
        self.node.ledger.of(NodeId(peer))
    }

    /// The one hint that was sent to this peer: the request's name and the object.
    fn handed(&mut self, peer: u32) -> (RequestId, Object) {
        let mut asked = self.asked(peer);
        asked.retain(|(_, message)| matches!(message, PeerRequest::Transfer { .. }));
        match asked.as_slice() {
            [(request, PeerRequest::Transfer { entries, .. })] if entries.len() == 1 => {
                (*request, entries[0].1.clone())
            }
            other => panic!("not one hint: {other:?}"),
        }
    }
}

const STORED: PeerReply = PeerReply::Stored { standing: Standing::Highest };

#[test]
fn a_fallback_stands_in_for_an_owner_that_is_away_and_the_answer_says_so() {
    let mut stage = Stage::with(&four());
    stage.lose(3);
    stage.ask(put(5, None, "value"));
    stage.sync();
    let asked = stage.asked(4);
    assert!(
        matches!(asked[..], [(_, PeerRequest::Store { owed_to: Some(NodeId(3)), .. })]),
        "nobody stands in: {asked:?}"
    );
    assert_eq!(stage.told(), None);
    stage.answer(4, asked[0].0, STORED);
    let told = stage.told_by().expect("two of three slots have it");
    assert_eq!((told.by.answered, told.by.fallbacks), (2, 1));
    assert!(matches!(told.result, DataResult::Stored { .. }));
    // The owner's own answer is still waited for, and then counts as its own.
    assert_eq!(stage.owed(3).hints, 0, "it is kept by the fallback");
}

#[test]
fn a_strict_quorum_is_refused_before_anything_is_done_when_owners_are_too_few() {
    let mut stage = Stage::with(&four());
    stage.lose(2);
    stage.lose(3);
    let mut request = put(5, None, "value");
    request.terms_mut().strict = true;
    stage.ask(request);
    assert_eq!(stage.node.engine().size(), (0, 0));
    // The same, sloppily, goes to the fallback.
    stage.ask(put(6, None, "value"));
    let asked = stage.asked(4);
    assert_eq!(asked.len(), 1, "{asked:?}");
}

#[test]
fn what_no_fallback_keeps_is_owed_by_the_coordinator_and_handed_over_when_the_owner_is_back() {
    let mut stage = Stage::with(&four());
    stage.lose(3);
    stage.lose(4);
    stage.ask(put(5, None, "value"));
    stage.sync();
    let asked = stage.asked(2);
    stage.answer(2, asked[0].0, STORED);
    assert!(matches!(stage.told(), Some(DataResult::Stored { .. })));
    assert_eq!(stage.owed(3).hints, 1, "the write is owed to nobody");
    stage.regain(3);
    let (request, object) = stage.handed(3);
    assert_eq!(object.value_bytes(), 5);
    assert_eq!(stage.owed(3).hints, 1, "forgotten before it arrived");
    stage.answer(3, request, STORED);
    assert_eq!((stage.owed(3).hints, stage.owed(3).bytes, stage.owed(3).delivered), (0, 0, 1));
    stage.pass(3000);
    let again = stage.asked(3);
    assert!(
        !again.iter().any(|(_, message)| matches!(message, PeerRequest::Transfer { .. })),
        "it is handed over again and again"
    );
}

/// A write for node 3, brought by the coordinator node 2 to node 1, which is no owner.
fn hint(stage: &mut Stage, place: Place, object: &Object) -> Vec<PeerReply> {
    let worth = Worth { ttl_ms: 2000, sent_us: stage.now_us };
    let (key, object, owed_to) = (Key::from_static(b"k"), object.clone(), Some(NodeId(3)));
    let message = PeerRequest::Store { worth, place, fence: Fence(0), key, object, write: None, owed_to };
    stage.tell(Input::Peer { conn: ConnId(50), from: NodeId(2), request: RequestId(3), message });
    stage.sync();
    let replies = stage.out.extract_if(.., |output| matches!(output, Output::PeerReply { .. }));
    let reply = replies.map(|output| match output {
        Output::PeerReply { message, .. } => message,
        other => panic!("{other:?}"),
    });
    reply.collect()
}

/// The same table with node 1 for node 4: node 1 is the one that may stand in.
fn as_fallback() -> Table {
    let mut table = four();
    let at = usize::from(table.sector_of(b"k").0);
    table.sectors[at].slots = settled(&[2, 3, 4]);
    table.sectors[1 - at].slots = settled(&[1, 2, 3]);
    table
}

fn written(seq: u64, length: usize) -> Sibling {
    let actor = Actor { node: NodeId(2), incarnation: Incarnation(1) };
    let content = Content::Value(Bytes::from(vec![b'v'; length]));
    Sibling { dot: Dot { actor, seq }, stamp: Stamp(seq), expiry: None, content }
}

#[test]
fn a_hint_that_has_grown_since_it_was_sent_is_sent_again_whole() {
    let table = as_fallback();
    let mut stage = Stage::with(&table);
    stage.lose(3);
    // Two concurrent writes: forgetting the first alone would leave a context that covers it.
    let first = Object::from_parts(VersionVector::default(), vec![written(1, 5)]);
    let both = Object::from_parts(VersionVector::default(), vec![written(1, 5), written(3, 5)]);
    assert_eq!(hint(&mut stage, place_in(&table), &first), [STORED]);
    stage.regain(3);
    let (request, sent) = stage.handed(3);
    assert_eq!(sent, first);
    assert_eq!(hint(&mut stage, place_in(&table), &both), [STORED]);
    stage.answer(3, request, STORED);
    stage.pass(900);
    stage.answer(3, RequestId(0), PeerReply::Alive(Default::default()));
    stage.pass(300);
    let (request, sent) = stage.handed(3);
    assert_eq!(sent, both, "a part of it would count the other as replaced");
    stage.answer(3, request, STORED);
    assert_eq!(stage.owed(3).hints, 0);
}

#[test]
fn hints_survive_a_restart_and_are_counted_anew() {
    let table = as_fallback();
    let mut stage = Stage::with(&table);
    stage.lose(3);
    let object = Object::from_parts(VersionVector::default(), vec![written(1, 500)]);
    assert_eq!(hint(&mut stage, place_in(&table), &object), [STORED]);
    let before = stage.owed(3);
    let mut stage = Stage::on(stage.disk, &table);
    assert_eq!((stage.owed(3).hints, stage.owed(3).bytes), (before.hints, before.bytes));
    assert_eq!(stage.node.own_saying().vitals.keys, 0, "a hint is no key of this node's");
    stage.regain(3);
    let wanted = stage.wanted();
    assert_eq!(wanted.len(), 1, "its value is on the disk: {wanted:?}");
}

#[test]
fn hints_beyond_their_cap_are_refused_and_counted_and_those_of_others_are_not() {
    let table = as_fallback();
    let mut stage = Stage::with(&table);
    stage.lose(3);
    let large = |seq| Object::from_parts(VersionVector::default(), vec![written(seq, 3000)]);
    assert_eq!(hint(&mut stage, place_in(&table), &large(1)), [STORED]);
    assert_eq!(hint(&mut stage, place_in(&table), &large(2)), [PeerReply::Full]);
    assert_eq!((stage.owed(3).hints, stage.owed(3).dropped), (1, 1));
    assert_eq!(stage.owed(2), Owed::default());
}

/// Node 1 in a second life, to which its first has left a debt to node 3, and this table; and what its
/// disk is asked for when node 3 is back.
fn indebted(table: &Table) -> (Stage, ReadRequest) {
    let mut stage = Stage::with(&four());
    stage.lose(3);
    stage.lose(4);
    stage.ask(put(5, None, "value"));
    stage.sync();
    let asked = stage.asked(2);
    stage.answer(2, asked[0].0, STORED);
    stage.sync();
    let mut stage = Stage::on(stage.disk, table);
    assert_eq!(stage.owed(3).hints, 1);
    stage.regain(3);
    let mut wanted = stage.wanted();
    assert_eq!(wanted.len(), 1, "{wanted:?}");
    (stage, wanted.remove(0))
}

#[test]
fn a_debt_whose_copy_cannot_be_read_waits_for_it_to_be_mended_and_ends_where_nobody_mends_it() {
    let unreadable = |request: &ReadRequest| {
        Input::Read(ReadDone { id: read_id(request), result: Err(ReadFault::Damaged) })
    };
    let (mut stage, wanted) = indebted(&four());
    stage.tell(unreadable(&wanted));
    assert_eq!((stage.owed(3).hints, stage.owed(3).dropped), (1, 0), "other owners mend the copy");
    // A former owner's copy is compared with nobody's.
    let mut table = four();
    let at = usize::from(table.sector_of(b"k").0);
    table.epoch = Epoch(2);
    table.sectors[at].conf_epoch = Epoch(2);
    table.sectors[at].slots = settled(&[2, 3, 4]);
    let (mut stage, wanted) = indebted(&table);
    stage.tell(unreadable(&wanted));
    assert_eq!((stage.owed(3).hints, stage.owed(3).dropped), (0, 1));
    assert!(stage.node.hints_add_up());
}

#[test]
fn an_owner_takes_no_hint_for_another_and_nobody_takes_one_for_no_owner() {
    let table = four();
    let mut stage = Stage::with(&table);
    let object = Object::from_parts(VersionVector::default(), vec![written(1, 5)]);
    assert_eq!(hint(&mut stage, place_in(&table), &object), [PeerReply::Stale(Epoch(1))]);
    assert_eq!(stage.owed(3), Owed::default());
}

#[test]
fn what_is_kept_for_a_node_that_owns_the_key_no_more_goes_to_those_that_do() {
    let mut table = as_fallback();
    let mut stage = Stage::with(&table);
    stage.lose(3);
    let object = Object::from_parts(VersionVector::default(), vec![written(1, 5)]);
    assert_eq!(hint(&mut stage, place_in(&table), &object), [STORED]);
    let at = usize::from(table.sector_of(b"k").0);
    table.epoch = Epoch(2);
    table.sectors[at].conf_epoch = Epoch(2);
    table.sectors[at].slots = settled(&[1, 2, 4]);
    stage.adopt(&table);
    stage.sync();
    stage.regain(3);
    let (second, _) = stage.handed(2);
    let (fourth, _) = stage.handed(4);
    let held = stage.node.engine().outline((KeyspaceId(0), place_in(&table).sector), b"k");
    assert!(held.is_some(), "this node is an owner now");
    stage.answer(2, second, STORED);
    assert_eq!(stage.owed(3).hints, 1, "forgotten although an owner has not got it");
    stage.answer(4, fourth, STORED);
    assert_eq!(stage.owed(3).hints, 0);
}

#[test]
fn a_read_counts_what_a_fallback_keeps_and_never_takes_its_nothing_for_an_absence() {
    let mut stage = Stage::with(&four());
    stage.lose(2);
    stage.lose(3);
    stage.ask(DataRequest::Get { terms: terms() });
    let asked = stage.asked(4);
    assert!(matches!(asked[..], [(_, PeerRequest::Read { kept: true, .. })]), "{asked:?}");
    let kept = Object::from_parts(VersionVector::default(), vec![written(1, 5)]);
    stage.answer(4, asked[0].0, PeerReply::Held(kept));
    assert!(matches!(stage.told(), Some(DataResult::Found { .. })));
    stage.ask(DataRequest::Get { terms: Terms { key: Key::from_static(b"other"), ..terms() } });
    let asked = stage.asked(4);
    if let [(request, PeerRequest::Read { kept: true, .. })] = asked[..] {
        stage.answer(4, request, PeerReply::Absent { vouched: false });
    }
    stage.pass(3000);
    assert_eq!(stage.told(), Some(DataResult::Refused(Reason::NoQuorum)), "nothing was taken for absence");
}
