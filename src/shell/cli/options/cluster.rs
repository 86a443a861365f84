//! `cluster ...`: changes of the membership, as they were typed.

use super::value;
use crate::ring::Change;
use crate::shell::args;
use crate::shell::cli::exit::Failure;
use crate::types::{Epoch, NodeId, SectorId};
use getopts::Matches;
use std::fmt;
use std::str::FromStr;

/// What is to be done about the membership.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum ClusterAction {
    /// Stage changes.
    Stage {
        changes: Vec<Typed>,
        /// And carry them out at once.
        applies: bool,
    },
    /// Show what is staged.
    Plan {
        bytes_per_second: Option<u64>,
    },
    Apply {
        epoch: Epoch,
    },
    Revert,
    Cancel,
    Transfers {
        watches: bool,
    },
}

/// A node, as it was typed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Named {
    Id(NodeId),
    Addr(String),
}

/// A change whose nodes are yet to be looked up.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Typed {
    Join(Named),
    Leave(Named),
    Replace { dead: Named, by: Option<Named> },
    Move { to: Named, first: SectorId, last: SectorId },
    Weight { node: Named, weight: u16 },
}

impl Typed {
    /// The change, once it is known who is meant.
    ///
    /// # Errors
    /// Those of `find`.
    pub(crate) fn meant(&self, find: impl Fn(&Named) -> Result<NodeId, Failure>) -> Result<Change, Failure> {
        Ok(match self {
            Typed::Join(node) => Change::Join(find(node)?),
            Typed::Leave(node) => Change::Leave(find(node)?),
            Typed::Replace { dead, by } => {
                Change::Replace { dead: find(dead)?, by: by.as_ref().map(find).transpose()? }
            }
            Typed::Move { to, first, last } => Change::Move { to: find(to)?, first: *first, last: *last },
            Typed::Weight { node, weight } => Change::Weight { node: find(node)?, weight: *weight },
        })
    }
}

impl FromStr for Named {
    type Err = ();
    fn from_str(text: &str) -> Result<Self, ()> {
        match text.parse() {
            Ok(0) => Err(()),
            Ok(id) => Ok(Named::Id(NodeId(id))),
            Err(_) => args::check_addr(text).map(Named::Addr).map_err(|_| ()),
        }
    }
}

impl fmt::Display for Named {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Named::Id(node) => write!(f, "node {node}"),
            Named::Addr(addr) => write!(f, "node at {addr}"),
        }
    }
}

/// The forms of `cluster`, by their second word.
const FORMS: &[(&str, &str)] = &[
    ("join", "NODE... [--apply]"),
    ("leave", "NODE... [--apply]"),
    ("replace", "DEAD [NEW] [--apply]"),
    ("move", "NODE FIRST LAST [--apply]"),
    ("weight", "NODE W [--apply]"),
    ("plan", "[--bytes-per-second SIZE]"),
    ("apply", "--epoch E, as 'gtstore cluster plan' shows it"),
    ("revert", ""),
    ("cancel", ""),
    ("transfers", "[--watch]"),
];

/// The second words of `cluster`, for completion.
pub(crate) fn second_words() -> impl Iterator<Item = &'static str> {
    FORMS.iter().map(|form| form.0)
}

/// What stands behind `cluster`.
///
/// # Errors
/// What cannot be understood, in words.
pub(super) fn cluster(words: &[String], matches: &Matches) -> Result<ClusterAction, Failure> {
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let Some((&name, words)) = words.split_first() else {
        let all: Vec<&str> = second_words().collect();
        return Err(Failure::usage_of("cluster", &format!("usage: gtstore cluster {} ...", all.join("|"))));
    };
    let Some((_, form)) = FORMS.iter().find(|form| form.0 == name) else {
        return Err(Failure::usage_of("cluster", &format!("there is no command 'cluster {name}'")));
    };
    let wrong = || {
        let usage = format!("usage: gtstore cluster {name} {form}");
        Failure::usage_of(&format!("cluster {name}"), usage.trim_end())
    };
    let changes = match (name, words) {
        ("join" | "leave", [_, ..]) => {
            let change = if name == "join" { Typed::Join } else { Typed::Leave };
            words.iter().map(|word| Ok(change(node(word)?))).collect::<Result<_, Failure>>()?
        }
        ("replace", [dead, by @ ..]) if by.len() <= 1 => {
            vec![Typed::Replace { dead: node(dead)?, by: by.first().map(|word| node(word)).transpose()? }]
        }
        ("move", [to, first, last]) => {
            vec![Typed::Move { to: node(to)?, first: sector(first)?, last: sector(last)? }]
        }
        ("weight", [to, weight]) => vec![Typed::Weight { node: node(to)?, weight: share(weight)? }],
        ("plan", []) => return Ok(ClusterAction::Plan { bytes_per_second: bytes_per_second(matches)? }),
        ("apply", []) => {
            let epoch = value(matches, "epoch", "the number that 'gtstore cluster plan' shows")?;
            return epoch.map(|epoch| ClusterAction::Apply { epoch: Epoch(epoch) }).ok_or_else(wrong);
        }
        ("revert", []) => return Ok(ClusterAction::Revert),
        ("cancel", []) => return Ok(ClusterAction::Cancel),
        ("transfers", []) => {
            return Ok(ClusterAction::Transfers { watches: matches.opt_present("watch") });
        }
        (_, _) => return Err(wrong()),
    };
    Ok(ClusterAction::Stage { changes, applies: matches.opt_present("apply") })
}

fn node(word: &str) -> Result<Named, Failure> {
    let text = "NODE is a node's number, as in 'gtstore status', or its address, HOST:PORT";
    word.parse().map_err(|()| Failure::usage_of("cluster", &format!("{text}, not '{word}'")))
}

fn sector(word: &str) -> Result<SectorId, Failure> {
    let text = format!("FIRST and LAST are sectors' numbers, as in 'gtstore query', not '{word}'");
    word.parse().map(SectorId).map_err(|_| Failure::usage_of("cluster", &text))
}

fn share(word: &str) -> Result<u16, Failure> {
    let text = format!("W is a share of the data, 100 being usual, 0 none, 65535 the most, not '{word}'");
    word.parse().map_err(|_| Failure::usage_of("cluster", &text))
}

fn bytes_per_second(matches: &Matches) -> Result<Option<u64>, Failure> {
    let given = matches.opt_str("bytes-per-second").map(|text| args::size(&text)).transpose();
    match given {
        Ok(Some(0)) => Err(Failure::usage_of("cluster", "--bytes-per-second is 1 or more, as 50MiB")),
        Ok(given) => Ok(given),
        Err(error) => Err(Failure::usage_of("cluster", &format!("--bytes-per-second: {error}"))),
    }
}
