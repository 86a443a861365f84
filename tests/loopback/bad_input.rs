//! Bad input: a clear error or a closed connection with one log line; nothing ends, nothing grows.

use crate::common::PATIENCE;
use crate::common::client::{Client, terms};
use crate::common::cluster::Cluster;
use crate::common::process::Server;
use bytes::Bytes;
use gtstore::client::{ErrorKind, Reason, Routing, Store, StoreOptions, Target};
use gtstore::ring::KeyspaceSettings;
use gtstore::shell::random;
use gtstore::types::{ClientId, ClusterId, Incarnation, NodeId, RequestId};
use gtstore::version::Content;
use gtstore::wire::client::{ClientReply, ClientRequest, DataRequest, DataResult, Write as Put};
use gtstore::wire::codec::Writer;
use gtstore::wire::frame::write_frame;
use gtstore::wire::hello::{Hello, Opening, Role};
use std::io::{Read, Write};
use std::net::TcpStream;

/// What a process may take for bad input that it has dealt with.
const GROWTH_KIB_MAX: u64 = 4096;

/// A frame's header with right checksums, and a body that may be shorter than it says.
fn frame(kind: u8, length: u32, body: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.extend(length.to_le_bytes());
    bytes.extend([kind, 0, 0, 0]);
    bytes.extend(1_u64.to_le_bytes());
    bytes.extend(crc32c::crc32c(&bytes).to_le_bytes());
    bytes.extend(crc32c::crc32c(body).to_le_bytes());
    bytes.extend(body);
    bytes
}

fn noise(bytes: usize) -> Vec<u8> {
    std::iter::repeat_with(|| random::id().unwrap().to_le_bytes()).flatten().take(bytes).collect()
}

/// A connection that has been welcomed as a client.
fn welcomed(server: &Server) -> TcpStream {
    let hello = Hello::new(Role::Client(ClientId(random::id().unwrap())), ClusterId(0), Incarnation(0));
    let mut out = Writer::default();
    write_frame(&mut out, RequestId(0), &Opening::Hello(hello));
    let mut socket = server.connect();
    socket.write_all(&out.into_bytes()).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    assert!(socket.read(&mut [0; 1024]).unwrap() > 24, "no welcome");
    socket
}

/// Sends bytes and waits until the other side closes the connection, as it must.
fn is_closed_after(mut socket: TcpStream, bytes: &[u8]) {
    // It may be closed in our face before all is written.
    let _ = socket.write_all(bytes);
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    loop {
        match socket.read(&mut [0; 1024]) {
            Ok(0) => return,
            Ok(_) => {}
            Err(error) => return assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset),
        }
    }
}

#[test]
fn what_is_no_request_closes_its_connection_with_one_log_line_on_every_port() {
    let mut cluster = Cluster::new(1, 1);
    let [node] = &mut cluster.nodes[..] else { panic!("one node") };
    for server in [node, &mut cluster.manager] {
        type Dial = fn(&Server) -> TcpStream;
        let cases: [(Dial, Vec<u8>, &str); 6] = [
            (Server::connect, noise(100_000), "not a GTStore frame"),
            (Server::connect, frame(1, u32::MAX, &[]), "frame body of 4294967295 bytes is over the limit"),
            (Server::connect, frame(0x11, 4, &[0; 4]), "bad opening"),
            (welcomed, frame(0x11, u32::MAX, &[]), "frame body of 4294967295 bytes is over the limit"),
            (welcomed, frame(0x11, 4, &[0; 4]), ""),
            (welcomed, frame(0xee, 0, &[]), ""),
        ];
        let mut dialed = Vec::new();
        for (dial, bytes, why) in &cases {
            let socket = dial(server);
            let from = format!("connection with {} closed: ", socket.local_addr().unwrap());
            is_closed_after(socket, bytes);
            let said = server.process().logged.after(&from);
            assert!(said.contains(why) && said.len() > 10, "{said}");
            dialed.push(from);
        }
        for from in dialed {
            assert_eq!(server.process().logged.with(&from).len(), 1, "{from}");
        }
        // The same again is known already.
        let before = server.process().logged.with(" closed: ").len();
        for (dial, bytes, _) in &cases {
            is_closed_after(dial(server), bytes);
        }
        is_closed_after(server.connect(), b"GET / HTTP/1.0\r\n\r\n");
        assert_eq!(server.process().logged.with(" closed: ").len(), before);
        assert!(server.process().runs());
    }
    let mut client = Client::of(&cluster.nodes[0].addr());
    client.put("key", "value");
    assert_eq!(client.get("key").as_deref(), Some("value"));
}

