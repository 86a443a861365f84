//! The blocking client: one call at a time, or many at once over the same connections.
//!
//! [`Store`] drives the [`Client`] machine with real sockets, on the caller's own thread: nothing
//! happens between calls, and no thread is kept. It decides nothing; see [`crate::client`] for
//! how requests are routed and retried.
//!
//! # Example
//! ```no_run
//! use gtstore::client::Store;
//!
//! fn main() -> Result<(), gtstore::client::Error> {
//!     let mut store = Store::connect("127.0.0.1:7400")?;
//!     store.put("cart:ann", "apples")?;
//!     let cart = store.get("cart:ann")?;
//!     assert_eq!(cart.value().map(|value| &value[..]), Some(&b"apples"[..]));
//!     // "This replaces what I saw": a write that came between is kept as concurrent, not lost.
//!     store.put_with("cart:ann", "apples, pears", &cart.context)?;
//!     store.delete("cart:ann")?;
//!     store.close()
//! }
//! ```

use super::clock::Clock;
use super::net::{Net, NetEvent};
use super::random;
use crate::client::{
    Answer, Call, CallId, Client, Context, Error, ErrorKind, Input, Item, Options, Outcome, Output,
    Provenance, Routing, ServerId, Target, Version,
};
use crate::machine::Machine;
use crate::types::{ClientId, ClusterId, ConnId, Incarnation, Key};
use crate::wire::Message;
use crate::wire::client::{ClientReply, ClientRequest, ContactInfo};
use crate::wire::hello::{Hello, Role};
use bytes::Bytes;
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

/// Calls that [`Store::get_many`] and [`Store::put_many`] keep in flight: enough to fill a
/// node's turn, few enough to be fair to others.
pub const IN_FLIGHT: usize = 256;
/// Bytes of keys and values they keep in flight.
pub const IN_FLIGHT_BYTES: usize = 16 << 20;

/// How a [`Store`] is opened.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct StoreOptions {
    /// Addresses to begin with, `HOST:PORT`: managers, storage nodes, or both.
    pub addrs: Vec<String>,
    /// How requests find their way.
    pub routing: Routing,
    /// Milliseconds a call is worth; 0 for [`REQUEST_TTL_MS`](crate::limits::REQUEST_TTL_MS).
    pub timeout_ms: u32,
    /// Keyspace by name; empty for `default`.
    pub keyspace: String,
    /// Answers a read needs; 0 for the keyspace's.
    pub r: u8,
    /// Acknowledgements a write needs; 0 for the keyspace's.
    pub w: u8,
    /// Owners alone count toward R and W, no fallbacks that stand in for those that are away.
    pub strict: bool,
    /// How long what is put is to be visible, in milliseconds; none for good.
    pub ttl_ms: Option<u64>,
}

/// A connection to a cluster.
///
/// Keys are anything with bytes to look at (`"text"`, `&String`, `&[u8]`) and are copied: they are
/// small. Values become [`Bytes`]: a `Vec<u8>`, `String` or `Bytes` is taken over as it is, however
/// large.
#[derive(Debug)]
pub struct Store {
    options: StoreOptions,
    id: ClientId,
    client: Client,
    net: Net,
    clock: Clock,
    conns: BTreeMap<ServerId, ConnId>,
    servers: BTreeMap<ConnId, ServerId>,
    /// Known from the first welcome on: later dials refuse another cluster.
    cluster_id: ClusterId,
    /// Milliseconds the next calls are worth; 0 for the options'.
    ttl_ms: u32,
    last_call: u64,
    /// Calls whose outcome is not there yet.
    in_flight: usize,
    done: VecDeque<(CallId, Outcome)>,
    events: Vec<NetEvent>,
    outputs: Vec<Output>,
}

/// What is read of a key.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Entry {
    /// None: there is no such key. One: its value. Several: concurrent ones, in a `siblings`
    /// keyspace, in the order of their stamps; write with the context to settle them.
    pub values: Vec<Version>,
    /// For the next write of this key.
    pub context: Context,
    /// Who answered, and how many replicas stood behind it.
    pub by: Provenance,
}

