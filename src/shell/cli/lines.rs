//! Lines of keys and values: JSON Lines and tab-separated.

use super::options::FileFormat;
use super::text::{bytes_of_json, escaped, json_bytes, unescaped};
use crate::types::WallMs;
use serde_json::{Map, Value};
use std::collections::BTreeSet;
use std::io::{self, Write};
use std::path::Path;

/// The format a file's name gives away.
pub(crate) fn format_of_name(file: &str) -> Option<FileFormat> {
    Path::new(file).extension()?.to_str()?.parse().ok()
}

/// The format of a file whose name says nothing, by its first line.
pub(crate) fn sniff(line: &[u8]) -> FileFormat {
    if line.trim_ascii_start().starts_with(b"{") { FileFormat::JsonLines } else { FileFormat::Tabs }
}

/// A key and a value of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Line {
    pub(crate) key: Vec<u8>,
    pub(crate) value: Vec<u8>,
    /// When the value ceases to be visible; none for never. Tab-separated lines do not say.
    pub(crate) expiry: Option<WallMs>,
}

/// In JSON, when the value ceases to be visible, in milliseconds since the Unix epoch.
const EXPIRY: &str = "expires_ms";

/// One line, without its end.
///
/// # Errors
/// What is wrong with it, in words.
pub(crate) fn parse_line(format: FileFormat, line: &[u8]) -> Result<Line, String> {
    match format {
        FileFormat::JsonLines => match serde_json::from_slice(line) {
            Ok(Value::Object(object)) => match doubled_name(line) {
                Some(name) => Err(format!("{name} is there twice: which one is meant is not known")),
                None => Ok(Line {
                    key: bytes_of_json(&object, "key")?,
                    value: bytes_of_json(&object, "value")?,
                    expiry: expiry_of_json(&object)?,
                }),
            },
            Ok(_) => Err("not a JSON object".to_owned()),
            Err(error) => Err(format!("not JSON: {error}")),
        },
        FileFormat::Tabs => {
            let tab = line.iter().position(|&byte| byte == b'\t').ok_or("no tab between key and value")?;
            let (key, value) = (&line[..tab], &line[tab + 1..]);
            Ok(Line { key: unescaped(key), value: unescaped(value), expiry: None })
        }
    }
}

fn expiry_of_json(object: &Map<String, Value>) -> Result<Option<WallMs>, String> {
    match object.get(EXPIRY) {
        None | Some(Value::Null) => Ok(None),
        Some(number) => match number.as_u64() {
            Some(ms) => Ok(Some(WallMs(ms))),
            None => Err(format!("\"{EXPIRY}\" is no time in milliseconds since 1970")),
        },
    }
}

/// A name that a JSON object has twice, as it is written there; the reader of JSON takes the last
/// and says nothing. The line is known to be an object.
fn doubled_name(line: &[u8]) -> Option<String> {
    let (mut depth, mut names) = (0usize, BTreeSet::new());
    let mut rest = line;
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        match byte {
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth = depth.saturating_sub(1),
            b'"' => {
                let end = end_of_string(after);
                let (text, behind) = after.split_at(end);
                rest = behind.get(1..).unwrap_or_default();
                let is_name = depth == 1 && rest.trim_ascii_start().starts_with(b":");
                if is_name && !names.insert(text) {
                    return Some(format!("\"{}\"", String::from_utf8_lossy(text)));
                }
            }
            _ => {}
        }
    }
    None
}

/// Where the string that begins here has its closing quote.
fn end_of_string(bytes: &[u8]) -> usize {
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        match byte {
            b'"' => return at,
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
    bytes.len()
}

/// Writes one line.
pub(crate) fn write_line(
    out: &mut dyn Write,
    format: FileFormat,
    key: &[u8],
    value: &[u8],
    expiry: Option<WallMs>,
) -> io::Result<()> {
    match format {
        FileFormat::JsonLines => {
            let mut object = Map::new();
            json_bytes(&mut object, "key", key);
            json_bytes(&mut object, "value", value);
            object.extend(expiry.map(|at| (EXPIRY.to_owned(), at.0.into())));
            writeln!(out, "{}", Value::Object(object))
        }
        FileFormat::Tabs => writeln!(out, "{}\t{}", escaped(key), escaped(value)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_exported_can_be_imported(key: Vec<u8>, value: Vec<u8>, expires_ms: Option<u64>) {
            for (format, expiry) in [(FileFormat::JsonLines, expires_ms.map(WallMs)), (FileFormat::Tabs, None)] {
                let mut line = Vec::new();
                write_line(&mut line, format, &key, &value, expiry).unwrap();
                let text = line.strip_suffix(b"\n").unwrap();
                prop_assert!(!text.contains(&b'\n'));
                prop_assert_eq!(parse_line(format, text), Ok(Line { key: key.clone(), value: value.clone(), expiry }));
            }
        }

        #[test]
        fn no_line_is_too_strange_to_be_refused(line: Vec<u8>) {
            let _ = parse_line(sniff(&line), &line);
        }
    }

    #[test]
    fn the_format_is_told_by_the_first_line() {
        assert_eq!(sniff(b" {\"key\":1}"), FileFormat::JsonLines);
        assert_eq!(sniff(b"bash\t5.2"), FileFormat::Tabs);
    }

    #[test]
    fn a_wrong_line_is_refused_with_its_reason() {
        for (format, line) in [
            (FileFormat::Tabs, "no tab here"),
            (FileFormat::JsonLines, "{\"key\":\"k\"}"),
            (FileFormat::JsonLines, "[1]"),
            (FileFormat::JsonLines, "{"),
            (FileFormat::JsonLines, "{\"key\":1,\"value\":\"v\"}"),
            (FileFormat::JsonLines, r#"{"key":"a","value":"v", "key" :"b"}"#),
            (FileFormat::JsonLines, r#"{"key":"a","value":"v","expires_ms":"soon"}"#),
            (FileFormat::JsonLines, r#"{"key":"a","value":"v","expires_ms":-1}"#),
        ] {
            assert!(parse_line(format, line.as_bytes()).is_err(), "{line}");
        }
        let same_inside = r#"{"key":"k\"","value":"\"key\":","more":{"key":1,"value":["key",{"key":2}]}}"#;
        let read = parse_line(FileFormat::JsonLines, same_inside.as_bytes());
        assert_eq!(read, Ok(Line { key: b"k\"".to_vec(), value: b"\"key\":".to_vec(), expiry: None }));
    }
}
