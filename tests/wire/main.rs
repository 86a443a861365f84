//! The wire format: that it comes back as it went, stays as it is, and takes no harm from what
//! arrives.

mod samples;

use bytes::Bytes;
use gtstore::limits::PEER_BODY_BYTES_MAX;
use gtstore::ring::{MemberState, Profile, Slot, Table};
use gtstore::types::{DiskUuid, Epoch, Health, Incarnation, NodeId, RequestId};
use gtstore::wire::client::{ClientReply, ClientRequest, ClusterStatus, NodeStatus};
use gtstore::wire::codec::{DecodeError, Reader, SHARED_BYTES_MIN, Writer};
use gtstore::wire::frame::{Decoder, Frame, FrameError, HEADER_BYTES, write_frame};
use gtstore::wire::hello::{Opening, RefusalCause, Refused};
use gtstore::wire::manager::{Join, ManagerToNode, NodeToManager};
use gtstore::wire::peer::{PeerReply, PeerRequest};
use gtstore::wire::{
    Message, Vitals, decode_context, decode_object, decode_table, encode_object, encode_table,
};
use proptest::prelude::*;
use samples::{REQUEST, Sample};
use std::collections::BTreeMap;

const CAP: usize = PEER_BODY_BYTES_MAX;

fn frames(bytes: &[u8], cap: usize) -> Result<Vec<Frame>, FrameError> {
    let mut decoder = Decoder::default();
    decoder.extend(bytes);
    let mut frames = Vec::new();
    while let Some(frame) = decoder.next_frame(cap)? {
        frames.push(frame);
    }
    Ok(frames)
}

/// A frame with right checksums around any body.
fn framed(kind: u8, length: u32, body: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.extend(length.to_le_bytes());
    bytes.extend([kind, 0, 0, 0]);
    bytes.extend(REQUEST.0.to_le_bytes());
    bytes.extend(crc32c::crc32c(&bytes).to_le_bytes());
    bytes.extend(crc32c::crc32c(body).to_le_bytes());
    bytes.extend(body);
    bytes
}

/// Every decoder there is: for "never a panic, whatever it is given".
fn decode_as_everything(kind: u8, body: &Bytes) -> usize {
    let read = |decode: fn(&mut Reader) -> bool| usize::from(decode(&mut Reader::new(body.clone())));
    usize::from(Opening::decode(kind, body.clone()).is_ok())
        + usize::from(ClientRequest::decode(kind, body.clone()).is_ok())
        + usize::from(ClientReply::decode(kind, body.clone()).is_ok())
        + usize::from(PeerRequest::decode(kind, body.clone()).is_ok())
        + usize::from(PeerReply::decode(kind, body.clone()).is_ok())
        + usize::from(NodeToManager::decode(kind, body.clone()).is_ok())
        + usize::from(ManagerToNode::decode(kind, body.clone()).is_ok())
        + usize::from(decode_table(body.clone()).is_ok())
        + read(|reader| decode_object(reader).is_ok())
        + read(|reader| decode_context(reader).is_ok())
}

#[test]
fn every_message_comes_back_as_it_went() {
    for Sample { name, kind, body, frame, decode, .. } in samples::all() {
        let expected = Frame { kind, request: REQUEST, body: body.clone() };
        assert_eq!(frames(&frame, CAP), Ok(vec![expected]), "{name}");
        assert_eq!(
            decode(kind, body.clone()),
            Ok(body),
            "{name} is written in another form than it was read"
        );
    }
    let table = samples::table();
    assert_eq!(decode_table(encode_table(&table)), Ok(table));
}

