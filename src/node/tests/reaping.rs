//! Letting go of tombstones: who has to say what before one may go.

use super::*;
use crate::types::Fence;
use crate::wire::peer::{FenceStep, Relic};

const KEYS: [&str; 4] = ["a", "b", "c", "d"];

/// Node 1 of four, first owner of three, with a tombstone of each key.
fn stage() -> Stage {
    let mut stage = Stage::with(&table(1, [1, 2, 3].map(|node| Slot::Settled(NodeId(node))).to_vec()));
    for (key, seq) in KEYS.into_iter().zip(1..) {
        store(&mut stage, key, &tombstone(seq), Fence(0));
    }
    stage.sync();
    stage.out.clear();
    stage
}

/// Of the beginning of time: old enough for any clock.
fn tombstone(seq: u64) -> Object {
    let dot = Dot { actor: Actor { node: NodeId(2), incarnation: Incarnation(1) }, seq };
    let mut object = Object::default();
    let sibling = Sibling { dot, stamp: Stamp(seq), expiry: None, content: Content::Tombstone };
    object.put(Replaces::All, &VersionVector::default(), sibling);
    object
}

fn store(stage: &mut Stage, key: &'static str, object: &Object, fence: Fence) {
    let worth = Worth { ttl_ms: 2000, sent_us: stage.now_us };
    let (key, object) = (Key::from_static(key.as_bytes()), object.clone());
    let message =
        PeerRequest::Store { worth, place: place(), fence, key, object, write: None, owed_to: None };
    stage.tell(Input::Peer { conn: ConnId(50), from: NodeId(2), request: RequestId(3), message });
}

/// The answers of these peers to what each was asked last, and all disks done.
fn answer(stage: &mut Stage, answers: &[(u32, PeerReply)]) {
    for (peer, reply) in answers {
        let (request, _) = stage.asked(*peer).pop().unwrap();
        stage.answer(*peer, request, reply.clone());
    }
    stage.sync();
}

fn begin(stage: &mut Stage) {
    stage.tell(Input::Tick);
    stage.sync();
}

fn keys_of(places: &[(Place, Vec<Relic>)]) -> Vec<Key> {
    places.iter().flat_map(|entry| &entry.1).map(|relic| relic.key.clone()).collect()
}

fn raised(done: bool) -> PeerReply {
    PeerReply::FenceRaised { done, fence: Fence(1), strange: Vec::new() }
}

fn held(stage: &Stage) -> Vec<&'static str> {
    let at = (KeyspaceId(0), SectorId(0));
    KEYS.into_iter().filter(|key| stage.node.engine().outline(at, key.as_bytes()).is_some()).collect()
}

#[test]
fn what_every_owner_holds_goes_behind_a_fence_that_every_member_has() {
    let mut stage = stage();
    begin(&mut stage);
    assert_eq!(stage.asked(4), [], "it owns nothing of it");
    let (request, message) = stage.asked(3).pop().unwrap();
    let PeerRequest::Settle { reap: false, ref places, .. } = message else { panic!("{message:?}") };
    let told = keys_of(places);
    assert_eq!(told.len(), KEYS.len());
    // Whatever the one has said, the other's numbers are those of what it was asked.
    let differ = |differ: &[u16]| PeerReply::Settled { differ: differ.to_vec() };
    stage.answer(3, request, differ(&[0]));
    answer(&mut stage, &[(2, differ(&[2]))]);
    answer(&mut stage, &[2, 3, 4].map(|peer| (peer, raised(true))));
    assert_eq!(held(&stage), KEYS);
    for peer in [2, 3] {
        let (request, message) = stage.asked(peer).pop().unwrap();
        assert!(matches!(message, PeerRequest::RaiseFence { step: FenceStep::Enforce, .. }), "{message:?}");
        stage.answer(peer, request, raised(true));
    }
    stage.sync();
    assert_eq!(held(&stage), KEYS, "one member is not behind the fence");
    answer(&mut stage, &[(4, raised(true))]);
    let left: Vec<Key> = held(&stage).into_iter().map(Key::from).collect();
    let stays = |key: &Key| *key == told[0] || *key == told[2];
    assert!(left.len() == 2 && left.iter().all(stays), "{left:?} of {told:?}");
    let message = stage.asked(2).pop().unwrap().1;
    let PeerRequest::Settle { reap: true, fence: Fence(1), places } = message else { panic!("{message:?}") };
    assert_eq!(keys_of(&places), [told[1].clone(), told[3].clone()]);

    // What was read before the fence comes too late; what was read behind it does not.
    let mut refused = |fence| {
        store(&mut stage, "a", &tombstone(1), fence);
        stage.sync();
        let is_refusal =
            |output: &Output| matches!(output, Output::PeerReply { message: PeerReply::Fenced { .. }, .. });
        let found = stage.out.iter().any(is_refusal);
        stage.out.clear();
        found
    };
    assert_eq!((refused(Fence(0)), refused(Fence(1))), (true, false));
}

