//! What `import` and `export` have in common.

use super::exit::{Exit, Failure};
use crate::client::Store;
use crate::ring::{Keyspace, KeyspaceSettings, Table};

/// Failures told one by one; the rest is counted.
pub(crate) const FAILURES_TOLD: usize = 20;

/// The settings of the store's keyspace. One that is not there, or that cannot answer with so many
/// copies, is told once, not for every key: there may be none.
pub(crate) fn settings_in(table: &Table, store: &Store) -> Result<KeyspaceSettings, Failure> {
    let options = store.options();
    let name = &options.keyspace;
    let Some((_, Keyspace { settings, .. })) = table.keyspace(name) else {
        let text = format!("there is no keyspace {name:?}; see `gtstore keyspace list`");
        return Err(Failure::new(Exit::Usage, text));
    };
    if options.r > settings.n || options.w > settings.n {
        let text = format!("-r and -w are at most {}, the copies that the keyspace has of a key", settings.n);
        return Err(Failure::usage(text));
    }
    Ok(*settings)
}
