//! The client driven by hand: inputs are told, the clock jumps, outputs are looked at.

use super::*;
use crate::ring::{Member, MemberState, Sector, Slot, Table};
use crate::types::{ClusterId, DiskUuid, Epoch, NodeId, WallMs};
use crate::version::VersionVector;
use crate::wire::client::{ClientReply, ContactInfo, DataReply, DataRequest, DataResult};
use crate::wire::encode_table;

const SECOND: u64 = 1_000_000;

/// A client and the world around it, with every address reachable until it is said not to be.
struct World {
    client: Client,
    now: Now,
    addrs: BTreeMap<ServerId, String>,
    /// How often each address was dialed, and anybody asked for contacts.
    dials: BTreeMap<String, usize>,
    contacts_asked: usize,
    /// Sends not yet looked at: address, request, message.
    sends: Vec<(String, RequestId, ClientRequest)>,
    done: Vec<(CallId, Outcome)>,
    hung_up: Vec<String>,
    unreachable: Vec<String>,
    mute: Vec<String>,
    table: Option<Table>,
    contacts: Vec<(NodeId, String)>,
    next_call: u64,
}

fn node_addr(node: u32) -> String {
    format!("n{node}")
}

impl World {
    fn new(routing: Routing) -> Self {
        let options =
            Options { id: ClientId(7), seeds: vec!["manager".to_owned()], routing, ttl_ms: 0, seed: 1 };
        World {
            client: Client::new(options),
            now: Now { mono: Instant(SECOND), wall: WallMs(1_000_000) },
            addrs: BTreeMap::new(),
            dials: BTreeMap::new(),
            contacts_asked: 0,
            sends: Vec::new(),
            done: Vec::new(),
            hung_up: Vec::new(),
            unreachable: Vec::new(),
            mute: Vec::new(),
            table: None,
            contacts: (1..=3).map(|node| (NodeId(node), node_addr(node))).collect(),
            next_call: 0,
        }
    }

    fn tell(&mut self, input: Input) {
        let mut out = Vec::new();
        self.client.handle(self.now, input, &mut out);
        for output in out {
            self.carry_out(output);
        }
    }

    fn carry_out(&mut self, output: Output) {
        match output {
            Output::Dial { server, addr } => {
                self.addrs.insert(server, addr.clone());
                *self.dials.entry(addr.clone()).or_default() += 1;
                if self.unreachable.contains(&addr) {
                    self.tell(Input::Closed { server, why: "connection refused".to_owned() });
                } else if !self.mute.contains(&addr) {
                    let by = match addr.strip_prefix('n') {
                        Some(node) => Server::Node(NodeId(node.parse().unwrap())),
                        None => Server::Manager,
                    };
                    self.tell(Input::Welcomed { server, by });
                }
            }
            Output::Hangup { server } => self.hung_up.push(self.addrs[&server].clone()),
            Output::Send { server, request, message } => {
                let addr = self.addrs[&server].clone();
                self.contacts_asked += usize::from(message == ClientRequest::Contact);
                let answer = match &message {
                    ClientRequest::Contact if !self.mute.contains(&addr) => {
                        let (client_number, nodes) = (1, self.contacts.clone());
                        let stamp = Stamp::at(WallMs(1_000_300));
                        Some(ClientReply::Contact(ContactInfo { client_number, stamp, nodes }))
                    }
                    ClientRequest::Table { .. } => {
                        self.table.as_ref().map(|table| ClientReply::Table(encode_table(table)))
                    }
                    _ => None,
                };
                match answer {
                    Some(message) => self.tell(Input::Reply { server, request, message }),
                    None => self.sends.push((addr, request, message)),
                }
            }
            Output::Done { call, outcome } => self.done.push((call, outcome)),
        }
    }

    fn call(&mut self, request: Call) -> CallId {
        self.next_call += 1;
        let call = CallId(self.next_call);
        self.tell(Input::Call { call, request, ttl_ms: 0 });
        call
    }

    fn server(&self, addr: &str) -> ServerId {
        *self.addrs.iter().find(|entry| entry.1 == addr).unwrap().0
    }

