//! Leaving faults out of a failing seed for as long as it fails, until few are left to be read about.

use super::Asked;
use getopts::Matches;
use gtstore::sim::{Fault, LeftOut, Report, Settings, run};
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

/// How long smaller lists are looked for.
const PATIENCE: Duration = Duration::from_secs(60);

/// What the command line leaves out.
pub(crate) fn left_out(matches: &Matches) -> Result<LeftOut, String> {
    let kinds = matches.opt_str("without").unwrap_or_default();
    let kinds = kinds.split(',').filter(|name| !name.is_empty()).map(kind).collect::<Result<_, _>>()?;
    let but = match matches.opt_str("faults") {
        None => None,
        Some(text) if text == "none" => Some(BTreeSet::new()),
        Some(text) => {
            let wrong = |_| format!("--faults takes numbers like 3,7,9, or none, not {text:?}");
            Some(text.split(',').map(str::parse).collect::<Result<_, _>>().map_err(wrong)?)
        }
    };
    Ok(LeftOut { kinds, but })
}

fn kind(name: &str) -> Result<Fault, String> {
    let known = || Fault::ALL.map(|fault| format!("{fault:?}"));
    let found = Fault::ALL.into_iter().find(|fault| format!("{fault:?}").eq_ignore_ascii_case(name));
    found.ok_or_else(|| format!("--without knows no fault {name:?}, but {}", known().join(", ")))
}

/// The options that leave it out again.
pub(crate) fn options(left_out: &LeftOut) -> String {
    let mut text = String::new();
    if !left_out.kinds.is_empty() {
        let names: Vec<String> = left_out.kinds.iter().map(|fault| format!("{fault:?}")).collect();
        text = format!(" --without {}", names.join(","));
    }
    if let Some(but) = &left_out.but {
        let places: Vec<String> = but.iter().map(u64::to_string).collect();
        let places = if places.is_empty() { "none".to_owned() } else { places.join(",") };
        text = format!("{text} --faults {places}");
    }
    text
}

/// A search for the smallest list of faults with which a seed still fails.
struct Shrinking<'a> {
    asked: &'a Asked,
    until: Instant,
    /// What is left out by now, and the run that failed so.
    left_out: LeftOut,
    report: Report,
}

/// Leaves out kinds of fault, then single ones, while the seed still fails. What was left out, and
/// the last run that failed.
pub(crate) fn shrink(asked: &Asked, report: Report) -> (LeftOut, Report) {
    let left_out = asked.left_out.clone();
    let mut search = Shrinking { asked, until: Instant::now() + PATIENCE, left_out, report };
    let kinds: Vec<Fault> = search.report.faults.keys().copied().collect();
    for kind in kinds {
        let mut fewer = search.left_out.clone();
        fewer.kinds.insert(kind);
        search.fails_with(fewer);
    }
    let mut size = search.report.sequence.len();
    while size > 0 {
        search.leave_out_pieces(size);
        size /= 2;
    }
    (search.left_out, search.report)
}

impl Shrinking<'_> {
    /// Leaves out so many neighbours at a time wherever that can be done.
    fn leave_out_pieces(&mut self, size: usize) {
        // From the end: what came late matters to nothing that came before.
        let mut end = self.report.sequence.len();
        while end > 0 {
            let from = end.saturating_sub(size);
            let places = self.report.sequence.iter().map(|entry| entry.0).enumerate();
            let but = places.filter(|(at, _)| !(from..end).contains(at)).map(|(_, place)| place).collect();
            // What is in no list needs no kind: but for torn writes, which have no place.
            let mut kinds = self.left_out.kinds.clone();
            kinds.retain(|&kind| kind == Fault::TornWrite);
            self.fails_with(LeftOut { kinds, but: Some(but) });
            // A shorter run may have had fewer of them anyway.
            end = from.min(self.report.sequence.len());
        }
    }

    /// Tries it, and stays with it if the seed still fails.
    fn fails_with(&mut self, left_out: LeftOut) {
        if Instant::now() > self.until {
            return;
        }
        let settings =
            Settings { left_out: left_out.clone(), ..self.asked.settings(self.report.seed, false) };
        let report = run(settings);
        if !report.broken.is_empty() {
            (self.left_out, self.report) = (left_out, report);
        }
    }
}
