//! `cluster join` and its like: changes of the membership are staged, carried out and called off. All of
//! it is the manager's to do; who is meant, and whether it can be, is looked up in its table first, so
//! that of several changes all are staged or none.

use super::cluster::ask_table_of;
use super::exit::{CommandResult, Exit, Failure};
use super::options::{ClusterAction, Format, Globals, Named, Typed};
use super::plan::{Outlook, print};
use super::transfers;
use crate::client::{ErrorKind, Store, Target};
use crate::ring::change::{enact, stage};
use crate::ring::{Change, ChangeError, Table};
use crate::shell::blocking::unexpected;
use crate::types::{Epoch, NodeId};
use crate::wire::client::{ClientReply, ClientRequest, ClusterCommand, ClusterPlan};
use std::io::Write;

/// `cluster ...`.
pub(crate) fn run(
    store: &mut Store,
    globals: &Globals,
    out: &mut dyn Write,
    action: &ClusterAction,
) -> CommandResult {
    match action {
        ClusterAction::Stage { changes, applies } => stage_all(store, globals, out, changes, *applies),
        ClusterAction::Plan { bytes_per_second } => {
            let mut outlook = look(store)?;
            outlook.bytes_per_second = *bytes_per_second;
            print(out, globals.format, &outlook, |out, outlook| write!(out, "{}", outlook.text()))
        }
        ClusterAction::Apply { epoch } => apply(store, globals, out, *epoch),
        ClusterAction::Revert => revert(store, globals, out),
        ClusterAction::Cancel => cancel(store, globals, out),
        ClusterAction::Transfers { watches: false } => transfers::transfers(store, globals, out),
        ClusterAction::Transfers { watches: true } => transfers::watch(store, globals, out),
    }
}

/// What is staged, what it would come to, and what stands in its way.
fn look(store: &mut Store) -> Result<Outlook, Failure> {
    let plan = match store.ask(Target::Manager, ClientRequest::Cluster(ClusterCommand::Plan))? {
        ClientReply::Plan(plan) => plan,
        other => return Err(unexpected(&other).into()),
    };
    let table = ask_table_of(store, Target::Manager)?;
    let obstacle = if table.staged.is_empty() { None } else { enact(&table).err() };
    Ok(Outlook { plan, obstacle, is_applied: false, bytes_per_second: None })
}

/// Has the manager do something. It was there a moment ago: if no answer comes now, it may have done it.
fn command(store: &mut Store, command: ClusterCommand) -> Result<ClusterPlan, Failure> {
    match store.ask(Target::Manager, ClientRequest::Cluster(command)) {
        Ok(ClientReply::Plan(plan)) => Ok(plan),
        Ok(other) => Err(unexpected(&other).into()),
        Err(error) if error.kind == ErrorKind::Refused => Err(refused(&error.text)),
        Err(error) => {
            let text = format!("{error}\nWhether it was done is not known: see 'gtstore cluster plan'.");
            Err(Failure::new(Exit::Unknown, text))
        }
    }
}

fn refused(why: &dyn std::fmt::Display) -> Failure {
    Failure::new(Exit::Conflict, format!("refused, and nothing was changed: {why}"))
}

/// What is wrong with a change that was typed, or what it conflicts with.
fn cannot(error: &ChangeError) -> Failure {
    match error {
        ChangeError::Unknown(_) | ChangeError::NoSuchSectors { .. } => {
            Failure::usage_of("cluster", &error.to_string())
        }
        ChangeError::Standing(..)
        | ChangeError::TooFew { .. }
        | ChangeError::Moving(_)
        | ChangeError::Full
        | ChangeError::Nothing
        | ChangeError::MovedOn { .. }
        | ChangeError::Other(_) => refused(error),
    }
}

