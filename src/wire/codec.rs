//! Writing and reading primitive fields. Reading checks every length before it takes anything.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use std::fmt;

/// Values at least this long are shared with the socket's queue rather than copied into the
/// outgoing buffer: below it, a copy costs less than one more entry in the vectored write.
pub const SHARED_BYTES_MIN: usize = 4096;

/// Why bytes are not a message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DecodeError {
    /// They end before the message does.
    Truncated,
    /// They go on after the message.
    Trailing,
    /// No message of this family has this ordinal.
    UnknownKind(u8),
    /// A field holds what it may not; its name.
    Invalid(&'static str),
    /// A length or count is over its cap; its name.
    TooLong(&'static str),
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DecodeError::Truncated => f.write_str("message ends too early"),
            DecodeError::Trailing => f.write_str("bytes after the end of the message"),
            DecodeError::UnknownKind(kind) => write!(f, "unknown message kind {kind:#04x}"),
            DecodeError::Invalid(field) => write!(f, "invalid {field}"),
            DecodeError::TooLong(field) => write!(f, "{field} is over its limit"),
        }
    }
}

impl std::error::Error for DecodeError {}

/// Outgoing bytes: one growing buffer, with large values spliced in by reference.
#[derive(Debug, Default)]
pub struct Writer {
    plain: BytesMut,
    /// Shared values, each with the offset in `plain` before which it goes.
    shared: Vec<(usize, Bytes)>,
    shared_bytes: usize,
}

impl Writer {
    /// With room for so many bytes that are copied.
    pub(crate) fn with_capacity(bytes: usize) -> Self {
        Self { plain: BytesMut::with_capacity(bytes), ..Self::default() }
    }

    /// Bytes written so far.
    #[must_use]
    pub fn len(&self) -> usize {
        self.plain.len() + self.shared_bytes
    }

    /// Whether nothing was written.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// One byte.
    pub fn u8(&mut self, value: u8) {
        self.plain.put_u8(value);
    }

    /// A flag, as 0 or 1.
    pub fn bool(&mut self, value: bool) {
        self.plain.put_u8(u8::from(value));
    }

    /// Two bytes.
    pub fn u16(&mut self, value: u16) {
        self.plain.put_u16_le(value);
    }

    /// Four bytes.
    pub fn u32(&mut self, value: u32) {
        self.plain.put_u32_le(value);
    }

    /// Eight bytes.
    pub fn u64(&mut self, value: u64) {
        self.plain.put_u64_le(value);
    }

    /// Sixteen bytes.
    pub fn u128(&mut self, value: u128) {
        self.plain.put_u128_le(value);
    }

    /// A count of what follows. Caps on everything counted are far below 2^32.
    pub fn count(&mut self, count: usize) {
        self.plain.put_u32_le(u32::try_from(count).unwrap_or(u32::MAX));
    }

    /// A length and so many bytes, copied.
    pub fn bytes(&mut self, bytes: &[u8]) {
        self.count(bytes.len());
        self.plain.put_slice(bytes);
    }

    /// A length and so many bytes, shared when they are many.
    pub fn value(&mut self, value: &Bytes) {
        if value.len() < SHARED_BYTES_MIN {
            self.bytes(value);
        } else {
            self.count(value.len());
            self.shared.push((self.plain.len(), value.clone()));
            self.shared_bytes += value.len();
        }
    }

    /// A length and text.
    pub fn text(&mut self, text: &str) {
        self.bytes(text.as_bytes());
    }

