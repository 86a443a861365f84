//! Faults on purpose: what is dropped, and that nothing is without leave.

use super::*;
use crate::node::faults::Faults;

/// What the node says to a client's wish to drop messages of these peers.
fn wish(stage: &mut Stage, drop_from: &[u32]) -> ClientReply {
    let drop_from = drop_from.iter().copied().map(NodeId).collect();
    let message = ClientRequest::Faults { drop_from };
    stage.tell(Input::Client { conn: CLIENT, request: RequestId(8), message });
    match stage.out.pop() {
        Some(Output::Reply { message, .. }) => message,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_node_hears_and_tells_a_peer_nothing_until_told_otherwise() {
    let mut stage = Stage::with(&table(1, settled(&[1, 2, 3])));
    assert_eq!(wish(&mut stage, &[2]), ClientReply::FaultsSet);
    stage.ask(put(5, None, "mine"));
    assert_eq!((stage.asked(2).len(), stage.asked(3).len()), (0, 1));
    let message = PeerRequest::Probe { epoch: crate::types::Epoch(1) };
    let probe = |from| Input::Peer {
        conn: ConnId(u64::from(from)),
        from: NodeId(from),
        request: RequestId(7),
        message: message.clone(),
    };
    stage.out.clear();
    stage.tell(probe(2));
    assert_eq!(stage.out, []);
    stage.tell(probe(3));
    assert!(matches!(stage.out[..], [Output::PeerReply { .. }]), "{:?}", stage.out);
    stage.out.clear();

    assert_eq!(wish(&mut stage, &[]), ClientReply::FaultsSet);
    stage.tell(probe(2));
    assert!(matches!(stage.out[..], [Output::PeerReply { .. }]), "{:?}", stage.out);
}

#[test]
fn without_leave_nothing_is_dropped() {
    let mut stage = Stage::with(&table(1, settled(&[1, 2, 3])));
    stage.node.faults = Faults::new(false);
    assert!(
        matches!(wish(&mut stage, &[2]), ClientReply::Error(text) if text.contains("--allow-fault-injection"))
    );
    stage.ask(put(5, None, "mine"));
    assert_eq!((stage.asked(2).len(), stage.asked(3).len()), (1, 1));
}
