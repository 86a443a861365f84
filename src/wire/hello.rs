//! The Hello that opens every connection, and the rule by which versions and clusters meet.
//!
//! ```text
//! dialer                            listener
//!   | ---- Hello (versions, role) --> |   its first frame, at most 1 KiB
//!   | <--- Welcome (version, who) --- |   or Refused (reason), and the connection closes
//! ```
//! `nonce` and `auth` are room for authentication: this version sends zeros and refuses others.

use super::Message;
use super::codec::{DecodeError, Reader, Writer};
use crate::limits::TEXT_BYTES_MAX;
use crate::types::{ClientId, ClusterId, Incarnation, NodeId};
use bytes::Bytes;
use std::fmt;

/// `GTS1`, the first bytes of the body of a Hello.
const MAGIC: u32 = u32::from_le_bytes(*b"GTS1");
/// The oldest and newest protocol version spoken here.
pub const VERSIONS: (u16, u16) = (1, 1);

/// What a connection is for. Requests go one way only: from the dialer to the listener.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Role {
    /// A client of a node or of the manager.
    Client(ClientId),
    /// A node's link to a peer for requests people wait for.
    Peer(NodeId),
    /// A node's link to a peer for transfer and repair.
    PeerBulk(NodeId),
    /// A node's connection to the manager. The id is 0 before the first join.
    Member(NodeId),
}

/// What answers on the listening side.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Server {
    /// The manager.
    Manager,
    /// A storage node.
    Node(NodeId),
}

/// A dialer's opening.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Hello {
    /// Oldest and newest version it speaks.
    pub versions: (u16, u16),
    /// Its cluster; 0 when it does not know one yet (clients, new nodes).
    pub cluster_id: ClusterId,
    /// What the connection is for.
    pub role: Role,
    /// A node's life; 0 for clients.
    pub incarnation: Incarnation,
    /// Optional abilities, a bit each; unknown bits are ignored.
    pub capabilities: u64,
    /// Room for authentication.
    pub nonce: u128,
    /// Method of authentication; 0 is none.
    pub auth: u8,
}

/// A listener's consent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Welcome {
    /// The version both will speak.
    pub version: u16,
    /// The listener's cluster; 0 when it does not know one yet.
    pub cluster_id: ClusterId,
    /// Who it is.
    pub server: Server,
    /// Its life; 0 for the manager.
    pub incarnation: Incarnation,
    /// Abilities of both sides.
    pub capabilities: u64,
    /// Room for authentication.
    pub nonce: u128,
}

/// Why a connection is not wanted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RefusalCause {
    /// No protocol version in common.
    Version,
    /// The two are of different clusters.
    Cluster,
    /// An authentication method that is not spoken here.
    Auth,
    /// The role makes no sense here (a peer link to the manager).
    Role,
    /// No room for another connection.
    Full,
}

/// A listener's refusal, in words for the dialer's log.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Refused {
    /// The cause.
    pub cause: RefusalCause,
    /// What was asked and what is had.
    pub text: String,
}

/// The frames of the opening.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Opening {
    /// From the dialer.
    Hello(Hello),
    /// From the listener: go on.
    Welcome(Welcome),
    /// From the listener: goodbye.
    Refused(Refused),
}

/// What a listener knows of itself when a Hello comes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Identity {
    /// Its cluster; 0 when not known yet.
    pub cluster_id: ClusterId,
    /// Who it is.
    pub server: Server,
    /// Its life; 0 for the manager.
    pub incarnation: Incarnation,
}

impl Hello {
    /// An opening in this build's versions.
    #[must_use]
    pub fn new(role: Role, cluster_id: ClusterId, incarnation: Incarnation) -> Self {
        Self { versions: VERSIONS, cluster_id, role, incarnation, capabilities: 0, nonce: 0, auth: 0 }
    }
}

impl Identity {
    /// The listener's answer to a Hello.
    ///
    /// # Errors
    /// The refusal to send before closing.
    pub fn answer(&self, hello: &Hello) -> Result<Welcome, Refused> {
        let refuse = |cause, text| Err(Refused { cause, text });
        let version = hello.versions.1.min(VERSIONS.1);
        if version < hello.versions.0 || version < VERSIONS.0 {
            let text = format!(
                "protocol versions {}..{} are asked for, {}..{} are spoken here",
                hello.versions.0, hello.versions.1, VERSIONS.0, VERSIONS.1
            );
            return refuse(RefusalCause::Version, text);
        }
        if hello.auth != 0 {
            let text = format!("authentication method {} is not spoken here", hello.auth);
            return refuse(RefusalCause::Auth, text);
        }
        if !clusters_meet(hello.cluster_id, self.cluster_id) {
            let text = format!("this is cluster {}, not {}", self.cluster_id, hello.cluster_id);
            return refuse(RefusalCause::Cluster, text);
        }
        let fits = match (hello.role, self.server) {
            (Role::Client(_), _) | (Role::Member(_), Server::Manager) => true,
            (Role::Peer(_) | Role::PeerBulk(_), Server::Node(_)) => hello.cluster_id == self.cluster_id,
            (Role::Peer(_) | Role::PeerBulk(_), Server::Manager) | (Role::Member(_), Server::Node(_)) => {
                false
            }
        };
        if !fits {
            let text = format!("{} does not serve {}", self.server, hello.role);
            return refuse(RefusalCause::Role, text);
        }
        Ok(Welcome {
            version,
            cluster_id: self.cluster_id,
            server: self.server,
            incarnation: self.incarnation,
            capabilities: 0,
            nonce: 0,
        })
    }
}

