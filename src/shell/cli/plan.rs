//! What is staged and what it would come to, as people and programs are shown it.

use super::exit::CommandResult;
use super::options::Format;
use super::output::{object, plain, print_json, table};
use super::standing::word;
use super::text::{human_bytes, human_span};
use crate::ring::{Change, ChangeError};
use crate::wire::client::{ClusterPlan, PlanRow};
use serde_json::{Map, Value};
use std::io::{self, Write};

/// A plan, and what else is known of it.
#[derive(Debug, Default)]
pub(super) struct Outlook {
    pub(super) plan: ClusterPlan,
    /// Why what is staged cannot be carried out now.
    pub(super) obstacle: Option<ChangeError>,
    /// It was just carried out.
    pub(super) is_applied: bool,
    /// What moves in a second, in the whole cluster, as a person says.
    pub(super) bytes_per_second: Option<u64>,
}

/// Prints it as a value, as rows, or as `text` has it for people.
pub(super) fn print(
    out: &mut dyn Write,
    format: Format,
    outlook: &Outlook,
    text: impl FnOnce(&mut dyn Write, &Outlook) -> io::Result<()>,
) -> CommandResult {
    match format {
        Format::Json => print_json(out, outlook.json())?,
        Format::Plain => out.write_all(plain(&outlook.plain_rows()).as_bytes())?,
        Format::Table => text(out, outlook)?,
    }
    Ok(())
}

impl Outlook {
    /// All of it.
    pub(super) fn text(&self) -> String {
        let plan = &self.plan;
        if plan.staged.is_empty() {
            let under_way = if plan.moves > 0 { format!("{}\n", self.under_way()) } else { String::new() };
            return format!(
                "Nothing is staged, at epoch {}. {under_way}Changes are staged with 'gtstore cluster join', \
                 'leave', 'replace', 'move' and 'weight'.\n",
                plan.epoch
            );
        }
        if self.obstacle.is_some() {
            return self.staged_text() + &self.what_next(false);
        }
        let hint = "How long that takes is told with --bytes-per-second SIZE, and measured by 'gtstore cluster \
                    transfers'\nonce it moves.\n";
        let hint = if plan.moves > 0 && self.bytes_per_second.is_none() { hint } else { "" };
        format!("{}{}{hint}\n{}", self.staged_text(), self.rows_text(), self.what_next(false))
    }

    /// What is staged, a line each.
    pub(super) fn staged_text(&self) -> String {
        let staged: String = self.plan.staged.iter().map(|change| format!("  {change}\n")).collect();
        format!("Staged, at epoch {}:\n{staged}\n", self.plan.epoch)
    }

    /// A row for each node, and what all of it comes to.
    pub(super) fn rows_text(&self) -> String {
        let headings = ["Node", "State", "Sectors", "First in", "Copies to get", "Bytes to get"];
        let rows = self.plan.rows.iter().map(row).collect();
        let ClusterPlan { moves, orphans, .. } = self.plan;
        let mut text = table(&headings, &[0, 2, 3, 4, 5], rows);
        text += &match moves {
            0 => "\nNo copy of a sector has to move.\n".to_owned(),
            _ => {
                let (bytes, time) = (human_bytes(self.bytes()), self.time().unwrap_or_default());
                format!("\n{}, {bytes} in all.{time}\n", copies_move(moves))
            }
        };
        if orphans > 0 {
            text += &format!(
                "\nWARNING: every copy of {orphans} sectors is on nodes that are given up: what was in them \
                 is lost for good.\n"
            );
        }
        text
    }

    /// How to go on from what is staged; with a look at what it comes to, if that was not had yet.
    pub(super) fn what_next(&self, looks: bool) -> String {
        if let Some(why) = &self.obstacle {
            return format!("It cannot be carried out now: {why}.\nTo forget it: gtstore cluster revert\n");
        }
        let look = if looks { "To look at it:    gtstore cluster plan\n" } else { "" };
        format!(
            "Nothing is changed yet.\n{look}\
             To carry it out:  gtstore cluster apply --epoch {}\nTo forget it:     gtstore cluster revert\n",
            self.plan.epoch
        )
    }

    /// What moves, of a plan that was carried out.
    pub(super) fn under_way(&self) -> String {
        match self.plan.moves {
            0 => "No copy of a sector has to move.\n".to_owned(),
            moves => format!(
                "{} now, {} in all: see 'gtstore cluster transfers --watch'.\n",
                copies_move(moves),
                human_bytes(self.bytes())
            ),
        }
    }

