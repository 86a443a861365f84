//! Real sockets on loopback. Ports come from the kernel; waits are for conditions.

use super::*;
use crate::limits::REPLY_BYTES_HIGH;
use crate::types::{ClientId, ClusterId, Incarnation, NodeId};
use crate::wire::codec::{DecodeError, Writer};
use crate::wire::frame::{Decoder, write_frame};
use crate::wire::hello::{RefusalCause, Refused, Role, Server};
use bytes::Bytes;
use std::io::{Read, Write};
use std::net::TcpStream as Plain;

const CLUSTER: ClusterId = ClusterId(7);
const PATIENCE: Duration = Duration::from_secs(20);

/// Any bytes, as a message.
#[derive(Clone, PartialEq, Debug)]
struct Blob(Bytes);

impl Message for Blob {
    fn kind(&self) -> u8 {
        0xee
    }
    fn encode(&self, out: &mut Writer) {
        out.value(&self.0);
    }
    fn decode(_kind: u8, body: Bytes) -> Result<Self, DecodeError> {
        Ok(Self(body.slice(4..)))
    }
}

fn blob(bytes: usize) -> Blob {
    Blob((0..bytes).map(|at| (at % 251) as u8).collect())
}

/// A `Net` and everything that has happened on it.
struct Side {
    net: Net,
    seen: Vec<NetEvent>,
}

impl Side {
    fn new() -> Self {
        Self { net: Net::new().unwrap(), seen: Vec::new() }
    }

    fn listener() -> (Self, SocketAddr) {
        let mut side = Self::new();
        side.net.set_identity(Identity {
            cluster_id: CLUSTER,
            server: Server::Node(NodeId(1)),
            incarnation: Incarnation(1),
        });
        let addr = side.net.listen("127.0.0.1:0".parse().unwrap()).unwrap();
        (side, addr)
    }

    fn turn(&mut self) {
        self.net.poll(Some(Duration::from_millis(1)), &mut self.seen).unwrap();
        self.net.flush();
    }

    fn opened(&self) -> Vec<ConnId> {
        self.seen
            .iter()
            .filter_map(|event| match event {
                NetEvent::Opened { conn, .. } | NetEvent::Welcomed { conn, .. } => Some(*conn),
                NetEvent::Connected { .. }
                | NetEvent::Frame { .. }
                | NetEvent::Closed { .. }
                | NetEvent::Woken => None,
            })
            .collect()
    }

    fn frames(&self) -> Vec<&Frame> {
        self.seen
            .iter()
            .filter_map(|event| match event {
                NetEvent::Frame { frame, .. } => Some(frame),
                NetEvent::Opened { .. }
                | NetEvent::Connected { .. }
                | NetEvent::Welcomed { .. }
                | NetEvent::Closed { .. }
                | NetEvent::Woken => None,
            })
            .collect()
    }

    fn closed(&self) -> Vec<(ConnId, &str)> {
        self.seen
            .iter()
            .filter_map(|event| match event {
                NetEvent::Closed { conn, why } => Some((*conn, why.as_str())),
                NetEvent::Opened { .. }
                | NetEvent::Connected { .. }
                | NetEvent::Welcomed { .. }
                | NetEvent::Frame { .. }
                | NetEvent::Woken => None,
            })
            .collect()
    }
}

fn client_hello() -> Hello {
    Hello::new(Role::Client(ClientId(9)), ClusterId(0), Incarnation(0))
}

/// Turns both sides until the condition holds.
fn until(a: &mut Side, b: &mut Side, what: &str, mut done: impl FnMut(&mut Side, &mut Side) -> bool) {
    let start = Instant::now();
    while !done(a, b) {
        assert!(start.elapsed() < PATIENCE, "waited too long until {what}");
        a.turn();
        b.turn();
    }
}

/// A listener and a client of it, both open.
fn pair() -> (Side, Side, ConnId, ConnId) {
    let (mut server, addr) = Side::listener();
    let mut client = Side::new();
    let dialed = client.net.dial(&addr.to_string(), client_hello());
    until(&mut server, &mut client, "both are open", |server, client| {
        server.opened().len() == 1 && client.opened().len() == 1
    });
    let accepted = server.opened()[0];
    assert_eq!(client.opened(), [dialed]);
    (server, client, accepted, dialed)
}

