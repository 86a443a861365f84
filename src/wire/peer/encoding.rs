//! The bytes of the messages between nodes.
//!
//! Pure translation; called by way of [`Message`] only.

use super::{FenceStep, Listed, PeerReply, PeerRequest, Place, Relic, RoundId, Saying, Standing, Worth};
use crate::engine::LEAVES;
use crate::limits::{
    COMPARE_PLACES_MAX, GOSSIP_RUMORS_MAX, KEY_BYTES_MAX, LISTED_KEYS_MAX, MANAGER_BODY_BYTES_MAX,
    REAPED_AT_ONCE,
};
use crate::types::{
    ClientId, Dot, Epoch, Fence, Incarnation, Key, KeyspaceId, NodeId, OpId, SectorId, Stamp,
};
use crate::version::Object;
use crate::wire::Message;
use crate::wire::client::{DataReply, DataRequest};
use crate::wire::codec::{DecodeError, Reader, Writer};
use crate::wire::object::{decode_object, decode_vector, encode_object, encode_vector};
use crate::wire::vitals::{VITALS_BYTES, decode_vitals, encode_vitals};
use bytes::Bytes;

pub(crate) const FORWARD_REQUEST: u8 = 0x41;
pub(crate) const STORE: u8 = 0x42;
pub(crate) const READ: u8 = 0x43;
const TRANSFER: u8 = 0x44;
const PROBE: u8 = 0x45;
const FETCH_TABLE: u8 = 0x46;
const PUSH_TABLE: u8 = 0x47;
const ASK_AFTER: u8 = 0x48;
const GOSSIP: u8 = 0x49;
const COMPARE: u8 = 0x4a;
const LIST: u8 = 0x4b;
const FETCH: u8 = 0x4c;
const SETTLE: u8 = 0x4d;
const RAISE_FENCE: u8 = 0x4e;

const FORWARDED: u8 = 0x61;
pub(crate) const STORED: u8 = 0x62;
pub(crate) const SAME: u8 = 0x63;
pub(crate) const HELD: u8 = 0x64;
pub(crate) const ABSENT: u8 = 0x65;
const STALE: u8 = 0x66;
const BEHIND: u8 = 0x67;
const ALIVE: u8 = 0x68;
const PEER_TABLE: u8 = 0x69;
const OVERLOADED: u8 = 0x6a;
const UNREADABLE: u8 = 0x6b;
const FULL: u8 = 0x6c;
const HEARD: u8 = 0x6d;
const GOSSIP_BACK: u8 = 0x6e;
const DIFFER: u8 = 0x6f;
const LISTING: u8 = 0x70;
const OBJECTS: u8 = 0x71;
const SETTLED: u8 = 0x72;
const FENCE_RAISED: u8 = 0x73;
const FENCED: u8 = 0x74;

/// Entries of one transfer chunk: its byte cap over the smallest entry.
const TRANSFER_ENTRIES_MAX: usize = 4096;
const ENTRY_BYTES_MIN: usize = 12;

fn encode_worth(worth: Worth, out: &mut Writer) {
    out.u32(worth.ttl_ms);
    out.u64(worth.sent_us);
}

fn decode_worth(reader: &mut Reader) -> Result<Worth, DecodeError> {
    Ok(Worth { ttl_ms: reader.u32()?, sent_us: reader.u64()? })
}

fn encode_place(place: Place, out: &mut Writer) {
    out.u16(place.keyspace.0);
    out.u16(place.sector.0);
    out.u64(place.conf_epoch.0);
}

fn decode_place(reader: &mut Reader) -> Result<Place, DecodeError> {
    Ok(Place {
        keyspace: KeyspaceId(reader.u16()?),
        sector: SectorId(reader.u16()?),
        conf_epoch: Epoch(reader.u64()?),
    })
}

fn encode_saying(said: &Saying, out: &mut Writer) {
    out.u32(said.incarnation.0);
    out.u32(said.beat);
    encode_vitals(&said.vitals, out);
}

fn decode_saying(reader: &mut Reader) -> Result<Saying, DecodeError> {
    Ok(Saying {
        incarnation: Incarnation(reader.u32()?),
        beat: reader.u32()?,
        vitals: decode_vitals(reader)?,
    })
}

/// Bytes of a node's id and its saying.
const RUMOR_BYTES: usize = 12 + VITALS_BYTES;

fn encode_rumors(rumors: &[(NodeId, Saying)], out: &mut Writer) {
    out.count(rumors.len());
    for (node, said) in rumors {
        out.u32(node.0);
        encode_saying(said, out);
    }
}

