//! Which replication group each shard of a new table enters, and which groups to make for it.
//!
//! Groups are few, because each costs a port, a cache file and memory on every member; and there are enough of
//! them to spread when the cluster grows, because a group is the smallest thing that moves: with the default of
//! eight a node, each node of a cluster that has grown four-fold still gets two. Groups are made as tables fill
//! them, never ahead. A table with rf 1 needs no group: its shards are units by themselves.
//!
//! Never names a group (the caller does) and never moves one ([`crate::plan`] does).

use std::collections::{BTreeMap, BTreeSet};

/// `replication_groups_per_node` where the operator set nothing.
pub const GROUPS_PER_NODE: u32 = 8;

/// A node that may become a member of groups.
#[derive(Clone, Debug, PartialEq)]
pub struct Site {
    pub id: String,
    /// Members of a new group are in distinct zones while there are enough.
    pub zone: Option<String>,
    /// Relative to the other nodes; above 0.
    pub capacity: f64,
    /// Groups of any rf it is a member of.
    pub groups: u32,
    /// How many more groups its replication ports allow.
    pub free_ports: u32,
}

/// A group that exists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    pub id: String,
    pub members: Vec<String>,
    /// Shards in it, of all tables.
    pub shards: u32,
}

/// A new table's wish.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    pub shards: u32,
    /// At least 2.
    pub rf: u32,
    /// Groups that a node should be a member of at most, over all rf.
    pub groups_per_node: u32,
}

/// Where one shard goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// Into the group of this id.
    Existing(String),
    /// Into `new_groups[_]` of the assignment.
    New(usize),
}

/// Where all shards go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assignment {
    /// Per shard of the table.
    pub places: Vec<Place>,
    /// Members of the groups to make.
    pub new_groups: Vec<Vec<String>>,
}

/// Why no group can take the shards.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AssignError {
    #[error("rf {rf} needs no replication group: place its shards as units of their own")]
    NoGroupNeeded { rf: u32 },
    #[error("rf {rf} needs {rf} active nodes, there are {nodes}: add nodes or lower rf")]
    TooFewNodes { rf: u32, nodes: usize },
    #[error(
        "no replication group of rf {rf} exists and only {nodes} nodes have a free replication port: free ports or lower rf"
    )]
    NoPorts { rf: u32, nodes: usize },
}

/// Assigns the shards of a new table. `groups` are those of its rf; one that has a member outside `sites` is left
/// alone, since a group changes only while all its members are there.
pub fn assign(sites: &[Site], groups: &[Group], request: &Request) -> Result<Assignment, AssignError> {
    let &Request { shards, rf, .. } = request;
    if rf < 2 {
        return Err(AssignError::NoGroupNeeded { rf });
    }
    if sites.len() < rf as usize {
        return Err(AssignError::TooFewNodes { rf, nodes: sites.len() });
    }
    let mut pool = Pool::new(sites, groups, rf);
    let existing = pool.groups.len();
    let target = (sites.len() as u64 * u64::from(request.groups_per_node) / u64::from(rf)).max(1);
    let spread = (sites.len() as u64).div_ceil(u64::from(rf));
    while (pool.groups.len() as u64) < target && pool.groups.len() - existing < shards as usize {
        // Other rf may have taken what the nodes should have: a pool gets enough to use every node once.
        let soft = if (pool.groups.len() as u64) < spread { u32::MAX } else { request.groups_per_node };
        let Some(members) = pool.members(soft) else { break };
        pool.found(members);
    }
    if pool.groups.is_empty() {
        let nodes = sites.iter().filter(|s| s.free_ports > 0).count();
        return Err(AssignError::NoPorts { rf, nodes });
    }
    let places = (0..shards).map(|_| pool.place()).collect();
    let new_groups = pool.groups.iter().filter(|g| g.id.is_none());
    let new_groups = new_groups.map(|g| g.members.iter().map(|&i| sites[i].id.clone()).collect()).collect();
    Ok(Assignment { places, new_groups })
}

/// The groups of one rf while shards are being assigned.
struct Pool<'a> {
    sites: &'a [Site],
    rf: usize,
    groups: Vec<Entry<'a>>,
    existing: usize,
    /// Per site: groups, free ports, shards.
    groups_at: Vec<u32>,
    ports_at: Vec<u32>,
    shards_at: Vec<u64>,
    /// How many groups two sites share.
    shared: BTreeMap<(usize, usize), u32>,
}