    fn close(&mut self, addr: &str) {
        let server = self.server(addr);
        self.tell(Input::Closed { server, why: "connection reset".to_owned() });
    }

    /// Lets this much time pass, tick by tick.
    fn pass_ms(&mut self, ms: u64) {
        let end = self.now.mono.after_ms(ms);
        while let Some(at) = self.client.deadline().filter(|&at| at <= end) {
            self.now.mono = self.now.mono.max(at);
            self.tell(Input::Tick);
        }
        self.now.mono = end;
    }

    /// The one request out that has not been looked at.
    fn sent(&mut self) -> (String, RequestId, DataRequest) {
        let mut data: Vec<_> = self.sends.drain(..).collect();
        assert_eq!(data.len(), 1, "{data:?}");
        match data.remove(0) {
            (addr, request, ClientRequest::Data { request: message, .. }) => (addr, request, message),
            other => panic!("not about a key: {other:?}"),
        }
    }

    fn answer(&mut self, addr: &str, request: RequestId, result: DataResult) {
        let server = self.server(addr);
        let reply = DataReply { by: Provenance { coordinator: NodeId(2), ..Provenance::default() }, result };
        self.tell(Input::Reply { server, request, message: ClientReply::Data(reply) });
    }

    fn outcome(&mut self) -> Outcome {
        assert_eq!(self.done.len(), 1, "{:?}", self.done);
        self.done.remove(0).1
    }
}

fn write_of(request: &DataRequest) -> Write {
    match request {
        DataRequest::Put { write, .. } => write.clone(),
        DataRequest::Get { .. } => panic!("a read: {request:?}"),
    }
}

fn item(key: &'static str) -> Item {
    Item::new("", key)
}

fn put(key: &'static str) -> Call {
    Call::Put { item: item(key), value: "v".into(), context: None }
}

fn get(key: &'static str) -> Call {
    Call::Get { item: item(key) }
}

fn stored() -> DataResult {
    DataResult::Stored { context: Context::default() }
}

fn seen() -> Context {
    let mut context = Context::default();
    context.add(crate::types::Dot { actor: Default::default(), seq: 9 }, Stamp::at(WallMs(2_000_000)));
    context
}

/// Three nodes, `first` first in every sector.
fn table(epoch: u64, first: u32) -> Table {
    let mut table = Table::new(ClusterId(1), 3, 16);
    table.epoch = Epoch(epoch);
    for node in 1..=4 {
        let (addr, zone) = (node_addr(node), String::new());
        let member = Member { addr, disk_uuid: DiskUuid(1), zone, weight: 100, state: MemberState::Normal };
        table.members.insert(NodeId(node), member);
    }
    let slots = (0..3).map(|step| Slot::Settled(NodeId((first - 1 + step) % 4 + 1))).collect();
    let sector = Sector { conf_epoch: Epoch(epoch), slots };
    table.sectors = vec![sector; 16];
    table
}

#[test]
fn it_asks_the_manager_once_and_keeps_to_the_first_contact() {
    let mut world = World::new(Routing::Forwarder);
    for _ in 0..3 {
        world.call(put("k"));
        let (addr, request, _) = world.sent();
        assert_eq!(addr, "n1");
        world.answer("n1", request, stored());
        assert!(matches!(world.outcome(), Ok(Answer::Stored { .. })));
    }
    assert_eq!(world.client.number(), 1);
    assert_eq!(world.addrs.len(), 2, "the manager and one node were dialed");
    assert_eq!((world.client.pending(), world.client.bytes), (0, 0));
    assert!(world.client.timers.is_empty() && world.client.sent.is_empty());
}

#[test]
fn a_write_lost_with_its_connection_goes_elsewhere_under_its_first_name_stamp_and_context() {
    let mut world = World::new(Routing::Forwarder);
    world.call(Call::Put { item: item("k"), value: "v".into(), context: Some(seen()) });
    let (_, _, first) = world.sent();
    let first = write_of(&first);
    assert!(first.stamp > seen().stamp, "a write beats what it replaces");
    assert_eq!((first.op, first.attempt), (OpId { client: ClientId(7), seq: 1 }, 0));
    world.now.wall = WallMs(1_500_000);
    world.close("n1");
    let (addr, request, second) = world.sent();
    assert_eq!(addr, "n2");
    assert_eq!(write_of(&second), Write { attempt: 1, ..first });
    world.answer("n2", request, stored());
    assert!(world.outcome().is_ok());
}

