//! The manager among nodes that are played by hand.

use super::io::{Input, Output};
use super::{Manager, Options};
use crate::machine::Machine;
use crate::mutant::Planted;
use crate::sim::SimDisk;
use crate::types::{ClusterId, ConnId, DiskUuid, Epoch, Incarnation, Instant, NodeId, Now, WallMs};
use crate::wire::manager::{Join, NodeToManager};

#[test]
fn while_a_member_holds_a_newer_table_no_other_connection_that_ends_makes_the_manager_write_one() {
    let options = Options { n: 1, sectors: 1, fresh_cluster: ClusterId(7), planted: Planted::NONE };
    let mut manager = Manager::open(&mut SimDisk::default(), options).unwrap();
    let mut tell = |input| {
        let mut out = Vec::new();
        manager.handle(Now { mono: Instant(1_000_000), wall: WallMs(1_000) }, input, &mut out);
        out
    };
    let join = Join {
        node: NodeId(1),
        disk_uuid: DiskUuid(1),
        incarnation: Incarnation(1),
        addr: "node1".to_owned(),
        zone: String::new(),
        weight: 100,
        epoch: Epoch(9),
    };
    let newcomer = Join { node: NodeId(0), disk_uuid: DiskUuid(2), epoch: Epoch(0), ..join.clone() };
    tell(Input::Node { conn: ConnId(1), message: NodeToManager::Join(join) });
    tell(Input::Node { conn: ConnId(2), message: NodeToManager::Join(newcomer) });
    let out = tell(Input::Gone { conn: ConnId(3) });
    assert!(!out.iter().any(|output| matches!(output, Output::Disk(_))), "{out:?}");
    // The holder itself is gone: perhaps for good.
    let out = tell(Input::Gone { conn: ConnId(1) });
    assert!(out.iter().any(|output| matches!(output, Output::Disk(_))), "{out:?}");
}