#[test]
fn frames_come_out_of_a_stream_cut_anywhere() {
    let all = samples::all();
    let stream: Vec<u8> = all.iter().flat_map(|sample| sample.frame.to_vec()).collect();
    for piece in [1, 7, 64, 1000] {
        let mut decoder = Decoder::default();
        let mut bodies = Vec::new();
        for bytes in stream.chunks(piece) {
            decoder.extend(bytes);
            while let Some(frame) = decoder.next_frame(CAP).expect("whole frames") {
                bodies.push((frame.kind, frame.body));
            }
        }
        let sent: Vec<_> = all.iter().map(|sample| (sample.kind, sample.body.clone())).collect();
        assert!(bodies == sent, "pieces of {piece} bytes");
        assert_eq!(decoder.buffered(), 0);
    }
}

#[test]
fn kinds_are_distinct_over_all_families() {
    let mut kinds: BTreeMap<u8, String> = BTreeMap::new();
    for sample in samples::all() {
        let known = kinds.entry(sample.kind).or_insert_with(|| sample.variant.clone());
        assert_eq!(*known, sample.variant, "two kinds of message have the ordinal {:#04x}", sample.kind);
    }
    assert_eq!(kinds.len(), 72, "a kind was added or taken away: golden bytes first, then this count");
}

#[test]
fn a_family_takes_no_other_family_s_messages() {
    for sample in samples::all() {
        let family = sample.variant.split("::").next();
        for other in samples::all() {
            if other.variant.split("::").next() != family {
                assert_eq!(
                    (other.decode)(sample.kind, sample.body.clone()),
                    Err(DecodeError::UnknownKind(sample.kind)),
                    "{} as {}",
                    sample.name,
                    other.name
                );
            }
        }
    }
}

const GOLDEN: &str = include_str!("../golden/wire.txt");
const GOLDEN_PATH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/wire.txt");
const GOLDEN_HEAD: &str = "\
# Every message as bytes: header (length, kind, flags, zero, request id, two checksums), then body.
# Processes of different versions talk to each other with these. A line may be added; one that
# changes or goes makes an old process misread a new one. Ordinals are never used again for
# another message. See tests/wire/main.rs for how to write this file anew.
";

fn golden_lines() -> String {
    let mut text = GOLDEN_HEAD.to_owned();
    let hex = |bytes: &[u8]| bytes.iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"));
    for sample in samples::all() {
        let (head, body) = sample.frame.split_at(HEADER_BYTES);
        text += &format!("{} {} {}\n", sample.name, hex(head), hex(body));
    }
    text + &format!("table {}\n", hex(&encode_table(&samples::table())))
}

/// `GTSTORE_BLESS=1 cargo test --test wire` writes the file anew.
#[test]
fn the_bytes_of_every_message_stay_as_they_are() {
    let now = golden_lines();
    if std::env::var_os("GTSTORE_BLESS").is_some() {
        std::fs::write(GOLDEN_PATH, &now).expect("tests/golden/wire.txt can be written");
        return;
    }
    let named = |text: &'static str| -> BTreeMap<&'static str, &'static str> {
        text.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.split_once(' ')).collect()
    };
    let (golden, now) = (named(GOLDEN), named(now.leak()));
    let mut changed = String::new();
    for (name, bytes) in &golden {
        match now.get(name) {
            Some(same) if same == bytes => {}
            Some(other) => changed += &format!("{name}\n  was {bytes}\n  is  {other}\n"),
            None => changed += &format!("{name}\n  has no sample any more\n"),
        }
    }
    for name in now.keys().filter(|name| !golden.contains_key(*name)) {
        changed += &format!("{name}\n  is new\n");
    }
    assert!(
        changed.is_empty(),
        "the wire format is not what tests/golden/wire.txt says:\n{changed}\n\
         Running processes of the last version speak the old bytes. A new message takes an ordinal \
         that was never used; a changed one takes a new ordinal, or a higher protocol version in \
         wire::hello::VERSIONS. If that is done, or no released version speaks these bytes: \
         GTSTORE_BLESS=1 cargo test --test wire"
    );
}

#[test]
fn a_cut_frame_is_waited_for() {
    for sample in samples::all() {
        for end in 0..sample.frame.len() {
            assert_eq!(frames(&sample.frame[..end], CAP), Ok(vec![]), "{} cut at {end}", sample.name);
        }
    }
}

