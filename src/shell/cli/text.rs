//! Bytes as text and back: escapes, hex contexts, base64 in JSON.

use crate::client::Context;
use crate::wire::codec::{Reader, Writer};
use crate::wire::{decode_context, encode_context};
use bytes::Bytes;
use serde_json::{Map, Value};
use std::fmt::Write as _;

/// A key for a message: quoted, on one line, shortened if it is long.
pub(crate) fn quoted(key: &[u8]) -> String {
    const SHOWN: usize = 60;
    match key.get(..SHOWN) {
        Some(start) if key.len() > SHOWN => format!("\"{}...\" ({} bytes)", escaped(start), key.len()),
        Some(_) | None => format!("\"{}\"", escaped(key)),
    }
}

/// Bytes as one field on one line, the only such form there is: UTF-8 as it stands; backslash,
/// tab, newline and carriage return as `\\ \t \n \r`; the bytes of other control characters, which
/// a terminal would obey, and those that are not UTF-8 as `\xNN`.
pub(crate) fn escaped(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for letter in chunk.valid().chars() {
            match letter {
                '\\' => text.push_str("\\\\"),
                '\t' => text.push_str("\\t"),
                '\n' => text.push_str("\\n"),
                '\r' => text.push_str("\\r"),
                other if other.is_control() => push_hex(&mut text, other.encode_utf8(&mut [0; 4]).as_bytes()),
                other => text.push(other),
            }
        }
        push_hex(&mut text, chunk.invalid());
    }
    text
}

fn push_hex(text: &mut String, bytes: &[u8]) {
    for byte in bytes {
        let _ = write!(text, "\\x{byte:02x}");
    }
}

/// A tab-separated field back to bytes. A backslash before anything but `\ t n r xNN` stands
/// for itself.
pub(crate) fn unescaped(field: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&byte, after)) = rest.split_first() {
        let (decoded, used) = match (byte, after.first()) {
            (b'\\', Some(b'\\')) => (b'\\', 2),
            (b'\\', Some(b't')) => (b'\t', 2),
            (b'\\', Some(b'n')) => (b'\n', 2),
            (b'\\', Some(b'r')) => (b'\r', 2),
            (b'\\', Some(b'x')) => match after.get(1..3).and_then(from_hex) {
                Some(decoded) => (decoded[0], 4),
                None => (byte, 1),
            },
            (byte, _) => (byte, 1),
        };
        bytes.push(decoded);
        rest = &rest[used..];
    }
    bytes
}

/// Bytes as lower-case hex.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Hex back to bytes.
pub(crate) fn from_hex(text: &[u8]) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    if !text.len().is_multiple_of(2) {
        return None;
    }
    text.chunks(2).map(|pair| Some(digit(pair[0])? << 4 | digit(pair[1])?)).collect()
}

/// A context as it is handed about on the command line.
pub(crate) fn context_hex(context: &Context) -> String {
    let mut out = Writer::default();
    encode_context(context, &mut out);
    hex(&out.into_bytes())
}

/// `--context`, back to a context.
pub(crate) fn context_from_hex(text: &str) -> Option<Context> {
    let mut reader = Reader::new(Bytes::from(from_hex(text.as_bytes())?));
    let context = decode_context(&mut reader).ok()?;
    reader.finish().ok()?;
    Some(context)
}

const BASE64: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// Base64 with padding (RFC 4648, section 4).
pub(crate) fn base64(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let group = chunk.iter().fold(0u32, |group, &byte| group << 8 | u32::from(byte));
        let group = group << (8 * (3 - chunk.len()));
        for at in 0..4 {
            let sextet = (group >> (18 - 6 * at)) & 63;
            text.push(if at <= chunk.len() { char::from(BASE64[sextet as usize]) } else { '=' });
        }
    }
    text
}

/// Base64 back to bytes; padding is required.
pub(crate) fn from_base64(text: &str) -> Option<Vec<u8>> {
    let text = text.as_bytes();
    if !text.len().is_multiple_of(4) {
        return None;
    }
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3);
    for (at, chunk) in text.chunks(4).enumerate() {
        let padding = chunk.iter().rev().take_while(|&&byte| byte == b'=').count();
        if padding > 2 || (padding > 0 && (at + 1) * 4 != text.len()) {
            return None;
        }
        let mut group = 0u32;
        for &byte in &chunk[..4 - padding] {
            let sextet = BASE64.iter().position(|&letter| letter == byte)?;
            group = group << 6 | u32::try_from(sextet).ok()?;
        }
        group <<= 6 * padding;
        bytes.extend_from_slice(&group.to_be_bytes()[1..4 - padding]);
    }
    Some(bytes)
}

/// Puts bytes into a JSON object: as `name` if they are UTF-8, else as `name_base64`.
pub(crate) fn json_bytes(object: &mut Map<String, Value>, name: &str, bytes: &[u8]) {
    match std::str::from_utf8(bytes) {
        Ok(text) => object.insert(name.to_owned(), text.into()),
        Err(_) => object.insert(format!("{name}_base64"), base64(bytes).into()),
    };
}

/// Takes what [`json_bytes`] put.
pub(crate) fn bytes_of_json(object: &Map<String, Value>, name: &str) -> Result<Vec<u8>, String> {
    match (object.get(name), object.get(&format!("{name}_base64"))) {
        (Some(Value::String(text)), None) => Ok(text.clone().into_bytes()),
        (None, Some(Value::String(text))) => {
            from_base64(text).ok_or_else(|| format!("\"{name}_base64\" is not base64"))
        }
        (None, None) => Err(format!("no \"{name}\"")),
        (Some(_), Some(_)) => Err(format!("both \"{name}\" and \"{name}_base64\"")),
        (Some(_), None) | (None, Some(_)) => Err(format!("\"{name}\" is not a string")),
    }
}

