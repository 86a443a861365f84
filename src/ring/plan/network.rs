//! The network that copies flow through, as far as a [`Flow`](super::flow::Flow) may change it.
//!
//! ```text
//!            +-> a node alone in its zone ------------+
//!   sector --+-> sector's zone -> a node of the zone -+-> sink
//!            +-> sector's pool -^
//! ```
//!
//! A unit is one copy. A sector sends one to each of its owners, a zone's first straight, those
//! that repeat a zone through the pool, which lets only so many pass. A new owner costs one, an old
//! one nothing. From a node to the sink copies up to its target rounded down are free, up to its
//! target rounded up they cost [`ROOM`], beyond it twice that: off target as little as possible
//! comes first, moves second.
//!
//! Nothing of this is stored: the arcs with room left follow from who owns what. That keeps a
//! table of 16384 sectors in the memory of its owners.

use super::{Draft, mix};
use std::collections::BTreeSet;

/// What a copy costs that a node's target does not ask for: more than all copies of the largest
/// table moved, 7 * 16384.
pub(super) const ROOM: i64 = 1 << 20;

/// A sector, as the flow sees it.
pub(super) struct Site {
    /// Who owns it and may cease to.
    owners: Vec<usize>,
    /// Who owns it and stays.
    pinned: Vec<usize>,
    /// Nodes of its slots on the move: no place for them.
    barred: Vec<usize>,
    /// Who owned it at first.
    homes: Vec<usize>,
    /// It holds no data: anybody may have it for nothing.
    is_new: bool,
    /// Owners it lacks.
    missing: usize,
    repeats_max: usize,
}

/// A node that may own, as the flow sees it.
struct Member {
    /// Its zone's index among the shared ones.
    zone: Option<usize>,
    /// The sectors it owns and may cease to.
    sites: BTreeSet<usize>,
    /// How many of these have reached the sink.
    settled: usize,
    /// Its target, less what is pinned to it.
    min: usize,
    max: usize,
}

/// A point of the network.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Vertex {
    Node(usize),
    Sector(usize),
    Pool(usize),
    Zone(usize, usize),
    Sink,
}

/// An arc that has room.
#[derive(Clone, Copy)]
pub(super) struct Arc {
    pub(super) to: usize,
    pub(super) cost: i64,
}

pub(super) struct Network {
    sites: Vec<Site>,
    members: Vec<Member>,
    /// Every node's zone among the shared ones, those of nodes that may not own included.
    zone_of: Vec<Option<usize>>,
    /// The members of each shared zone.
    zones: Vec<Vec<usize>>,
    /// Members that share their zone with nobody.
    alone: Vec<usize>,
}

impl Site {
    fn all(&self) -> impl Iterator<Item = usize> + Clone + '_ {
        self.owners.iter().chain(&self.pinned).copied()
    }

    fn takes(&self, node: usize) -> bool {
        !self.owners.contains(&node) && !self.barred.contains(&node)
    }

    fn cost(&self, node: usize) -> i64 {
        i64::from(!self.is_new && !self.homes.contains(&node))
    }

    /// Copies that are to move.
    fn moved(&self) -> usize {
        self.owners.iter().filter(|&&owner| self.cost(owner) > 0).count()
    }
}

impl Network {
    /// The draft's network, with only those copies under way that cost nothing: what a member
    /// holds up to its target rounded down. The rest waits where it is to be sent on.
    pub(super) fn new(draft: &Draft) -> Self {
        let mut sharing = std::collections::BTreeMap::<usize, Vec<usize>>::new();
        for (at, node) in draft.nodes.iter().enumerate() {
            sharing.entry(node.zone).or_default().push(at);
        }
        sharing.retain(|_, nodes| nodes.len() > 1);
        let mut zone_of = vec![None; draft.nodes.len()];
        for (zone, nodes) in sharing.values().enumerate() {
            for &node in nodes {
                zone_of[node] = Some(zone);
            }
        }
        let may_own = |nodes: &Vec<usize>| nodes.iter().copied().filter(|&at| at < draft.eligible).collect();
        let mut network = Self {
            sites: Vec::with_capacity(draft.sectors.len()),
            members: Vec::with_capacity(draft.eligible),
            zones: sharing.values().map(may_own).collect(),
            alone: (0..draft.eligible).filter(|&at| zone_of[at].is_none()).collect(),
            zone_of,
        };
        for (at, node) in draft.nodes[..draft.eligible].iter().enumerate() {
            let zone = network.zone_of[at];
            let (min, max) = (node.min, node.max);
            network.members.push(Member { zone, sites: BTreeSet::new(), settled: 0, min, max });
        }
        for sector in 0..draft.sectors.len() {
            network.add_site(draft, sector);
        }
        for member in &mut network.members {
            member.settled = member.sites.len().min(member.min);
        }
        network
    }

