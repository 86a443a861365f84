//! What the manager answers clients: whom to talk to, the table, how things are, new keyspaces.

use super::Manager;
use super::io::Output;
use crate::limits::KEYSPACE_NAME_BYTES_MAX;
use crate::types::{ConnId, Health, NodeId, Now, RequestId};
use crate::wire::client::{
    ClientReply, ClientRequest, ClusterCommand, ClusterStatus, ContactInfo, DataReply, NodeStatus, Reason,
};

impl Manager {
    pub(super) fn on_client(
        &mut self,
        now: Now,
        conn: ConnId,
        request: RequestId,
        message: ClientRequest,
        out: &mut Vec<Output>,
    ) {
        let message = match message {
            ClientRequest::Data { .. } => ClientReply::Data(DataReply::refused(Reason::NotOnDataPath)),
            ClientRequest::Contact => self.contact(now),
            // Only a durable table is told: while the next one is stored, the one before it.
            ClientRequest::Table { known } if self.durable.0 > known => {
                ClientReply::Table(self.durable.1.clone())
            }
            ClientRequest::Table { known } => ClientReply::TableIsCurrent(known),
            ClientRequest::Status => ClientReply::Status(self.status(now)),
            // Only what is durable is told: while a table is stored, the answer waits.
            ClientRequest::Cluster(ClusterCommand::Plan) if self.storing.is_none() => {
                ClientReply::Plan(self.staged_plan())
            }
            ClientRequest::Cluster(command) => return self.wishes.commands.push((conn, request, command)),
            ClientRequest::Faults { .. } => {
                ClientReply::Error("the manager injects no faults; ask a storage node".to_owned())
            }
            ClientRequest::Dump { .. }
            | ClientRequest::Hints
            | ClientRequest::Transfers
            | ClientRequest::Repair { .. } => {
                ClientReply::Error("the manager holds no keys; ask a storage node".to_owned())
            }
            ClientRequest::CreateKeyspace { name, settings } if name.len() <= KEYSPACE_NAME_BYTES_MAX => {
                return self.wishes.keyspaces.push((conn, request, name, settings));
            }
            ClientRequest::CreateKeyspace { .. } => {
                ClientReply::Error("a keyspace name has at most 64 bytes".to_owned())
            }
        };
        out.push(Output::Reply { conn, request, message });
    }

    /// Round robin over the nodes that are up; over all members if none is, as far as is known.
    fn contact(&mut self, now: Now) -> ClientReply {
        let members: Vec<(NodeId, String)> =
            self.table.present().map(|(id, member)| (id, member.addr.clone())).collect();
        let up: Vec<_> =
            members.iter().filter(|node| self.members.is_up(node.0, now.mono)).cloned().collect();
        let mut nodes = if up.is_empty() { members } else { up };
        if !nodes.is_empty() {
            let turn = self.contacts as usize % nodes.len();
            nodes.rotate_left(turn);
        }
        self.contacts = self.contacts.wrapping_add(1);
        let stamp = self.clock.stamp(now.wall, Default::default());
        ClientReply::Contact(ContactInfo { client_number: self.contacts, stamp, nodes })
    }

    fn status(&self, now: Now) -> ClusterStatus {
        let table = &self.table;
        let small = |count: usize| u16::try_from(count).unwrap_or(u16::MAX);
        let loads = table.loads();
        let row = |(id, member): (NodeId, &crate::ring::Member)| {
            let (held, first) = loads.get(&id).copied().unwrap_or_default();
            let seen = self.members.seen(id);
            NodeStatus {
                node: id,
                addr: member.addr.clone(),
                zone: member.zone.clone(),
                state: member.state,
                health: if self.members.is_up(id, now.mono) { Health::Up } else { Health::Down },
                sectors: (small(held), small(first)),
                incarnation: seen.map(|seen| seen.incarnation).unwrap_or_default(),
                vitals: seen.map(|seen| seen.vitals).unwrap_or_default(),
            }
        };
        ClusterStatus {
            observer: NodeId(0),
            cluster_id: table.cluster_id,
            epoch: table.epoch,
            n: table.n,
            sectors: small(table.sectors.len()),
            serving: table.is_serving(),
            moving: small(table.sectors.iter().filter(|sector| sector.is_moving()).count()),
            nodes: table.present().map(row).collect(),
        }
    }
}