#[test]
fn a_member_that_is_not_done_or_away_holds_a_round_up() {
    let mut stage = stage();
    begin(&mut stage);
    answer(&mut stage, &[2, 3].map(|peer| (peer, PeerReply::Settled { differ: Vec::new() })));
    answer(&mut stage, &[(2, raised(true)), (3, raised(true)), (4, raised(false))]);
    // Asked again, and again.
    stage.now_us += 600_000;
    stage.tell(Input::Tick);
    answer(&mut stage, &[(4, raised(false))]);
    assert_eq!(held(&stage), KEYS);
    stage.tell(Input::LinkDown { peer: NodeId(4), lane: Lane::Bulk });
    stage.now_us += 600_000;
    stage.tell(Input::Tick);
    stage.sync();
    assert_eq!(
        stage.asked(2).into_iter().filter(|asked| matches!(asked.1, PeerRequest::Settle { .. })).count(),
        0
    );
    assert_eq!(held(&stage), KEYS);
}

#[test]
fn a_leader_with_a_request_of_its_own_in_hand_goes_on_when_that_is_over() {
    let mut stage = stage();
    begin(&mut stage);
    stage.ask(DataRequest::Get { terms: Terms { direct: true, ..terms() } });
    // A read asks one of the owners, and is not answered yet.
    let reads = go_on(&mut stage);
    assert_eq!(reads.len(), 1);
    go_on(&mut stage);
    assert_eq!(held(&stage), KEYS, "what is in hand may have been read before the fence");
    for (peer, request) in reads {
        stage.answer(peer, request, PeerReply::Absent { vouched: true });
    }
    assert!(stage.told().is_some());
    for _ in 0..3 {
        stage.now_us += 600_000;
        stage.tell(Input::Tick);
        go_on(&mut stage);
    }
    assert_eq!(held(&stage), [""; 0]);
}

/// Every other member holds the same, and is done with what it was asked for. Returns the reads that
/// were asked besides.
fn go_on(stage: &mut Stage) -> Vec<(u32, RequestId)> {
    let mut reads = Vec::new();
    for peer in [2, 3, 4] {
        for (request, message) in stage.asked(peer) {
            match message {
                PeerRequest::Settle { .. } => {
                    stage.answer(peer, request, PeerReply::Settled { differ: Vec::new() });
                }
                PeerRequest::RaiseFence { .. } => stage.answer(peer, request, raised(true)),
                PeerRequest::Read { .. } => reads.push((peer, request)),
                _ => {}
            }
        }
    }
    stage.sync();
    reads
}

#[test]
fn no_clock_decides_between_forgetting_a_key_and_trimming_its_context() {
    let mut stage = stage();
    let mut object = tombstone(9);
    for node in 10..30 {
        object.merge(&value_of_node(node, None));
    }
    let actor = Actor { node: NodeId(40), incarnation: Incarnation(1) };
    let passing = value_of_node(40, Some(WallMs(u64::MAX)));
    let lasting = value_of_node(40, None);
    assert_eq!(passing.siblings()[0].dot.actor, actor);
    for (key, latest, left) in [("passing", passing, None), ("lasting", lasting, Some(1))] {
        let mut object = object.clone();
        object.put(Replaces::All, &VersionVector::default(), latest.siblings()[0].clone());
        store(&mut stage, key, &object, Fence(0));
        stage.sync();
        let at = (KeyspaceId(0), SectorId(0));
        let outline = stage.node.engine().outline(at, key.as_bytes()).unwrap();
        let digest = stage.node.digest(&outline, key.as_bytes());
        let relic = Relic { key: key.into(), digest, context: outline.context().clone() };
        let message =
            PeerRequest::Settle { reap: true, fence: Fence(0), places: vec![(place(), vec![relic])] };
        stage.tell(Input::Peer { conn: ConnId(50), from: NodeId(2), request: RequestId(4), message });
        let entries = stage.node.engine().outline(at, key.as_bytes());
        assert_eq!(entries.map(|outline| outline.context().entries().len()), left, "{key}");
    }
}

fn value_of_node(node: u32, expiry: Option<WallMs>) -> Object {
    let dot = Dot { actor: Actor { node: NodeId(node), incarnation: Incarnation(1) }, seq: 1 };
    let mut object = Object::default();
    let content = Content::Value(Bytes::from_static(b"v"));
    let sibling = Sibling { dot, stamp: Stamp(u64::from(node)), expiry, content };
    object.put(Replaces::All, &VersionVector::default(), sibling);
    object
}