fn decode_rumors(reader: &mut Reader) -> Result<Vec<(NodeId, Saying)>, DecodeError> {
    let count = reader.count("rumors", GOSSIP_RUMORS_MAX, RUMOR_BYTES)?;
    (0..count).map(|_| Ok((NodeId(reader.u32()?), decode_saying(reader)?))).collect()
}

fn decode_key(reader: &mut Reader) -> Result<Key, DecodeError> {
    reader.bytes("key", KEY_BYTES_MAX)
}

impl Message for PeerRequest {
    fn kind(&self) -> u8 {
        match self {
            PeerRequest::Forward { .. } => FORWARD_REQUEST,
            PeerRequest::Store { .. } => STORE,
            PeerRequest::Read { .. } => READ,
            PeerRequest::Transfer { .. } => TRANSFER,
            PeerRequest::Probe { .. } => PROBE,
            PeerRequest::FetchTable => FETCH_TABLE,
            PeerRequest::PushTable(_) => PUSH_TABLE,
            PeerRequest::AskAfter { .. } => ASK_AFTER,
            PeerRequest::Gossip { .. } => GOSSIP,
            PeerRequest::Compare { .. } => COMPARE,
            PeerRequest::List { .. } => LIST,
            PeerRequest::Fetch { .. } => FETCH,
            PeerRequest::Settle { .. } => SETTLE,
            PeerRequest::RaiseFence { .. } => RAISE_FENCE,
        }
    }

    fn encode(&self, out: &mut Writer) {
        match self {
            PeerRequest::Forward { worth, begin_ms, request } => {
                encode_worth(*worth, out);
                out.u32(*begin_ms);
                request.encode_tagged(out);
            }
            PeerRequest::Store { worth, place, fence, key, object, write, owed_to } => {
                encode_worth(*worth, out);
                encode_place(*place, out);
                out.u32(fence.0);
                out.bytes(key);
                encode_write(*write, out);
                out.u32(owed_to.unwrap_or_default().0);
                encode_object(object, out);
            }
            PeerRequest::Read { worth, place, key, digest, kept, fence } => {
                encode_worth(*worth, out);
                encode_place(*place, out);
                out.u32(fence.0);
                out.bytes(key);
                out.bool(*kept);
                out.bool(digest.is_some());
                if let Some(digest) = digest {
                    out.u64(*digest);
                }
            }
            PeerRequest::Transfer { place, fence, entries } => {
                encode_place(*place, out);
                out.u32(fence.0);
                encode_entries(entries, out);
            }
            PeerRequest::Settle { reap, fence, places } => {
                out.bool(*reap);
                out.u32(fence.0);
                encode_relics(places, out);
            }
            PeerRequest::RaiseFence { round, step, fence, sectors } => {
                encode_round(*round, out);
                out.bool(*step == FenceStep::Enforce);
                out.u32(fence.0);
                encode_sectors(sectors, out);
            }
            PeerRequest::Compare { places } => {
                out.count(places.len());
                for (place, root) in places {
                    encode_place(*place, out);
                    out.u64(*root);
                }
            }
            PeerRequest::List { place, leaves, listed } => {
                encode_place(*place, out);
                out.count(leaves.len());
                leaves.iter().for_each(|&leaf| out.u8(leaf));
                out.count(listed.len());
                for entry in listed {
                    out.u64(entry.key);
                    out.u64(entry.object);
                }
            }
            PeerRequest::Fetch { place, keys } => {
                encode_place(*place, out);
                encode_keys(keys, out);
            }
            PeerRequest::Probe { epoch } => out.u64(epoch.0),
            PeerRequest::FetchTable => {}
            PeerRequest::PushTable(bytes) => out.value(bytes),
            PeerRequest::AskAfter { node } => out.u32(node.0),
            PeerRequest::Gossip { rumors } => encode_rumors(rumors, out),
        }
    }

