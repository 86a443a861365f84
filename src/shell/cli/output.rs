//! Where results go: standard output, in the format asked for, and notes on standard error.

use super::options::Format;
use super::text::{context_hex, escaped, json_bytes};
use crate::client::{Context, Provenance, Version};
use comfy_table::{CellAlignment, Table};
use serde_json::{Map, Value};
use std::borrow::Cow;
use std::io::{self, IsTerminal, Write};

/// A table without lines: columns set apart by two spaces, headings on top. `right` are the
/// columns with numbers.
pub(crate) fn table(headings: &[&str], right: &[usize], rows: Vec<Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_style(comfy_table::presets::NOTHING);
    table.set_header(headings.to_vec());
    for row in rows {
        table.add_row(row);
    }
    for (at, column) in table.column_iter_mut().enumerate() {
        column.set_padding((0, 2));
        if right.contains(&at) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table.lines().map(|line| format!("{}\n", line.trim_end())).collect()
}

/// Tab-separated fields, one row to a line.
pub(crate) fn plain(rows: &[Vec<String>]) -> String {
    rows.iter().map(|row| row.join("\t") + "\n").collect()
}

/// An object of named values.
pub(crate) fn object<const N: usize>(fields: [(&str, Value); N]) -> Map<String, Value> {
    fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

/// Prints one JSON value on a line.
pub(crate) fn print_json(out: &mut dyn Write, value: impl Into<Value>) -> io::Result<()> {
    writeln!(out, "{}", value.into())
}

/// Prints rows as a table or as plain lines; JSON is the caller's.
pub(crate) fn print_rows(
    out: &mut dyn Write,
    format: Format,
    headings: &[&str],
    right: &[usize],
    rows: Vec<Vec<String>>,
) -> io::Result<()> {
    match format {
        Format::Table | Format::Json => out.write_all(table(headings, right, rows).as_bytes()),
        Format::Plain => out.write_all(plain(&rows).as_bytes()),
    }
}

/// A value that stands alone, as it goes to standard output: just its bytes, for a file or a
/// program; on a terminal, which would obey some of them, escaped.
pub(crate) fn bare(format: Format, value: &[u8]) -> Cow<'_, [u8]> {
    if format == Format::Table && io::stdout().is_terminal() {
        Cow::Owned(escaped(value).into_bytes())
    } else {
        Cow::Borrowed(value)
    }
}

/// Who answered a request, into its JSON.
pub(crate) fn json_provenance(object: &mut Map<String, Value>, by: &Provenance, context: &Context) {
    object.insert("coordinator".to_owned(), by.coordinator.0.into());
    object.insert("answered".to_owned(), by.answered.into());
    object.insert("fallbacks".to_owned(), by.fallbacks.into());
    object.insert("needed".to_owned(), by.needed.into());
    object.insert("replicas".to_owned(), by.slots.into());
    object.insert("context".to_owned(), context_hex(context).into());
}

/// One value of a key, as JSON.
pub(crate) fn json_version(version: &Version) -> Value {
    let mut object = Map::new();
    json_bytes(&mut object, "value", &version.value);
    object.insert("dot".to_owned(), version.dot.to_string().into());
    object.insert("wall_ms".to_owned(), version.stamp.wall().0.into());
    object.insert("expires_ms".to_owned(), version.expiry.map(|at| at.0).into());
    object.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_line_up_and_have_no_trailing_blanks() {
        let rows = vec![vec!["a".to_owned(), "1".to_owned()], vec!["bbb".to_owned(), "22".to_owned()]];
        assert_eq!(table(&["Name", "N"], &[1], rows), "Name   N\na      1\nbbb   22\n");
    }
}