    fn bytes(&self) -> u64 {
        self.plan.rows.iter().map(|row| row.bytes).sum()
    }

    fn seconds(&self) -> Option<u64> {
        self.bytes_per_second.map(|each| self.bytes().div_ceil(each.max(1)))
    }

    /// How long it takes, if it was said what moves in a second.
    fn time(&self) -> Option<String> {
        let (seconds, each) = (self.seconds()?, self.bytes_per_second?);
        Some(format!(" At {} a second that takes {}.", human_bytes(each), human_span(seconds)))
    }

    /// Rows whose first field says what they are.
    fn plain_rows(&self) -> Vec<Vec<String>> {
        let plan = &self.plan;
        let seconds = self.seconds().map_or("-".to_owned(), |seconds| seconds.to_string());
        let head =
            [plan.epoch.0, plan.moves.into(), self.bytes(), plan.orphans.into()].map(|n| n.to_string());
        let obstacle = self.obstacle.as_ref().map_or("-".to_owned(), ToString::to_string);
        let head = std::iter::once("plan".to_owned()).chain(head).chain([seconds, obstacle]).collect();
        let staged = plan.staged.iter().map(|change| {
            let (name, node, further) = parts(change);
            let further = further.iter().map(|(_, number)| number.map_or("-".to_owned(), |n| n.to_string()));
            ["staged".to_owned(), name.to_owned(), node.to_string()].into_iter().chain(further).collect()
        });
        let node = |row: &PlanRow| {
            let states = [row.state.0, row.state.1].map(|state| word(state).to_owned());
            let counts = [row.sectors.0, row.sectors.1, row.first.0, row.first.1, row.gets].map(u64::from);
            let start = ["node".to_owned(), row.node.to_string()].into_iter().chain(states);
            start.chain(counts.iter().chain([&row.bytes]).map(ToString::to_string)).collect()
        };
        std::iter::once(head).chain(staged).chain(plan.rows.iter().map(node)).collect()
    }

    fn json(&self) -> Map<String, Value> {
        let plan = &self.plan;
        let staged = |change: &Change| -> Value {
            let (name, node, further) = parts(change);
            let mut row = object([("change", name.into()), ("node", node.into())]);
            row.extend(further.into_iter().map(|(name, number)| (name.to_owned(), number.into())));
            row.into()
        };
        let node = |row: &PlanRow| -> Value {
            object([
                ("id", row.node.0.into()),
                ("state", word(row.state.0).into()),
                ("state_after", word(row.state.1).into()),
                ("sectors", row.sectors.0.into()),
                ("sectors_after", row.sectors.1.into()),
                ("first_in", row.first.0.into()),
                ("first_in_after", row.first.1.into()),
                ("gets", row.gets.into()),
                ("bytes", row.bytes.into()),
            ])
            .into()
        };
        object([
            ("epoch", plan.epoch.0.into()),
            ("applied", self.is_applied.into()),
            ("staged", plan.staged.iter().map(staged).collect::<Vec<_>>().into()),
            ("obstacle", self.obstacle.as_ref().map(ToString::to_string).into()),
            ("moves", plan.moves.into()),
            ("bytes", self.bytes().into()),
            ("seconds", self.seconds().into()),
            ("orphans", plan.orphans.into()),
            ("nodes", plan.rows.iter().map(node).collect::<Vec<_>>().into()),
        ])
    }
}

/// A change in a word, whom it is about, and its further numbers with their names.
fn parts(change: &Change) -> (&'static str, u32, Vec<(&'static str, Option<u32>)>) {
    match *change {
        Change::Join(node) => ("join", node.0, Vec::new()),
        Change::Leave(node) => ("leave", node.0, Vec::new()),
        Change::Replace { dead, by } => ("replace", dead.0, vec![("by", by.map(|by| by.0))]),
        Change::Move { to, first, last } => {
            let ends = [("first", first), ("last", last)];
            ("move", to.0, ends.map(|(name, sector)| (name, Some(sector.0.into()))).to_vec())
        }
        Change::Weight { node, weight } => ("weight", node.0, vec![("weight", Some(weight.into()))]),
    }
}

