//! What a node answers a client that does not read or write keys: whom to talk to, the table, how
//! things are, what is held. All of it works while the manager is down.

use super::hints::Owed;
use super::io::{Lane, Output};
use super::{Node, ReplyTo};
use crate::engine::{Kind, Outline};
use crate::limits::{DUMP_BYTES_MAX, DUMP_ENTRIES_MAX};
use crate::ring::Slot;
use crate::types::{ConnId, Epoch, Health, Key, NodeId, Now, RequestId, SectorId};
use crate::wire::client::{
    ClientReply, ClientRequest, ClusterStatus, ContactInfo, DumpEntry, HintStatus, NodeStatus,
};

impl Node {
    pub(super) fn on_client(
        &mut self,
        now: Now,
        conn: ConnId,
        request: RequestId,
        message: ClientRequest,
        out: &mut Vec<Output>,
    ) {
        let message = match message {
            ClientRequest::Data { worth, request: data } => {
                let deadline = self.freshness.deadline(conn, now.mono, worth);
                return self.begin(now, ReplyTo::Client { conn, request }, data, deadline, out);
            }
            ClientRequest::Contact => self.contact(now),
            ClientRequest::Table { known } => self.tell_table(known),
            ClientRequest::Status => ClientReply::Status(self.status()),
            ClientRequest::Dump { keyspace, after } => self.dump(&keyspace, after),
            ClientRequest::Transfers => ClientReply::Transfers(self.transfers.status()),
            ClientRequest::Cluster(_) => ClientReply::Error(
                "only the manager changes the membership; name it with --manager".to_owned(),
            ),
            ClientRequest::Hints => ClientReply::Hints(self.hint_status()),
            ClientRequest::Repair { begin, sector } => self.repair_asked(now, begin, sector),
            ClientRequest::Faults { drop_from } => self.inject_faults(&drop_from),
            ClientRequest::CreateKeyspace { .. } => {
                ClientReply::Error("keyspaces are made by the manager; this is a storage node".to_owned())
            }
        };
        out.push(Output::Reply { conn, request, message });
    }

    /// This node first, then the others that it reaches.
    fn contact(&mut self, now: Now) -> ClientReply {
        self.clients = self.clients.wrapping_add(1);
        let Some(table) = self.table() else {
            return ClientReply::Error("this node has not joined a cluster yet; try again".to_owned());
        };
        let me = self.me();
        let reached = table.present().filter(|&(id, _)| id != me && self.peers.is_up(id, Lane::Foreground));
        let own = std::iter::once((me, self.options.addr.clone()));
        let nodes = own.chain(reached.map(|(id, member)| (id, member.addr.clone()))).collect();
        let mut clock = self.clock;
        let stamp = clock.stamp(now.wall, Default::default());
        ClientReply::Contact(ContactInfo { client_number: self.clients, stamp, nodes })
    }

    fn tell_table(&self, known: Epoch) -> ClientReply {
        match &self.view {
            Some(view) if view.table.epoch > known => ClientReply::Table(view.bytes.clone()),
            Some(view) => ClientReply::TableIsCurrent(view.table.epoch),
            None => ClientReply::Error("this node has not joined a cluster yet; try again".to_owned()),
        }
    }

    fn status(&self) -> ClusterStatus {
        let Some(table) = self.table() else { return ClusterStatus::default() };
        let small = |count: usize| u16::try_from(count).unwrap_or(u16::MAX);
        let loads = table.loads();
        let row = |(id, member): (NodeId, &crate::ring::Member)| {
            let own = id == self.me();
            let said = if own { self.own_saying() } else { self.peers.said(id) };
            let (held, first) = loads.get(&id).copied().unwrap_or_default();
            NodeStatus {
                node: id,
                addr: member.addr.clone(),
                zone: member.zone.clone(),
                state: member.state,
                health: if own { Health::Up } else { self.peers.health(id) },
                sectors: (small(held), small(first)),
                incarnation: said.incarnation,
                vitals: said.vitals,
            }
        };
        let is_moving = |slot: &Slot| matches!(slot, Slot::Moving { .. });
        ClusterStatus {
            observer: self.me(),
            cluster_id: table.cluster_id,
            epoch: table.epoch,
            n: table.n,
            sectors: small(table.sectors.len()),
            serving: table.is_serving(),
            moving: small(table.sectors.iter().filter(|sector| sector.slots.iter().any(is_moving)).count()),
            nodes: table.present().map(row).collect(),
        }
    }

    fn hint_status(&self) -> Vec<HintStatus> {
        let row = |(owed_to, owed): (NodeId, Owed)| {
            let Owed { hints, bytes, missed, delivered, dropped } = owed;
            HintStatus { owed_to, hints, bytes, missed, delivered, dropped }
        };
        self.ledger.all().map(row).collect()
    }

    /// A page of what is held of a keyspace, by sector, then as the index orders a sector's keys.
    fn dump(&self, keyspace: &str, after: Option<(SectorId, Key)>) -> ClientReply {
        let Some((id, _)) = self.table().and_then(|table| table.keyspace(keyspace)) else {
            return ClientReply::Error(format!(
                "there is no keyspace {keyspace:?}; see `gtstore keyspace list`"
            ));
        };
        let from = after.as_ref().map_or(SectorId(0), |cursor| cursor.0);
        let places = self.engine.places((id, from)).take_while(|place| place.0 == id);
        let mut entries: Vec<DumpEntry> = Vec::new();
        let mut bytes = 0;
        for place in places {
            let cursor = after.as_ref().filter(|cursor| cursor.0 == place.1).map(|cursor| &cursor.1);
            for (key, outline) in self.engine.walk(place, cursor) {
                if entries.len() >= DUMP_ENTRIES_MAX || bytes > DUMP_BYTES_MAX {
                    let next = entries.last().map(|entry| (entry.sector, entry.key.clone()));
                    return ClientReply::Dump { entries, next };
                }
                let entry = dump_entry(place.1, &key, &outline);
                bytes += key.len() + entry.siblings.len() * 28;
                entries.push(entry);
            }
        }
        ClientReply::Dump { entries, next: None }
    }
}

fn dump_entry(sector: SectorId, key: &Key, outline: &Outline) -> DumpEntry {
    let siblings = outline.siblings().iter().map(|sibling| {
        let length = match sibling.content.kind {
            Kind::Value(bytes) => Some(bytes),
            Kind::Tombstone => None,
        };
        (sibling.dot, sibling.stamp, length)
    });
    DumpEntry { sector, key: key.clone(), siblings: siblings.collect() }
}