/// What came of a write.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Written {
    /// Whether something was written; false for the delete of a key that was not there.
    pub written: bool,
    /// For the next write of this key.
    pub context: Context,
    /// Who answered, and how many replicas stood behind it.
    pub by: Provenance,
}

impl StoreOptions {
    /// The usual options, for `HOST:PORT[,HOST:PORT...]`.
    #[must_use]
    pub fn new(addrs: &str) -> Self {
        let addrs = addrs.split(',').map(str::trim).filter(|addr| !addr.is_empty());
        Self { addrs: addrs.map(str::to_owned).collect(), ..Self::default() }
    }
}

impl Entry {
    /// The value; of several concurrent ones the one written last, as far as clocks can tell.
    #[must_use]
    pub fn value(&self) -> Option<&Bytes> {
        self.values.last().map(|version| &version.value)
    }
}

impl Store {
    /// Finds a cluster by `HOST:PORT[,HOST:PORT...]`, of managers, storage nodes, or both.
    ///
    /// # Errors
    /// None of them answers.
    pub fn connect(addrs: &str) -> Result<Self, Error> {
        let mut store = Self::open(StoreOptions::new(addrs))?;
        store.contact()?;
        Ok(store)
    }

    /// Makes a store without talking to anybody yet: the first call does.
    ///
    /// # Errors
    /// No address was given, or the system has no poll or random source to give.
    pub fn open(options: StoreOptions) -> Result<Self, Error> {
        if options.addrs.is_empty() {
            let text = "no address given: name a manager or storage node as HOST:PORT";
            return Err(Error::new(ErrorKind::Usage, text));
        }
        let system =
            |error: std::io::Error| Error::new(ErrorKind::Refused, format!("cannot make a client: {error}"));
        let id = ClientId(random::id().map_err(system)?);
        let seed = u64::try_from(id.0 & u128::from(u64::MAX)).unwrap_or(0);
        let client = Client::new(Options {
            id,
            seeds: options.addrs.clone(),
            routing: options.routing,
            ttl_ms: options.timeout_ms,
            seed,
        });
        Ok(Self {
            options,
            id,
            client,
            net: Net::new().map_err(system)?,
            clock: Clock::start(),
            conns: BTreeMap::new(),
            servers: BTreeMap::new(),
            cluster_id: ClusterId(0),
            ttl_ms: 0,
            last_call: 0,
            in_flight: 0,
            done: VecDeque::new(),
            events: Vec::new(),
            outputs: Vec::new(),
        })
    }

    /// Reads a key. One that is not there has no values; that is no error.
    ///
    /// # Errors
    /// Too few owners answered, or none in time.
    pub fn get(&mut self, key: impl AsRef<[u8]>) -> Result<Entry, Error> {
        let request = Call::Get { item: self.item(key, self.options.r) };
        self.call(request).and_then(entry)
    }

    /// Writes a value. In an `lww` keyspace it replaces what is there; in a `siblings` keyspace
    /// it stands beside what is there.
    ///
    /// # Errors
    /// [`ErrorKind`] says whether it was provably not applied or may have been.
    pub fn put(&mut self, key: impl AsRef<[u8]>, value: impl Into<Bytes>) -> Result<Written, Error> {
        let request = Call::Put { item: self.item(key, self.options.w), value: value.into(), context: None };
        self.call(request).and_then(written)
    }

    /// Writes a value that replaces just what was seen: the context is an [`Entry`]'s, or that of
    /// an earlier write.
    ///
    /// # Errors
    /// As for [`put`](Self::put).
    pub fn put_with(
        &mut self,
        key: impl AsRef<[u8]>,
        value: impl Into<Bytes>,
        context: &Context,
    ) -> Result<Written, Error> {
        let context = Some(context.clone());
        let request = Call::Put { item: self.item(key, self.options.w), value: value.into(), context };
        self.call(request).and_then(written)
    }