struct Entry<'a> {
    id: Option<&'a str>,
    members: Vec<usize>,
    shards: u64,
    /// Shards of the new table.
    mine: u32,
}

impl<'a> Pool<'a> {
    fn new(sites: &'a [Site], groups: &'a [Group], rf: u32) -> Self {
        let number: BTreeMap<&str, usize> = sites.iter().map(|s| s.id.as_str()).zip(0..).collect();
        let mut pool = Self {
            sites,
            rf: rf as usize,
            groups: Vec::new(),
            existing: 0,
            groups_at: sites.iter().map(|s| s.groups).collect(),
            ports_at: sites.iter().map(|s| s.free_ports).collect(),
            shards_at: vec![0; sites.len()],
            shared: BTreeMap::new(),
        };
        for group in groups {
            let members: Option<Vec<usize>> =
                group.members.iter().map(|m| number.get(m.as_str()).copied()).collect();
            let Some(members) = members.filter(|m| !m.is_empty()) else { continue };
            for &i in &members {
                pool.shards_at[i] += u64::from(group.shards);
            }
            pool.count_pairs(&members);
            let shards = u64::from(group.shards);
            pool.groups.push(Entry { id: Some(&group.id), members, shards, mine: 0 });
        }
        pool.existing = pool.groups.len();
        pool
    }

    fn count_pairs(&mut self, members: &[usize]) {
        for &a in members {
            for &b in members {
                if a < b {
                    *self.shared.entry((a, b)).or_default() += 1;
                }
            }
        }
    }

    /// Members for one more group: in zones not yet used, on the nodes with the fewest groups for their capacity,
    /// that share the fewest groups with the members already chosen. `None` when too few nodes have room.
    fn members(&self, groups_max: u32) -> Option<Vec<usize>> {
        let mut members: Vec<usize> = Vec::with_capacity(self.rf);
        let mut zones: BTreeMap<Option<&str>, u32> = BTreeMap::new();
        while members.len() < self.rf {
            let best = (0..self.sites.len())
                .filter(|i| !members.contains(i))
                .filter(|&i| self.ports_at[i] > 0 && self.groups_at[i] < groups_max)
                .min_by(|&a, &b| {
                    let in_zone = |i: usize| zones.get(&self.sites[i].zone.as_deref()).copied().unwrap_or(0);
                    let full = |i: usize| f64::from(self.groups_at[i]) / self.sites[i].capacity;
                    let busy = |i: usize| self.shards_at[i] as f64 / self.sites[i].capacity;
                    let pairs = |i: usize| members.iter().map(|&m| self.pair(m, i)).sum::<u32>();
                    (in_zone(a) * self.zone_counts())
                        .cmp(&(in_zone(b) * self.zone_counts()))
                        .then(full(a).total_cmp(&full(b)))
                        .then(pairs(a).cmp(&pairs(b)))
                        .then(busy(a).total_cmp(&busy(b)))
                })?;
            *zones.entry(self.sites[best].zone.as_deref()).or_default() += 1;
            members.push(best);
        }
        Some(members)
    }

    /// 1 when zones differ, else 0.
    fn zone_counts(&self) -> u32 {
        let zones: BTreeSet<Option<&str>> = self.sites.iter().map(|s| s.zone.as_deref()).collect();
        u32::from(zones.len() > 1)
    }

    fn pair(&self, a: usize, b: usize) -> u32 {
        self.shared.get(&(a.min(b), a.max(b))).copied().unwrap_or(0)
    }

    fn found(&mut self, members: Vec<usize>) {
        for &i in &members {
            self.groups_at[i] += 1;
            self.ports_at[i] -= 1;
        }
        self.count_pairs(&members);
        self.groups.push(Entry { id: None, members, shards: 0, mine: 0 });
    }

    /// Puts one shard into the group with the fewest of this table, then the fewest in all, then the least busy
    /// members.
    fn place(&mut self) -> Place {
        let busiest = |g: &Entry| g.members.iter().map(|&i| self.shards_at[i]).max().unwrap_or(0);
        let best = (0..self.groups.len())
            .min_by_key(|&k| {
                let group = &self.groups[k];
                (group.shards + u64::from(group.mine), group.mine, busiest(group))
            })
            .unwrap_or(0);
        let group = &mut self.groups[best];
        group.shards += 1;
        group.mine += 1;
        for &i in &group.members {
            self.shards_at[i] += 1;
        }
        match group.id {
            Some(id) => Place::Existing(id.to_owned()),
            None => Place::New(best - self.existing),
        }
    }
}
