//! Brokers of several nodes: what every cluster has, tenants over two shards, groups over changes of leader.

use std::time::Duration;

use pointsman_model::{NodeId, ShardId};
use pointsman_state_machine::command::{Expect, Object, Target};

use super::*;
use crate::configure::NO_TENANT;
use crate::ports::Shard;
use crate::testing::FakeNodes;
use crate::testing::fixture::{TENANT, call, call_within, group_settings, message, topic_config};
use crate::view::{LeaseRequest, Publish, SettleOp, SettleRequest, SettleStatus};

/// Lets the loops of all brokers look.
async fn a_while() {
    tokio::time::sleep(Duration::from_secs(2)).await;
}

fn homes(nodes: &FakeNodes) -> Vec<(String, u16)> {
    let state = nodes.shard(0, 1).state();
    state.homes.iter().map(|(name, home)| (name.to_string(), home.shard.0)).collect()
}

fn is_at_home(nodes: &FakeNodes, shard: usize, name: &str) -> bool {
    nodes.shard(shard, 1).state().tenants_by_name.contains_key(name)
}

#[tokio::test(start_paused = true)]
async fn whoever_leads_makes_what_every_cluster_has_once() {
    let nodes = FakeNodes::new(3);
    (0..3).for_each(|shard| nodes.shard(shard, 1).depose());
    nodes.connect();
    a_while().await;
    assert_eq!(homes(&nodes), []);
    nodes.shard(0, 2).take_over();
    nodes.shard(1, 3).take_over();
    a_while().await;
    assert_eq!(homes(&nodes), [(TENANT.to_owned(), 1)], "the first data shard");
    assert!(is_at_home(&nodes, 1, TENANT));
    let (keys, tenants) = {
        let state = nodes.shard(0, 1).state();
        (state.cluster_keys.clone(), state.homes.clone())
    };
    assert_eq!(keys.len(), 1);
    for node in [3, 1, 2] {
        nodes.shard(0, node).take_over();
        a_while().await;
    }
    let state = nodes.shard(0, 1).state();
    assert_eq!((&state.cluster_keys, &state.homes), (&keys, &tenants), "other terms change nothing");
}

#[tokio::test(start_paused = true)]
async fn a_new_tenant_goes_to_the_least_loaded_shard_whoever_leads_it() {
    let nodes = FakeNodes::new(3);
    nodes.connect();
    nodes.shard(2, 3).take_over();
    a_while().await;
    for name in ["a", "b", "c"] {
        nodes.broker(1).put_tenant(&call(), name, Expect::Absent).await.expect("a tenant");
    }
    let expected = [("a", 2), ("b", 1), ("c", 2), (TENANT, 1)].map(|(name, shard)| (name.to_owned(), shard));
    assert_eq!(homes(&nodes), expected);
    assert!(is_at_home(&nodes, 2, "a") && is_at_home(&nodes, 1, "b"));
    let refused = nodes.broker(2).put_tenant(&call(), "d", Expect::Anything).await;
    assert_eq!(refused.err(), Some(Error::NoLeader), "that node does not lead");
}

#[tokio::test(start_paused = true)]
async fn a_tenant_that_was_half_made_is_finished_by_the_next_leader_or_by_its_home() {
    let nodes = FakeNodes::new(3);
    nodes.connect();
    a_while().await;
    for (name, finish) in [("a", true), ("b", false)] {
        nodes.shard(2, 1).depose();
        // Fills shard 1, so that the next goes to shard 2.
        while homes(&nodes).iter().filter(|(_, shard)| *shard == 1).count() <= homes(&nodes).len() / 2 {
            let n = homes(&nodes).len();
            nodes.broker(1).put_tenant(&call(), &format!("x{n}"), Expect::Absent).await.ok();
        }
        let half = nodes.broker(1).put_tenant(&call(), name, Expect::Absent).await;
        assert_eq!(half.err(), Some(Error::OutcomeUnknown), "half of it is done");
        assert!(!is_at_home(&nodes, 2, name));
        nodes.shard(2, 3).take_over();
        if finish {
            nodes.shard(0, 2).take_over();
            a_while().await;
            nodes.shard(0, 1).take_over();
        } else {
            nodes.broker(3).finish_tenant(name, Duration::from_secs(1)).await.expect("finished");
        }
        assert!(is_at_home(&nodes, 2, name), "{name}");
        let again = nodes.broker(1).put_tenant(&call(), name, Expect::Anything).await.expect("there");
        assert!(!again.created);
    }
}