    /// Deletes a key, after reading it: `written` says whether there was anything to delete.
    ///
    /// # Errors
    /// As for [`put`](Self::put).
    pub fn delete(&mut self, key: impl AsRef<[u8]>) -> Result<Written, Error> {
        let request = Call::Delete { item: self.item(key, self.options.w), context: None };
        self.call(request).and_then(written)
    }

    /// Deletes just what was seen.
    ///
    /// # Errors
    /// As for [`put`](Self::put).
    pub fn delete_with(&mut self, key: impl AsRef<[u8]>, context: &Context) -> Result<Written, Error> {
        let request = Call::Delete { item: self.item(key, self.options.w), context: Some(context.clone()) };
        self.call(request).and_then(written)
    }

    /// Reads many keys at once; the results are in their order.
    pub fn get_many<K: AsRef<[u8]>>(
        &mut self,
        keys: impl IntoIterator<Item = K>,
    ) -> Vec<Result<Entry, Error>> {
        let r = self.options.r;
        self.many(keys, |store, key| Call::Get { item: store.item(key, r) }, entry)
    }

    /// Writes many pairs at once; the results are in their order. Of two writes of one key in one
    /// batch either may be the later one.
    pub fn put_many<K: AsRef<[u8]>, V: Into<Bytes>>(
        &mut self,
        pairs: impl IntoIterator<Item = (K, V)>,
    ) -> Vec<Result<Written, Error>> {
        let w = self.options.w;
        let call = |store: &Self, (key, value): (K, V)| Call::Put {
            item: store.item(key, w),
            value: value.into(),
            context: None,
        };
        self.many(pairs, call, written)
    }

    /// Waits for calls still in flight, then closes all connections.
    ///
    /// # Errors
    /// A submitted call that nobody has waited for failed; the first such error.
    pub fn close(mut self) -> Result<(), Error> {
        let mut first = Ok(());
        while let Some((_, outcome)) = self.next_done()? {
            if let (Ok(()), Err(error)) = (&first, outcome) {
                first = Err(error);
            }
        }
        for &conn in self.servers.keys() {
            self.net.close(conn);
        }
        self.net.flush();
        first
    }

    /// The nodes that the cluster names as contacts, the preferred one first.
    ///
    /// # Errors
    /// Nobody answers.
    pub fn contact(&mut self) -> Result<ContactInfo, Error> {
        match self.ask(Target::Any, ClientRequest::Contact)? {
            ClientReply::Contact(info) => Ok(info),
            other => Err(unexpected(&other)),
        }
    }

    /// Asks something that is not about one key.
    ///
    /// # Errors
    /// Nobody answers, or it cannot be done.
    pub fn ask(&mut self, to: Target, request: ClientRequest) -> Result<ClientReply, Error> {
        match self.call(Call::Ask { to, request })? {
            Answer::Told(reply) => Ok(reply),
            Answer::Stored { .. } | Answer::Found { .. } | Answer::Missing { .. } => {
                Err(Error::new(ErrorKind::Refused, "the answer fits no question"))
            }
        }
    }

    /// A key in the store's keyspace and on its terms, for [`call`](Self::call), where they can be
    /// changed; `quorum` is R or W, 0 for the keyspace's.
    pub fn item(&self, key: impl AsRef<[u8]>, quorum: u8) -> Item {
        let StoreOptions { strict, ttl_ms, .. } = self.options;
        let key = Key::copy_from_slice(key.as_ref());
        Item { quorum, strict, ttl_ms, ..Item::new(&self.options.keyspace, key) }
    }

    /// Makes what `work` calls worth this many milliseconds each, instead of the options' time.
    pub(crate) fn within_ms<T>(&mut self, ms: u32, work: impl FnOnce(&mut Self) -> T) -> T {
        let before = std::mem::replace(&mut self.ttl_ms, ms.max(1));
        let done = work(self);
        self.ttl_ms = before;
        done
    }

    /// How the store was opened.
    #[must_use]
    pub fn options(&self) -> &StoreOptions {
        &self.options
    }