#[test]
fn a_flood_of_bad_connections_takes_no_memory() {
    const CONNECTIONS: usize = 200;
    let mut cluster = Cluster::new(1, 1);
    let [node] = &mut cluster.nodes[..] else { panic!("one node") };
    for server in [node, &mut cluster.manager] {
        let flood = |server: &Server| {
            for _ in 0..CONNECTIONS {
                is_closed_after(server.connect(), &frame(1, u32::MAX, &noise(1000)));
                is_closed_after(welcomed(server), &frame(0x11, u32::MAX, &noise(1000)));
                is_closed_after(server.connect(), &noise(1000));
            }
        };
        // What a process takes once, for whoever comes, is not counted.
        flood(server);
        let before = server.process().resident_kib();
        flood(server);
        // Those who announce as much as they may and send no more of it wait, and hold nothing.
        let waiting: Vec<_> = (0..CONNECTIONS)
            .map(|_| {
                let mut socket = welcomed(server);
                socket.write_all(&frame(0x11, 1 << 20, &noise(100))).unwrap();
                socket
            })
            .collect();
        assert!(server.process().runs());
        let after = server.process().resident_kib();
        assert!(after <= before + GROWTH_KIB_MAX, "{before} KiB before, {after} KiB after");
        drop(waiting);
    }
}

#[test]
fn another_protocol_version_or_cluster_is_refused_in_words() {
    let mut cluster = Cluster::new(1, 1);
    let stranger = ClusterId(random::id().unwrap());
    let [node] = &mut cluster.nodes[..] else { panic!("one node") };
    for (server, member) in [(node, Role::Peer(NodeId(9))), (&mut cluster.manager, Role::Member(NodeId(9)))] {
        let versions = "protocol versions 7..9 are asked for, 1..1 are spoken here";
        let of_another = format!(", not {stranger}");
        let client = Role::Client(ClientId(random::id().unwrap()));
        for (version, cluster_id, role, why) in [
            ((7, 9), ClusterId(0), client, versions),
            ((1, 1), stranger, client, &of_another),
            ((1, 1), stranger, member, &of_another),
        ] {
            let hello = Hello { versions: version, ..Hello::new(role, cluster_id, Incarnation(0)) };
            // Whoever goes on dialing is told each time, and logged once.
            for _ in 0..3 {
                let told = Client::saying(&server.addr(), hello).ask(&ClientRequest::Status).unwrap_err();
                assert!(told.contains(why), "{told}");
            }
        }
        let last = Hello { versions: (8, 9), ..Hello::new(client, ClusterId(0), Incarnation(0)) };
        Client::saying(&server.addr(), last).ask(&ClientRequest::Status).unwrap_err();
        let logged = &server.process().logged;
        logged.after("protocol versions 8..9");
        assert_eq!((logged.with(versions).len(), logged.with(&of_another).len()), (1, 2));
        assert!(server.process().runs());
    }
}

fn put_result(client: &mut Client, key: Bytes, value: Bytes) -> DataResult {
    let write = Put { content: Content::Value(value), ..client.write("", None) };
    let terms = gtstore::wire::client::Terms { key, ..terms("", "") };
    client.data(DataRequest::Put { terms, write }).result
}

fn bytes(length: usize) -> Bytes {
    Bytes::from(vec![b'x'; length])
}

fn check_limits(cluster: &Cluster, key_max: usize, value_max: usize) {
    let mut client = Client::of(&cluster.nodes[0].addr());
    let key_limit = Reason::KeyTooLong { max: key_max.try_into().unwrap() };
    let value_limit = Reason::ValueTooLarge { max: value_max.try_into().unwrap() };
    for (key, value, why) in [
        (bytes(0), bytes(1), Reason::EmptyKey),
        (bytes(key_max + 1), bytes(1), key_limit),
        (bytes(key_max), bytes(value_max + 1), value_limit),
    ] {
        assert_eq!(put_result(&mut client, key.clone(), value), DataResult::Refused(why));
        if why != value_limit {
            let terms = gtstore::wire::client::Terms { key, ..terms("", "") };
            assert_eq!(client.data(DataRequest::Get { terms }).result, DataResult::Refused(why));
        }
    }
    let get = DataRequest::Get { terms: terms("", &"x".repeat(key_max)) };
    let nothing = client.data(get.clone()).result;
    assert!(matches!(nothing, DataResult::Missing { .. }), "nothing may be stored: {nothing:?}");
    let done = put_result(&mut client, bytes(key_max), bytes(value_max));
    assert!(matches!(done, DataResult::Stored { .. }), "{done:?}");
    match client.data(get).result {
        DataResult::Found { values, .. } => assert_eq!(values[0].value, bytes(value_max)),
        other @ (DataResult::Stored { .. } | DataResult::Missing { .. } | DataResult::Refused(_)) => {
            panic!("{other:?}")
        }
    }
}

