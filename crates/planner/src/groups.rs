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
///
/// ```
/// use planner::groups::{GROUPS_PER_NODE, Place, Request, Site, assign};
///
/// let site = |id: &str| Site { id: id.to_owned(), zone: None, capacity: 1.0, groups: 0, free_ports: 100 };
/// let sites = ["a", "b", "c"].map(site);
/// let made = assign(&sites, &[], &Request { shards: 2, rf: 2, groups_per_node: GROUPS_PER_NODE })?;
/// // Each shard of the first table founds a group: they stay few, and there are enough to spread.
/// assert_eq!(made.places, [Place::New(0), Place::New(1)]);
/// assert_eq!(made.new_groups, [["a", "b"], ["c", "a"]]);
/// # Ok::<(), planner::groups::AssignError>(())
/// ```
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
        // Where ports are left in too few zones, more shards a group are better than a group in one zone.
        if !pool.groups.is_empty() && pool.zones_of(&members) < (rf as usize).min(pool.zones) {
            break;
        }
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
    /// How many zones the sites are in.
    zones: usize,
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
            zones: sites.iter().map(|s| s.zone.as_deref()).collect::<BTreeSet<_>>().len(),
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
        while members.len() < self.rf {
            let in_zone = |i: usize| {
                let same = |m: &&usize| self.zones > 1 && self.sites[**m].zone == self.sites[i].zone;
                members.iter().filter(same).count()
            };
            let full = |i: usize| f64::from(self.groups_at[i]) / self.sites[i].capacity;
            let busy = |i: usize| self.shards_at[i] as f64 / self.sites[i].capacity;
            let pairs = |i: usize| members.iter().map(|&m| self.pair(m, i)).sum::<u32>();
            let best = (0..self.sites.len())
                .filter(|i| !members.contains(i))
                .filter(|&i| self.ports_at[i] > 0 && self.groups_at[i] < groups_max)
                .min_by(|&a, &b| {
                    in_zone(a)
                        .cmp(&in_zone(b))
                        .then(full(a).total_cmp(&full(b)))
                        .then(pairs(a).cmp(&pairs(b)))
                        .then(busy(a).total_cmp(&busy(b)))
                })?;
            members.push(best);
        }
        Some(members)
    }

    fn zones_of(&self, members: &[usize]) -> usize {
        members.iter().map(|&i| self.sites[i].zone.as_deref()).collect::<BTreeSet<_>>().len()
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

    /// Puts one shard into a group: one that has all its members if there is any, then the one with the fewest
    /// shards, those of the new table counting twice so that it spreads, then the one with the least busy members.
    fn place(&mut self) -> Place {
        let busiest = |g: &Entry| g.members.iter().map(|&i| self.shards_at[i]).max();
        let best = (0..self.groups.len()).min_by_key(|&k| {
            let group = &self.groups[k];
            let short = self.rf.saturating_sub(group.members.len());
            (short, group.shards + u64::from(group.mine), group.mine, busiest(group))
        });
        let best = best.unwrap_or(0);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Limits, Node, Options, Problem, Unit, plan};

    fn sites(count: u32) -> Vec<Site> {
        let site = |i| Site { id: format!("n{i:03}"), zone: None, capacity: 1.0, groups: 0, free_ports: 100 };
        (0..count).map(site).collect()
    }

    fn request(shards: u32, rf: u32) -> Request {
        Request { shards, rf, groups_per_node: GROUPS_PER_NODE }
    }

    /// Shards per node.
    fn load(sites: &[Site], groups: &[Group], made: &Assignment) -> Vec<u32> {
        let mut load: BTreeMap<&str, u32> = sites.iter().map(|s| (s.id.as_str(), 0)).collect();
        for place in &made.places {
            let members = match place {
                Place::Existing(id) => &groups.iter().find(|g| g.id == *id).expect("known").members,
                Place::New(k) => &made.new_groups[*k],
            };
            for member in members {
                *load.get_mut(member.as_str()).expect("known") += 1;
            }
        }
        load.into_values().collect()
    }

    /// The groups after an assignment, with names.
    fn grown(mut groups: Vec<Group>, made: &Assignment) -> Vec<Group> {
        let first = groups.len();
        for (k, members) in made.new_groups.iter().enumerate() {
            groups.push(Group { id: format!("g{}", first + k), members: members.clone(), shards: 0 });
        }
        for place in &made.places {
            let at = match place {
                Place::Existing(id) => groups.iter().position(|g| g.id == *id).expect("known"),
                Place::New(k) => first + k,
            };
            groups[at].shards += 1;
        }
        groups
    }

    #[test]
    fn tables_share_few_groups_and_load_nodes_evenly() {
        for (nodes, rf) in [(2, 2), (3, 2), (3, 3), (5, 2), (5, 3), (12, 3), (50, 2)] {
            let sites = sites(nodes);
            let mut groups = Vec::new();
            let mut total = vec![0; nodes as usize];
            for shards in [1, 4, 10, 12, 7, 64, 3, 30] {
                let made = assign(&sites, &groups, &request(shards, rf)).expect("room");
                for (sum, load) in total.iter_mut().zip(load(&sites, &groups, &made)) {
                    *sum += load;
                }
                groups = grown(groups, &made);
                let most = nodes * GROUPS_PER_NODE / rf;
                assert!(groups.len() as u32 <= most, "{} groups of rf {rf} on {nodes} nodes", groups.len());
                let (least, most) =
                    (groups.iter().map(|g| g.shards).min(), groups.iter().map(|g| g.shards).max());
                assert!(most <= least.map(|l| l + 4), "groups of {least:?} to {most:?} shards");
            }
            let average = total.iter().sum::<u32>() / nodes;
            let (least, most) = (total.iter().min().expect("nodes"), total.iter().max().expect("nodes"));
            assert!(most - least <= 4 + average / 10, "{nodes} nodes, rf {rf}: {total:?}");
        }
    }

    #[test]
    fn a_cluster_that_grows_four_fold_still_spreads() {
        for (nodes, rf) in [(2, 2), (3, 2), (3, 3), (6, 3)] {
            let made = assign(&sites(nodes), &[], &request(100, rf)).expect("room");
            let units = made.new_groups.iter().enumerate();
            let problem = Problem {
                nodes: sites(4 * nodes).into_iter().map(|s| Node::active(s.id)).collect(),
                units: units
                    .map(|(k, m)| Unit::new(k.to_string(), rf, m.iter().map(String::as_str)))
                    .collect(),
                options: Options::default(),
            };
            let grown = plan(&problem, &Limits::default());
            assert!(grown.load.values().all(|&load| load >= 2.0), "{nodes} nodes, rf {rf}: {:?}", grown.load);
        }
    }

    #[test]
    fn ports_and_zones_are_respected() {
        let mut sites = sites(6);
        for (i, site) in sites.iter_mut().enumerate() {
            site.zone = Some(format!("z{}", i / 2));
            site.free_ports = i as u32;
        }
        let made = assign(&sites, &[], &request(40, 2)).expect("room");
        let number = |id: &String| sites.iter().position(|s| s.id == *id).expect("known");
        let mut used = [0; 6];
        for members in &made.new_groups {
            assert_eq!(members.len(), 2);
            assert_ne!(number(&members[0]) / 2, number(&members[1]) / 2, "two zones");
            for member in members {
                used[number(member)] += 1;
            }
        }
        assert!(used.iter().zip(0..).all(|(&used, ports)| used <= ports), "{used:?}");
        assert!(made.new_groups.len() >= 5);
    }

    #[test]
    fn groups_without_all_members_wait() {
        let sites = sites(3);
        let group = |id: &str, members: &[&str], shards| Group {
            id: id.into(),
            members: members.iter().map(|m| (*m).to_owned()).collect(),
            shards,
        };
        let groups = [
            group("gone", &["n000", "n009"], 0),
            group("short", &["n001"], 0),
            group("whole", &["n000", "n001"], 90),
        ];
        let few = Request { shards: 2, rf: 2, groups_per_node: 1 };
        let made = assign(&sites, &groups, &few).expect("room");
        assert_eq!(made.places, vec![Place::Existing("whole".into()); 2]);
        assert_eq!(made.new_groups, Vec::<Vec<String>>::new());
    }

    #[test]
    fn what_cannot_be_is_told() {
        let mut sites = sites(3);
        assert_eq!(assign(&sites, &[], &request(4, 1)), Err(AssignError::NoGroupNeeded { rf: 1 }));
        assert_eq!(assign(&sites, &[], &request(4, 4)), Err(AssignError::TooFewNodes { rf: 4, nodes: 3 }));
        sites[0].free_ports = 0;
        sites[1].free_ports = 0;
        assert_eq!(assign(&sites, &[], &request(4, 2)), Err(AssignError::NoPorts { rf: 2, nodes: 1 }));
        sites[1].free_ports = 1;
        assert_eq!(assign(&sites, &[], &request(4, 2)).expect("one").new_groups.len(), 1);
    }
}
