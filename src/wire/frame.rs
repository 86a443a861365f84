//! Frames: a fixed header and a body.
//!
//! ```text
//!  0        4      5       6        8            16              20            24
//!  +--------+------+-------+--------+------------+---------------+-------------+------
//!  | length | kind | flags | zero   | request id | header crc32c | body crc32c | body
//!  | u32    | u8   | u8    | u16    | u64        | of 0..16      |             | length
//!  +--------+------+-------+--------+------------+---------------+-------------+------
//! ```
//!
//! The header has a checksum of its own so that a damaged length is found at once, not after
//! waiting for bytes that never come. `flags` is zero in this version.

use super::Message;
use super::codec::Writer;
use crate::types::RequestId;
use bytes::{Buf, Bytes, BytesMut};
use std::fmt;

/// Bytes of a frame's header.
pub const HEADER_BYTES: usize = 24;
const CHECKED_BYTES: usize = 16;
/// Where flags and reserved bytes are, and how many: zero in this version.
const FLAGS_AT: usize = 5;
const ZEROS: usize = 3;

/// One whole frame, its checksums verified.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Frame {
    /// The message's ordinal.
    pub kind: u8,
    /// The sender's name for the request; an answer repeats it.
    pub request: RequestId,
    /// The message's fields.
    pub body: Bytes,
}

/// Why bytes are not a frame. The connection cannot be read further after one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FrameError {
    /// The header's checksum does not match: not this protocol, or damaged.
    HeaderChecksum,
    /// Flags or reserved bytes that this version does not know.
    Flags,
    /// The body would be longer than is allowed here.
    TooLarge {
        /// Bytes the header announces.
        length: u32,
        /// Bytes allowed.
        cap: usize,
    },
    /// The body's checksum does not match.
    BodyChecksum,
}

impl fmt::Display for FrameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FrameError::HeaderChecksum => f.write_str("not a GTStore frame (header checksum)"),
            FrameError::Flags => f.write_str("frame flags of an unknown protocol version"),
            FrameError::TooLarge { length, cap } => {
                write!(f, "frame body of {length} bytes is over the limit of {cap}")
            }
            FrameError::BodyChecksum => f.write_str("damaged frame (body checksum)"),
        }
    }
}

impl std::error::Error for FrameError {}

/// Appends one message as a frame.
pub fn write_frame(out: &mut Writer, request: RequestId, message: &impl Message) {
    let start = out.mark();
    out.raw(&[0; HEADER_BYTES]);
    message.encode(out);
    let length = u32::try_from(out.len() - start.total - HEADER_BYTES).unwrap_or(u32::MAX);
    let mut body_crc = 0;
    out.pieces_since(start, HEADER_BYTES, |piece| body_crc = crc32c::crc32c_append(body_crc, piece));
    out.patch(start, &header(length, message.kind(), request, body_crc));
}

fn header(length: u32, kind: u8, request: RequestId, body_crc: u32) -> [u8; HEADER_BYTES] {
    let mut bytes = [0; HEADER_BYTES];
    let (checked, sums) = bytes.split_at_mut(CHECKED_BYTES);
    let fields = u128::from(length) | u128::from(kind) << 32 | u128::from(request.0) << 64;
    checked.copy_from_slice(&fields.to_le_bytes());
    let (header_sum, body_sum) = sums.split_at_mut(4);
    header_sum.copy_from_slice(&crc32c::crc32c(checked).to_le_bytes());
    body_sum.copy_from_slice(&body_crc.to_le_bytes());
    bytes
}

/// Collects received bytes and gives out whole frames.
#[derive(Debug, Default)]
pub struct Decoder {
    buffer: BytesMut,
}

impl Decoder {
    /// Takes in bytes as they came.
    pub fn extend(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// Bytes received and not yet given out.
    #[must_use]
    pub fn buffered(&self) -> usize {
        self.buffer.len()
    }

    /// The next whole frame with a body of at most `cap` bytes, or `None` until more has come.
    ///
    /// # Errors
    /// After any error the stream has no frame boundaries left; close the connection.
    pub fn next_frame(&mut self, cap: usize) -> Result<Option<Frame>, FrameError> {
        let Some(head) = self.buffer.get(..HEADER_BYTES) else { return self.start_of_header(cap) };
        let (mut checked, mut sums) = head.split_at(CHECKED_BYTES);
        let header_crc = crc32c::crc32c(checked);
        let length = checked.get_u32_le();
        let kind = checked.get_u8();
        let flags = checked.get_u8();
        let reserved = checked.get_u16_le();
        let request = RequestId(checked.get_u64_le());
        if sums.get_u32_le() != header_crc {
            return Err(FrameError::HeaderChecksum);
        }
        let body_crc = sums.get_u32_le();
        if flags != 0 || reserved != 0 {
            return Err(FrameError::Flags);
        }
        let body_bytes = usize::try_from(length).unwrap_or(usize::MAX);
        if body_bytes > cap {
            return Err(FrameError::TooLarge { length, cap });
        }
        if self.buffer.len() < HEADER_BYTES + body_bytes {
            return Ok(None);
        }
        self.buffer.advance(HEADER_BYTES);
        let body = self.buffer.split_to(body_bytes).freeze();
        if crc32c::crc32c(&body) != body_crc {
            return Err(FrameError::BodyChecksum);
        }
        Ok(Some(Frame { kind, request, body }))
    }

    /// Of a header that is not whole: whether it can become one. Who speaks another protocol may
    /// say less than a header, and wait for an answer.
    fn start_of_header(&self, cap: usize) -> Result<Option<Frame>, FrameError> {
        let Some(mut length) = self.buffer.get(..4) else { return Ok(None) };
        let is_over = usize::try_from(length.get_u32_le()).map_or(true, |length| length > cap);
        let rest = self.buffer.iter().skip(FLAGS_AT).take(ZEROS);
        if is_over || rest.copied().any(|byte| byte != 0) {
            return Err(FrameError::HeaderChecksum);
        }
        Ok(None)
    }
}
