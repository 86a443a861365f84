//! Lines of keys and values: JSON Lines and tab-separated.

use super::options::FileFormat;
use super::text::{bytes_of_json, escaped, json_bytes, unescaped};
use serde_json::{Map, Value};
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

/// One line, without its end, as key and value.
///
/// # Errors
/// What is wrong with it, in words.
pub(crate) fn parse_line(format: FileFormat, line: &[u8]) -> Result<(Vec<u8>, Vec<u8>), String> {
    match format {
        FileFormat::JsonLines => match serde_json::from_slice(line) {
            Ok(Value::Object(object)) => {
                Ok((bytes_of_json(&object, "key")?, bytes_of_json(&object, "value")?))
            }
            Ok(_) => Err("not a JSON object".to_owned()),
            Err(error) => Err(format!("not JSON: {error}")),
        },
        FileFormat::Tabs => {
            let tab = line.iter().position(|&byte| byte == b'\t').ok_or("no tab between key and value")?;
            let (key, value) = (&line[..tab], &line[tab + 1..]);
            Ok((unescaped(key), unescaped(value)))
        }
    }
}

/// Writes one line.
pub(crate) fn write_line(
    out: &mut dyn Write,
    format: FileFormat,
    key: &[u8],
    value: &[u8],
) -> io::Result<()> {
    match format {
        FileFormat::JsonLines => {
            let mut object = Map::new();
            json_bytes(&mut object, "key", key);
            json_bytes(&mut object, "value", value);
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
        fn what_is_exported_can_be_imported(key: Vec<u8>, value: Vec<u8>) {
            for format in [FileFormat::JsonLines, FileFormat::Tabs] {
                let mut line = Vec::new();
                write_line(&mut line, format, &key, &value).unwrap();
                let text = line.strip_suffix(b"\n").unwrap();
                prop_assert!(!text.contains(&b'\n'));
                prop_assert_eq!(parse_line(format, text), Ok((key.clone(), value.clone())));
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
        ] {
            assert!(parse_line(format, line.as_bytes()).is_err(), "{line}");
        }
    }
}
