//! What can happen to a client, and what it can ask for.

use super::error::Error;
use crate::types::{Key, RequestId};
use crate::version::Context;
use crate::wire::client::{ClientReply, ClientRequest, Provenance, Version};
use crate::wire::hello::Server;
use bytes::Bytes;

/// A call, named by whoever makes it; it comes back with the outcome.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct CallId(pub u64);

/// An address the client talks to, and the one connection it keeps there. Never used twice.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct ServerId(pub u32);

/// What can happen to a client.
#[derive(Clone, PartialEq, Debug)]
pub enum Input {
    /// The user wants something. Answered by exactly one [`Output::Done`].
    Call {
        /// The user's name for it.
        call: CallId,
        /// What is wanted.
        request: Call,
        /// Milliseconds it is worth waiting; 0 for the client's default.
        ttl_ms: u32,
    },
    /// A dialed server's machine has taken the connection. The server itself may hang: it has
    /// answered only once it welcomes us.
    Connected {
        /// The server.
        server: ServerId,
    },
    /// A dialed server has welcomed us: requests may be sent.
    Welcomed {
        /// The server.
        server: ServerId,
        /// What its Welcome says it is.
        by: Server,
    },
    /// A server answers.
    Reply {
        /// The server.
        server: ServerId,
        /// Our name for the request.
        request: RequestId,
        /// Its answer.
        message: ClientReply,
    },
    /// A connection is gone, or a dial failed. Not told of one that was hung up.
    Closed {
        /// The server.
        server: ServerId,
        /// Why, in words.
        why: String,
    },
    /// The deadline has passed.
    Tick,
}

/// What a client can ask for. Carried out in order.
#[derive(Clone, PartialEq, Debug)]
pub enum Output {
    /// Connect to this address and say Hello. Ends in `Welcomed` or `Closed`.
    Dial {
        /// The server.
        server: ServerId,
        /// Its `HOST:PORT`.
        addr: String,
    },
    /// Close the connection, or give up dialing. Nothing more may be told of it.
    Hangup {
        /// The server.
        server: ServerId,
    },
    /// Ask a server that has welcomed us.
    Send {
        /// The server.
        server: ServerId,
        /// Our name for the request: never used twice.
        request: RequestId,
        /// What is asked.
        message: ClientRequest,
    },
    /// A call is answered.
    Done {
        /// The user's name for it.
        call: CallId,
        /// What came of it.
        outcome: Outcome,
    },
}

/// A key, and on what terms it is read or written.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Item {
    /// Keyspace by name; empty for `default`.
    pub keyspace: String,
    /// The key.
    pub key: Key,
    /// R or W for this call; 0 for the keyspace's.
    pub quorum: u8,
    /// Owners alone count toward R or W, no fallbacks.
    pub strict: bool,
    /// How long what is put is to be visible, in milliseconds; none for good.
    pub ttl_ms: Option<u64>,
    /// Tell what each node did.
    pub trace: bool,
}

/// What a user wants.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Call {
    /// Read a key.
    Get {
        /// The key and its terms.
        item: Item,
    },
    /// Write a value.
    Put {
        /// The key and its terms.
        item: Item,
        /// The value.
        value: Bytes,
        /// What the user saw and means to replace.
        context: Option<Context>,
    },
    /// Delete a key. Without a context it is read first: a key that is not there is answered
    /// with [`Answer::Missing`], and nothing is written.
    Delete {
        /// The key and its terms.
        item: Item,
        /// What the user saw and means to delete.
        context: Option<Context>,
    },
    /// Ask something that is not about one key: anything but [`ClientRequest::Data`].
    Ask {
        /// Whom.
        to: Target,
        /// What.
        request: ClientRequest,
    },
}

/// Whom to ask.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Target {
    /// The first seed that answers, in the order given; then any node heard of.
    Any,
    /// The seed that is the manager.
    Manager,
    /// This address and no other.
    Addr(String),
}

/// What came of a call.
pub type Outcome = Result<Answer, Error>;

/// A good end of a call. Not finding a key is one.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Answer {
    /// The write is durable at W slots.
    Stored {
        /// For the next write of this key.
        context: Context,
        /// Who did it.
        by: Provenance,
    },
    /// Values: one, or several concurrent ones in a `siblings` keyspace.
    Found {
        /// The values.
        values: Vec<Version>,
        /// For the next write of this key.
        context: Context,
        /// Who found them.
        by: Provenance,
    },
    /// Nothing there, or deleted.
    Missing {
        /// For the next write of this key; empty if nothing is known of it.
        context: Context,
        /// Who looked.
        by: Provenance,
    },
    /// The answer to an [`Call::Ask`]; never [`ClientReply::Error`], which is an error.
    Told(ClientReply),
}

/// How requests find their way.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Routing {
    /// To one contact node, which finds a coordinator and relays. Needs no table.
    #[default]
    Forwarder,
    /// To the first owner of the key's sector, by the client's own copy of the table.
    Direct,
    /// To the owner that has lately answered fastest, by the client's own copy of the table.
    Fastest,
}

impl std::str::FromStr for Routing {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "forwarder" => Ok(Routing::Forwarder),
            "direct" => Ok(Routing::Direct),
            "fastest" => Ok(Routing::Fastest),
            other => Err(format!("routing is forwarder, direct or fastest, not {other:?}")),
        }
    }
}

impl Item {
    /// A key in a keyspace (empty for `default`), on the keyspace's own terms.
    #[must_use]
    pub fn new(keyspace: &str, key: impl Into<Key>) -> Self {
        Self {
            keyspace: keyspace.to_owned(),
            key: key.into(),
            quorum: 0,
            strict: false,
            ttl_ms: None,
            trace: false,
        }
    }
}

impl Call {
    /// Bytes of key and value, which the client holds until the call is answered.
    #[must_use]
    pub fn payload_bytes(&self) -> usize {
        match self {
            Call::Get { item } | Call::Delete { item, .. } => item.key.len(),
            Call::Put { item, value, .. } => item.key.len() + value.len(),
            Call::Ask { .. } => 0,
        }
    }
}