#[tokio::test(start_paused = true)]
async fn a_tenant_that_was_half_deleted_goes_and_does_not_come_back() {
    let nodes = FakeNodes::new(3);
    nodes.connect();
    nodes.shard(2, 3).take_over();
    a_while().await;
    let made = nodes.broker(1).put_tenant(&call(), "a", Expect::Absent).await.expect("a tenant").object;
    // At home, and no further.
    let (home, target) = (nodes.broker(3).home("a").expect("known"), Target::Tenant("a".into()));
    nodes.broker(3).delete_in(&call(), &home.shard, home.tenant, Expect::Anything, target).await.expect("deleted");
    let refused = nodes.broker(3).finish_tenant("a", Duration::from_secs(1)).await;
    assert_eq!(refused, Err(Error::TenantNotFound), "it does not come back to life");
    nodes.shard(0, 2).take_over();
    a_while().await;
    assert_eq!(homes(&nodes), [(TENANT.to_owned(), 1)], "the next leader forgets it");

    // The same, found by a call that makes it anew.
    let made_again = nodes.broker(2).put_tenant(&call(), "a", Expect::Absent).await.expect("a tenant").object;
    assert!(made_again.id > made.id);
    let (home, target) = (nodes.broker(3).home("a").expect("known"), Target::Tenant("a".into()));
    nodes.broker(3).delete_in(&call(), &home.shard, home.tenant, Expect::Anything, target).await.expect("deleted");
    let third = nodes.broker(2).put_tenant(&call(), "a", Expect::Anything).await.expect("a tenant").object;
    assert!(third.id > made_again.id && is_at_home(&nodes, 2, "a"));
    // And by a call that deletes it.
    let (home, target) = (nodes.broker(3).home("a").expect("known"), Target::Tenant("a".into()));
    nodes.broker(3).delete_in(&call(), &home.shard, home.tenant, Expect::Anything, target).await.expect("deleted");
    nodes.broker(2).delete_tenant(&call(), "a", Expect::Anything).await.expect("deleted");
    assert_eq!(nodes.broker(2).delete_tenant(&call(), "a", Expect::Anything).await, Err(Error::TenantNotFound));
}

#[tokio::test(start_paused = true)]
async fn a_step_at_home_whose_answer_is_lost_is_asked_for_again() {
    let nodes = FakeNodes::new(2);
    nodes.connect();
    nodes.shard(2, 2).take_over();
    a_while().await;
    nodes.lose_answers(2);
    nodes.broker(1).put_tenant(&call(), "a", Expect::Absent).await.expect("a tenant");
    assert!(is_at_home(&nodes, 2, "a"));
    nodes.lose_answers(2);
    nodes.broker(1).delete_tenant(&call(), "a", Expect::Anything).await.expect("deleted");
    assert_eq!(homes(&nodes).len(), 1);
    // A late repetition of the deletion leaves a tenant of the same name alone.
    let old = nodes.broker(1).put_tenant(&call(), "a", Expect::Absent).await.expect("a tenant").object;
    nodes.broker(1).delete_tenant(&call(), "a", Expect::Anything).await.expect("deleted");
    nodes.broker(1).put_tenant(&call(), "a", Expect::Absent).await.expect("a tenant");
    let late = crate::broker::Home { tenant: old.id, shard: nodes.broker(1).home("a").expect("known").shard };
    let step = crate::configure::home::HomeStep::Delete;
    assert_eq!(nodes.broker(1).at_home(&call(), &late, "a", step).await, Err(Error::TenantNotFound));
    assert!(is_at_home(&nodes, 2, "a"));
}

#[tokio::test]
async fn what_is_no_question_is_refused_in_words() {
    let nodes = FakeNodes::new(2);
    for garbage in [&b""[..], b"\x01", b"\x02\0", b"\x01\xff\xff", &[1; 300_000]] {
        let refused = nodes.broker(1).serve_node_call(NodeId(2), Bytes::copy_from_slice(garbage)).await;
        assert!(refused.is_err(), "{garbage:?}");
    }
    let home = super::encode(&NodeRequest::Redeem("1-00".into(), "/x".into())).expect("encodes");
    let answer = nodes.broker(1).serve_node_call(NodeId(2), home).await.expect("answers");
    assert_eq!(super::decode::<NodeAnswer>(&answer), Ok(NodeAnswer::Redeemed(None)));
}

/// With a topic `t` of one queue, a group `g` on it, and so many messages.
async fn with_messages(messages: usize) -> FakeNodes {
    let nodes = FakeNodes::new(3);
    nodes.connect();
    nodes.broker(1).bootstrap().await.expect("bootstraps");
    let broker = nodes.broker(1);
    broker.put_topic(&call(), TENANT, "t", topic_config(1), Expect::Anything).await.expect("a topic");
    broker.put_group(&call(), TENANT, "g", group_settings(&[("t", None)]), Expect::Anything).await.expect("a group");
    for n in 0..messages {
        let publish = Publish { messages: vec![message(&n.to_string())], ack: None, atomic: false };
        broker.publish(&call(), TENANT, "t", publish).await.expect("published");
    }
    nodes
}