/// Whether two sides may be of one cluster: equal, or one does not know yet.
#[must_use]
pub fn clusters_meet(a: ClusterId, b: ClusterId) -> bool {
    a == b || a.0 == 0 || b.0 == 0
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Server::Manager => f.write_str("the manager"),
            Server::Node(node) => write!(f, "node {node}"),
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Role::Client(_) => f.write_str("a client"),
            Role::Peer(node) => write!(f, "a link from node {node}"),
            Role::PeerBulk(node) => write!(f, "a bulk link from node {node}"),
            Role::Member(node) => write!(f, "a member link from node {node}"),
        }
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "connection refused by the other side: {}", self.text)
    }
}

const HELLO: u8 = 0x01;
const WELCOME: u8 = 0x02;
const REFUSED: u8 = 0x03;

impl Message for Opening {
    fn kind(&self) -> u8 {
        match self {
            Opening::Hello(_) => HELLO,
            Opening::Welcome(_) => WELCOME,
            Opening::Refused(_) => REFUSED,
        }
    }

    fn encode(&self, out: &mut Writer) {
        match self {
            Opening::Hello(hello) => encode_hello(hello, out),
            Opening::Welcome(welcome) => encode_welcome(welcome, out),
            Opening::Refused(refused) => {
                out.u8(match refused.cause {
                    RefusalCause::Version => 1,
                    RefusalCause::Cluster => 2,
                    RefusalCause::Auth => 3,
                    RefusalCause::Role => 4,
                    RefusalCause::Full => 5,
                });
                out.short_text(&refused.text, TEXT_BYTES_MAX);
            }
        }
    }

    fn decode(kind: u8, body: Bytes) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(body);
        let opening = match kind {
            HELLO => Opening::Hello(decode_hello(&mut reader)?),
            WELCOME => Opening::Welcome(decode_welcome(&mut reader)?),
            REFUSED => Opening::Refused(decode_refused(&mut reader)?),
            other => return Err(DecodeError::UnknownKind(other)),
        };
        reader.finish()?;
        Ok(opening)
    }
}

fn encode_hello(hello: &Hello, out: &mut Writer) {
    out.u32(MAGIC);
    out.u16(hello.versions.0);
    out.u16(hello.versions.1);
    out.u128(hello.cluster_id.0);
    let (role, id) = match hello.role {
        Role::Client(client) => (1, client.0),
        Role::Peer(node) => (2, u128::from(node.0)),
        Role::PeerBulk(node) => (3, u128::from(node.0)),
        Role::Member(node) => (4, u128::from(node.0)),
    };
    out.u8(role);
    out.u128(id);
    out.u32(hello.incarnation.0);
    out.u64(hello.capabilities);
    out.u128(hello.nonce);
    out.u8(hello.auth);
}

fn decode_hello(reader: &mut Reader) -> Result<Hello, DecodeError> {
    if reader.u32()? != MAGIC {
        return Err(DecodeError::Invalid("magic"));
    }
    let versions = (reader.u16()?, reader.u16()?);
    let cluster_id = ClusterId(reader.u128()?);
    let role = reader.u8()?;
    let id = reader.u128()?;
    let node = || u32::try_from(id).map(NodeId).map_err(|_| DecodeError::Invalid("node id"));
    let role = match role {
        1 => Role::Client(ClientId(id)),
        2 => Role::Peer(node()?),
        3 => Role::PeerBulk(node()?),
        4 => Role::Member(node()?),
        _ => return Err(DecodeError::Invalid("role")),
    };
    let incarnation = Incarnation(reader.u32()?);
    let (capabilities, nonce, auth) = (reader.u64()?, reader.u128()?, reader.u8()?);
    Ok(Hello { versions, cluster_id, role, incarnation, capabilities, nonce, auth })
}

fn encode_welcome(welcome: &Welcome, out: &mut Writer) {
    out.u16(welcome.version);
    out.u128(welcome.cluster_id.0);
    out.u32(match welcome.server {
        Server::Manager => 0,
        Server::Node(node) => node.0,
    });
    out.u32(welcome.incarnation.0);
    out.u64(welcome.capabilities);
    out.u128(welcome.nonce);
}

fn decode_welcome(reader: &mut Reader) -> Result<Welcome, DecodeError> {
    let version = reader.u16()?;
    let cluster_id = ClusterId(reader.u128()?);
    let server = match reader.u32()? {
        0 => Server::Manager,
        node => Server::Node(NodeId(node)),
    };
    let incarnation = Incarnation(reader.u32()?);
    let (capabilities, nonce) = (reader.u64()?, reader.u128()?);
    Ok(Welcome { version, cluster_id, server, incarnation, capabilities, nonce })
}

fn decode_refused(reader: &mut Reader) -> Result<Refused, DecodeError> {
    let cause = match reader.u8()? {
        1 => RefusalCause::Version,
        2 => RefusalCause::Cluster,
        3 => RefusalCause::Auth,
        4 => RefusalCause::Role,
        5 => RefusalCause::Full,
        _ => return Err(DecodeError::Invalid("refusal cause")),
    };
    Ok(Refused { cause, text: reader.text("refusal text", TEXT_BYTES_MAX)? })
}
