//! The manager, input by input.

use super::*;
use crate::sim::SimDisk;
use crate::types::{DiskUuid, WallMs};
use crate::wire::Vitals;
use crate::wire::client::ClientRequest;
use crate::wire::manager::NodeToManager;

fn told_epoch(manager: &mut Manager, known: Epoch) -> Option<Epoch> {
    let mut out = Vec::new();
    let message = ClientRequest::Table { known };
    manager.handle(NOW, Input::Client { conn: ConnId(9), request: RequestId(1), message }, &mut out);
    out.into_iter().find_map(|output| {
        let Output::Reply { message: ClientReply::Table(bytes), .. } = output else { return None };
        Some(decode_table(bytes).unwrap().epoch)
    })
}

const NOW: Now = Now { mono: Instant(0), wall: WallMs(0) };

/// Of a cluster with one copy and one sector.
fn options() -> Options {
    Options {
        n: Some(1),
        sectors: Some(1),
        profile: None,
        members_min: None,
        evict_after_ms: None,
        fresh_cluster: ClusterId(7),
        planted: Planted::default(),
    }
}

#[test]
fn what_is_said_of_a_cluster_makes_a_new_one_and_must_be_so_of_an_existing_one() {
    let mut disk = SimDisk::default();
    let made = Options { n: Some(2), sectors: Some(8), profile: Some(Profile::Gtstore), ..options() };
    let manager = Manager::open(&mut disk, made.clone()).unwrap();
    let table = manager.table();
    assert_eq!((table.n, table.sectors.len(), table.profile), (2, 8, Profile::Gtstore));
    let unsaid = Options { n: None, sectors: None, profile: None, ..options() };
    for fine in [made, unsaid.clone()] {
        assert_eq!(Manager::open(&mut disk, fine).unwrap().table().profile, Profile::Gtstore);
    }
    for (wrong, said, is) in [
        (Options { n: Some(3), ..unsaid.clone() }, "--rep 3", "--rep 2"),
        (Options { sectors: Some(16), ..unsaid.clone() }, "--sectors 16", "--sectors 8"),
        (
            Options { profile: Some(Profile::Default), ..unsaid.clone() },
            "--profile default",
            "--profile gtstore",
        ),
    ] {
        let text = Manager::open(&mut disk, wrong).unwrap_err();
        assert!(text.contains(said) && text.contains(is), "{text}");
    }
    let table = Manager::open(&mut SimDisk::default(), unsaid).unwrap().table().clone();
    assert_eq!((table.n, table.sectors.len(), table.profile), (3, 1024, Profile::Default));
}

#[test]
fn while_a_table_is_being_stored_the_one_before_it_is_told() {
    let options = options();
    let mut manager = Manager::open(&mut SimDisk::default(), options).unwrap();
    assert_eq!(told_epoch(&mut manager, Epoch(0)), Some(Epoch(1)));

    let join = Join {
        node: NodeId(0),
        disk_uuid: DiskUuid(1),
        incarnation: Incarnation(1),
        addr: "a:1".to_owned(),
        zone: String::new(),
        weight: 100,
        epoch: Epoch(0),
        manual: false,
    };
    let mut out = Vec::new();
    manager.handle(NOW, Input::Node { conn: ConnId(1), message: NodeToManager::Join(join) }, &mut out);
    assert!(matches!(out[..], [Output::Disk(DiskRequest::Replace { .. })]), "{out:?}");
    assert_eq!(told_epoch(&mut manager, Epoch(0)), Some(Epoch(1)));
    assert_eq!(told_epoch(&mut manager, Epoch(1)), None);

    manager.handle(NOW, Input::Disk(DiskEvent::Synced(Ticket(1))), &mut Vec::new());
    assert_eq!(told_epoch(&mut manager, Epoch(1)), Some(Epoch(2)));
}

#[test]
fn a_keyspace_that_is_there_already_is_answered_at_once() {
    let options = Options {
        n: Some(1),
        sectors: Some(1),
        profile: None,
        members_min: None,
        evict_after_ms: None,
        fresh_cluster: ClusterId(7),
        planted: Planted::NONE,
    };
    let mut manager = Manager::open(&mut SimDisk::default(), options).unwrap();
    let mut tell = |at_ms: u64, input| {
        let mut out = Vec::new();
        manager.handle(Now { mono: Instant(at_ms * 1000), wall: WallMs(at_ms) }, input, &mut out);
        out
    };
    let join = Join {
        node: NodeId(0),
        disk_uuid: DiskUuid(1),
        incarnation: Incarnation(1),
        addr: "node1".to_owned(),
        zone: String::new(),
        weight: 100,
        epoch: Epoch(0),
        manual: false,
    };
    tell(0, Input::Node { conn: ConnId(1), message: NodeToManager::Join(join) });
    tell(1, Input::Disk(DiskEvent::Synced(Ticket(1))));
    // After the first plan, so that there is nothing else to make a table for.
    tell(500, Input::Tick);
    tell(501, Input::Disk(DiskEvent::Synced(Ticket(2))));
    let report = Vitals { epoch: Epoch(3), ..Vitals::default() };
    tell(502, Input::Node { conn: ConnId(1), message: NodeToManager::Report(report) });
    let message = ClientRequest::CreateKeyspace {
        name: Keyspace::DEFAULT.to_owned(),
        settings: KeyspaceSettings::majority(1),
    };
    let out = tell(1000, Input::Client { conn: ConnId(2), request: RequestId(1), message });
    let [Output::Reply { message: ClientReply::KeyspaceCreated(KeyspaceId(0)), .. }] = out[..] else {
        panic!("{out:?}")
    };
}

#[test]
fn while_a_member_holds_a_newer_table_no_other_connection_that_ends_makes_the_manager_write_one() {
    let options = options();
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
        manual: false,
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