#[test]
fn keys_and_values_over_the_limit_are_refused_by_name_and_those_at_it_are_stored() {
    check_limits(&Cluster::new(1, 1), 1024, 1 << 20);
}

#[test]
fn the_assignments_profile_has_its_own_limits() {
    let mut cluster = Cluster::of(1, 1, 64, &["--profile", "gtstore"]);
    check_limits(&cluster, 20, 1000);
    // They are the cluster's, not a process's: a node that joins later, and all that start again.
    cluster.add_node(&[]);
    cluster.kill_all();
    cluster.start_all();
    cluster.settle();
    for node in &cluster.nodes {
        let mut client = Client::of(&node.addr());
        let refused = put_result(&mut client, bytes(21), bytes(1));
        assert_eq!(refused, DataResult::Refused(Reason::KeyTooLong { max: 20 }));
    }
}

#[test]
fn a_store_says_at_once_what_is_over_a_limit_and_goes_on() {
    let cluster = Cluster::new(1, 1);
    for routing in [Routing::Forwarder, Routing::Direct, Routing::Fastest] {
        let options = StoreOptions { routing, ..cluster.store().options().clone() };
        let mut store = Store::open(options).unwrap();
        for (key, value) in
            [(0, 1), (1025, 1), (100_000, 1), (2 << 20, 1), (10, (1 << 20) + 1), (10, 3 << 20), (10, 9 << 20)]
        {
            let error = store.put(bytes(key), bytes(value)).unwrap_err();
            assert_eq!(error.kind, ErrorKind::Usage, "{routing:?} {key} {value}: {error}");
        }
        store.put("key", "value").unwrap();
    }
}

#[test]
fn a_keyspace_that_cannot_be_is_refused_by_every_call_that_names_it() {
    let cluster = Cluster::new(1, 1);
    let contact = cluster.nodes[0].addr();
    for name in ["none".to_owned(), "x".repeat(64), "x".repeat(65), "x".repeat(1000)] {
        let mut store = cluster.store_in(&name, 0);
        assert_eq!(store.get("key").unwrap_err().reason, Some(Reason::UnknownKeyspace), "{name}");
        assert_eq!(store.put("key", "value").unwrap_err().reason, Some(Reason::UnknownKeyspace), "{name}");
        let dump = ClientRequest::Dump { keyspace: name.clone(), after: None };
        let error = store.ask(Target::Addr(contact.clone()), dump).unwrap_err();
        assert_eq!(error.kind, ErrorKind::Refused, "{name}: {error}");
    }
    let settings = KeyspaceSettings::majority(1);
    for name in [String::new(), "a name".to_owned(), "x".repeat(65), "x".repeat(1000)] {
        let create = ClientRequest::CreateKeyspace { name: name.clone(), settings };
        let error = cluster.store().ask(Target::Manager, create).unwrap_err();
        assert_eq!(error.kind, ErrorKind::Refused, "{name}: {error}");
    }
}

#[test]
fn the_manager_sends_whoever_asks_it_for_data_to_a_node() {
    let cluster = Cluster::new(1, 1);
    let mut client = Client::of(&cluster.manager.addr());
    let reply = client.data(DataRequest::Get { terms: terms("", "key") });
    assert_eq!(reply.result, DataResult::Refused(Reason::NotOnDataPath));
    let mut node = Client::of(&cluster.nodes[0].addr());
    let dump = ClientRequest::Dump { keyspace: "none".to_owned(), after: None };
    for client in [&mut client, &mut node] {
        let reply = client.ask(&dump).unwrap();
        assert!(matches!(reply, ClientReply::Error(_)), "{reply:?}");
    }
}