    /// A length and text, cut to at most `max` bytes at a character's end: an explanation that is
    /// too long must not make its message unreadable.
    pub fn short_text(&mut self, text: &str, max: usize) {
        let end = (0..=max.min(text.len())).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0);
        self.text(text.get(..end).unwrap_or_default());
    }

    /// Raw bytes without a length.
    pub fn raw(&mut self, bytes: &[u8]) {
        self.plain.put_slice(bytes);
    }

    /// Where the next plain byte goes; with [`patch`](Self::patch), to fill a header in later.
    pub(crate) fn mark(&self) -> Mark {
        Mark { plain: self.plain.len(), shared: self.shared.len(), total: self.len() }
    }

    /// Overwrites plain bytes from a mark on.
    pub(crate) fn patch(&mut self, mark: Mark, bytes: &[u8]) {
        if let Some(space) = self.plain.get_mut(mark.plain..mark.plain + bytes.len()) {
            space.copy_from_slice(bytes);
        }
    }

    /// Calls `visit` with the pieces written since a mark, `skip` plain bytes after it, in order.
    pub(crate) fn pieces_since(&self, mark: Mark, skip: usize, mut visit: impl FnMut(&[u8])) {
        let mut at = mark.plain + skip;
        for (offset, value) in self.shared.iter().skip(mark.shared) {
            visit(self.plain.get(at..*offset).unwrap_or_default());
            visit(value);
            at = *offset;
        }
        visit(self.plain.get(at..).unwrap_or_default());
    }

    /// Takes everything written as chunks ready for a vectored write. Nothing is copied.
    pub fn take(&mut self, mut push: impl FnMut(Bytes)) {
        let mut plain = self.plain.split();
        let mut taken = 0;
        for (offset, value) in self.shared.drain(..) {
            if offset > taken {
                push(plain.split_to(offset - taken).freeze());
                taken = offset;
            }
            push(value);
        }
        if !plain.is_empty() {
            push(plain.freeze());
        }
        self.shared_bytes = 0;
    }

    /// Everything written, in one piece.
    #[must_use]
    pub fn into_bytes(mut self) -> Bytes {
        if self.shared.is_empty() {
            return self.plain.freeze();
        }
        let mut all = BytesMut::with_capacity(self.len());
        self.take(|chunk| all.put_slice(&chunk));
        all.freeze()
    }
}

/// A position in a [`Writer`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mark {
    plain: usize,
    shared: usize,
    /// Bytes written before it.
    pub(crate) total: usize,
}

/// Reads fields from a body; slices it rather than copying.
#[derive(Clone, Debug)]
pub struct Reader {
    body: Bytes,
}

impl Reader {
    /// Reads from the start of `body`.
    #[must_use]
    pub fn new(body: Bytes) -> Self {
        Self { body }
    }

    /// Bytes not yet read.
    #[must_use]
    pub fn left(&self) -> usize {
        self.body.len()
    }

    /// One byte.
    ///
    /// # Errors
    /// [`DecodeError::Truncated`], as for all fields.
    pub fn u8(&mut self) -> Result<u8, DecodeError> {
        self.body.try_get_u8().map_err(|_| DecodeError::Truncated)
    }

    /// A flag; only 0 and 1 are flags.
    pub fn bool(&mut self, field: &'static str) -> Result<bool, DecodeError> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(DecodeError::Invalid(field)),
        }
    }

    /// Two bytes.
    pub fn u16(&mut self) -> Result<u16, DecodeError> {
        self.body.try_get_u16_le().map_err(|_| DecodeError::Truncated)
    }

    /// Four bytes.
    pub fn u32(&mut self) -> Result<u32, DecodeError> {
        self.body.try_get_u32_le().map_err(|_| DecodeError::Truncated)
    }

    /// Eight bytes.
    pub fn u64(&mut self) -> Result<u64, DecodeError> {
        self.body.try_get_u64_le().map_err(|_| DecodeError::Truncated)
    }

    /// Sixteen bytes.
    pub fn u128(&mut self) -> Result<u128, DecodeError> {
        self.body.try_get_u128_le().map_err(|_| DecodeError::Truncated)
    }

    /// A count of things that take at least `each_min` bytes: over `max`, or more than the bytes
    /// left could hold, is an error before anything is allocated.
    pub fn count(&mut self, field: &'static str, max: usize, each_min: usize) -> Result<usize, DecodeError> {
        let count = usize::try_from(self.u32()?).map_err(|_| DecodeError::TooLong(field))?;
        if count > max {
            return Err(DecodeError::TooLong(field));
        }
        if count.saturating_mul(each_min) > self.left() {
            return Err(DecodeError::Truncated);
        }
        Ok(count)
    }

    /// A length of at most `max` and so many bytes, as a slice of the body.
    pub fn bytes(&mut self, field: &'static str, max: usize) -> Result<Bytes, DecodeError> {
        let length = self.count(field, max, 1)?;
        Ok(self.body.split_to(length))
    }

    /// A length of at most `max` bytes and UTF-8 text.
    pub fn text(&mut self, field: &'static str, max: usize) -> Result<String, DecodeError> {
        let bytes = self.bytes(field, max)?;
        std::str::from_utf8(&bytes).map(str::to_owned).map_err(|_| DecodeError::Invalid(field))
    }

    /// The message must end here.
    pub fn finish(self) -> Result<(), DecodeError> {
        if self.body.is_empty() { Ok(()) } else { Err(DecodeError::Trailing) }
    }
}
