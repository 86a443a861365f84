//! A client of one server that speaks the wire protocol itself: no routing, no retries.

use super::{PATIENCE, wait_until};
use bytes::Bytes;
use gtstore::limits::REQUEST_TTL_MS;
use gtstore::shell::net::{Net, NetEvent};
use gtstore::shell::random;
use gtstore::types::{ClientId, ClusterId, ConnId, Incarnation, OpId, RequestId, Stamp};
use gtstore::version::{Content, Context};
use gtstore::wire::Message;
use gtstore::wire::client::{ClientReply, ClientRequest, DataReply, DataRequest, DataResult, Terms, Write};
use gtstore::wire::hello::{Hello, Role};
use gtstore::wire::peer::Worth;
use std::collections::VecDeque;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// A connection, and what was asked on it.
pub struct Client {
    /// Who it is.
    pub id: ClientId,
    net: Net,
    conn: ConnId,
    asked: u64,
    writes: u64,
    /// Answers not taken yet.
    came: VecDeque<(RequestId, ClientReply)>,
    /// Why the connection is gone, once it is.
    closed: Option<String>,
}

impl Client {
    /// A client of the server at this address.
    pub fn of(addr: &str) -> Self {
        let id = ClientId(random::id().unwrap());
        Self { id, ..Self::saying(addr, Hello::new(Role::Client(id), ClusterId(0), Incarnation(0))) }
    }

    /// One that says Hello in its own way.
    pub fn saying(addr: &str, hello: Hello) -> Self {
        let mut net = Net::new().unwrap();
        let conn = net.dial(addr, hello);
        Self { id: ClientId(0), net, conn, asked: 0, writes: 0, came: VecDeque::new(), closed: None }
    }

    /// Asks something without waiting for the answer.
    pub fn begin(&mut self, request: &ClientRequest) -> RequestId {
        self.asked += 1;
        self.net.send(self.conn, RequestId(self.asked), request);
        self.net.flush();
        RequestId(self.asked)
    }

    /// The next answer, whatever it answers.
    ///
    /// # Errors
    /// The connection was closed, or nothing came within [`PATIENCE`].
    pub fn next(&mut self) -> Result<(RequestId, ClientReply), String> {
        let (start, mut events) = (Instant::now(), Vec::new());
        loop {
            if let Some(answer) = self.came.pop_front() {
                return Ok(answer);
            }
            if let Some(why) = &self.closed {
                return Err(why.clone());
            }
            if start.elapsed() > PATIENCE {
                return Err("no answer".to_owned());
            }
            self.net.poll(Some(Duration::from_millis(20)), &mut events).unwrap();
            events.drain(..).for_each(|event| self.hear(event));
            self.net.flush();
        }
    }

    fn hear(&mut self, event: NetEvent) {
        match event {
            NetEvent::Frame { frame, .. } => {
                let reply = ClientReply::decode(frame.kind, frame.body).unwrap();
                self.came.push_back((frame.request, reply));
            }
            NetEvent::Closed { why, .. } => self.closed = Some(why),
            NetEvent::Opened { .. }
            | NetEvent::Connected { .. }
            | NetEvent::Welcomed { .. }
            | NetEvent::Woken => {}
        }
    }

    /// Asks and waits for the answer.
    ///
    /// # Errors
    /// As for [`next`](Self::next).
    pub fn ask(&mut self, request: &ClientRequest) -> Result<ClientReply, String> {
        let asked = self.begin(request);
        loop {
            let (request, reply) = self.next()?;
            if request == asked {
                return Ok(reply);
            }
        }
    }

    /// Asks for a read or write of a key.
    pub fn data(&mut self, request: DataRequest) -> DataReply {
        match self.ask(&worth(request)) {
            Ok(ClientReply::Data(reply)) => reply,
            other => panic!("{other:?}"),
        }
    }

    /// Asks again until the answer is no refusal: a cluster may take a moment to settle.
    fn insist(&mut self, request: &DataRequest) -> DataResult {
        wait_until("an answer that is no refusal", || match self.data(request.clone()).result {
            DataResult::Refused(_) => None,
            result @ (DataResult::Stored { .. } | DataResult::Found { .. } | DataResult::Missing { .. }) => {
                Some(result)
            }
        })
    }

    /// A write that was never made before.
    pub fn write(&mut self, value: &str, context: Option<Context>) -> Write {
        self.writes += 1;
        Write {
            content: Content::Value(Bytes::from(value.to_owned())),
            context,
            op: OpId { client: self.id, seq: self.writes },
            attempt: 0,
            stamp: Stamp::default(),
            ttl_ms: None,
        }
    }

    /// Writes a key of the default keyspace.
    pub fn put(&mut self, key: &str, value: &str) {
        let request = DataRequest::Put { terms: terms("", key), write: self.write(value, None) };
        let done = self.insist(&request);
        assert!(matches!(done, DataResult::Stored { .. }), "{done:?}");
    }

    /// Reads a key of the default keyspace.
    pub fn get(&mut self, key: &str) -> Option<String> {
        match self.insist(&DataRequest::Get { terms: terms("", key) }) {
            DataResult::Found { values, .. } => Some(String::from_utf8(values[0].value.to_vec()).unwrap()),
            DataResult::Missing { .. } => None,
            other @ (DataResult::Stored { .. } | DataResult::Refused(_)) => panic!("{other:?}"),
        }
    }
}

/// A request, with the usual time to work on it, counted from now.
pub fn worth(request: DataRequest) -> ClientRequest {
    static START: OnceLock<Instant> = OnceLock::new();
    let sent_us = START.get_or_init(Instant::now).elapsed().as_micros().try_into().unwrap();
    ClientRequest::Data { worth: Worth { ttl_ms: REQUEST_TTL_MS, sent_us }, request }
}

/// A key of a keyspace (empty for the default one), on the keyspace's own terms.
pub fn terms(keyspace: &str, key: &str) -> Terms {
    Terms { keyspace: keyspace.to_owned(), key: Bytes::from(key.to_owned()), ..Terms::default() }
}
