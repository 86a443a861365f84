//! How a load is told: what it is, how it goes each second, how it went.

use crate::cluster::Cluster;
use crate::options::{Routing, Settings, Until};
use crate::stats::Stats;
use comfy_table::{CellAlignment, Table};
use gtstore::ring::KeyspaceSettings;
use gtstore::types::Instant;
use hdrhistogram::Histogram;
use serde_json::{Map, Value, json};

/// Columns of a histogram: the head of the table, the name in JSON, and the quantile.
const QUANTILES: [(&str, &str, f64); 5] = [
    ("p50 ms", "p50_us", 0.5),
    ("p90 ms", "p90_us", 0.9),
    ("p99 ms", "p99_us", 0.99),
    ("p99.9 ms", "p999_us", 0.999),
    ("max ms", "max_us", 1.0),
];

/// What is about to be done, in one line that says how to do it again.
pub fn head(settings: &Settings, cluster: &Cluster, keyspace: &KeyspaceSettings) -> String {
    let KeyspaceSettings { n, r, w, durability, .. } = keyspace;
    let or = |asked: u8, usual: u8| if asked == 0 { usual } else { asked };
    format!(
        "{} nodes, keyspace {} (n {n}, r {}, w {}, {durability}); {} connections x {}, {}; \
         {}, {:.0} % gets, {} keys, values of {} bytes, seed {}",
        cluster.targets(settings.routing).len(),
        name_of(&settings.keyspace),
        or(settings.r, *r),
        or(settings.w, *w),
        settings.conns,
        settings.pipeline,
        routing(settings),
        match settings.until {
            Until::Ops(ops) => format!("{ops} operations"),
            Until::Elapsed(duration) => format!("{} s", duration.as_secs_f64()),
        },
        settings.ratio * 100.0,
        settings.keys,
        settings.value_bytes,
        settings.seed,
    )
}

/// The live line: how the last `since_us` microseconds went.
pub fn line(stats: &Stats, now: Instant, since_us: u64, (up, all): (usize, usize)) -> String {
    let lately = &stats.lately;
    format!(
        "{:>6.1} s {:>9.0} ops/s   p50 {:>8} ms   p99 {:>8} ms   errors {}   connected {up}/{all}",
        stats.elapsed_us(now) as f64 / 1e6,
        lately.len() as f64 * 1e6 / since_us as f64,
        ms(lately.value_at_quantile(0.5)),
        ms(lately.value_at_quantile(0.99)),
        stats.errors(),
    )
}

/// How it went, for people.
pub fn table(stats: &Stats) -> String {
    let mut text = format!(
        "{:.0} ops/s: {} operations in {:.1} s, {} errors\n\n",
        stats.ops_per_second(),
        stats.right(),
        stats.seconds(),
        stats.errors()
    );
    let heads = ["operation", "count"].into_iter().chain(QUANTILES.map(|column| column.0));
    let mut times = bare(heads.collect());
    for (name, took) in [("get", &stats.gets), ("put", &stats.puts)] {
        let mut row = vec![name.to_owned(), took.len().to_string()];
        row.extend(QUANTILES.map(|(_, _, quantile)| ms(took.value_at_quantile(quantile))));
        times.add_row(row);
    }
    text.push_str(&lines(&times));
    if stats.missing > 0 {
        text.push_str(&format!("\n{} of the gets found nothing\n", stats.missing));
    }
    if stats.asked_again > 0 {
        let count = stats.asked_again;
        text.push_str(&format!(
            "\n{count} were asked again elsewhere, their connection being lost or silent\n"
        ));
    }
    if stats.errors() > 0 {
        let mut errors = bare(vec!["errors", "gets", "puts", "first s", "last s"]);
        for (name, count) in stats.troubles() {
            let at = |us: u64| format!("{:.3}", us as f64 / 1e6);
            errors.add_row(vec![
                name.replace('_', " "),
                count.gets.to_string(),
                count.puts.to_string(),
                at(count.first_us),
                at(count.last_us),
            ]);
        }
        text.push('\n');
        text.push_str(&lines(&errors));
    }
    text.trim_end().to_owned()
}