#[test]
fn a_cut_body_in_a_whole_frame_is_an_error() {
    for sample in samples::all() {
        for end in 0..sample.body.len() {
            let frame = framed(sample.kind, end as u32, &sample.body[..end]);
            let frame = frames(&frame, CAP).expect("right checksums").pop().expect("one frame");
            let result = (sample.decode)(frame.kind, frame.body);
            assert!(result.is_err(), "{} cut at {end} is taken for a message", sample.name);
        }
        let longer = [&sample.body[..], &[0]].concat();
        assert!((sample.decode)(sample.kind, longer.into()).is_err(), "{} and a byte more", sample.name);
    }
    let table = encode_table(&samples::table());
    for end in 0..table.len() {
        assert!(decode_table(table.slice(..end)).is_err(), "table cut at {end}");
    }
}

#[test]
fn a_flipped_bit_anywhere_in_a_frame_is_found() {
    for sample in samples::all() {
        for bit in 0..sample.frame.len() * 8 {
            let mut bytes = sample.frame.to_vec();
            bytes[bit / 8] ^= 1 << (bit % 8);
            match frames(&bytes, CAP) {
                Err(_) => {}
                Ok(none) => assert!(none.is_empty(), "{}: bit {bit} went unnoticed", sample.name),
            }
        }
    }
}

#[test]
fn a_flipped_bit_under_right_checksums_never_panics() {
    for sample in samples::all() {
        for bit in 0..sample.body.len() * 8 {
            let mut bytes = sample.body.to_vec();
            bytes[bit / 8] ^= 1 << (bit % 8);
            decode_as_everything(sample.kind, &bytes.into());
        }
    }
    let table = encode_table(&samples::table());
    for bit in 0..table.len() * 8 {
        let mut bytes = table.to_vec();
        bytes[bit / 8] ^= 1 << (bit % 8);
        assert!(decode_table(bytes.into()).is_err(), "bit {bit} of a table");
    }
}

#[test]
fn a_length_of_four_gibibytes_is_refused_before_anything_is_allocated() {
    let mut decoder = Decoder::default();
    decoder.extend(&framed(0x11, u32::MAX, b""));
    assert_eq!(decoder.next_frame(CAP), Err(FrameError::TooLarge { length: u32::MAX, cap: CAP }));
    assert_eq!(decoder.buffered(), HEADER_BYTES);
}

#[test]
fn a_body_one_byte_over_the_cap_is_refused_and_one_at_the_cap_is_not() {
    let body = [7; 100];
    let frame = framed(0x11, 100, &body);
    assert_eq!(frames(&frame, 99), Err(FrameError::TooLarge { length: 100, cap: 99 }));
    assert_eq!(frames(&frame, 100).map(|frames| frames.len()), Ok(1));
}

#[test]
fn unknown_flags_are_refused_even_under_right_checksums() {
    for at in 5..8 {
        let mut frame = framed(0x11, 0, b"");
        frame[at] = 1;
        let sum = crc32c::crc32c(&frame[..16]).to_le_bytes();
        frame[16..20].copy_from_slice(&sum);
        assert_eq!(frames(&frame, CAP), Err(FrameError::Flags), "byte {at}");
    }
}

/// Wherever a length or a count may stand, in whatever message.
#[test]
fn a_count_of_four_milliards_anywhere_is_harmless() {
    let spoil = |body: &Bytes, at: usize| {
        let mut bytes = body.to_vec();
        bytes[at..at + 4].fill(0xff);
        Bytes::from(bytes)
    };
    for sample in samples::all() {
        for at in 0..sample.body.len().saturating_sub(3) {
            decode_as_everything(sample.kind, &spoil(&sample.body, at));
        }
    }
    let table = encode_table(&samples::table());
    for at in 0..table.len() - 3 {
        let _ = decode_table(spoil(&table, at));
    }
}