/// Turns one side until a plain socket has been closed by it; what the socket read till then.
fn read_to_end(side: &mut Side, socket: &mut Plain) -> Vec<u8> {
    socket.set_nonblocking(true).unwrap();
    let (start, mut read) = (Instant::now(), Vec::new());
    let mut space = [0; 4096];
    loop {
        assert!(start.elapsed() < PATIENCE, "the connection was not closed");
        side.turn();
        match socket.read(&mut space) {
            Ok(0) => return read,
            Ok(count) => read.extend_from_slice(&space[..count]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(_) => return read,
        }
    }
}

fn frame_bytes(message: &impl Message) -> Bytes {
    let mut writer = Writer::default();
    write_frame(&mut writer, RequestId(0), message);
    writer.into_bytes()
}

fn opening_in(bytes: &[u8]) -> Opening {
    let mut decoder = Decoder::default();
    decoder.extend(bytes);
    let frame = decoder.next_frame(1024).unwrap().unwrap();
    Opening::decode(frame.kind, frame.body).unwrap()
}

/// Nothing a stranger did may have reached the loop's owner or be left behind.
fn assert_untouched(side: &Side) {
    assert!(side.seen.is_empty(), "{:?}", side.seen);
    assert_eq!((side.net.conns.len(), side.net.accepted), (0, 0));
}

#[test]
fn frames_go_both_ways_in_order() {
    let (mut server, mut client, accepted, dialed) = pair();
    for at in 0..1000 {
        assert!(client.net.send(dialed, RequestId(at), &blob(at as usize)));
        assert!(server.net.send(accepted, RequestId(at), &blob(100)));
    }
    until(&mut server, &mut client, "all came", |server, client| {
        server.frames().len() == 1000 && client.frames().len() == 1000
    });
    for (at, frame) in server.frames().into_iter().enumerate() {
        assert_eq!(frame.request, RequestId(at as u64));
        assert_eq!(Blob::decode(frame.kind, frame.body.clone()).unwrap(), blob(at));
    }
    assert_eq!(server.net.queued(accepted) + client.net.queued(dialed), 0);
}

#[test]
fn a_large_frame_arrives_whole_in_many_turns() {
    let (mut server, mut client, _, dialed) = pair();
    let large = blob(1 << 20);
    client.net.send(dialed, RequestId(1), &large);
    client.net.send(dialed, RequestId(2), &blob(3));
    until(&mut server, &mut client, "both came", |server, _| server.frames().len() == 2);
    assert_eq!(Blob::decode(0xee, server.frames()[0].body.clone()).unwrap(), large);
}

#[test]
fn a_connection_gives_out_no_more_than_its_share_each_turn_and_forgets_nothing() {
    let (mut server, mut client, _, dialed) = pair();
    for at in 0..2000 {
        client.net.send(dialed, RequestId(at), &blob(1));
    }
    client.net.flush();
    let (start, mut turns) = (Instant::now(), 0);
    while server.frames().len() < 2000 {
        assert!(start.elapsed() < PATIENCE);
        let before = server.frames().len();
        // With patience: what was left over must bring the poll back by itself.
        server.net.poll(Some(PATIENCE), &mut server.seen).unwrap();
        assert!(server.frames().len() - before <= REQUESTS_PER_TURN);
        turns += 1;
    }
    assert!(turns >= 2000 / REQUESTS_PER_TURN);
}

const REQUESTS_PER_TURN: usize = crate::limits::REQUESTS_PER_CONNECTION_PER_TURN;

#[test]
fn a_client_that_does_not_read_its_replies_is_not_read_until_it_does() {
    let (mut server, mut client, accepted, dialed) = pair();
    // The client does not turn: its replies fill the socket, then the server's queue.
    while server.net.queued(accepted) <= REPLY_BYTES_HIGH {
        server.net.send(accepted, RequestId(0), &blob(1 << 18));
        server.turn();
    }
    client.net.send(dialed, RequestId(5), &blob(10));
    client.net.flush();
    for _ in 0..50 {
        server.turn();
    }
    assert!(server.frames().is_empty(), "read although its replies wait");
    until(&mut server, &mut client, "the request came once the replies drained", |server, _| {
        server.frames().len() == 1
    });
    let replies = client.frames().len();
    assert!(replies > 0);
}

#[test]
fn answers_to_our_own_requests_are_read_however_much_we_have_queued() {
    let (mut server, mut client, accepted, dialed) = pair();
    while client.net.queued(dialed) <= REPLY_BYTES_HIGH {
        client.net.send(dialed, RequestId(0), &blob(1 << 18));
        client.turn();
    }
    server.net.send(accepted, RequestId(1), &blob(10));
    server.net.flush();
    let start = Instant::now();
    while client.frames().is_empty() {
        assert!(start.elapsed() < PATIENCE);
        client.turn();
    }
}

#[test]
fn garbage_on_the_port_closes_that_connection_alone() {
    let (mut server, addr) = Side::listener();
    let mut socket = Plain::connect(addr).unwrap();
    socket.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    assert!(read_to_end(&mut server, &mut socket).is_empty());
    assert_untouched(&server);
}

#[test]
fn a_frame_of_4_gib_is_refused_by_its_header_and_takes_no_memory() {
    let (mut server, mut client, accepted, dialed) = pair();
    let mut header = frame_bytes(&blob(0))[..16].to_vec();
    header[..4].copy_from_slice(&u32::MAX.to_le_bytes());
    let sum = crc32c::crc32c(&header);
    header.extend_from_slice(&sum.to_le_bytes());
    header.extend_from_slice(&[0; 4]);
    lookup(&mut client.net.conns, dialed).unwrap().socket.write_all(&header).unwrap();
    until(&mut server, &mut client, "it is closed", |server, _| !server.closed().is_empty());
    let closed = server.closed();
    assert_eq!(closed[0].0, accepted);
    assert!(closed[0].1.contains("4294967295"), "{}", closed[0].1);
    assert_eq!(server.net.conns.len(), 0);
}

#[test]
fn a_client_of_another_version_is_told_so_and_let_go() {
    let (mut server, addr) = Side::listener();
    let mut socket = Plain::connect(addr).unwrap();
    let hello = Hello { versions: (900, 901), ..client_hello() };
    socket.write_all(&frame_bytes(&Opening::Hello(hello))).unwrap();
    let answer = read_to_end(&mut server, &mut socket);
    let Opening::Refused(Refused { cause, text }) = opening_in(&answer) else { panic!() };
    assert_eq!(cause, RefusalCause::Version);
    assert!(text.contains("900..901"), "{text}");
    assert_untouched(&server);
}

#[test]
fn a_node_of_another_cluster_is_refused_and_hears_why() {
    let (mut server, addr) = Side::listener();
    let mut peer = Side::new();
    let hello = Hello::new(Role::Peer(NodeId(2)), ClusterId(8), Incarnation(1));
    let dialed = peer.net.dial(&addr.to_string(), hello);
    until(&mut server, &mut peer, "it is refused", |_, peer| !peer.closed().is_empty());
    assert_eq!(peer.closed()[0].0, dialed);
    assert!(peer.closed()[0].1.contains("cluster"), "{}", peer.closed()[0].1);
    assert_untouched(&server);
}

#[test]
fn a_listener_of_another_cluster_or_version_is_not_trusted_by_the_dialer() {
    for (version, cluster_id) in [(1, ClusterId(8)), (2, CLUSTER)] {
        let plain = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let mut client = Side::new();
        let hello = Hello { cluster_id: CLUSTER, ..client_hello() };
        client.net.dial(&plain.local_addr().unwrap().to_string(), hello);
        let (mut socket, _) = plain.accept().unwrap();
        let welcome = Welcome {
            version,
            cluster_id,
            server: Server::Node(NodeId(1)),
            incarnation: Incarnation(1),
            capabilities: 0,
            nonce: 0,
        };
        socket.write_all(&frame_bytes(&Opening::Welcome(welcome))).unwrap();
        read_to_end(&mut client, &mut socket);
        assert_eq!(client.closed().len(), 1);
        assert!(client.opened().is_empty());
    }
}

#[test]
fn who_speaks_another_protocol_is_let_go_at_its_first_words() {
    let (mut server, addr) = Side::listener();
    server.net.hello_timeout = PATIENCE * 10;
    let mut browser = Plain::connect(addr).unwrap();
    browser.write_all(b"GET / HTTP/1.0\r\n\r\n").unwrap();
    assert!(read_to_end(&mut server, &mut browser).is_empty());
    assert_untouched(&server);
}

#[test]
fn who_says_nothing_is_let_go_on_both_sides() {
    let (mut server, addr) = Side::listener();
    server.net.hello_timeout = Duration::from_millis(30);
    let mut silent = Plain::connect(addr).unwrap();
    assert!(read_to_end(&mut server, &mut silent).is_empty());
    assert_untouched(&server);

    let mute = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut client = Side::new();
    client.net.hello_timeout = Duration::from_millis(30);
    let dialed = client.net.dial(&mute.local_addr().unwrap().to_string(), client_hello());
    // With patience: the poll must come back by itself.
    while client.closed().is_empty() {
        client.net.poll(Some(PATIENCE), &mut client.seen).unwrap();
    }
    assert_eq!(client.closed()[0].0, dialed);
}

#[test]
fn an_open_connection_may_be_silent_for_as_long_as_it_likes() {
    let (mut server, addr) = Side::listener();
    server.net.hello_timeout = Duration::from_millis(20);
    let mut client = Side::new();
    client.net.dial(&addr.to_string(), client_hello());
    until(&mut server, &mut client, "it is open", |server, _| !server.opened().is_empty());
    let start = Instant::now();
    while start.elapsed() < Duration::from_millis(60) {
        server.turn();
    }
    assert!(server.closed().is_empty());
}

#[test]
fn hellos_wait_until_the_listener_knows_who_it_is() {
    let mut server = Side::new();
    let addr = server.net.listen("127.0.0.1:0".parse().unwrap()).unwrap();
    let mut client = Side::new();
    client.net.dial(&addr.to_string(), client_hello());
    until(&mut server, &mut client, "the Hello is held", |server, _| {
        server.net.conns.iter().any(|(_, (_, conn))| matches!(conn.phase, Phase::Held { .. }))
    });
    assert!(server.seen.is_empty());
    let identity =
        Identity { cluster_id: CLUSTER, server: Server::Manager, incarnation: Incarnation::default() };
    server.net.set_identity(identity);
    until(&mut server, &mut client, "both are open", |server, client| {
        server.opened().len() == 1 && client.opened().len() == 1
    });
}

#[test]
fn many_connections_are_served_and_those_over_the_limit_are_told() {
    let (mut server, addr) = Side::listener();
    server.net.connections_max = 100;
    let mut clients = Side::new();
    let dialed: Vec<_> = (0..120).map(|_| clients.net.dial(&addr.to_string(), client_hello())).collect();
    until(&mut server, &mut clients, "each has its answer", |_, clients| {
        clients.opened().len() + clients.closed().len() == 120
    });
    assert_eq!(clients.opened().len(), 100);
    assert!(clients.closed().iter().all(|(_, why)| why.contains("limit")), "{:?}", clients.closed());
    for conn in clients.opened() {
        assert!(dialed.contains(&conn));
        clients.net.send(conn, RequestId(conn.0), &blob(10));
    }
    until(&mut server, &mut clients, "each was heard", |server, _| server.frames().len() == 100);
    for conn in clients.opened() {
        clients.net.close(conn);
    }
    until(&mut server, &mut clients, "all are gone", |server, _| server.closed().len() == 100);
    assert_eq!((server.net.accepted, server.net.conns.len()), (0, 0));
}

#[test]
fn a_slot_used_again_is_another_connection() {
    let (mut server, mut client, accepted, dialed) = pair();
    client.net.close(dialed);
    until(&mut server, &mut client, "it is gone", |server, _| server.closed().len() == 1);
    assert!(client.closed().is_empty(), "its closer is not told");
    let addr = server.net.listeners[0].socket.local_addr().unwrap();
    let again = client.net.dial(&addr.to_string(), client_hello());
    until(&mut server, &mut client, "the second is open", |server, _| server.opened().len() == 2);
    let second = server.opened()[1];
    assert_eq!(slot(second), slot(accepted));
    assert_ne!(second, accepted);
    assert_eq!(slot(again), slot(dialed));
    assert!(!server.net.send(accepted, RequestId(0), &blob(1)), "a send to the old one finds nothing");
    server.net.close(accepted);
    assert!(server.net.send(second, RequestId(0), &blob(1)));
    until(&mut server, &mut client, "the second still works", |_, client| client.frames().len() == 1);
}

#[test]
fn what_was_queued_before_a_close_still_arrives() {
    let (mut server, mut client, accepted, _) = pair();
    server.net.send(accepted, RequestId(3), &blob(5000));
    server.net.close(accepted);
    assert!(!server.net.send(accepted, RequestId(4), &blob(1)));
    until(&mut server, &mut client, "it arrived, then the end", |_, client| {
        client.frames().len() == 1 && client.closed().len() == 1
    });
    assert!(server.closed().is_empty());
}

#[test]
fn a_dial_that_fails_is_told_once_and_another_address_of_the_name_is_tried() {
    let mut client = Side::new();
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let refused = client.net.dial(&free.to_string(), client_hello());
    let nonsense = client.net.dial("no port here", client_hello());
    let forgotten = client.net.dial("nor here", client_hello());
    client.net.close(forgotten);
    let start = Instant::now();
    while client.closed().len() < 2 {
        assert!(start.elapsed() < PATIENCE);
        client.turn();
    }
    let told: Vec<_> = client.closed().iter().map(|(conn, _)| *conn).collect();
    assert!(told.contains(&refused) && told.contains(&nonsense) && told.len() == 2);

    let (mut server, addr) = Side::listener();
    let mut others = VecDeque::from([free, addr]);
    let (socket, peer) = connect_first(&mut others).unwrap();
    let mut conn = Conn::new(socket, peer, Phase::Connecting { hello: client_hello(), others });
    conn.queue(RequestId(0), &Opening::Hello(client_hello()));
    client.net.add(conn).unwrap();
    until(&mut server, &mut client, "the second address answers", |_, client| client.opened().len() == 1);
}

#[test]
fn another_thread_wakes_the_poll() {
    let mut side = Side::new();
    let waker = side.net.waker();
    let thread = std::thread::spawn(move || waker.wake().unwrap());
    side.net.poll(None, &mut side.seen).unwrap();
    thread.join().unwrap();
    assert!(matches!(side.seen[..], [NetEvent::Woken]));
}