    fn add_site(&mut self, draft: &Draft, sector: usize) {
        let places = &draft.sectors[sector];
        let frozen = places.iter().filter(|place| place.is_frozen()).filter_map(|place| place.was);
        let mut site = Site {
            owners: Vec::with_capacity(draft.n),
            pinned: places.iter().filter(|place| place.pinned).map(|place| place.owner).collect(),
            barred: frozen.flat_map(|slot| slot.nodes()).filter_map(|id| draft.index_of(id)).collect(),
            homes: Vec::new(),
            is_new: places.iter().all(|place| place.was.is_none()),
            missing: 0,
            repeats_max: draft.limits[sector],
        };
        for &owner in &site.pinned {
            if let Some(member) = self.members.get_mut(owner) {
                member.min = member.min.saturating_sub(1);
                member.max = member.max.saturating_sub(1);
            }
        }
        let free = places.iter().filter(|place| !place.pinned).map(|place| place.owner);
        site.owners.extend(free.clone().filter(|&owner| owner < draft.eligible));
        site.homes.clone_from(&site.owners);
        // A zone that is there too often gives up one of its copies: the flow finds which is best.
        while self.repeats(&site) > site.repeats_max {
            let repeated = |&at: &usize| self.repeats_zone(&site, site.owners[at]);
            let Some(at) = (0..site.owners.len()).find(repeated) else { break };
            site.owners.remove(at);
        }
        site.missing = free.count() - site.owners.len();
        for &owner in &site.owners {
            self.members[owner].sites.insert(sector);
        }
        self.sites.push(site);
    }

    /// Who owns each sector in the end, those that stay in any case left out.
    pub(super) fn into_owners(self) -> impl Iterator<Item = Vec<usize>> {
        self.sites.into_iter().map(|site| site.owners)
    }

    // Vertices are numbered: nodes, then each sector with its pool and zones, then the sink.

    /// Vertices of one sector.
    fn stride(&self) -> usize {
        if self.zones.is_empty() { 1 } else { 2 + self.zones.len() }
    }

    pub(super) fn sink(&self) -> usize {
        self.members.len() + self.sites.len() * self.stride()
    }

    fn vertex(&self, at: usize) -> Vertex {
        let Some(beyond) = at.checked_sub(self.members.len()) else { return Vertex::Node(at) };
        let (sector, part) = (beyond / self.stride(), beyond % self.stride());
        match part {
            _ if at == self.sink() => Vertex::Sink,
            0 => Vertex::Sector(sector),
            1 => Vertex::Pool(sector),
            zone => Vertex::Zone(sector, zone - 2),
        }
    }

    fn number(&self, vertex: Vertex) -> usize {
        let first = |sector: usize| self.members.len() + sector * self.stride();
        match vertex {
            Vertex::Node(node) => node,
            Vertex::Sector(sector) => first(sector),
            Vertex::Pool(sector) => first(sector) + 1,
            Vertex::Zone(sector, zone) => first(sector) + 2 + zone,
            Vertex::Sink => self.sink(),
        }
    }

    /// Where a sector's copies come to a node from.
    fn gate(&self, sector: usize, node: usize) -> Vertex {
        self.members[node].zone.map_or(Vertex::Sector(sector), |zone| Vertex::Zone(sector, zone))
    }

    /// How many of a sector's owners are in a zone.
    fn in_zone(&self, site: &Site, zone: usize) -> usize {
        site.all().filter(|&owner| self.zone_of[owner] == Some(zone)).count()
    }

    /// Owners in a zone that has another before it.
    fn repeats(&self, site: &Site) -> usize {
        let zones = || site.all().map(|owner| self.zone_of[owner]);
        let repeated = |(at, zone): (usize, Option<usize>)| {
            zone.is_some() && zones().take(at).any(|earlier| earlier == zone)
        };
        zones().enumerate().filter(|&entry| repeated(entry)).count()
    }

    fn repeats_zone(&self, site: &Site, owner: usize) -> bool {
        self.zone_of[owner].is_some_and(|zone| self.in_zone(site, zone) > 1)
    }

    /// Copies at a vertex that have not reached the sink yet.
    pub(super) fn excess(&self, at: usize) -> usize {
        match self.vertex(at) {
            Vertex::Node(node) => self.members[node].sites.len() - self.members[node].settled,
            Vertex::Sector(sector) => self.sites[sector].missing,
            Vertex::Pool(_) | Vertex::Zone(..) | Vertex::Sink => 0,
        }
    }