/// The counts that lists begin with: over their cap, they are refused by name.
#[test]
fn a_list_of_four_milliards_is_refused() {
    fn over(before: impl Fn(&mut Writer)) -> Bytes {
        let mut out = Writer::default();
        before(&mut out);
        out.u32(u32::MAX);
        // Enough behind it for any smallest entry, so that only the count is wrong.
        out.raw(&[0; 64]);
        out.into_bytes()
    }
    let nothing = over(|_| {});
    let too_long = |result: Result<(), DecodeError>, what: &str| match result {
        Err(DecodeError::TooLong(_)) => {}
        other => panic!("{what}: {other:?}"),
    };
    let object = |body: Bytes| decode_object(&mut Reader::new(body)).map(drop);
    too_long(object(nothing.clone()), "version vector");
    too_long(object(over(|out| out.u32(0))), "siblings");
    too_long(NodeToManager::decode(0x83, nothing.clone()).map(drop), "streamed sectors");
    too_long(PeerRequest::decode(0x44, over(|out| out.raw(&[0; 16]))).map(drop), "transfer entries");
    too_long(PeerRequest::decode(0x4d, over(|out| out.raw(&[0; 5]))).map(drop), "places to settle");
    too_long(PeerRequest::decode(0x4e, over(|out| out.raw(&[0; 25]))).map(drop), "sectors to fence");
    too_long(PeerReply::decode(0x72, nothing.clone()).map(drop), "keys that differ");
    too_long(ClientReply::decode(0x21, over(|out| out.raw(&[0; 7]))).map(drop), "trace");
    too_long(ClientReply::decode(0x22, over(|out| out.raw(&[0; 12]))).map(drop), "contact nodes");
    too_long(ClientReply::decode(0x23, nothing.clone()).map(drop), "table");
    too_long(ClientReply::decode(0x25, over(|out| out.raw(&[0; 34]))).map(drop), "status rows");
    too_long(ClientReply::decode(0x26, nothing.clone()).map(drop), "dump entries");
    let table = |skip: usize| {
        let whole = encode_table(&Table::new(gtstore::types::ClusterId(1), 1, 1));
        // Of format 2, which has no checksum.
        decode_table(over(|out| {
            out.u16(2);
            out.raw(&whole[2..skip]);
        }))
        .map(drop)
    };
    // Format, epoch, cluster, n, profile, next id; no members; one keyspace of `default`.
    too_long(table(32), "members");
    too_long(table(36), "keyspaces");
    too_long(table(40 + 2 + 4 + 7 + 5), "sectors");
}

#[test]
fn large_values_are_shared_and_never_copied() {
    let value = Bytes::from(vec![7; SHARED_BYTES_MIN]);
    let small = Bytes::from(vec![8; SHARED_BYTES_MIN - 1]);
    let mut out = Writer::default();
    for value in [&value, &small, &value] {
        write_frame(&mut out, RequestId(1), &samples::store(value.clone()));
    }
    let length = out.len();
    let mut chunks = Vec::new();
    out.take(|chunk| chunks.push(chunk));
    assert!(out.is_empty());
    let shared = chunks.iter().filter(|chunk| chunk.as_ptr() == value.as_ptr()).count();
    assert_eq!(shared, 2, "each large value is a chunk of its own, and the very same bytes");
    assert!(chunks.iter().all(|chunk| chunk.as_ptr() != small.as_ptr()), "small ones are copied");
    assert!(chunks.iter().all(|chunk| !chunk.is_empty()), "no empty chunk goes to the socket");
    assert_eq!(chunks.iter().map(Bytes::len).sum::<usize>(), length);
    let frames = frames(&chunks.concat(), CAP).expect("right checksums");
    assert_eq!(frames.len(), 3);
    for (frame, value) in frames.into_iter().zip([&value, &small, &value]) {
        let body = frame.body.clone();
        let message = PeerRequest::decode(frame.kind, frame.body).expect("a store");
        assert_eq!(message, samples::store(value.clone()));
        let PeerRequest::Store { object, .. } = &message else { unreachable!("just compared") };
        let mut out = Writer::default();
        encode_object(object, &mut out);
        let inside = |chunk: &Bytes| body.as_ptr_range().contains(&chunk.as_ptr());
        let mut slices = 0;
        out.take(|chunk| slices += usize::from(inside(&chunk)));
        assert_eq!(
            slices,
            usize::from(value.len() >= SHARED_BYTES_MIN),
            "decoded values are slices of the body"
        );
    }
}

