//! Objects and contexts as bytes: the same on the wire and in the log.

use super::codec::{DecodeError, Reader, Writer};
use crate::limits::{ACTORS_MAX, SIBLINGS_DECODED_MAX, VALUE_BYTES_MAX};
use crate::types::{Actor, Dot, Incarnation, NodeId, Stamp, WallMs};
use crate::version::{Content, Context, Few, Object, Sibling, VersionVector};
use bytes::{Buf, BufMut};

const ENTRY_BYTES: usize = 16;
const SIBLING_BYTES_MIN: usize = 16 + 8 + 1;

/// Highest sequence taken from outside: a dot above any claimed one can still be made.
const SEQ_MAX: u64 = u64::MAX / 2;

const HAS_VALUE: u8 = 1;
const HAS_EXPIRY: u8 = 2;

/// Appends a dot: node, incarnation, sequence.
pub(crate) fn encode_dot(dot: Dot, out: &mut Writer) {
    out.raw(&dot_bytes(dot));
}

fn dot_bytes(dot: Dot) -> [u8; 16] {
    let mut bytes = [0; 16];
    let mut fields = bytes.as_mut_slice();
    fields.put_u32_le(dot.actor.node.0);
    fields.put_u32_le(dot.actor.incarnation.0);
    fields.put_u64_le(dot.seq);
    bytes
}

/// Reads a dot.
pub(crate) fn decode_dot(reader: &mut Reader) -> Result<Dot, DecodeError> {
    let actor = Actor { node: NodeId(reader.u32()?), incarnation: Incarnation(reader.u32()?) };
    Ok(Dot { actor, seq: reader.u64()? })
}

pub(crate) fn encode_vector(vector: &VersionVector, out: &mut Writer) {
    out.count(vector.entries().len());
    for &(actor, seq) in vector.entries() {
        encode_dot(Dot { actor, seq }, out);
    }
}

pub(crate) fn decode_vector(reader: &mut Reader) -> Result<VersionVector, DecodeError> {
    let count = reader.count("version vector", ACTORS_MAX, ENTRY_BYTES)?;
    let mut entries = Few::default();
    for _ in 0..count {
        let dot = decode_dot(reader)?;
        // Sequences begin at 1: a digest sets context and siblings apart by a dot of 0.
        if !(1..=SEQ_MAX).contains(&dot.seq) {
            return Err(DecodeError::Invalid("version vector entry"));
        }
        entries.push((dot.actor, dot.seq));
    }
    // Strictly rising, as written: one form for one vector.
    if !entries.is_sorted_by(|a: &(Actor, u64), b| a.0 < b.0) {
        return Err(DecodeError::Invalid("version vector order"));
    }
    Ok(VersionVector::from_sorted(entries))
}

/// Appends a context.
pub fn encode_context(context: &Context, out: &mut Writer) {
    out.u64(context.stamp.0);
    encode_vector(&context.vector, out);
}

/// Reads a context.
///
/// # Errors
/// Truncated, over a cap, or out of order.
pub fn decode_context(reader: &mut Reader) -> Result<Context, DecodeError> {
    let stamp = Stamp(reader.u64()?);
    Ok(Context { stamp, vector: decode_vector(reader)? })
}

pub(crate) fn encode_sibling(sibling: &Sibling, out: &mut Writer) {
    let value = match &sibling.content {
        Content::Value(value) => Some(value),
        Content::Tombstone => None,
    };
    let expiry = if sibling.expiry.is_some() { HAS_EXPIRY } else { 0 };
    // Together: a sibling is written with every put.
    let mut head = [0; SIBLING_BYTES_MIN];
    let mut fields = head.as_mut_slice();
    fields.put_slice(&dot_bytes(sibling.dot));
    fields.put_u64_le(sibling.stamp.0);
    fields.put_u8(expiry | if value.is_some() { HAS_VALUE } else { 0 });
    out.raw(&head);
    if let Some(at) = sibling.expiry {
        out.u64(at.0);
    }
    if let Some(value) = value {
        out.value(value);
    }
}

pub(crate) fn decode_sibling(reader: &mut Reader) -> Result<Sibling, DecodeError> {
    let dot = decode_dot(reader)?;
    if !(1..=SEQ_MAX).contains(&dot.seq) {
        return Err(DecodeError::Invalid("dot"));
    }
    let stamp = Stamp(reader.u64()?);
    let flags = reader.u8()?;
    if flags & !(HAS_VALUE | HAS_EXPIRY) != 0 {
        return Err(DecodeError::Invalid("sibling flags"));
    }
    let expiry = if flags & HAS_EXPIRY == 0 { None } else { Some(WallMs(reader.u64()?)) };
    let content = if flags & HAS_VALUE == 0 {
        Content::Tombstone
    } else {
        Content::Value(reader.bytes("value", VALUE_BYTES_MAX)?)
    };
    Ok(Sibling { dot, stamp, expiry, content })
}

/// Reads a sibling up to its value, off the front of `bytes`: its dot, and the value's length if
/// it has one. The value's bytes come next.
pub(crate) fn split_sibling_head(bytes: &mut &[u8]) -> Option<(Dot, Option<usize>)> {
    let actor = Actor {
        node: NodeId(bytes.try_get_u32_le().ok()?),
        incarnation: Incarnation(bytes.try_get_u32_le().ok()?),
    };
    let dot = Dot { actor, seq: bytes.try_get_u64_le().ok()? };
    let _stamp = bytes.try_get_u64_le().ok()?;
    let flags = bytes.try_get_u8().ok()?;
    if flags & HAS_EXPIRY != 0 {
        bytes.try_get_u64_le().ok()?;
    }
    let has_value = flags & HAS_VALUE != 0;
    let length = if has_value { Some(bytes.try_get_u32_le().ok()? as usize) } else { None };
    Some((dot, length))
}

/// Takes a vector off the front of `bytes`, unread.
pub(crate) fn skip_vector(bytes: &mut &[u8]) -> Option<()> {
    let count = bytes.try_get_u32_le().ok()? as usize;
    *bytes = bytes.get(count.checked_mul(ENTRY_BYTES)?..)?;
    Some(())
}

/// Appends an object: its context, then its siblings in dot order.
pub fn encode_object(object: &Object, out: &mut Writer) {
    encode_vector(object.context(), out);
    out.count(object.siblings().len());
    for sibling in object.siblings() {
        encode_sibling(sibling, out);
    }
}

/// Reads an object; its values are slices of the body.
///
/// # Errors
/// Truncated, over a cap, or out of order.
pub fn decode_object(reader: &mut Reader) -> Result<Object, DecodeError> {
    let context = decode_vector(reader)?;
    let count = reader.count("siblings", SIBLINGS_DECODED_MAX, SIBLING_BYTES_MIN)?;
    let mut siblings = Few::default();
    for _ in 0..count {
        siblings.push(decode_sibling(reader)?);
    }
    if !siblings.is_sorted_by(|a: &Sibling, b| a.dot < b.dot) {
        return Err(DecodeError::Invalid("sibling order"));
    }
    Ok(Object::from_parts(context, siblings))
}

/// Bytes that an object takes as [`encode_object`] writes it, within a few per sibling.
#[must_use]
pub fn object_bytes(object: &Object) -> usize {
    8 + object.context().entries().len() * ENTRY_BYTES
        + object.siblings().len() * (SIBLING_BYTES_MIN + 12)
        + object.value_bytes()
}