    /// The vertices with copies to send on: sectors first, then members, the fullest first.
    pub(super) fn sources(&self) -> Vec<usize> {
        let sectors = (0..self.sites.len()).map(|sector| self.number(Vertex::Sector(sector)));
        let mut sources: Vec<_> = sectors.filter(|&at| self.excess(at) > 0).collect();
        let mut nodes: Vec<_> = (0..self.members.len()).filter(|&at| self.excess(at) > 0).collect();
        nodes.sort_by_key(|&at| {
            let member = &self.members[at];
            (std::cmp::Reverse(member.sites.len() as i64 - member.max as i64), mix(0, at))
        });
        sources.extend(nodes);
        sources
    }

    /// The arcs from a vertex that have room.
    pub(super) fn arcs(&self, from: usize, arcs: &mut Vec<Arc>) {
        arcs.clear();
        let mut add = |to: Vertex, cost: i64| arcs.push(Arc { to: self.number(to), cost });
        match self.vertex(from) {
            Vertex::Node(node) => {
                let member = &self.members[node];
                for &sector in &member.sites {
                    add(self.gate(sector, node), -self.sites[sector].cost(node));
                }
                let beyond = [member.min, member.max].into_iter().filter(|&bound| member.settled >= bound);
                add(Vertex::Sink, ROOM * beyond.count() as i64);
            }
            Vertex::Sector(sector) => {
                let site = &self.sites[sector];
                for &node in self.alone.iter().filter(|&&node| site.takes(node)) {
                    add(Vertex::Node(node), site.cost(node));
                }
                let is_open = |zone: &usize| self.in_zone(site, *zone) == 0;
                for zone in (0..self.zones.len()).filter(is_open) {
                    add(Vertex::Zone(sector, zone), 0);
                }
                if !self.zones.is_empty() && self.repeats(site) < site.repeats_max {
                    add(Vertex::Pool(sector), 0);
                }
            }
            Vertex::Pool(sector) => {
                for zone in 0..self.zones.len() {
                    add(Vertex::Zone(sector, zone), 0);
                }
                if self.repeats(&self.sites[sector]) > 0 {
                    add(Vertex::Sector(sector), 0);
                }
            }
            Vertex::Zone(sector, zone) => {
                let site = &self.sites[sector];
                for &node in self.zones[zone].iter().filter(|&&node| site.takes(node)) {
                    add(Vertex::Node(node), site.cost(node));
                }
                let copies = self.in_zone(site, zone);
                if copies > 0 {
                    add(Vertex::Sector(sector), 0);
                }
                if copies > 1 {
                    add(Vertex::Pool(sector), 0);
                }
            }
            Vertex::Sink => {}
        }
    }

    /// The arcs from the sink back to members: what the last copy of each to arrive has cost. No
    /// shortest path to the sink uses one; proofs do.
    #[cfg(test)]
    pub(super) fn refunds(&self) -> impl Iterator<Item = Arc> + '_ {
        let arrived = self.members.iter().enumerate().filter(|entry| entry.1.settled > 0);
        arrived.map(|(to, member)| {
            let beyond = [member.min, member.max].into_iter().filter(|&bound| member.settled > bound);
            Arc { to, cost: -ROOM * beyond.count() as i64 }
        })
    }

    /// Which of several equally cheap arcs is taken first. Sectors that few copies of move come
    /// before others, so that few lose several owners at once; members that lack most come first;
    /// then a hash decides, so that new members come into mixed company.
    pub(super) fn preference(&self, from: usize, to: usize) -> (i64, u64) {
        match (self.vertex(from), self.vertex(to)) {
            (Vertex::Node(node), Vertex::Sector(sector) | Vertex::Zone(sector, _)) => {
                (self.sites[sector].moved() as i64, mix(sector, node))
            }
            (Vertex::Sector(sector) | Vertex::Zone(sector, _), Vertex::Node(node)) => {
                let member = &self.members[node];
                (member.settled as i64 - member.min as i64, mix(sector, node))
            }
            _ => (0, 0),
        }
    }

    /// Sends one copy along a path to the sink.
    pub(super) fn send(&mut self, path: &[usize]) {
        if let Some(&first) = path.first()
            && let Vertex::Sector(sector) = self.vertex(first)
        {
            self.sites[sector].missing -= 1;
        }
        for pair in path.windows(2) {
            match (self.vertex(pair[0]), self.vertex(pair[1])) {
                (Vertex::Node(node), Vertex::Sector(sector) | Vertex::Zone(sector, _)) => {
                    self.sites[sector].owners.retain(|&owner| owner != node);
                    self.members[node].sites.remove(&sector);
                }
                (Vertex::Sector(sector) | Vertex::Zone(sector, _), Vertex::Node(node)) => {
                    self.sites[sector].owners.push(node);
                    self.members[node].sites.insert(sector);
                }
                (Vertex::Node(node), Vertex::Sink) => self.members[node].settled += 1,
                _ => {}
            }
        }
    }
}