#[test]
fn an_explanation_that_is_too_long_is_cut_and_still_read() {
    let text = "\u{e9}".repeat(1000);
    let reply = ClientReply::Error(text.clone());
    let refused = Opening::Refused(Refused { cause: RefusalCause::Full, text: text.clone() });
    let rejected = ManagerToNode::Rejected { text: text.clone() };
    let body = |message: &dyn Fn(&mut Writer)| {
        let mut out = Writer::default();
        message(&mut out);
        out.into_bytes()
    };
    let cut = "\u{e9}".repeat(256);
    let decoded = ClientReply::decode(reply.kind(), body(&|out| reply.encode(out)));
    assert_eq!(decoded, Ok(ClientReply::Error(cut.clone())));
    assert!(Opening::decode(refused.kind(), body(&|out| refused.encode(out))).is_ok());
    let decoded = ManagerToNode::decode(rejected.kind(), body(&|out| rejected.encode(out)));
    assert_eq!(decoded, Ok(ManagerToNode::Rejected { text: cut }));
}

#[test]
fn a_vector_entry_of_sequence_zero_is_refused() {
    let mut out = Writer::default();
    out.u32(1);
    out.raw(&[0; 16]);
    out.u32(0);
    let object = decode_object(&mut Reader::new(out.into_bytes()));
    assert_eq!(object, Err(DecodeError::Invalid("version vector entry")));
}

#[test]
fn a_table_that_breaks_an_invariant_is_refused() {
    let refuse = |change: fn(&mut Table), what: &str| {
        let mut table = samples::table();
        change(&mut table);
        assert!(decode_table(encode_table(&table)).is_err(), "{what}");
    };
    refuse(|table| table.n = 0, "no copies");
    refuse(|table| table.n = 8, "too many copies");
    refuse(|table| table.n = 1, "more slots than copies");
    refuse(|table| drop(table.sectors.pop()), "sectors are no power of two");
    refuse(|table| table.sectors.clear(), "no sectors");
    refuse(|table| drop(table.members.remove(&NodeId(2))), "an owner that is no member");
    refuse(|table| table.sectors[3].slots = vec![Slot::Settled(NodeId(1)); 2], "a node twice in a sector");
    refuse(
        |table| {
            let moving = Slot::Moving { old: NodeId(1), new: NodeId(2), since: Epoch(6) };
            table.sectors[3].slots = vec![Slot::Settled(NodeId(2)), moving];
        },
        "an owner that another slot moves to",
    );
    refuse(
        |table| {
            let member = table.members[&NodeId(1)].clone();
            table.members.insert(NodeId(0), member);
        },
        "a member with the id of no node",
    );
}

#[test]
fn a_table_of_an_earlier_format_is_read_with_the_defaults() {
    let sample = samples::table();
    let mut table = Table { profile: Profile::Default, members_min: sample.n.into(), ..sample };
    table.staged.clear();
    table.sectors[0].slots[1] = Slot::Settled(NodeId(3));
    let bytes = encode_table(&table);
    // The format, then epoch, cluster and n; then the profile and the members there must be. Last the
    // staged changes, of which there are none, and the checksum.
    let profile_at = 2 + 8 + 16 + 1;
    let (fixed, rest) = (&bytes[2..profile_at], &bytes[profile_at + 3..bytes.len() - 8]);
    let profile = &bytes[profile_at..=profile_at];
    let mut third = [&[3, 0], fixed, profile, rest].concat();
    third.extend(crc32c::crc32c(&third).to_le_bytes());
    assert_eq!(decode_table(third.into()), Ok(table.clone()));
    assert_eq!(decode_table([&[2, 0], fixed, profile, rest].concat().into()), Ok(table.clone()));
    assert_eq!(decode_table([&[1, 0], fixed, rest].concat().into()), Ok(table));
}