/// Whom a person means.
fn find(table: &Table, named: &Named) -> Result<NodeId, Failure> {
    let at: Vec<NodeId> = match named {
        Named::Id(node) => table.members.get(node).map(|_| *node).into_iter().collect(),
        Named::Addr(addr) => table.present().filter(|entry| entry.1.addr == *addr).map(|e| e.0).collect(),
    };
    match (at.as_slice(), named) {
        ([node], _) => Ok(*node),
        ([], Named::Id(node)) => Err(cannot(&ChangeError::Unknown(*node))),
        ([], Named::Addr(_)) => {
            Err(Failure::usage_of("cluster", &format!("there is no {named}; see `gtstore status`")))
        }
        ([..], _) => {
            let ids: Vec<String> = at.iter().map(ToString::to_string).collect();
            let text = format!("there is more than one {named}: name {} by number", ids.join(" or "));
            Err(Failure::usage_of("cluster", &text))
        }
    }
}

/// Whether these changes can be staged beside what is staged, and carried out if they are to be.
fn check(table: &Table, changes: &[Change], applies: bool) -> Result<(), Failure> {
    let mut next = table.clone();
    for &change in changes {
        stage(&mut next, change).map_err(|error| cannot(&error))?;
    }
    if !applies {
        return Ok(());
    }
    let others: Vec<String> =
        next.staged.iter().filter(|change| !changes.contains(change)).map(ToString::to_string).collect();
    if !others.is_empty() {
        return Err(refused(&format_args!(
            "--apply would carry out what is staged already, too: {}; see 'gtstore cluster plan'",
            others.join(", ")
        )));
    }
    enact(&next).map(drop).map_err(|error| cannot(&error))
}

fn stage_all(
    store: &mut Store,
    globals: &Globals,
    out: &mut dyn Write,
    typed: &[Typed],
    applies: bool,
) -> CommandResult {
    let table = ask_table_of(store, Target::Manager)?;
    let changes: Vec<Change> =
        typed.iter().map(|typed| typed.meant(|named| find(&table, named))).collect::<Result<_, _>>()?;
    check(&table, &changes, applies)?;
    for (at, &change) in changes.iter().enumerate() {
        command(store, ClusterCommand::Stage(change)).map_err(|failure| match at {
            0 => failure,
            _ => Failure::new(failure.exit, format!("{failure}\nStaged before that: {at} of the changes.")),
        })?;
    }
    // Not what staging was answered with: what is staged again makes no new table.
    let mut outlook = look(store)?;
    if !applies {
        return print(out, globals.format, &outlook, |out, outlook| {
            write!(out, "{}{}", outlook.staged_text(), outlook.what_next(true))
        });
    }
    if globals.format == Format::Table {
        writeln!(out, "{}{}", outlook.staged_text(), outlook.rows_text())?;
        out.flush()?;
    }
    outlook.plan =
        command(store, ClusterCommand::Apply { epoch: outlook.plan.epoch }).map_err(|failure| {
            Failure::new(failure.exit, format!("{failure}\nIt is staged yet: see 'gtstore cluster plan'."))
        })?;
    print_applied(out, globals.format, outlook)
}

fn apply(store: &mut Store, globals: &Globals, out: &mut dyn Write, epoch: Epoch) -> CommandResult {
    let mut outlook = look(store)?;
    outlook.plan = command(store, ClusterCommand::Apply { epoch })?;
    print_applied(out, globals.format, outlook)
}

fn print_applied(out: &mut dyn Write, format: Format, outlook: Outlook) -> CommandResult {
    let outlook = Outlook { is_applied: true, obstacle: None, ..outlook };
    print(out, format, &outlook, |out, outlook| {
        write!(out, "Applied, in the table of epoch {}. {}", outlook.plan.epoch, outlook.under_way())
    })
}

fn revert(store: &mut Store, globals: &Globals, out: &mut dyn Write) -> CommandResult {
    let staged = look(store)?.plan.staged.len();
    command(store, ClusterCommand::Revert)?;
    print(out, globals.format, &look(store)?, |out, _| match staged {
        0 => writeln!(out, "Nothing was staged."),
        1 => writeln!(out, "Forgotten: 1 change. Nothing is staged any more."),
        _ => writeln!(out, "Forgotten: {staged} changes. Nothing is staged any more."),
    })
}

