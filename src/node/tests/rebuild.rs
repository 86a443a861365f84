//! A node whose copy is in quarantine: what it gives to nobody, and when it is whole again.

use super::*;
use crate::engine::{FileName, Storage};
use crate::wire::peer::Listed;

const AT: (KeyspaceId, SectorId) = (KeyspaceId(0), SectorId(0));

/// Node 1 in a second life, one of three owners, which finds a value of its first life rotten.
fn stage() -> Stage {
    let table = table(1, settled(&[1, 2, 3]));
    let mut stage = Stage::with(&table);
    for (client, value) in [(5, "rotten"), (6, "what comes behind it shows that it was durable")] {
        stage.ask(put(client, None, value));
        stage.sync();
    }
    let mut disk = stage.disk;
    let log = disk.read(FileName::Segment(0)).unwrap().unwrap();
    let at = log.windows(6).position(|window| window == b"rotten").unwrap();
    assert!(disk.flip(FileName::Segment(0), at as u64, 0));
    let stage = Stage::on(disk, &table);
    assert!(stage.node.engine().is_quarantined(AT));
    stage
}

impl Stage {
    /// What the next comparison asks of this peer. The last message to it, some time from now.
    fn compared_with(&mut self, peer: u32) -> (RequestId, PeerRequest) {
        for _ in 0..30 {
            self.now_us += 100_000;
            for peer in [2, 3] {
                self.answer(peer, RequestId(0), PeerReply::Alive(Default::default()));
            }
            self.tell(Input::Tick);
            let mut asked = self.asked(peer);
            asked.retain(|(_, message)| !matches!(message, PeerRequest::PushTable(_)));
            if let Some(asked) = asked.pop() {
                return asked;
            }
        }
        panic!("node {peer} is not asked");
    }

    /// A peer's answer when its copy is as this node's.
    fn equal(&mut self, peer: u32) {
        let (request, message) = self.compared_with(peer);
        assert!(matches!(message, PeerRequest::Compare { .. }), "{message:?}");
        self.answer(peer, request, differ(Vec::new(), Vec::new()));
    }

    /// Once it has come to the end of a comparison, and that is on its disk.
    fn is_quarantined(&mut self) -> bool {
        self.now_us += 10_000;
        self.tell(Input::Tick);
        self.sync();
        self.node.engine().is_quarantined(AT)
    }

    /// What this node answers node 2.
    fn asked_by_peer(&mut self, message: PeerRequest) -> PeerReply {
        self.tell(Input::Peer { conn: ConnId(50), from: NodeId(2), request: RequestId(3), message });
        self.sync();
        let mut answers = self.out.extract_if(.., |output| matches!(output, Output::PeerReply { .. }));
        match answers.next() {
            Some(Output::PeerReply { message, .. }) => message,
            other => panic!("{other:?}"),
        }
    }
}

fn differ(apart: Vec<u16>, places: Vec<(Place, Vec<u64>)>) -> PeerReply {
    PeerReply::Differ { compared: 1, apart, places }
}

#[test]
fn a_copy_in_quarantine_takes_what_it_is_brought_and_gives_nothing() {
    let mut stage = stage();
    let (worth, key) = (Worth { ttl_ms: 2000, sent_us: stage.now_us }, Key::from_static(b"k"));
    assert_eq!(stage.node.engine().outline(AT, b"k"), None, "what is left of it may be too old");
    let object = object_of(2, Stamp(7));
    let store = PeerRequest::Store {
        worth,
        place: place(),
        fence: Fence(0),
        key: key.clone(),
        object: object.clone(),
        write: None,
        owed_to: None,
    };
    assert_eq!(stage.asked_by_peer(store), PeerReply::Stored { standing: Standing::Highest });
    let read = PeerRequest::Read {
        worth,
        place: place(),
        key: key.clone(),
        digest: None,
        kept: false,
        fence: Fence(0),
    };
    assert_eq!(stage.asked_by_peer(read), PeerReply::Unreadable);
    let compare = PeerRequest::Compare { places: vec![(place(), 0)] };
    assert_eq!(stage.asked_by_peer(compare), differ(vec![0], Vec::new()));
    let list = PeerRequest::List { place: place(), leaves: vec![0], listed: Vec::new() };
    assert_eq!(stage.asked_by_peer(list), PeerReply::Unreadable);
    let fetch = PeerRequest::Fetch { place: place(), keys: vec![key] };
    assert!(matches!(
        stage.asked_by_peer(fetch),
        PeerReply::Objects { taken: 1, lacking: 1, entries, .. } if entries.is_empty()
    ));
    stage.ask(put(9, None, "mine"));
    assert!(matches!(stage.asked(2)[..], [(_, PeerRequest::Forward { .. })]), "it must not coordinate");
}