    fn decode(kind: u8, body: Bytes) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(body);
        let message = match kind {
            FORWARD_REQUEST => PeerRequest::Forward {
                worth: decode_worth(&mut reader)?,
                begin_ms: reader.u32()?,
                request: DataRequest::decode_tagged(&mut reader)?,
            },
            STORE => {
                let (worth, place) = (decode_worth(&mut reader)?, decode_place(&mut reader)?);
                let fence = Fence(reader.u32()?);
                let key = decode_key(&mut reader)?;
                let write = decode_write(&mut reader)?;
                let owed_to = Some(NodeId(reader.u32()?)).filter(|&node| node != NodeId(0));
                let object = decode_object(&mut reader)?;
                PeerRequest::Store { worth, place, fence, key, object, write, owed_to }
            }
            READ => {
                let (worth, place) = (decode_worth(&mut reader)?, decode_place(&mut reader)?);
                let fence = Fence(reader.u32()?);
                let key = decode_key(&mut reader)?;
                let kept = reader.bool("kept")?;
                let digest = if reader.bool("digest flag")? { Some(reader.u64()?) } else { None };
                PeerRequest::Read { worth, place, key, digest, kept, fence }
            }
            TRANSFER => PeerRequest::Transfer {
                place: decode_place(&mut reader)?,
                fence: Fence(reader.u32()?),
                entries: decode_entries(&mut reader)?,
            },
            SETTLE => PeerRequest::Settle {
                reap: reader.bool("reap")?,
                fence: Fence(reader.u32()?),
                places: decode_relics(&mut reader)?,
            },
            RAISE_FENCE => PeerRequest::RaiseFence {
                round: decode_round(&mut reader)?,
                step: if reader.bool("enforce")? { FenceStep::Enforce } else { FenceStep::Adopt },
                fence: Fence(reader.u32()?),
                sectors: decode_sectors(&mut reader)?,
            },
            COMPARE => {
                let count = reader.count("places", COMPARE_PLACES_MAX, 20)?;
                let place = |_| Ok((decode_place(&mut reader)?, reader.u64()?));
                PeerRequest::Compare { places: (0..count).map(place).collect::<Result<_, DecodeError>>()? }
            }
            LIST => decode_list(&mut reader)?,
            FETCH => {
                PeerRequest::Fetch { place: decode_place(&mut reader)?, keys: decode_keys(&mut reader)? }
            }
            PROBE => PeerRequest::Probe { epoch: Epoch(reader.u64()?) },
            FETCH_TABLE => PeerRequest::FetchTable,
            PUSH_TABLE => PeerRequest::PushTable(reader.bytes("table", MANAGER_BODY_BYTES_MAX)?),
            ASK_AFTER => PeerRequest::AskAfter { node: NodeId(reader.u32()?) },
            GOSSIP => PeerRequest::Gossip { rumors: decode_rumors(&mut reader)? },
            other => return Err(DecodeError::UnknownKind(other)),
        };
        reader.finish()?;
        Ok(message)
    }
}

fn encode_write(write: Option<(OpId, Dot)>, out: &mut Writer) {
    out.bool(write.is_some());
    if let Some((op, dot)) = write {
        out.u128(op.client.0);
        out.u64(op.seq);
        crate::wire::object::encode_dot(dot, out);
    }
}

fn decode_write(reader: &mut Reader) -> Result<Option<(OpId, Dot)>, DecodeError> {
    if !reader.bool("write flag")? {
        return Ok(None);
    }
    let op = OpId { client: ClientId(reader.u128()?), seq: reader.u64()? };
    Ok(Some((op, crate::wire::object::decode_dot(reader)?)))
}

fn encode_entries(entries: &[(Key, Object)], out: &mut Writer) {
    out.count(entries.len());
    for (key, object) in entries {
        out.bytes(key);
        encode_object(object, out);
    }
}

fn decode_entries(reader: &mut Reader) -> Result<Vec<(Key, Object)>, DecodeError> {
    let count = reader.count("entries", TRANSFER_ENTRIES_MAX, ENTRY_BYTES_MIN)?;
    (0..count).map(|_| Ok((decode_key(reader)?, decode_object(reader)?))).collect()
}

fn encode_keys(keys: &[Key], out: &mut Writer) {
    out.count(keys.len());
    keys.iter().for_each(|key| out.bytes(key));
}

fn decode_keys(reader: &mut Reader) -> Result<Vec<Key>, DecodeError> {
    let count = reader.count("keys", TRANSFER_ENTRIES_MAX, 4)?;
    (0..count).map(|_| decode_key(reader)).collect()
}

fn encode_round(round: RoundId, out: &mut Writer) {
    out.u64(round.epoch.0);
    out.u32(round.leader.0);
    out.u32(round.incarnation.0);
    out.u32(round.number);
}

fn decode_round(reader: &mut Reader) -> Result<RoundId, DecodeError> {
    Ok(RoundId {
        epoch: Epoch(reader.u64()?),
        leader: NodeId(reader.u32()?),
        incarnation: Incarnation(reader.u32()?),
        number: reader.u32()?,
    })
}

fn encode_sectors(sectors: &[SectorId], out: &mut Writer) {
    out.count(sectors.len());
    sectors.iter().for_each(|sector| out.u16(sector.0));
}