fn row(row: &PlanRow) -> Vec<String> {
    vec![
        row.node.to_string(),
        now_and_then(row.state),
        now_and_then(row.sectors),
        now_and_then(row.first),
        row.gets.to_string(),
        human_bytes(row.bytes),
    ]
}

fn now_and_then<T: PartialEq + ToString>((now, then): (T, T)) -> String {
    if now == then { now.to_string() } else { format!("{} -> {}", now.to_string(), then.to_string()) }
}

fn copies_move(moves: u32) -> String {
    if moves == 1 { "1 copy of a sector moves".to_owned() } else { format!("{moves} copies of sectors move") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ring::MemberState;
    use crate::types::{Epoch, NodeId, SectorId};

    fn outlook() -> Outlook {
        let states =
            [(MemberState::Normal, MemberState::Normal), (MemberState::Waiting, MemberState::Joining)];
        let row = |(id, state)| PlanRow {
            node: NodeId(id),
            state,
            sectors: (8, 6),
            first: (3, 3),
            gets: 5,
            bytes: 3 << 20,
        };
        let staged = vec![
            Change::Join(NodeId(2)),
            Change::Replace { dead: NodeId(3), by: None },
            Change::Move { to: NodeId(2), first: SectorId(4), last: SectorId(7) },
        ];
        let rows = (1..).zip(states).map(row).collect();
        let plan = ClusterPlan { epoch: Epoch(9), staged, rows, moves: 10, orphans: 0 };
        Outlook { plan, ..Outlook::default() }
    }

    #[test]
    fn a_plan_says_what_changes_for_whom_how_long_it_takes_and_what_to_type() {
        let text = outlook().text();
        for said in [
            "Staged, at epoch 9:\n  node 2 joins\n  node 3 is given up, and rebuilt on the others\n",
            "waiting to join -> joining   8 -> 6",
            "10 copies of sectors move, 6.0 MiB in all.\nHow long that takes is told with --bytes-per-second",
            "gtstore cluster apply --epoch 9\n",
        ] {
            assert!(text.contains(said), "{said} is not in {text}");
        }
        assert!(!text.contains("WARNING") && !text.contains("3 -> 3"), "{text}");
        let timed = Outlook { bytes_per_second: Some(64 << 10), ..outlook() }.text();
        assert!(timed.contains("At 64.0 KiB a second that takes 1 min 36 s."), "{timed}");
    }

    #[test]
    fn what_is_lost_or_in_the_way_is_not_passed_over() {
        let mut outlook = outlook();
        outlook.plan.orphans = 2;
        assert!(outlook.text().contains("WARNING: every copy of 2 sectors is on nodes that are given up"));
        outlook.obstacle = Some(ChangeError::Moving(4));
        let text = outlook.text();
        assert!(
            text.contains("It cannot be carried out now: 4 sectors are moving") && !text.contains("apply")
        );
    }

    #[test]
    fn programs_get_the_same_in_rows_and_names() {
        let outlook = Outlook { bytes_per_second: Some(1 << 20), ..outlook() };
        let text = plain(&outlook.plain_rows());
        assert_eq!(
            text,
            "plan\t9\t10\t6291456\t0\t6\t-\nstaged\tjoin\t2\nstaged\treplace\t3\t-\nstaged\tmove\t2\t4\t7\n\
             node\t1\tnormal\tnormal\t8\t6\t3\t3\t5\t3145728\nnode\t2\twaiting\tjoining\t8\t6\t3\t3\t5\t3145728\n"
        );
        let json = outlook.json();
        assert_eq!(
            (&json["moves"], &json["seconds"], &json["obstacle"]),
            (&10.into(), &6.into(), &Value::Null)
        );
        assert_eq!(json["staged"][2].to_string(), r#"{"change":"move","node":2,"first":4,"last":7}"#);
        assert_eq!(json["nodes"][1]["state_after"], "joining");
    }

    #[test]
    fn with_nothing_staged_it_says_how_to_stage() {
        let nothing = Outlook { plan: ClusterPlan::default(), ..Outlook::default() }.text();
        assert!(nothing.starts_with("Nothing is staged, at epoch 0. Changes are staged with"), "{nothing}");
        let moving =
            Outlook { plan: ClusterPlan { moves: 1, ..ClusterPlan::default() }, ..Outlook::default() };
        assert!(moving.text().contains("1 copy of a sector moves now"), "{}", moving.text());
    }
}
