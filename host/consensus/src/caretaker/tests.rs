//! Which members are kept, swapped and forgotten.

use super::*;

const ONE: RaftNodeId = 1 << 32;
const TWO: RaftNodeId = 2 << 32;
const THREE: RaftNodeId = 3 << 32;

fn membership(configs: &[&[RaftNodeId]], learners: &[RaftNodeId]) -> Membership {
    let sets: Vec<BTreeSet<_>> = configs.iter().map(|config| config.iter().copied().collect()).collect();
    let ids = sets.iter().flatten().chain(learners).copied();
    let nodes: BTreeMap<_, _> = ids.map(|id| (id, RaftNode::default())).collect();
    Membership::new(sets, nodes).unwrap()
}

/// The next step after these hellos, with these learners caught up.
fn step(membership: &Membership, seen: &[(u32, u32)], caught_up: &[RaftNodeId]) -> Option<Step> {
    let seen = seen.iter().map(|(node, life)| (NodeId(*node), *life)).collect();
    let addresses = BTreeMap::from([(NodeId(3), "c:1".to_owned())]);
    next_step(membership, &seen, &addresses, |id| caught_up.contains(&id))
}

#[test]
fn nothing_changes_among_members_that_are_what_they_were() {
    let members = membership(&[&[ONE, TWO, THREE]], &[]);
    assert_eq!(step(&members, &[(1, 0), (2, 0), (3, 0)], &[]), None);
    assert_eq!(step(&members, &[(9, 4)], &[9 << 32]), None, "a stranger becomes no member");
}

#[test]
fn a_joint_configuration_is_finished_first() {
    let members = membership(&[&[ONE, TWO, THREE], &[ONE, TWO, THREE + 1]], &[]);
    let expected = Step::Voters(BTreeSet::from([ONE, TWO, THREE + 1]));
    assert_eq!(step(&members, &[(1, 1)], &[]), Some(expected));
}

#[test]
fn a_new_life_learns_then_votes_in_place_of_the_old_one() {
    let members = membership(&[&[ONE, TWO, THREE]], &[]);
    let learn = Step::Learn(THREE + 1, RaftNode { addr: "c:1".to_owned() });
    assert_eq!(step(&members, &[(3, 1)], &[]), Some(learn));
    let members = membership(&[&[ONE, TWO, THREE]], &[THREE + 1]);
    assert_eq!(step(&members, &[(3, 1)], &[]), None, "it is not caught up");
    let swap = Step::Voters(BTreeSet::from([ONE, TWO, THREE + 1]));
    assert_eq!(step(&members, &[(3, 1)], &[THREE + 1]), Some(swap));
    let members = membership(&[&[ONE, TWO, THREE + 1]], &[THREE]);
    assert_eq!(step(&members, &[(3, 1)], &[]), Some(Step::Forget(THREE)));
}

#[test]
fn a_life_that_never_voted_makes_room_for_the_next() {
    let members = membership(&[&[ONE, TWO, THREE]], &[THREE + 1, THREE + 2]);
    let swap = Step::Voters(BTreeSet::from([ONE, TWO, THREE + 2]));
    assert_eq!(step(&members, &[(3, 2)], &[THREE + 1, THREE + 2]), Some(swap));
    let members = membership(&[&[ONE, TWO, THREE + 2]], &[THREE + 1]);
    assert_eq!(step(&members, &[(3, 2)], &[]), Some(Step::Forget(THREE + 1)));
}

#[test]
fn nobody_goes_back_to_an_older_life() {
    let members = membership(&[&[ONE, TWO, THREE + 2]], &[]);
    assert_eq!(step(&members, &[(3, 1)], &[THREE + 1]), None);
}

#[test]
fn shards_are_spread_over_the_nodes() {
    let led = |shard| preferred(shard, [ONE, THREE + 4, TWO].into_iter()).map(|node| node.0);
    assert_eq!([0, 1, 2, 3, 4].map(led), [1, 2, 3, 1, 2].map(Some));
    assert_eq!(preferred(3, std::iter::empty()), None);
}