#[tokio::test]
async fn leases_of_an_old_term_are_not_trusted_when_a_leader_comes_back() {
    let nodes = with_messages(2).await;
    let one = LeaseRequest { max_messages: Some(1), ..LeaseRequest::default() };
    let first = nodes.broker(1).lease(&call(), TENANT, "g", one.clone()).await.expect("leases");
    let ack = |receipt: &str| SettleRequest {
        receipt: receipt.to_owned(),
        op: SettleOp::Ack,
        delay_ms: None,
        lease_ms: None,
        reason: None,
    };
    nodes.shard(1, 2).take_over();
    let refused = nodes.broker(1).lease(&call(), TENANT, "g", one.clone()).await;
    assert_eq!(refused.err(), Some(Error::NoLeader));
    // Another leader gives the first one again, and it is settled there.
    let again = nodes.broker(2).lease(&call(), TENANT, "g", one.clone()).await.expect("leases");
    assert_eq!(again[0].message.offset, first[0].message.offset);
    let settled = nodes.broker(2).settle(&call(), TENANT, "g", vec![ack(&again[0].receipt)]).await.expect("results");
    assert_eq!(settled[0].status, SettleStatus::Settled);
    nodes.shard(1, 1).take_over();
    let next = nodes.broker(1).lease(&call(), TENANT, "g", LeaseRequest::default()).await.expect("leases");
    let offsets: Vec<_> = next.iter().map(|lease| lease.message.offset.0).collect();
    assert_eq!(offsets, [1], "what was settled elsewhere is over, what was not is given");
    let late = nodes.broker(1).settle(&call(), TENANT, "g", vec![ack(&first[0].receipt)]).await.expect("results");
    assert_eq!(late[0].status, SettleStatus::AlreadySettled);
}

#[tokio::test(start_paused = true)]
async fn a_long_poll_ends_with_leadership() {
    let nodes = with_messages(0).await;
    let broker = nodes.broker(1).clone();
    let wait = LeaseRequest { wait_ms: 60_000, ..LeaseRequest::default() };
    let poll = tokio::spawn(async move { broker.lease(&call(), TENANT, "g", wait).await });
    tokio::time::sleep(Duration::from_millis(100)).await;
    let started = tokio::time::Instant::now();
    nodes.shard(1, 2).take_over();
    assert_eq!(poll.await.expect("answers").err(), Some(Error::NoLeader));
    assert!(started.elapsed() <= Duration::from_secs(2), "{:?}", started.elapsed());
}

#[tokio::test(start_paused = true)]
async fn delayed_messages_and_schedules_run_where_their_shard_is_led() {
    let nodes = with_messages(0).await;
    let delayed = pointsman_model::message::NewMessage {
        delay: Some(pointsman_model::delay::Delay::After(1_000)),
        ..message("later")
    };
    let publish = Publish { messages: vec![delayed], ack: None, atomic: false };
    nodes.broker(1).publish(&call(), TENANT, "t", publish).await.expect("published");
    nodes.shard(1, 3).take_over();
    nodes.clock.advance_ms(2_000);
    a_while().await;
    let leases = nodes.broker(3).lease(&call(), TENANT, "g", LeaseRequest::default()).await.expect("leases");
    assert_eq!(leases.len(), 1, "fired once, by the new leader");
    let fired: u64 = [1, 3].iter().flat_map(|node| nodes.broker(*node).timer_stats()).map(|stats| stats.fired).sum();
    assert_eq!(fired, 1);
}

#[tokio::test]
async fn shards_are_told_by_all_nodes_and_handed_over() {
    let nodes = with_messages(1).await;
    nodes.shard(1, 2).set_lagging(true);
    let broker = nodes.broker(1);
    broker.put_topic(&call(), TENANT, "u", topic_config(1), Expect::Anything).await.expect("a topic");
    nodes.set_down(&[3]);
    let shards = broker.list_shards(&call()).await.expect("shards");
    let data = &shards[1];
    assert_eq!((data.shard, data.leader), (ShardId(1), Some(NodeId(1))));
    let said: Vec<_> = data.replicas.iter().map(|replica| replica.said.as_ref().map(|said| said.applied)).collect();
    assert_eq!(said, [Some(data.committed), Some(data.committed - 1), None]);
    nodes.set_down(&[]);
    let moved = broker.transfer(&call(), ShardId(1), NodeId(2)).await.expect("handed over");
    assert_eq!((moved.leader, moved.term.0), (Some(NodeId(2)), 2));
    assert_eq!(broker.transfer(&call(), ShardId(1), NodeId(3)).await.err(), Some(Error::NoLeader));
    assert!(matches!(
        nodes.broker(2).transfer(&call(), ShardId(1), NodeId(9)).await,
        Err(Error::InvalidRequest { .. })
    ));
    assert!(broker.transfer(&call(), ShardId(7), NodeId(1)).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_call_of_the_metadata_shard_outlives_a_change_of_leader() {
    let nodes = with_messages(0).await;
    let object = Object::TenantHome { name: "a".into(), shard: 1 };
    nodes.shard(0, 1).depose();
    let metadata = &nodes.broker(1).inner.metadata;
    let call = call_within(Duration::from_secs(1));
    let refused = nodes.broker(1).put(&call, metadata, NO_TENANT, Expect::Anything, object).await;
    assert_eq!(refused.err(), Some(Error::NoLeader), "surely not done");
}
