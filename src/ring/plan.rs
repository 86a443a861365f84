//! Placement.
use super::{Slot, Table};
use crate::types::SectorId;
/// A plan.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Plan {
    /// The sectors whose slots change, with their new slots.
    pub changes: Vec<(SectorId, Vec<Slot>)>,
}
/// Plans.
#[must_use]
pub fn plan(_table: &Table) -> Plan {
    Plan::default()
}