#[test]
fn a_copy_is_whole_again_when_every_other_owner_has_told_all_that_it_holds() {
    let mut stage = stage();
    // Node 2 holds a write that this node lacks.
    let (request, message) = stage.compared_with(2);
    assert!(matches!(message, PeerRequest::Compare { .. }), "{message:?}");
    let mut leaves = vec![0; 256];
    leaves[3] = 77;
    stage.answer(2, request, differ(Vec::new(), vec![(place(), leaves)]));
    let (request, message) = stage.compared_with(2);
    assert!(matches!(message, PeerRequest::List { .. }), "{message:?}");
    let offered = vec![Key::from_static(b"k")];
    stage.answer(2, request, PeerReply::Listing { done: 1, offered, wanted: Vec::new() });
    let (request, message) = stage.compared_with(2);
    assert!(matches!(message, PeerRequest::Fetch { .. }), "{message:?}");
    let entries = vec![(Key::from_static(b"k"), object_of(2, Stamp(7)))];
    stage.answer(2, request, PeerReply::Objects { taken: 1, lacking: 0, fence: Fence(0), entries });
    // Node 3's own copy is in quarantine: it tells nothing.
    let (request, _) = stage.compared_with(3);
    stage.answer(3, request, differ(vec![0], Vec::new()));
    assert!(stage.is_quarantined(), "of what node 3 alone holds nothing is known");
    // Now it is whole, and equal.
    stage.equal(3);
    assert!(!stage.is_quarantined());
    stage.ask(DataRequest::Get { terms: terms() });
    let asked = stage.asked(2);
    let is_read =
        |(_, message): &(_, PeerRequest)| matches!(message, PeerRequest::Read { digest: Some(_), .. });
    assert!(asked.iter().any(is_read), "{asked:?}");
    // A further life finds it whole.
    let stage = Stage::on(stage.disk, &table(1, settled(&[1, 2, 3])));
    assert!(!stage.node.engine().is_quarantined(AT));
}

#[test]
fn an_owner_that_cannot_read_what_it_holds_is_asked_again_before_a_copy_counts_as_whole() {
    let mut stage = stage();
    stage.equal(2);
    let (request, _) = stage.compared_with(3);
    let mut leaves = vec![0; 256];
    leaves[3] = 77;
    stage.answer(3, request, differ(Vec::new(), vec![(place(), leaves)]));
    let (request, _) = stage.compared_with(3);
    let offered = vec![Key::from_static(b"k")];
    stage.answer(3, request, PeerReply::Listing { done: 1, offered, wanted: Vec::new() });
    let (request, _) = stage.compared_with(3);
    stage.answer(
        3,
        request,
        PeerReply::Objects { taken: 1, lacking: 1, fence: Fence(0), entries: Vec::new() },
    );
    assert!(stage.is_quarantined());
    stage.equal(3);
    assert!(!stage.is_quarantined());
}

#[test]
fn what_was_compared_under_other_owners_counts_for_nothing_and_a_sector_given_up_needs_nobody() {
    let mut stage = stage();
    stage.equal(2);
    stage.adopt(&table(2, settled(&[1, 2, 4])));
    stage.sync();
    stage.answer(4, RequestId(0), PeerReply::Alive(Default::default()));
    let (request, message) = stage.compared_with(2);
    let PeerRequest::Compare { places } = message else { panic!("{message:?}") };
    assert_eq!(places[0].0.conf_epoch, Epoch(2));
    stage.answer(2, request, differ(Vec::new(), Vec::new()));
    assert!(stage.is_quarantined(), "node 4 is an owner, too");
    stage.adopt(&table(3, settled(&[2, 3, 4])));
    stage.now_us += 2_000_000;
    assert!(!stage.is_quarantined(), "nothing is left of it, and nobody asks for it");
}

#[test]
fn a_leaf_with_more_keys_than_one_answer_takes_is_offered_bit_by_bit() {
    let mut stage = Stage::with(&table(1, settled(&[1, 2, 3])));
    let hash = |key: &str| twox_hash::XxHash3_64::oneshot(key.as_bytes());
    let in_leaf = |leaf: u64, most| {
        (0..).map(|at| format!("key{at}")).filter(move |key| hash(key) >> 56 == leaf).take(most)
    };
    let many = in_leaf(9, 5000).chain(in_leaf(8, 1));
    let entries = many.map(|key| (Key::from(key), object_of(2, Stamp(7)))).collect();
    stage.asked_by_peer(PeerRequest::Transfer { place: place(), fence: Fence(0), entries });
    let mut listed: Vec<Listed> = Vec::new();
    let mut told = Vec::new();
    let mut leaves = vec![8, 9];
    while !leaves.is_empty() {
        let list = PeerRequest::List { place: place(), leaves: leaves.clone(), listed: listed.clone() };
        let PeerReply::Listing { done, offered, wanted } = stage.asked_by_peer(list) else { panic!() };
        assert_eq!(wanted, [0; 0]);
        told.push((done, offered.len()));
        leaves.drain(..usize::from(done));
        // What was offered is fetched, and is held then.
        let objects = stage.node.engine().tree_leaf(AT, 9).filter(|(key, _)| offered.contains(key));
        listed.extend(
            objects.map(|(key, object)| Listed { key: twox_hash::XxHash3_64::oneshot(&key), object }),
        );
    }
    assert_eq!(told, [(1, 1), (0, 4096), (1, 904)]);
}