/// How it went, for programs. Times are in microseconds.
pub fn json(settings: &Settings, stats: &Stats) -> Value {
    let errors: Map<String, Value> = stats
        .troubles()
        .map(|(name, count)| {
            let value = json!({
                "get": count.gets, "put": count.puts, "first_us": count.first_us, "last_us": count.last_us,
            });
            (name.to_owned(), value)
        })
        .collect();
    json!({
        "ops_per_second": stats.ops_per_second().round(),
        "operations": stats.right(),
        "seconds": stats.seconds(),
        "error_count": stats.errors(),
        "errors": errors,
        "get": times(&stats.gets),
        "put": times(&stats.puts),
        "missing": stats.missing,
        "asked_again": stats.asked_again,
        "settings": {
            "keyspace": name_of(&settings.keyspace),
            "routing": routing(settings),
            "conns": settings.conns,
            "pipeline": settings.pipeline,
            "rate": settings.rate,
            "ratio": settings.ratio,
            "keys": settings.keys,
            "value_bytes": settings.value_bytes,
            "seed": settings.seed,
        },
    })
}

fn times(took: &Histogram<u64>) -> Value {
    let mut object = Map::from_iter([("count".to_owned(), json!(took.len()))]);
    for (_, name, quantile) in QUANTILES {
        object.insert(name.to_owned(), json!(took.value_at_quantile(quantile)));
    }
    Value::Object(object)
}

fn name_of(keyspace: &str) -> &str {
    if keyspace.is_empty() { gtstore::ring::Keyspace::DEFAULT } else { keyspace }
}

fn routing(settings: &Settings) -> &'static str {
    match settings.routing {
        Routing::Forwarder => "forwarder",
        Routing::Direct => "direct",
    }
}

fn ms(us: u64) -> String {
    format!("{:.3}", us as f64 / 1e3)
}

/// A table without lines, its numbers to the right.
fn bare(heads: Vec<&'static str>) -> Table {
    let mut table = Table::new();
    table.load_style(comfy_table::presets::NOTHING);
    table.set_header(heads);
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

fn lines(table: &Table) -> String {
    table.lines().map(|line| line.trim_end().to_owned() + "\n").collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::{Done, Trouble};
    use crate::workload::OpKind;

    fn stats() -> Stats {
        let mut stats = Stats::new(Instant(0)).unwrap();
        stats.record(Instant(500_000), OpKind::Get, Instant(499_000), Done::Missing);
        stats.record(Instant(1_000_000), OpKind::Put, Instant(998_000), Done::Right);
        stats.record(Instant(1_500_000), OpKind::Put, Instant(0), Done::Failed(Trouble::NoQuorum));
        stats
    }

    #[test]
    fn the_table_tells_rate_times_and_errors() {
        let text = table(&stats());
        assert!(text.starts_with("2 ops/s: 2 operations in 1.0 s, 1 errors\n"), "{text}");
        let row = |name: &str| {
            let line = text.lines().find(|line| line.trim_start().starts_with(name)).unwrap();
            line.split_whitespace().map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(row("get "), ["get", "1", "1.000", "1.000", "1.000", "1.000", "1.000"]);
        assert_eq!(row("no quorum"), ["no", "quorum", "0", "1", "1.500", "1.500"]);
        assert!(text.contains("1 of the gets found nothing"));
    }

    #[test]
    fn the_live_line_tells_the_last_second() {
        let text = line(&stats(), Instant(2_000_000), 1_000_000, (3, 4));
        for part in ["2.0 s", "2 ops/s", "p50    1.000 ms", "errors 1", "connected 3/4"] {
            assert!(text.contains(part), "{text}");
        }
    }
}
