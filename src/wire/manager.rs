//! Between a node and the manager, on one connection that the node dials and keeps.
//!
//! Neither side waits for an answer on the wire: a node repeats what it has to say in its next
//! report, and the manager tells the table whenever it changes. Frames carry request id 0.

use super::Message;
use super::codec::{DecodeError, Reader, Writer};
use super::vitals::{Vitals, decode_vitals, encode_vitals};
use crate::limits::{ADDR_BYTES_MAX, MANAGER_BODY_BYTES_MAX, SECTORS_MAX, TEXT_BYTES_MAX};
use crate::types::{ClusterId, DiskUuid, Epoch, Incarnation, NodeId, SectorId};
use bytes::Bytes;

/// What a node tells the manager.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum NodeToManager {
    /// First on each connection: who it is and where it listens.
    Join(Join),
    /// Each [`REPORT_MS`](crate::limits::REPORT_MS): that it lives, and how it stands; the epoch is that of
    /// its *durable* table.
    Report(Vitals),
    /// These copies of sectors have been streamed to their new owners, whole and durable. Repeated with
    /// each report until the table says so too.
    Streamed(Vec<Arrived>),
    /// The node is to leave, and has nothing left that others lack: no sector, no hint, no request.
    /// Repeated with each report until the table says that it has left.
    HandedOver,
    /// The node wants to leave for good. Repeated until the table says that it is leaving.
    Leave,
    /// The node's table, asked for by an `OfferTable` answer.
    Table(Bytes),
}

/// A copy of a sector that has arrived at its new owner, from one of its sources.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Arrived {
    /// The sector.
    pub sector: SectorId,
    /// The new owner.
    pub to: NodeId,
    /// The epoch in which the slot set out.
    pub since: Epoch,
}

/// A node's introduction.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Join {
    /// Its id; 0 when it has none yet.
    pub node: NodeId,
    /// Its data directory.
    pub disk_uuid: DiskUuid,
    /// Its life.
    pub incarnation: Incarnation,
    /// Where peers and clients reach it.
    pub addr: String,
    /// Failure domain; empty when unsaid.
    pub zone: String,
    /// Share of the data relative to other members.
    pub weight: u16,
    /// Epoch of its table; 0 when it has none.
    pub epoch: Epoch,
    /// As a new node it waits for an operator's word before it owns anything.
    pub manual: bool,
}

/// What the manager tells a node.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ManagerToNode {
    /// Answer to a join: the node's id for good. A table follows.
    Joined {
        /// The id.
        node: NodeId,
        /// The cluster.
        cluster_id: ClusterId,
    },
    /// The node may not be a member; it stops with this text.
    Rejected {
        /// Why, and what the operator can do.
        text: String,
    },
    /// Answer to a wish to leave that cannot be granted.
    CannotLeave {
        /// Why.
        text: String,
    },
    /// The table, durable at the manager.
    Table(Bytes),
    /// The node's table is newer than the manager's: send it.
    OfferTable,
}

const JOIN: u8 = 0x81;
const REPORT: u8 = 0x82;
const STREAMED: u8 = 0x83;
const NODE_TABLE: u8 = 0x84;
const HANDED_OVER: u8 = 0x85;
const LEAVE: u8 = 0x86;
const JOINED: u8 = 0x91;
const REJECTED: u8 = 0x92;
const TABLE: u8 = 0x93;
const OFFER_TABLE: u8 = 0x94;
const CANNOT_LEAVE: u8 = 0x95;

const ZONE_BYTES_MAX: usize = 64;

/// A text that stands in tables and lines later on: nothing in it may end a field or a line.
fn plain(text: String, what: &'static str) -> Result<String, DecodeError> {
    if text.contains(char::is_control) { Err(DecodeError::Invalid(what)) } else { Ok(text) }
}

impl Message for NodeToManager {
    fn kind(&self) -> u8 {
        match self {
            NodeToManager::Join(_) => JOIN,
            NodeToManager::Report(_) => REPORT,
            NodeToManager::Streamed(_) => STREAMED,
            NodeToManager::Table(_) => NODE_TABLE,
            NodeToManager::HandedOver => HANDED_OVER,
            NodeToManager::Leave => LEAVE,
        }
    }