    /// Makes a call and waits for its outcome, whatever else is in flight.
    ///
    /// # Errors
    /// The call's own.
    pub fn call(&mut self, request: Call) -> Outcome {
        let call = self.submit(request);
        loop {
            if let Some(at) = self.done.iter().position(|done| done.0 == call)
                && let Some((_, outcome)) = self.done.remove(at)
            {
                return outcome;
            }
            self.turn()?;
        }
    }

    /// Begins a call without waiting for it. Ask for its outcome with
    /// [`next_done`](Self::next_done).
    pub fn submit(&mut self, request: Call) -> CallId {
        self.last_call += 1;
        self.in_flight += 1;
        let call = CallId(self.last_call);
        self.tell(Input::Call { call, request, ttl_ms: self.ttl_ms });
        call
    }

    /// Waits for the next outcome of a submitted call; `None` when none is in flight.
    ///
    /// # Errors
    /// The sockets themselves failed.
    pub fn next_done(&mut self) -> Result<Option<(CallId, Outcome)>, Error> {
        while self.done.is_empty() {
            if self.in_flight == 0 {
                return Ok(None);
            }
            self.turn()?;
        }
        Ok(self.done.pop_front())
    }

    /// Makes many calls, some of them at a time.
    fn many<T, R>(
        &mut self,
        things: impl IntoIterator<Item = T>,
        call_of: impl Fn(&Self, T) -> Call,
        result_of: impl Fn(Answer) -> Result<R, Error>,
    ) -> Vec<Result<R, Error>> {
        let mut results = Vec::new();
        let mut waiting: BTreeMap<CallId, (usize, usize)> = BTreeMap::new();
        let mut bytes = 0;
        let mut things = things.into_iter().fuse();
        loop {
            if waiting.len() < IN_FLIGHT
                && bytes < IN_FLIGHT_BYTES
                && let Some(thing) = things.next()
            {
                let request = call_of(self, thing);
                let size = request.payload_bytes();
                bytes += size;
                waiting.insert(self.submit(request), (results.len(), size));
                results.push(Err(Error::new(ErrorKind::Unknown, "not answered")));
                continue;
            }
            if waiting.is_empty() {
                return results;
            }
            match self.next_done() {
                Ok(Some((call, outcome))) => {
                    if let Some((at, size)) = waiting.remove(&call) {
                        bytes -= size;
                        if let Some(result) = results.get_mut(at) {
                            *result = outcome.and_then(&result_of);
                        }
                    }
                }
                Ok(None) => return results,
                Err(error) => {
                    for (at, _) in waiting.into_values() {
                        if let Some(result) = results.get_mut(at) {
                            *result = Err(error.clone());
                        }
                    }
                    return results;
                }
            }
        }
    }

    /// One turn of the loop: send, wait, hear, and tick if it is time.
    fn turn(&mut self) -> Result<(), Error> {
        self.net.flush();
        let now = self.clock.now();
        let wait_us = self.client.deadline().map(|at| at.micros_since(now.mono));
        let mut events = std::mem::take(&mut self.events);
        self.net.poll(wait_us.map(Duration::from_micros), &mut events).map_err(|error| {
            Error::new(ErrorKind::Unknown, format!("waiting for sockets failed: {error}; open a new client"))
        })?;
        for event in events.drain(..) {
            self.hear(event);
        }
        self.events = events;
        let now = self.clock.now();
        if self.client.deadline().is_some_and(|at| at <= now.mono) {
            self.tell(Input::Tick);
        }
        Ok(())
    }