#[test]
fn a_stamp_follows_the_clock_of_who_was_asked_for_contacts() {
    let mut world = World::new(Routing::Forwarder);
    world.call(put("k"));
    let (_, _, message) = world.sent();
    assert!(write_of(&message).stamp > Stamp::at(WallMs(1_000_300)));
}

#[test]
fn a_refusal_with_nothing_done_is_retried_elsewhere_without_counting_an_attempt() {
    let mut world = World::new(Routing::Forwarder);
    world.call(put("k"));
    let (_, request, first) = world.sent();
    world.answer("n1", request, DataResult::Refused(Reason::Overloaded));
    assert!(world.sends.is_empty(), "not at once");
    world.pass_ms(50);
    let (addr, request, second) = world.sent();
    assert_eq!(addr, "n2");
    assert_eq!(write_of(&second), write_of(&first));
    world.answer("n2", request, DataResult::Refused(Reason::KeyTooLong { max: 20 }));
    let error = world.outcome().unwrap_err();
    assert_eq!((error.kind, error.reason), (ErrorKind::Usage, Some(Reason::KeyTooLong { max: 20 })));
}

#[test]
fn a_refusal_after_a_lost_attempt_is_unknown_never_failed() {
    let mut world = World::new(Routing::Forwarder);
    world.call(put("k"));
    world.sent();
    world.close("n1");
    for _ in 0..=crate::limits::CLIENT_RETRIES_MAX {
        let (addr, request, message) = world.sent();
        assert_eq!(write_of(&message).attempt, 1);
        world.answer(&addr, request, DataResult::Refused(Reason::NoQuorum));
        world.pass_ms(250);
    }
    assert_eq!(world.outcome().unwrap_err().kind, ErrorKind::Unknown);
}

#[test]
fn time_up_makes_a_read_timed_out_a_sent_write_unknown_and_an_unsent_one_failed() {
    let mut world = World::new(Routing::Forwarder);
    world.mute = (1..=3).map(node_addr).collect();
    world.call(put("k"));
    world.pass_ms(2000);
    let error = world.outcome().unwrap_err();
    assert_eq!(error.kind, ErrorKind::Failed, "{error}");

    let mut world = World::new(Routing::Forwarder);
    world.call(put("k"));
    world.call(get("k"));
    world.mute = (1..=3).map(node_addr).collect();
    world.pass_ms(2000);
    let kinds: Vec<_> = world.done.drain(..).map(|(_, outcome)| outcome.unwrap_err().kind).collect();
    assert_eq!(kinds, [ErrorKind::Unknown, ErrorKind::Timeout]);
}

#[test]
fn a_refusal_near_the_end_is_the_answer_not_a_retry_that_may_be_lost() {
    let mut world = World::new(Routing::Forwarder);
    world.call(put("k"));
    let (message, request) = match world.sends.remove(0) {
        (_, request, ClientRequest::Data { worth, .. }) => (worth, request),
        other => panic!("{other:?}"),
    };
    assert!((1900..2000).contains(&message.ttl_ms), "the server's last word comes before our end");
    world.pass_ms(1900);
    world.answer("n1", request, DataResult::Refused(Reason::NoQuorum));
    let error = world.outcome().unwrap_err();
    assert_eq!((error.kind, error.reason), (ErrorKind::Failed, Some(Reason::NoQuorum)));
}

