//! Placement: from a key to its sector, from a sector to its owners, from members to a table.

pub mod change;
mod hash;
mod plan;
mod table;
mod validate;

pub use change::{Change, ChangeError};
pub use hash::{HASH_SLOTS, hash_slot, sector_of};
pub use plan::{MoveError, Plan, move_sectors, plan, plan_by_load};
pub use table::{
    Conflict, Durability, Keyspace, KeyspaceSettings, Member, MemberState, NameError, Profile, Sector, Slot,
    Table,
};
pub use validate::{Fault, validate};