    fn hear(&mut self, event: NetEvent) {
        match event {
            NetEvent::Connected { conn } => {
                let Some(&server) = self.servers.get(&conn) else { return };
                self.tell(Input::Connected { server });
            }
            NetEvent::Welcomed { conn, welcome } => {
                let Some(&server) = self.servers.get(&conn) else { return };
                if self.cluster_id.0 == 0 {
                    self.cluster_id = welcome.cluster_id;
                }
                self.tell(Input::Welcomed { server, by: welcome.server });
            }
            NetEvent::Frame { conn, frame } => {
                let Some(&server) = self.servers.get(&conn) else { return };
                match ClientReply::decode(frame.kind, frame.body) {
                    Ok(message) => self.tell(Input::Reply { server, request: frame.request, message }),
                    Err(error) => {
                        self.net.reject(conn, &error);
                        self.forget(server);
                        self.tell(Input::Closed { server, why: error.to_string() });
                    }
                }
            }
            NetEvent::Closed { conn, why } => {
                let Some(&server) = self.servers.get(&conn) else { return };
                self.forget(server);
                self.tell(Input::Closed { server, why });
            }
            // A client listens nowhere and has no threads.
            NetEvent::Opened { .. } | NetEvent::Woken => {}
        }
    }

    fn tell(&mut self, input: Input) {
        let mut outputs = std::mem::take(&mut self.outputs);
        self.client.handle(self.clock.now(), input, &mut outputs);
        for output in outputs.drain(..) {
            match output {
                Output::Dial { server, addr } => self.dial(server, &addr),
                Output::Hangup { server } => {
                    if let Some(conn) = self.forget(server) {
                        self.net.close(conn);
                    }
                }
                Output::Send { server, request, message } => {
                    if let Some(&conn) = self.conns.get(&server) {
                        // One that is gone is told of by the next poll.
                        self.net.send(conn, request, &message);
                    }
                }
                Output::Done { call, outcome } => {
                    self.in_flight -= 1;
                    self.done.push_back((call, outcome));
                }
            }
        }
        self.outputs = outputs;
    }

    fn dial(&mut self, server: ServerId, addr: &str) {
        let hello = Hello::new(Role::Client(self.id), self.cluster_id, Incarnation(0));
        let conn = self.net.dial(addr, hello);
        self.conns.insert(server, conn);
        self.servers.insert(conn, server);
    }

    fn forget(&mut self, server: ServerId) -> Option<ConnId> {
        let conn = self.conns.remove(&server)?;
        self.servers.remove(&conn);
        Some(conn)
    }
}

/// What a read's answer says. Values are copied out of the receive buffer, which they would pin.
pub(crate) fn entry(answer: Answer) -> Result<Entry, Error> {
    match answer {
        Answer::Found { mut values, context, by } => {
            for version in &mut values {
                version.value = Bytes::copy_from_slice(&version.value);
            }
            values.sort_by_key(|version| (version.stamp, version.dot));
            Ok(Entry { values, context, by })
        }
        Answer::Missing { context, by } => Ok(Entry { values: Vec::new(), context, by }),
        Answer::Stored { .. } | Answer::Told(_) => {
            Err(Error::new(ErrorKind::Refused, "the server's answer is not one to a read"))
        }
    }
}

/// What a write's answer says.
pub(crate) fn written(answer: Answer) -> Result<Written, Error> {
    match answer {
        Answer::Stored { context, by } => Ok(Written { written: true, context, by }),
        Answer::Missing { context, by } => Ok(Written { written: false, context, by }),
        Answer::Found { .. } | Answer::Told(_) => {
            Err(Error::new(ErrorKind::Unknown, "the server's answer is not one to a write"))
        }
    }
}

/// The error of an answer to another question.
pub(crate) fn unexpected(reply: &ClientReply) -> Error {
    let what = match reply {
        ClientReply::Data(_) => "data",
        ClientReply::Contact(_) => "contacts",
        ClientReply::Table(_) | ClientReply::TableIsCurrent(_) => "a table",
        ClientReply::Status(_) => "a status",
        ClientReply::Dump { .. } => "a dump",
        ClientReply::Hints(_) => "hints",
        ClientReply::Repair(_) => "a repair",
        ClientReply::Plan(_) => "a plan",
        ClientReply::Transfers(_) => "transfers",
        ClientReply::FaultsSet => "that faults are set",
        ClientReply::KeyspaceCreated(_) => "a keyspace",
        ClientReply::Error(_) => "an error",
    };
    Error::new(ErrorKind::Refused, format!("the server answered with {what}, which was not asked for"))
}