fn decode_sectors(reader: &mut Reader) -> Result<Vec<SectorId>, DecodeError> {
    let count = reader.count("sectors", REAPED_AT_ONCE, 2)?;
    (0..count).map(|_| Ok(SectorId(reader.u16()?))).collect()
}

fn encode_relics(places: &[(Place, Vec<Relic>)], out: &mut Writer) {
    out.count(places.len());
    for (place, relics) in places {
        encode_place(*place, out);
        out.count(relics.len());
        for relic in relics {
            out.bytes(&relic.key);
            out.u64(relic.digest);
            encode_vector(&relic.context, out);
        }
    }
}

fn decode_relics(reader: &mut Reader) -> Result<Vec<(Place, Vec<Relic>)>, DecodeError> {
    let count = reader.count("places", REAPED_AT_ONCE, 16)?;
    let (mut places, mut left) = (Vec::with_capacity(count), REAPED_AT_ONCE);
    for _ in 0..count {
        let place = decode_place(reader)?;
        let count = reader.count("keys to settle", left, 14)?;
        left -= count;
        let mut relic =
            || Ok(Relic { key: decode_key(reader)?, digest: reader.u64()?, context: decode_vector(reader)? });
        places.push((place, (0..count).map(|_| relic()).collect::<Result<_, DecodeError>>()?));
    }
    Ok(places)
}

fn decode_hashes(what: &'static str, most: usize, reader: &mut Reader) -> Result<Vec<u64>, DecodeError> {
    let count = reader.count(what, most, 8)?;
    (0..count).map(|_| reader.u64()).collect()
}

fn decode_list(reader: &mut Reader) -> Result<PeerRequest, DecodeError> {
    let place = decode_place(reader)?;
    let count = reader.count("leaves", LEAVES, 1)?;
    let leaves = (0..count).map(|_| reader.u8()).collect::<Result<_, _>>()?;
    let count = reader.count("listed keys", LISTED_KEYS_MAX, 16)?;
    let entry = |_| Ok(Listed { key: reader.u64()?, object: reader.u64()? });
    let listed = (0..count).map(entry).collect::<Result<_, DecodeError>>()?;
    Ok(PeerRequest::List { place, leaves, listed })
}

fn decode_differ(reader: &mut Reader) -> Result<PeerReply, DecodeError> {
    let compared = reader.u16()?;
    let count = reader.count("places apart", COMPARE_PLACES_MAX, 2)?;
    let apart = (0..count).map(|_| reader.u16()).collect::<Result<_, _>>()?;
    let count = reader.count("differing places", COMPARE_PLACES_MAX, 16)?;
    let place = |_| Ok((decode_place(reader)?, decode_hashes("leaves", LEAVES, reader)?));
    Ok(PeerReply::Differ {
        compared,
        apart,
        places: (0..count).map(place).collect::<Result<_, DecodeError>>()?,
    })
}

impl Message for PeerReply {
    fn kind(&self) -> u8 {
        match self {
            PeerReply::Forwarded(_) => FORWARDED,
            PeerReply::Stored { .. } => STORED,
            PeerReply::Same => SAME,
            PeerReply::Held(_) => HELD,
            PeerReply::Absent { .. } => ABSENT,
            PeerReply::Stale(_) => STALE,
            PeerReply::Behind(_) => BEHIND,
            PeerReply::Alive(_) => ALIVE,
            PeerReply::Table(_) => PEER_TABLE,
            PeerReply::Overloaded => OVERLOADED,
            PeerReply::Unreadable => UNREADABLE,
            PeerReply::Full => FULL,
            PeerReply::Heard { .. } => HEARD,
            PeerReply::Gossip { .. } => GOSSIP_BACK,
            PeerReply::Differ { .. } => DIFFER,
            PeerReply::Listing { .. } => LISTING,
            PeerReply::Objects { .. } => OBJECTS,
            PeerReply::Settled { .. } => SETTLED,
            PeerReply::FenceRaised { .. } => FENCE_RAISED,
            PeerReply::Fenced { .. } => FENCED,
        }
    }