#[test]
fn a_request_with_time_left_is_never_sent_as_worth_none() {
    let mut world = World::new(Routing::Forwarder);
    world.mute = vec![node_addr(1)];
    world.tell(Input::Call { call: CallId(1), request: get("k"), ttl_ms: 1 });
    world.now.mono.0 += 900;
    let server = world.server("n1");
    world.tell(Input::Welcomed { server, by: Server::Node(NodeId(1)) });
    match world.sends.remove(0) {
        (_, _, ClientRequest::Data { worth, .. }) => assert_eq!(worth.ttl_ms, 1),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_silent_contact_is_probed_then_left_and_its_requests_go_elsewhere() {
    let mut world = World::new(Routing::Forwarder);
    world.call(put("k"));
    world.call(get("k"));
    assert_eq!(world.sends.drain(..).count(), 2);
    world.mute.push("n1".to_owned());
    world.pass_ms(600);
    let probes: Vec<_> = world.sends.drain(..).map(|(addr, _, message)| (addr, message)).collect();
    assert_eq!(probes, [("n1".to_owned(), ClientRequest::Contact)], "one probe for both");
    world.pass_ms(500);
    assert_eq!(world.hung_up, ["n1"]);
    let sends: Vec<_> = world.sends.drain(..).map(|send| send.0).collect();
    assert_eq!(sends, ["n2", "n2"]);
}

#[test]
fn a_write_that_a_live_server_is_slow_with_is_never_repeated_but_a_read_is() {
    let mut world = World::new(Routing::Forwarder);
    world.call(put("k"));
    world.call(get("k"));
    let requests: Vec<_> = world.sends.drain(..).map(|send| send.1).collect();
    world.pass_ms(1100);
    assert!(world.hung_up.is_empty(), "it answered the probe");
    let (addr, read, _) = world.sent();
    assert_eq!(addr, "n2");
    world.answer("n2", read, DataResult::Missing { context: Context::default() });
    assert!(matches!(world.outcome(), Ok(Answer::Missing { .. })));
    world.answer("n1", requests[0], stored());
    assert!(matches!(world.outcome(), Ok(Answer::Stored { .. })));
    world.answer("n1", requests[1], stored());
    assert!(world.done.is_empty(), "a late answer finds no row");
}

/// A read that its living contact is so slow with that it has gone to another one, which does not
/// even welcome us. Returns the first attempt.
fn read_left_with_a_slow_contact(world: &mut World) -> RequestId {
    world.mute = vec![node_addr(2), node_addr(3)];
    world.call(get("k"));
    let (addr, request, _) = world.sent();
    assert_eq!(addr, "n1");
    world.pass_ms(1100);
    assert!(world.hung_up.is_empty() && world.sends.is_empty(), "n1 answered the probe");
    assert!(world.client.servers.peer(world.server("n2")).is_some(), "n2 is dialed");
    request
}

#[test]
fn a_read_left_with_a_slow_server_is_still_answered_by_it() {
    let mut world = World::new(Routing::Forwarder);
    let request = read_left_with_a_slow_contact(&mut world);
    world.answer("n1", request, DataResult::Missing { context: Context::default() });
    assert!(matches!(world.outcome(), Ok(Answer::Missing { .. })));
    assert!(world.client.sent.is_empty() && world.client.timers.is_empty());
}

#[test]
fn a_read_of_which_a_slow_server_says_too_few_answered_ends_with_its_count() {
    let by = Provenance {
        coordinator: NodeId(1),
        answered: 1,
        fallbacks: 0,
        needed: 2,
        slots: 3,
        trace: Vec::new(),
    };
    for at_ms in [1200, 1900] {
        let mut world = World::new(Routing::Forwarder);
        let request = read_left_with_a_slow_contact(&mut world);
        world.pass_ms(at_ms - 1100);
        let reply = DataReply { by: by.clone(), result: DataResult::Refused(Reason::NoQuorum) };
        let (server, message) = (world.server("n1"), ClientReply::Data(reply));
        world.tell(Input::Reply { server, request, message });
        assert_eq!(world.done.is_empty(), at_ms < 1750, "somebody else may do better while there is time");
        world.pass_ms(2000 - at_ms);
        let error = world.outcome().unwrap_err();
        assert_eq!((error.kind, error.reason), (ErrorKind::Failed, Some(Reason::NoQuorum)), "{error}");
        assert_eq!((error.answered, error.needed, error.slots), (1, 2, 3), "{error}");
    }
}

#[test]
fn a_delete_that_a_slow_server_read_for_does_not_take_a_second_reads_answer_for_its_own() {
    let mut world = World::new(Routing::Forwarder);
    world.call(Call::Delete { item: item("k"), context: None });
    let (_, first, _) = world.sent();
    world.pass_ms(1100);
    let (addr, second, _) = world.sent();
    assert_eq!(addr, "n2");
    world.answer("n1", first, DataResult::Found { values: Vec::new(), context: seen() });
    let (addr, write, message) = world.sent();
    assert_eq!(write_of(&message).content, Content::Tombstone);
    world.answer("n2", second, DataResult::Missing { context: Context::default() });
    assert!(world.done.is_empty(), "the read is over");
    world.answer(&addr, write, stored());
    assert!(matches!(world.outcome(), Ok(Answer::Stored { .. })));
}

#[test]
fn when_all_contacts_have_failed_others_are_asked_for() {
    let mut world = World::new(Routing::Forwarder);
    world.call(get("k"));
    world.sent();
    world.unreachable = vec!["n2".to_owned(), "n3".to_owned()];
    world.contacts = vec![(NodeId(4), node_addr(4))];
    world.close("n1");
    let (addr, ..) = world.sent();
    assert_eq!(addr, "n4");
}

#[test]
fn with_everybody_refusing_each_is_dialed_once_more_and_then_it_is_over() {
    let mut world = World::new(Routing::Forwarder);
    world.unreachable = vec!["manager".to_owned()];
    world.call(get("k"));
    assert!(world.done.is_empty(), "it may be starting just now");
    world.pass_ms(200);
    let error = world.outcome().unwrap_err();
    assert_eq!(error.kind, ErrorKind::Failed);
    assert!(error.text.contains("manager: connection refused"), "{error}");
    assert_eq!(world.dials["manager"], 2);

    // So it is when the manager is there and every node it names refuses.
    for routing in [Routing::Forwarder, Routing::Direct] {
        let mut world = World::new(routing);
        world.table = Some(table(5, 1));
        world.unreachable = (1..=4).map(node_addr).collect();
        world.call(put("k"));
        world.call(get("k"));
        world.pass_ms(200);
        for (_, outcome) in world.done.drain(..) {
            let error = outcome.unwrap_err();
            assert_eq!(error.kind, ErrorKind::Failed, "{error}");
            assert!(error.text.contains("n1: connection refused; n2: connection refused"), "{error}");
        }
        assert_eq!(world.client.pending(), 0);
        assert_eq!((world.dials["n1"], world.dials["n2"], world.dials["n3"]), (2, 2, 2));
        assert_eq!(world.dials["manager"], 1);
        // Later calls hope again, and take no longer.
        world.call(get("k"));
        world.pass_ms(200);
        assert!(world.outcome().is_err());
        world.unreachable.clear();
        world.call(get("k"));
        world.pass_ms(200);
        world.sent();
    }
}

#[test]
fn a_server_that_is_there_again_in_time_for_the_second_round_is_found() {
    let mut world = World::new(Routing::Forwarder);
    world.unreachable = vec!["manager".to_owned()];
    world.call(get("k"));
    world.pass_ms(50);
    world.unreachable.clear();
    world.pass_ms(150);
    assert_eq!(world.sent().0, "n1");
}

#[test]
fn a_write_that_was_sent_before_everybody_refused_is_unknown() {
    let mut world = World::new(Routing::Forwarder);
    world.call(put("k"));
    world.sent();
    world.unreachable = (1..=3).map(node_addr).collect();
    world.close("n1");
    world.pass_ms(500);
    let error = world.outcome().unwrap_err();
    assert_eq!(error.kind, ErrorKind::Unknown, "{error}");
}

#[test]
fn contacts_that_all_fail_are_not_asked_for_again_and_again() {
    let mut world = World::new(Routing::Forwarder);
    world.call(get("k"));
    world.sent();
    world.unreachable = vec![node_addr(2), node_addr(3)];
    let before = world.contacts_asked;
    world.close("n1");
    world.pass_ms(40);
    assert!(world.contacts_asked <= before + 2, "{}", world.contacts_asked - before);
}

#[test]
fn beside_a_server_that_does_not_welcome_us_soon_another_one_is_tried() {
    let mut world = World::new(Routing::Forwarder);
    world.client = Client::new(Options {
        seeds: vec!["manager".to_owned(), "n1".to_owned()],
        ..world.client.options.clone()
    });
    world.mute = vec!["manager".to_owned()];
    world.call(get("k"));
    world.pass_ms(299);
    assert!(world.sends.is_empty());
    world.pass_ms(1);
    assert_eq!(world.sent().0, "n1");
    assert!(world.hung_up.is_empty(), "it may still answer");
}

#[test]
fn of_several_slow_servers_the_first_to_welcome_us_is_asked() {
    let mut world = World::new(Routing::Forwarder);
    world.mute = (1..=3).map(node_addr).collect();
    world.call(get("k"));
    world.pass_ms(950);
    assert!((1..=3).all(|node| world.dials[&node_addr(node)] == 1), "{:?}", world.dials);
    let server = world.server("n2");
    world.tell(Input::Welcomed { server, by: Server::Node(NodeId(2)) });
    assert_eq!(world.sent().0, "n2");
}

#[test]
fn of_a_server_that_takes_connections_and_does_not_answer_that_is_said_and_what_to_do() {
    for ttl_ms in [500, 2000] {
        let mut world = World::new(Routing::Forwarder);
        world.mute = vec!["manager".to_owned()];
        let request = Call::Ask { to: Target::Any, request: ClientRequest::Status };
        world.tell(Input::Call { call: CallId(1), request, ttl_ms });
        let server = world.server("manager");
        world.tell(Input::Connected { server });
        world.pass_ms(1000);
        let text = world.outcome().unwrap_err().to_string();
        assert!(text.contains("manager accepts connections but does not answer"), "{text}");
        assert!(text.contains("--manager manager,NODE:PORT"), "{text}");
    }
}

#[test]
fn of_a_server_that_had_no_time_to_answer_nothing_is_said() {
    let mut world = World::new(Routing::Forwarder);
    world.mute = vec!["manager".to_owned()];
    let request = Call::Ask { to: Target::Any, request: ClientRequest::Status };
    world.tell(Input::Call { call: CallId(1), request, ttl_ms: 1 });
    let server = world.server("manager");
    world.tell(Input::Connected { server });
    world.pass_ms(1);
    let text = world.outcome().unwrap_err().to_string();
    assert!(text.contains("allow more time") && !text.contains("restart"), "{text}");
}

#[test]
fn a_delete_reads_first_and_then_deletes_just_what_it_read() {
    let mut world = World::new(Routing::Forwarder);
    world.call(Call::Delete { item: Item { quorum: 3, ..item("k") }, context: None });
    let (addr, request, message) = world.sent();
    assert!(matches!(message, DataRequest::Get { .. }) && message.terms().quorum == 0);
    world.answer(&addr, request, DataResult::Found { values: Vec::new(), context: seen() });
    let (addr, request, message) = world.sent();
    assert_eq!(message.terms().quorum, 3);
    let write = write_of(&message);
    assert_eq!((write.content, write.context), (Content::Tombstone, Some(seen())));
    world.answer(&addr, request, stored());
    assert!(matches!(world.outcome(), Ok(Answer::Stored { .. })));
}

#[test]
fn deleting_what_is_not_there_writes_nothing_and_a_known_context_is_not_read_again() {
    let mut world = World::new(Routing::Forwarder);
    world.call(Call::Delete { item: item("k"), context: None });
    let (addr, request, _) = world.sent();
    world.answer(&addr, request, DataResult::Missing { context: Context::default() });
    assert!(matches!(world.outcome(), Ok(Answer::Missing { .. })));
    assert!(world.sends.is_empty());
    world.call(Call::Delete { item: item("k"), context: Some(seen()) });
    assert_eq!(write_of(&world.sent().2).context, Some(seen()));
}

#[test]
fn direct_asks_the_first_owner_and_refreshes_its_table_when_told_that_it_is_old() {
    let mut world = World::new(Routing::Direct);
    world.table = Some(table(5, 2));
    world.call(put("k"));
    let (addr, request, message) = world.sent();
    assert_eq!(addr, "n2");
    assert!(message.terms().direct);
    world.table = Some(table(6, 3));
    world.answer("n2", request, DataResult::Refused(Reason::NotOwner(Epoch(6))));
    let (addr, _, again) = world.sent();
    assert_eq!(addr, "n3");
    assert_eq!(write_of(&again).attempt, 0, "a node that is no owner did nothing");
}

#[test]
fn direct_tries_the_next_owner_when_one_is_away_and_a_contact_when_all_are() {
    let mut world = World::new(Routing::Direct);
    world.table = Some(table(5, 1));
    world.unreachable = vec![node_addr(1)];
    world.call(put("k"));
    let (addr, _, message) = world.sent();
    assert_eq!((addr.as_str(), message.terms().direct), ("n2", true));

    let mut world = World::new(Routing::Direct);
    world.table = Some(table(5, 1));
    world.unreachable = (1..=3).map(node_addr).collect();
    world.contacts = vec![(NodeId(4), node_addr(4))];
    world.call(put("k"));
    let (addr, _, message) = world.sent();
    assert_eq!((addr.as_str(), message.terms().direct), ("n4", false));
}

#[test]
fn a_node_that_denies_owning_again_and_again_is_passed_by_way_of_a_forwarder() {
    let mut world = World::new(Routing::Direct);
    world.table = Some(table(5, 1));
    world.call(get("k"));
    for _ in 0..10 {
        let (addr, request, message) = world.sent();
        if !message.terms().direct {
            return;
        }
        world.answer(&addr, request, DataResult::Refused(Reason::NotOwner(Epoch(9))));
    }
    panic!("still asking owners");
}

#[test]
fn fastest_prefers_the_owner_that_answers_soonest() {
    let mut world = World::new(Routing::Fastest);
    world.table = Some(table(5, 1));
    let mut served = BTreeMap::new();
    for _ in 0..200 {
        world.call(get("k"));
        let (addr, request, _) = world.sent();
        world.pass_ms(if addr == "n3" { 1 } else { 20 });
        world.answer(&addr, request, DataResult::Missing { context: Context::default() });
        *served.entry(addr).or_insert(0) += 1;
    }
    assert!(served["n3"] > 180, "{served:?}");
    assert!(served.len() == 3, "the others are tried now and then: {served:?}");
}

#[test]
fn a_question_for_the_manager_passes_nodes_by_and_says_when_there_is_none() {
    let mut world = World::new(Routing::Forwarder);
    world.client = Client::new(Options {
        seeds: vec!["n1".to_owned(), "manager".to_owned()],
        ..world.client.options.clone()
    });
    let status = || Call::Ask { to: Target::Manager, request: ClientRequest::Status };
    world.call(status());
    assert_eq!(world.sends.remove(0).0, "manager");
    world.client = Client::new(Options { seeds: vec!["n1".to_owned()], ..world.client.options.clone() });
    world.call(status());
    assert!(world.outcome().unwrap_err().text.contains("no manager among"));
}

#[test]
fn a_question_nobody_can_be_asked_fails_at_once_and_names_everyone_tried() {
    let mut world = World::new(Routing::Forwarder);
    world.unreachable = vec!["manager".to_owned()];
    world.call(Call::Ask { to: Target::Any, request: ClientRequest::Status });
    let text = world.outcome().unwrap_err().to_string();
    assert!(text.contains("manager: connection refused"), "{text}");
}

#[test]
fn past_its_cap_a_call_is_refused_at_once() {
    let mut world = World::new(Routing::Forwarder);
    for _ in 0..CLIENT_CALLS_MAX {
        world.call(get("k"));
    }
    assert!(world.done.is_empty());
    world.call(get("k"));
    assert_eq!(world.outcome().unwrap_err().reason, Some(Reason::Overloaded));
}

#[test]
fn a_version_vector_read_moves_the_clock_no_further_than_its_clamp() {
    let mut world = World::new(Routing::Forwarder);
    world.call(get("k"));
    let (addr, request, _) = world.sent();
    let context = Context { vector: VersionVector::default(), stamp: Stamp::at(WallMs(9_000_000)) };
    world.answer(&addr, request, DataResult::Missing { context });
    world.done.clear();
    world.call(put("k"));
    assert!(write_of(&world.sent().2).stamp < Stamp::at(WallMs(1_001_000)));
}
