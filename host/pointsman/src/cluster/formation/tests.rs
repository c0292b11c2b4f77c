//! Rules one by one, and three nodes that crash anywhere: one cluster comes of it, never two.

use super::*;

const A: Uuid = [0xA; 16];
const B: Uuid = [0xB; 16];

fn note(formed: bool) -> Note {
    let knows = if formed { vec![(1, 0), (2, 0), (3, 0)] } else { Vec::new() };
    Note { formed, knows, data_shards: 3, segment_bytes: 1 << 20, lists: vec![1, 2, 3] }
}

fn standing(cluster: Option<Uuid>, formed: bool) -> Standing {
    Standing { cluster, incarnation: 0, note: note(formed) }
}

const EMPTY: Option<Uuid> = None;

fn heard(standing: Standing) -> Heard {
    Heard { standing: Some(standing), connected: true, ..Heard::default() }
}

fn others(own: u32, standings: &[Option<Standing>]) -> BTreeMap<NodeId, Heard> {
    let ids = (1..=3).filter(|id| *id != own).map(NodeId);
    ids.zip(standings.iter().cloned()).map(|(id, found)| (id, found.map(heard).unwrap_or_default())).collect()
}

fn step(own: u32, standing: &Standing, found: &[Option<Standing>]) -> Step {
    next(NodeId(own), standing, &others(own, found), false)
}