#[test]
fn a_table_names_each_member_once() {
    let table = encode_table(&samples::table());
    let mut bytes = table[..table.len() - 4].to_vec();
    // The second member's id, behind the fixed part, the count and the first member.
    let second = 34 + 4 + 4 + (4 + 14) + 16 + 4 + 2 + 1;
    assert_eq!(bytes[second..second + 4], 2u32.to_le_bytes());
    bytes[second] = 1;
    bytes.extend(crc32c::crc32c(&bytes).to_le_bytes());
    assert_eq!(decode_table(bytes.into()), Err(DecodeError::Invalid("member order")));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_bytes_never_panic(kind: u8, bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let mut decoder = Decoder::default();
        decoder.extend(&bytes);
        while let Ok(Some(_)) = decoder.next_frame(CAP) {}
        prop_assert!(decoder.buffered() <= bytes.len());
        decode_as_everything(kind, &bytes.into());
    }

    #[test]
    fn spoiled_messages_never_panic(
        which in any::<prop::sample::Index>(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in any::<prop::sample::Index>(),
    ) {
        thread_local! { static SAMPLES: Vec<Sample> = samples::all(); }
        SAMPLES.with(|samples| {
            let sample = which.get(samples);
            let mut bytes = sample.body.to_vec();
            for (at, byte) in changes {
                if !bytes.is_empty() {
                    let at = at.index(bytes.len());
                    bytes[at] = byte;
                }
            }
            bytes.truncate(cut.index(bytes.len() + 1).max(bytes.len() / 2));
            decode_as_everything(sample.kind, &bytes.into());
        });
    }
}

#[test]
fn a_health_that_nobody_knows_is_refused() {
    let encoded = |health| {
        let node = NodeStatus {
            node: NodeId(1),
            addr: String::new(),
            zone: String::new(),
            state: MemberState::Normal,
            health,
            sectors: (0, 0),
            incarnation: Incarnation(0),
            vitals: Vitals { epoch: Epoch(0), ..Vitals::default() },
        };
        let mut out = Writer::default();
        let reply = ClientReply::Status(ClusterStatus { nodes: vec![node], ..ClusterStatus::default() });
        reply.encode(&mut out);
        (reply.kind(), out.into_bytes())
    };
    let ((kind, up), (_, down)) = (encoded(Health::Up), encoded(Health::Down));
    let at = (0..up.len()).find(|&at| up[at] != down[at]).unwrap();
    let mut unknown = up.to_vec();
    unknown[at] = 9;
    assert_eq!(ClientReply::decode(kind, unknown.into()), Err(DecodeError::Invalid("health")));
}

#[test]
fn a_join_whose_zone_or_address_would_break_a_line_is_refused() {
    let decoded = |addr: &str, zone: &str| {
        let join = Join {
            node: NodeId(0),
            disk_uuid: DiskUuid(1),
            incarnation: Incarnation(1),
            addr: addr.to_owned(),
            zone: zone.to_owned(),
            weight: 100,
            epoch: Epoch(0),
            manual: false,
        };
        let (message, mut out) = (NodeToManager::Join(join), Writer::default());
        message.encode(&mut out);
        NodeToManager::decode(message.kind(), out.into_bytes()).map(|_| ())
    };
    assert_eq!(decoded("n1:7401", "rack 1"), Ok(()));
    assert_eq!(decoded("n1:7401", "a\tb"), Err(DecodeError::Invalid("zone")));
    assert_eq!(decoded("n1\n:7401", ""), Err(DecodeError::Invalid("address")));
}