fn cancel(store: &mut Store, globals: &Globals, out: &mut dyn Write) -> CommandResult {
    let before = look(store)?.plan;
    command(store, ClusterCommand::Cancel)?;
    let outlook = look(store)?;
    print(out, globals.format, &outlook, |out, outlook| {
        let after = &outlook.plan;
        match before.moves.saturating_sub(after.moves) {
            0 if before.moves == 0 => writeln!(out, "Nothing was moving.")?,
            0 => {}
            stay => writeln!(out, "Called off: {stay} copies of sectors stay where they are.")?,
        }
        for row in &after.rows {
            let was = before.rows.iter().find(|old| old.node == row.node).map(|old| old.state.0);
            if was.is_some_and(|was| was != row.state.0) {
                writeln!(out, "Node {} is {} again.", row.node, row.state.0)?;
            }
        }
        if after.moves > 0 {
            writeln!(out, "{} copies that are rebuilt for nodes given up go on.", after.moves)?;
        }
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ring::{Member, MemberState};
    use crate::types::{ClusterId, DiskUuid};

    fn table(nodes: &[(u32, &str, MemberState)]) -> Table {
        let mut table = Table::new(ClusterId(1), 2, 8);
        for &(id, addr, state) in nodes {
            let (addr, zone, disk_uuid) = (addr.to_owned(), String::new(), DiskUuid(u128::from(id)));
            table.members.insert(NodeId(id), Member { addr, disk_uuid, zone, weight: 100, state });
        }
        for (id, slots) in crate::ring::plan(&table).changes {
            table.sectors[usize::from(id.0)].slots = slots;
        }
        table
    }

    #[test]
    fn a_node_is_named_by_its_number_or_by_an_address_that_is_one_nodes() {
        let normal = MemberState::Normal;
        let table = table(&[
            (1, "a:1", normal),
            (2, "b:1", MemberState::Left),
            (3, "b:1", normal),
            (4, "c:1", normal),
            (5, "c:1", normal),
        ]);
        let found = |text: &str| find(&table, &text.parse().unwrap());
        assert_eq!(found("2"), Ok(NodeId(2)));
        assert_eq!(found("b:1"), Ok(NodeId(3)), "who has left has no address");
        for (text, said) in
            [("9", "there is no node 9"), ("d:1", "no node at d:1"), ("c:1", "name 4 or 5 by number")]
        {
            let failure = found(text).unwrap_err();
            assert_eq!((failure.exit, failure.text.contains(said)), (Exit::Usage, true), "{failure}");
        }
    }

    #[test]
    fn of_several_changes_all_can_be_carried_out_or_none_is_staged() {
        let normal = MemberState::Normal;
        let mut table = table(&[(1, "a:1", normal), (2, "b:1", normal), (3, "c:1", normal)]);
        let leaves = [1, 2].map(|node| Change::Leave(NodeId(node)));
        let failure = check(&table, &leaves, false).unwrap_err();
        assert_eq!(failure.exit, Exit::Conflict);
        assert!(failure.text.contains("nothing was changed: 1 nodes would be left"), "{failure}");
        assert_eq!(check(&table, &leaves[..1], true), Ok(()));

        stage(&mut table, leaves[1]).unwrap();
        assert!(check(&table, &leaves[..1], true).is_err());
        let weight = [Change::Weight { node: NodeId(1), weight: 50 }];
        assert_eq!(check(&table, &weight, false), Ok(()));
        let failure = check(&table, &weight, true).unwrap_err();
        assert!(failure.text.contains("what is staged already, too: node 2 leaves"), "{failure}");
        assert_eq!(check(&table, &leaves[1..], true), Ok(()), "the same once more");
    }
}