    fn encode(&self, out: &mut Writer) {
        match self {
            NodeToManager::Join(join) => {
                out.u32(join.node.0);
                out.u128(join.disk_uuid.0);
                out.u32(join.incarnation.0);
                out.text(&join.addr);
                out.text(&join.zone);
                out.u16(join.weight);
                out.u64(join.epoch.0);
                out.bool(join.manual);
            }
            NodeToManager::Report(vitals) => encode_vitals(vitals, out),
            NodeToManager::Streamed(sectors) => {
                out.count(sectors.len());
                for Arrived { sector, to, since } in sectors {
                    out.u16(sector.0);
                    out.u32(to.0);
                    out.u64(since.0);
                }
            }
            NodeToManager::Table(bytes) => out.value(bytes),
            NodeToManager::HandedOver | NodeToManager::Leave => {}
        }
    }

    fn decode(kind: u8, body: Bytes) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(body);
        let message = match kind {
            JOIN => NodeToManager::Join(Join {
                node: NodeId(reader.u32()?),
                disk_uuid: DiskUuid(reader.u128()?),
                incarnation: Incarnation(reader.u32()?),
                addr: plain(reader.text("address", ADDR_BYTES_MAX)?, "address")?,
                zone: plain(reader.text("zone", ZONE_BYTES_MAX)?, "zone")?,
                weight: reader.u16()?,
                epoch: Epoch(reader.u64()?),
                manual: reader.bool("manual")?,
            }),
            REPORT => NodeToManager::Report(decode_vitals(&mut reader)?),
            STREAMED => {
                let count = reader.count("streamed sectors", SECTORS_MAX, 14)?;
                let mut sectors = Vec::with_capacity(count);
                for _ in 0..count {
                    sectors.push(Arrived {
                        sector: SectorId(reader.u16()?),
                        to: NodeId(reader.u32()?),
                        since: Epoch(reader.u64()?),
                    });
                }
                NodeToManager::Streamed(sectors)
            }
            HANDED_OVER => NodeToManager::HandedOver,
            LEAVE => NodeToManager::Leave,
            NODE_TABLE => NodeToManager::Table(reader.bytes("table", MANAGER_BODY_BYTES_MAX)?),
            other => return Err(DecodeError::UnknownKind(other)),
        };
        reader.finish()?;
        Ok(message)
    }
}

impl Message for ManagerToNode {
    fn kind(&self) -> u8 {
        match self {
            ManagerToNode::Joined { .. } => JOINED,
            ManagerToNode::Rejected { .. } => REJECTED,
            ManagerToNode::CannotLeave { .. } => CANNOT_LEAVE,
            ManagerToNode::Table(_) => TABLE,
            ManagerToNode::OfferTable => OFFER_TABLE,
        }
    }

    fn encode(&self, out: &mut Writer) {
        match self {
            ManagerToNode::Joined { node, cluster_id } => {
                out.u32(node.0);
                out.u128(cluster_id.0);
            }
            ManagerToNode::Rejected { text } | ManagerToNode::CannotLeave { text } => {
                out.short_text(text, TEXT_BYTES_MAX);
            }
            ManagerToNode::Table(bytes) => out.value(bytes),
            ManagerToNode::OfferTable => {}
        }
    }

    fn decode(kind: u8, body: Bytes) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(body);
        let message = match kind {
            JOINED => {
                ManagerToNode::Joined { node: NodeId(reader.u32()?), cluster_id: ClusterId(reader.u128()?) }
            }
            CANNOT_LEAVE => ManagerToNode::CannotLeave { text: reader.text("text", TEXT_BYTES_MAX)? },
            REJECTED => ManagerToNode::Rejected { text: reader.text("text", TEXT_BYTES_MAX)? },
            TABLE => ManagerToNode::Table(reader.bytes("table", MANAGER_BODY_BYTES_MAX)?),
            OFFER_TABLE => ManagerToNode::OfferTable,
            other => return Err(DecodeError::UnknownKind(other)),
        };
        reader.finish()?;
        Ok(message)
    }
}
