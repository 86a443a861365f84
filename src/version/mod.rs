//! Versions: what a key's object is, and how two copies of it become one.
//!
//! A key's object is a *dotted version vector set* (Preguica et al., "Dotted Version Vectors",
//! 2012; Almeida et al. 2014): siblings, each named by its dot, under one context that covers
//! every write the copy has ever heard of. Copies are merged whole and never overwritten
//! blindly, so a concurrent write is detected rather than lost. This module knows nothing of
//! messages, disks or quorums.

mod few;
mod object;
#[cfg(test)]
mod tests;
mod vector;

pub use few::Few;
pub use object::{Content, Object, Replaces, Sibling};
pub use vector::{Context, VersionVector};