    fn encode(&self, out: &mut Writer) {
        match self {
            PeerReply::Forwarded(reply) => reply.encode_tagged(out),
            PeerReply::Stored { standing } => out.u64(match standing {
                Standing::Highest => 0,
                Standing::Below(stamp) => stamp.0,
                Standing::Repeated => u64::MAX,
            }),
            PeerReply::Same | PeerReply::Overloaded | PeerReply::Unreadable | PeerReply::Full => {}
            PeerReply::Held(object) => encode_object(object, out),
            PeerReply::Absent { vouched } => out.bool(*vouched),
            PeerReply::Stale(epoch) | PeerReply::Behind(epoch) => out.u64(epoch.0),
            PeerReply::Alive(said) => encode_saying(said, out),
            PeerReply::Table(bytes) => out.value(bytes),
            PeerReply::Heard { node, ms_ago } => {
                out.u32(node.0);
                out.bool(ms_ago.is_some());
                if let Some(ms_ago) = ms_ago {
                    out.u32(*ms_ago);
                }
            }
            PeerReply::Gossip { rumors } => encode_rumors(rumors, out),
            PeerReply::Differ { compared, apart, places } => {
                out.u16(*compared);
                out.count(apart.len());
                apart.iter().for_each(|&at| out.u16(at));
                out.count(places.len());
                for (place, leaves) in places {
                    encode_place(*place, out);
                    out.count(leaves.len());
                    leaves.iter().for_each(|&leaf| out.u64(leaf));
                }
            }
            PeerReply::Listing { done, offered, wanted } => {
                out.u16(*done);
                encode_keys(offered, out);
                out.count(wanted.len());
                wanted.iter().for_each(|&key| out.u64(key));
            }
            PeerReply::Objects { taken, lacking, fence, entries } => {
                out.u16(*taken);
                out.u16(*lacking);
                out.u32(fence.0);
                encode_entries(entries, out);
            }
            PeerReply::Settled { differ } => {
                out.count(differ.len());
                differ.iter().for_each(|&at| out.u16(at));
            }
            PeerReply::FenceRaised { done, fence, strange } => {
                out.bool(*done);
                out.u32(fence.0);
                encode_sectors(strange, out);
            }
            PeerReply::Fenced { fence, epoch } => {
                out.u32(fence.0);
                out.u64(epoch.0);
            }
        }
    }

    fn decode(kind: u8, body: Bytes) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(body);
        let message = match kind {
            FORWARDED => PeerReply::Forwarded(DataReply::decode_tagged(&mut reader)?),
            STORED => {
                let standing = match reader.u64()? {
                    0 => Standing::Highest,
                    u64::MAX => Standing::Repeated,
                    stamp => Standing::Below(Stamp(stamp)),
                };
                PeerReply::Stored { standing }
            }
            SAME => PeerReply::Same,
            HELD => PeerReply::Held(decode_object(&mut reader)?),
            ABSENT => PeerReply::Absent { vouched: reader.bool("vouched")? },
            STALE => PeerReply::Stale(Epoch(reader.u64()?)),
            BEHIND => PeerReply::Behind(Epoch(reader.u64()?)),
            ALIVE => PeerReply::Alive(decode_saying(&mut reader)?),
            PEER_TABLE => PeerReply::Table(reader.bytes("table", MANAGER_BODY_BYTES_MAX)?),
            OVERLOADED => PeerReply::Overloaded,
            UNREADABLE => PeerReply::Unreadable,
            FULL => PeerReply::Full,
            HEARD => PeerReply::Heard {
                node: NodeId(reader.u32()?),
                ms_ago: if reader.bool("heard flag")? { Some(reader.u32()?) } else { None },
            },
            GOSSIP_BACK => PeerReply::Gossip { rumors: decode_rumors(&mut reader)? },
            DIFFER => decode_differ(&mut reader)?,
            LISTING => PeerReply::Listing {
                done: reader.u16()?,
                offered: decode_keys(&mut reader)?,
                wanted: decode_hashes("wanted keys", LISTED_KEYS_MAX, &mut reader)?,
            },
            OBJECTS => PeerReply::Objects {
                taken: reader.u16()?,
                lacking: reader.u16()?,
                fence: Fence(reader.u32()?),
                entries: decode_entries(&mut reader)?,
            },
            SETTLED => {
                let count = reader.count("keys that differ", REAPED_AT_ONCE, 2)?;
                PeerReply::Settled {
                    differ: (0..count).map(|_| reader.u16()).collect::<Result<_, DecodeError>>()?,
                }
            }
            FENCE_RAISED => PeerReply::FenceRaised {
                done: reader.bool("done")?,
                fence: Fence(reader.u32()?),
                strange: decode_sectors(&mut reader)?,
            },
            FENCED => PeerReply::Fenced { fence: Fence(reader.u32()?), epoch: Epoch(reader.u64()?) },
            other => return Err(DecodeError::UnknownKind(other)),
        };
        reader.finish()?;
        Ok(message)
    }
}