/// A number of bytes for a person: `0 B`, `12.3 KiB`.
pub(crate) fn human_bytes(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    let mut value = bytes as f64;
    let mut unit = None;
    for name in UNITS {
        if value < 1024.0 {
            break;
        }
        value /= 1024.0;
        unit = Some(name);
    }
    match unit {
        Some(unit) => format!("{value:.1} {unit}"),
        None => format!("{bytes} B"),
    }
}

/// A span of time for a person: `5 s`, `1 min 36 s`, `2 h 5 min`, `3 d 4 h`.
pub(crate) fn human_span(seconds: u64) -> String {
    const UNITS: [(&str, u64); 4] = [("d", 86_400), ("h", 3600), ("min", 60), ("s", 1)];
    let largest = UNITS.iter().position(|unit| seconds >= unit.1).unwrap_or(UNITS.len() - 1);
    let mut rest = seconds;
    let mut words = Vec::new();
    for (name, unit_seconds) in UNITS.iter().skip(largest).take(2) {
        let count = rest / unit_seconds;
        rest %= unit_seconds;
        if count > 0 || words.is_empty() {
            words.push(format!("{count} {name}"));
        }
    }
    words.join(" ")
}

/// A wall time, in milliseconds since 1970, as `2026-03-01T12:00:00.000Z`.
pub(crate) fn utc(ms: u64) -> String {
    const DAY_MS: u64 = 86_400_000;
    let (days, rest) = (ms / DAY_MS, ms % DAY_MS);
    // Days are counted from 0000-03-01, so that a leap day is the last of its year (Howard Hinnant,
    // "chrono-Compatible Low-Level Date Algorithms", civil_from_days).
    let day = days + 719_468;
    let (era, day) = (day / 146_097, day % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let from_march = (5 * day + 2) / 153;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    let year = era * 400 + year + u64::from(month <= 2);
    let day = day - (153 * from_march + 2) / 5 + 1;
    let (hour, minute, second) = (rest / 3_600_000, rest / 60_000 % 60, rest / 1000 % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{:03}Z", rest % 1000)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_value_survives_a_tab_separated_line(bytes: Vec<u8>) {
            let field = escaped(&bytes);
            prop_assert!(!field.contains(['\t', '\n', '\r']));
            prop_assert_eq!(unescaped(field.as_bytes()), bytes);
        }

        #[test]
        fn every_value_survives_base64_and_hex(bytes: Vec<u8>) {
            prop_assert_eq!(from_base64(&base64(&bytes)), Some(bytes.clone()));
            prop_assert_eq!(from_hex(hex(&bytes).as_bytes()), Some(bytes));
        }

        #[test]
        fn no_line_is_too_strange_to_read(text: String) {
            let _ = (from_base64(&text), from_hex(text.as_bytes()), context_from_hex(&text));
            unescaped(text.as_bytes());
        }
    }

    #[test]
    fn base64_is_the_one_of_the_rfc() {
        for (plain, coded) in
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")]
        {
            assert_eq!(base64(plain.as_bytes()), coded);
        }
        assert_eq!(from_base64("Zg"), None);
        assert_eq!(from_base64("Zg==Zg=="), None);
    }

    #[test]
    fn nothing_that_a_terminal_obeys_is_left_as_it_is() {
        let bytes = "é\u{1b}[31m\u{9b}2J\u{7f}".as_bytes();
        assert_eq!(escaped(bytes), "é\\x1b[31m\\xc2\\x9b2J\\x7f");
        assert_eq!(unescaped(escaped(bytes).as_bytes()), bytes);
    }

    #[test]
    fn a_lone_backslash_stands_for_itself() {
        assert_eq!(unescaped(b"C:\\dir\\x"), b"C:\\dir\\x");
        assert_eq!(unescaped(b"a\\tb\\x00"), b"a\tb\0");
    }

    #[test]
    fn json_says_which_bytes_are_not_text() {
        let mut object = Map::new();
        json_bytes(&mut object, "key", b"k");
        json_bytes(&mut object, "value", &[0xff]);
        assert_eq!(Value::Object(object.clone()).to_string(), r#"{"key":"k","value_base64":"/w=="}"#);
        assert_eq!(bytes_of_json(&object, "value"), Ok(vec![0xff]));
        assert!(bytes_of_json(&object, "other").is_err());
    }

    #[test]
    fn sizes_are_readable() {
        assert_eq!(human_bytes(0), "0 B");
        assert_eq!(human_bytes(1536), "1.5 KiB");
        assert_eq!(human_bytes(3 << 30), "3.0 GiB");
    }

    #[test]
    fn spans_have_the_two_units_that_matter() {
        for (seconds, text) in [
            (0, "0 s"),
            (59, "59 s"),
            (60, "1 min"),
            (96, "1 min 36 s"),
            (7500, "2 h 5 min"),
            (273_600, "3 d 4 h"),
        ] {
            assert_eq!(human_span(seconds), text);
        }
    }

    #[test]
    fn times_are_those_of_the_calendar() {
        for (ms, time) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_400_001, "2000-02-29T00:00:00.001Z"),
            (1_772_366_399_999, "2026-03-01T11:59:59.999Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
        ] {
            assert_eq!(utc(ms), time);
        }
    }
}
