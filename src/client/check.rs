//! What is wrong with a call, whatever the servers' own limits are.
//!
//! What is over a cap of the wire is not answered: its connection is closed. To a client that is
//! a failing server, and the calls beside it are lost with it. So it is refused before it is sent.

use super::error::{Error, ErrorKind, Intent};
use super::io::{Call, Item};
use crate::limits::{KEY_BYTES_MAX, KEYSPACE_NAME_BYTES_MAX, MEMBERS_MAX, VALUE_BYTES_MAX};
use crate::wire::client::{ClientRequest, Provenance, Reason};

/// Refuses a call that no server could take.
///
/// # Errors
/// The same as a server would give, if it could.
pub(super) fn check(call: &Call) -> Result<(), Error> {
    let (intent, broken) = match call {
        Call::Get { item } => (Intent::Read, over_limit(item, 0)),
        Call::Put { item, value, .. } => (Intent::WriteUnapplied, over_limit(item, value.len())),
        Call::Delete { item, .. } => (Intent::WriteUnapplied, over_limit(item, 0)),
        Call::Ask { request, .. } => return check_question(request),
    };
    broken.map_or(Ok(()), |reason| Err(Error::refused(intent, reason, &Provenance::default())))
}

fn over_limit(item: &Item, value_bytes: usize) -> Option<Reason> {
    let small = |max: usize| u32::try_from(max).unwrap_or(u32::MAX);
    if item.keyspace.len() > KEYSPACE_NAME_BYTES_MAX {
        Some(Reason::UnknownKeyspace)
    } else if item.key.is_empty() {
        Some(Reason::EmptyKey)
    } else if item.key.len() > KEY_BYTES_MAX {
        Some(Reason::KeyTooLong { max: small(KEY_BYTES_MAX) })
    } else if value_bytes > VALUE_BYTES_MAX {
        Some(Reason::ValueTooLarge { max: small(VALUE_BYTES_MAX) })
    } else {
        None
    }
}

fn check_question(request: &ClientRequest) -> Result<(), Error> {
    let name = match request {
        ClientRequest::Faults { drop_from } if drop_from.len() > MEMBERS_MAX => {
            let text = format!("a cluster has at most {MEMBERS_MAX} nodes to drop messages from");
            return Err(Error::new(ErrorKind::Refused, text));
        }
        ClientRequest::CreateKeyspace { name, .. } | ClientRequest::Dump { keyspace: name, .. } => name,
        ClientRequest::Data { .. }
        | ClientRequest::Contact
        | ClientRequest::Table { .. }
        | ClientRequest::Status
        | ClientRequest::Hints
        | ClientRequest::Repair { .. }
        | ClientRequest::Cluster(_)
        | ClientRequest::Transfers
        | ClientRequest::Faults { .. } => return Ok(()),
    };
    if name.len() > KEYSPACE_NAME_BYTES_MAX {
        let text = format!("a keyspace name has at most {KEYSPACE_NAME_BYTES_MAX} bytes");
        return Err(Error::new(ErrorKind::Refused, text));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    fn put(keyspace: usize, key: usize, value: usize) -> Call {
        let item = Item::new(&"n".repeat(keyspace), vec![b'k'; key]);
        Call::Put { item, value: Bytes::from(vec![b'v'; value]), context: None }
    }

    #[test]
    fn what_is_at_every_limit_is_sent_and_what_is_over_one_is_not() {
        let at = (KEYSPACE_NAME_BYTES_MAX, KEY_BYTES_MAX, VALUE_BYTES_MAX);
        assert_eq!(check(&put(at.0, at.1, at.2)), Ok(()));
        for (call, said) in [
            (put(at.0 + 1, at.1, at.2), "no such keyspace"),
            (put(at.0, 0, at.2), "the key is empty"),
            (put(at.0, at.1 + 1, at.2), "limit of 1024 bytes"),
            (put(at.0, at.1, at.2 + 1), "limit of 1048576 bytes"),
        ] {
            let error = check(&call).unwrap_err();
            assert_eq!(error.kind, ErrorKind::Usage);
            assert!(error.text.contains(said), "{error}");
        }
    }
}
