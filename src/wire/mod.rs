//! The wire: frames, the opening Hello, and each kind of message as bytes.
//!
//! One binary protocol, three message families, each with its own enums: [`client`] (a client
//! and a node, or a client and the manager), [`peer`] (between nodes) and [`manager`] (a node and
//! the manager). Integers are little-endian. Ordinals are never reused.
//!
//! Nothing here decides anything. Bytes from outside never panic here and never allocate before
//! their length has been checked against a cap.

#![warn(clippy::indexing_slicing, clippy::cast_possible_truncation)]

pub mod client;
pub mod codec;
pub mod frame;
pub mod hello;
pub mod manager;
mod object;
pub mod peer;
mod table;
mod vitals;

use bytes::Bytes;
use codec::{DecodeError, Writer};

/// A message family: one enum whose variants each have an ordinal and a body.
pub trait Message: Sized + std::fmt::Debug {
    /// The frame kind: unique over all families, never reused.
    fn kind(&self) -> u8;

    /// Appends the body.
    fn encode(&self, out: &mut Writer);

    /// Reads a body of the given kind. Values in it are slices of `body`, not copies.
    ///
    /// # Errors
    /// The kind is not of this family, or the body is not exactly one message of that kind.
    fn decode(kind: u8, body: Bytes) -> Result<Self, DecodeError>;
}

pub use object::{decode_context, decode_object, encode_context, encode_object, object_bytes};
pub(crate) use object::{
    decode_dot, decode_sibling, decode_vector, encode_dot, encode_sibling, encode_vector, skip_vector,
    split_sibling_head,
};
pub use table::{decode_table, encode_table};
pub use vitals::Vitals;