fn refusal(step: Step) -> Refusal {
    match step {
        Step::Refuse(refusal) => {
            let line = refusal.to_string();
            assert!(!line.contains('\n') && line.len() < 300, "{line}");
            refusal
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_lowest_forms_once_all_are_here() {
    let empty = standing(EMPTY, false);
    assert_eq!(step(1, &empty, &[None, None]), Step::WaitFor(vec![NodeId(2), NodeId(3)]));
    assert_eq!(step(1, &empty, &[Some(empty.clone()), None]), Step::WaitFor(vec![NodeId(3)]));
    let both = [Some(empty.clone()), Some(empty.clone())];
    assert_eq!(step(1, &empty, &both), Step::Form(None));
    assert_eq!(step(2, &empty, &both), Step::WaitForLowest(NodeId(1)));
    let mut away = others(1, &both);
    away.get_mut(&NodeId(2)).expect("there").connected = false;
    assert_eq!(next(NodeId(1), &empty, &away, false), Step::WaitFor(vec![NodeId(2)]), "said hello and went");
}

#[test]
fn half_formed_nodes_keep_their_uuid() {
    let (empty, half) = (standing(EMPTY, false), standing(Some(A), false));
    assert_eq!(step(1, &empty, &[Some(half.clone()), Some(empty.clone())]), Step::Form(Some(A)));
    assert_eq!(step(1, &half, &[Some(empty.clone()), Some(half.clone())]), Step::Form(Some(A)));
    assert_eq!(step(1, &half, &[Some(half.clone()), None]), Step::WaitFor(vec![NodeId(3)]));
    assert_eq!(step(2, &half, &[None, None]), Step::Open, "the lowest one goes on");
}

#[test]
fn a_formed_node_waits_for_nobody() {
    let formed = standing(Some(A), true);
    for own in 1..=3 {
        assert_eq!(step(own, &formed, &[None, None]), Step::Open);
    }
    let replaced = Standing { incarnation: 2, ..standing(Some(A), false) };
    assert_eq!(step(1, &replaced, &[None, None]), Step::Open, "its shards are empty, and it must not form them");
}

#[test]
fn a_wiped_node_is_refused_and_replaced_on_request() {
    let (empty, formed) = (standing(EMPTY, false), standing(Some(A), true));
    for own in 1..=3 {
        let found = [None, Some(formed.clone())];
        let by = *others(own, &found).keys().next_back().expect("two");
        assert_eq!(refusal(step(own, &empty, &found)), Refusal::Wiped { own: NodeId(own), by });
        assert_eq!(next(NodeId(own), &empty, &others(own, &found), true), Step::AskForLife(vec![by]));
    }
    let mut larger = formed.clone();
    larger.note.segment_bytes = 1;
    assert!(
        matches!(step(3, &empty, &[Some(larger), None]), Step::Refuse(Refusal::Wiped { .. })),
        "first things first"
    );
    let mut stranger = formed;
    stranger.note.knows.pop();
    let found = others(3, &[Some(stranger.clone()), None]);
    for replace in [false, true] {
        let refused = refusal(next(NodeId(3), &empty, &found, replace));
        assert_eq!(refused, Refusal::NotAMember { own: NodeId(3), by: NodeId(1) });
    }
    stranger.note.knows.clear();
    let unsure = others(3, &[Some(stranger), None]);
    assert_eq!(next(NodeId(3), &empty, &unsure, true), Step::WaitFor(vec![NodeId(1)]), "it is starting");
    let nobody = others(3, &[Some(empty.clone()), Some(standing(Some(A), false))]);
    assert_eq!(refusal(next(NodeId(3), &empty, &nobody, true)), Refusal::NothingToReplace);
    let one = others(3, &[Some(empty.clone()), None]);
    assert_eq!(next(NodeId(3), &empty, &one, true), Step::WaitFor(vec![NodeId(2)]));
}

/// The lowest node gave the shards their membership; if its own are empty, they were lost.
#[test]
fn an_identity_without_shards_does_not_form_again() {
    let (half, formed) = (standing(Some(A), false), standing(Some(A), true));
    let refused = refusal(step(1, &half, &[Some(formed.clone()), Some(half.clone())]));
    assert_eq!(refused, Refusal::Incomplete { by: NodeId(2) });
    assert_eq!(step(2, &half, &[Some(formed), Some(half.clone())]), Step::Open, "it may only be behind");
}

#[test]
fn clusters_do_not_mix() {
    let of = |cluster, formed| Some(standing(Some(cluster), formed));
    let empty = standing(EMPTY, false);
    let refused = refusal(step(3, &empty, &[of(A, true), of(B, true)]));
    assert_eq!(refused, Refusal::TwoClusters(NodeId(1), NodeId(2)));
    for formed in [false, true] {
        let own = standing(Some(A), formed);
        let foreign = refusal(step(2, &own, &[of(B, true), of(B, false)]));
        assert_eq!(foreign, Refusal::Foreign(vec![NodeId(1), NodeId(3)]));
    }
    assert_eq!(step(2, &standing(Some(A), true), &[of(B, true), None]), Step::Open, "one stranger stops nobody");
    assert_eq!(step(2, &standing(Some(A), true), &[of(B, true), of(A, true)]), Step::Open);
    let two = BTreeMap::from([(NodeId(2), heard(standing(Some(B), true)))]);
    assert!(matches!(next(NodeId(1), &standing(Some(A), true), &two, false), Step::Refuse(Refusal::Foreign(_))));
}

#[test]
fn an_earlier_life_does_not_come_back() {
    let own = standing(Some(A), true);
    let mut later = own.clone();
    later.note.knows[2].1 = 2;
    let refused = refusal(step(3, &own, &[Some(later.clone()), None]));
    assert_eq!(refused, Refusal::Replaced { own: NodeId(3), by: NodeId(1), known: 2, here: 0 });
    let current = Standing { incarnation: 2, ..own };
    assert_eq!(step(3, &current, &[Some(later), None]), Step::Open);
}

#[test]
fn all_are_told_the_same() {
    let empty = standing(EMPTY, false);
    let with = |change: fn(&mut Note)| {
        let mut other = empty.clone();
        change(&mut other.note);
        step(1, &empty, &[Some(other), None])
    };
    let setting = |setting, here, there| Refusal::Setting { setting, here, there, by: NodeId(2) };
    assert_eq!(refusal(with(|note| note.data_shards = 4)), setting("data_shards", 3, 4));
    assert_eq!(refusal(with(|note| note.segment_bytes = 1)), setting("segment_bytes", 1 << 20, 1));
    assert!(matches!(refusal(with(|note| note.lists = vec![1, 2])), Refusal::Lists { .. }));
    assert_eq!(with(|note| note.lists.reverse()), Step::WaitFor(vec![NodeId(3)]), "in any order");
    // What was formed is as it is: settings may be changed later, and then count for nothing.
    let mut formed = standing(Some(A), true);
    formed.note.data_shards = 4;
    assert_eq!(step(1, &standing(Some(A), true), &[Some(formed), None]), Step::Open);
}

#[test]
fn a_node_that_all_others_refuse_says_why() {
    let empty = standing(EMPTY, false);
    let mut found = others(2, &[None, None]);
    let refuse = |found: &mut BTreeMap<NodeId, Heard>, id, in_words| {
        let heard = found.get_mut(&NodeId(id)).expect("there");
        (heard.refusal, heard.in_words) = (Some("no".into()), in_words);
    };
    refuse(&mut found, 1, true);
    assert!(matches!(next(NodeId(2), &empty, &found, false), Step::WaitFor(_)));
    refuse(&mut found, 3, false);
    assert!(matches!(next(NodeId(2), &empty, &found, false), Step::WaitFor(_)), "a connection that broke");
    refuse(&mut found, 3, true);
    let both = vec![NodeId(1), NodeId(3)];
    let refused = refusal(next(NodeId(2), &empty, &found, false));
    assert_eq!(refused, Refusal::Refused { by: both.clone(), reason: "no".into() });
    let formed = standing(Some(A), true);
    assert_eq!(check(NodeId(2), &formed, &found), Err(Refusal::Refused { by: both, reason: "no".into() }));
}

/// A node of the simulation: what its disk holds, and whether it runs.
#[derive(Clone, Debug, Default)]
struct Disk {
    cluster: Option<Uuid>,
    /// Which cluster's membership its shards hold.
    formed: Option<Uuid>,
    up: bool,
}

struct World {
    nodes: BTreeMap<u32, Disk>,
    random: u64,
    minted: u8,
}

impl World {
    fn new(seed: u64) -> Self {
        Self { nodes: (1..=3).map(|id| (id, Disk::default())).collect(), random: seed, minted: 0 }
    }

    fn below(&mut self, n: u64) -> u64 {
        self.random = self.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.random >> 33) % n
    }

    fn standing(&self, id: u32) -> Standing {
        let node = &self.nodes[&id];
        standing(node.cluster, node.formed.is_some())
    }

    fn step(&self, id: u32) -> Step {
        let found = (1..=3).filter(|other| *other != id).map(|other| {
            let up = self.nodes[&other].up;
            (NodeId(other), if up { heard(self.standing(other)) } else { Heard::default() })
        });
        next(NodeId(id), &self.standing(id), &found.collect(), false)
    }

    fn claim(&mut self, id: u32, cluster: Uuid) -> bool {
        let node = self.nodes.get_mut(&id).expect("there");
        if node.up && node.formed.is_none() && node.cluster.is_none() {
            node.cluster = Some(cluster);
        }
        node.up && node.cluster == Some(cluster)
    }

    /// One node does what it may, as `form` does it, and may crash behind each write.
    fn act(&mut self, id: u32, may_crash: bool) {
        let crash = |world: &mut Self, id: u32| {
            let crashes = may_crash && world.below(5) == 0;
            if crashes {
                world.nodes.get_mut(&id).expect("there").up = false;
            }
            crashes
        };
        match self.step(id) {
            Step::Form(cluster) => {
                let cluster = cluster.unwrap_or_else(|| {
                    self.minted += 1;
                    [self.minted; 16]
                });
                for other in 2..=3 {
                    if !self.claim(other, cluster) {
                        return;
                    }
                    if crash(self, other) | crash(self, id) {
                        return;
                    }
                }
                assert!(self.claim(id, cluster));
                if crash(self, id) {
                    return;
                }
                self.nodes.get_mut(&id).expect("there").formed = Some(cluster);
                crash(self, id);
            }
            Step::Open => {
                // A leader replicates the membership to whoever is of its cluster.
                let leader = self.nodes.values().find(|node| node.up && node.formed.is_some()).cloned();
                let node = self.nodes.get_mut(&id).expect("there");
                if let Some(leader) = leader {
                    assert_eq!(leader.cluster, node.cluster, "replicated into another cluster");
                    node.formed = leader.formed;
                }
                crash(self, id);
            }
            Step::WaitFor(_) | Step::WaitForLowest(_) => {}
            step @ (Step::Refuse(_) | Step::AskForLife(_)) => panic!("{step:?} of {id} in {:?}", self.nodes),
        }
    }
}

#[test]
fn one_cluster_comes_of_it_wherever_nodes_crash() {
    let mut crashed = 0;
    for seed in 0..2_000 {
        let mut world = World::new(seed);
        for _ in 0..40 {
            let id = 1 + world.below(3) as u32;
            if world.nodes[&id].up {
                world.act(id, true);
                crashed += u32::from(!world.nodes[&id].up);
            } else {
                world.nodes.get_mut(&id).expect("there").up = true;
            }
        }
        // No more crashes: it must come to an end, and to one.
        world.nodes.values_mut().for_each(|node| node.up = true);
        for _ in 0..3 {
            (1..=3).for_each(|id| world.act(id, false));
        }
        let clusters: BTreeSet<_> = world.nodes.values().map(|node| (node.cluster, node.formed)).collect();
        assert_eq!(clusters.len(), 1, "seed {seed}: {:?}", world.nodes);
        assert!(world.nodes[&1].formed.is_some(), "seed {seed}: {:?}", world.nodes);
    }
    assert!(crashed > 1_000, "{crashed}");
}
