//! Who is there: asked once, before the load begins, of the manager or of any node.

use crate::Failure;
use crate::options::{Routing, Settings};
use gtstore::ring::{KeyspaceSettings, Table};
use gtstore::shell::net::{Net, NetEvent};
use gtstore::shell::random;
use gtstore::types::{ClientId, ClusterId, ConnId, Epoch, Incarnation, NodeId, RequestId};
use gtstore::wire::Message;
use gtstore::wire::client::{ClientReply, ClientRequest};
use gtstore::wire::decode_table;
use gtstore::wire::frame::Frame;
use gtstore::wire::hello::{Hello, Role};
use std::time::{Duration, Instant};

/// How long each address may take to answer.
const ASK_WITHIN: Duration = Duration::from_secs(5);
const ASK_AGAIN: Duration = Duration::from_millis(50);
const CONTACT: RequestId = RequestId(1);
const TABLE: RequestId = RequestId(2);

/// What the load needs to know of a cluster.
#[derive(Debug)]
pub struct Cluster {
    /// Nodes that a client may turn to, with their addresses.
    pub contacts: Vec<(NodeId, String)>,
    /// Owners of keys.
    pub table: Table,
}

impl Cluster {
    /// The settings of the keyspace asked for.
    ///
    /// # Errors
    /// The cluster cannot serve it, or not with the quorums asked for.
    pub fn keyspace(&self, settings: &Settings) -> Result<KeyspaceSettings, Failure> {
        let Some((_, keyspace)) = self.table.keyspace(&settings.keyspace) else {
            return Err(Failure::Usage(format!(
                "there is no keyspace '{}'; see `gtstore keyspace list`, or make it with `gtstore keyspace create`",
                settings.keyspace
            )));
        };
        if !self.table.is_serving() || self.contacts.is_empty() {
            return Err(Failure::Other(format!(
                "the cluster has {} of the {} members it needs; start more storage nodes",
                self.table.present().count(),
                self.table.n
            )));
        }
        let n = keyspace.settings.n;
        if settings.r > n || settings.w > n {
            let text = format!("-r and -w are at most {n}, the copies of keyspace '{}'", keyspace.name);
            return Err(Failure::Usage(text));
        }
        Ok(keyspace.settings)
    }

    /// Nodes to connect to.
    pub fn targets(&self, routing: Routing) -> Vec<(NodeId, String)> {
        match routing {
            Routing::Forwarder => self.contacts.clone(),
            Routing::Direct => {
                self.table.present().map(|(node, member)| (node, member.addr.clone())).collect()
            }
        }
    }
}

/// Asks each address in turn.
///
/// # Errors
/// None of them answers; the last reason is given.
pub fn find(net: &mut Net, addrs: &[String]) -> Result<Cluster, String> {
    let mut last = "no address is given".to_owned();
    for addr in addrs {
        match ask(net, addr) {
            Ok(cluster) => return Ok(cluster),
            Err(why) => last = why,
        }
    }
    Err(format!(
        "no answer from {}: {last}. Is the manager running? Say where it is with --manager HOST:PORT",
        addrs.join(", ")
    ))
}

fn ask(net: &mut Net, addr: &str) -> Result<Cluster, String> {
    let id = random::id().map_err(|error| format!("no random id: {error}"))?;
    let hello = Hello::new(Role::Client(ClientId(id)), ClusterId(0), Incarnation(0));
    let conn = net.dial(addr, hello);
    let outcome = ask_on(net, conn);
    net.close(conn);
    net.flush();
    outcome
}

/// Asks for contacts and the table on a connection that is being opened, until there are both.
fn ask_on(net: &mut Net, conn: ConnId) -> Result<Cluster, String> {
    let (began, mut events) = (Instant::now(), Vec::new());
    let (mut contacts, mut table) = (Vec::new(), None);
    while began.elapsed() < ASK_WITHIN {
        net.flush();
        net.poll(Some(Duration::from_millis(100)), &mut events)
            .map_err(|error| format!("cannot poll sockets: {error}"))?;
        for event in events.drain(..).filter(|event| event.conn() == Some(conn)) {
            match event {
                NetEvent::Welcomed { .. } => ask_both(net, conn),
                NetEvent::Frame { frame, .. } => match read(frame)? {
                    ClientReply::Contact(info) => contacts = info.nodes,
                    ClientReply::Table(bytes) => {
                        let told = decode_table(bytes).map_err(|error| format!("its table: {error}"))?;
                        if is_settled(&told) {
                            return Ok(Cluster { contacts, table: told });
                        }
                        table = Some(told);
                        ask_again(net, conn);
                    }
                    // A manager that is just storing its table has none to tell yet.
                    ClientReply::TableIsCurrent(_) => ask_again(net, conn),
                    ClientReply::Error(text) => return Err(text),
                    ClientReply::Data(_)
                    | ClientReply::Status(_)
                    | ClientReply::Dump { .. }
                    | ClientReply::Hints(_)
                    | ClientReply::Repair(_)
                    | ClientReply::Plan(_)
                    | ClientReply::Transfers(_)
                    | ClientReply::FaultsSet
                    | ClientReply::KeyspaceCreated(_) => {
                        return Err("it answers what was not asked".to_owned());
                    }
                },
                NetEvent::Closed { why, .. } => return Err(why),
                NetEvent::Opened { .. } | NetEvent::Connected { .. } | NetEvent::Woken => {}
            }
        }
    }
    let late = || format!("no answer within {} s", ASK_WITHIN.as_secs());
    table.map(|table| Cluster { contacts, table }).ok_or_else(late)
}

/// Asks both questions; they are answered in this order.
fn ask_both(net: &mut Net, conn: ConnId) {
    net.send(conn, CONTACT, &ClientRequest::Contact);
    net.send(conn, TABLE, &ClientRequest::Table { known: Epoch(0) });
}

fn ask_again(net: &mut Net, conn: ConnId) {
    std::thread::sleep(ASK_AGAIN);
    ask_both(net, conn);
}

/// Whether waiting would change nothing: sectors have owners, or there are too few members. A
/// cluster that was just started has all its members a little before it has owners.
fn is_settled(table: &Table) -> bool {
    table.is_serving() || table.present().count() < table.n.into()
}

fn read(frame: Frame) -> Result<ClientReply, String> {
    ClientReply::decode(frame.kind, frame.body).map_err(|error| format!("its answer: {error}"))
}
