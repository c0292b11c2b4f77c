//! Configuration: revisions, generations, preconditions, who may go while used.

use pointsman_model::{Generation, GroupId, NodeId, QueueId, QueueOffset, limits};

use super::commands::{builtin, delete, group_config, put, put_if, topic_config};
use super::*;
use crate::command::{BindingConfig, FailurePolicy, GroupConfig, PublishHead, Shorthand, Slot, Start};
use crate::outcome::Refusal;

fn topic(name: &str, queues: Option<u16>) -> Object {
    Object::Topic { name: name.into(), config: topic_config(queues) }
}

fn group(name: &str, config: GroupConfig) -> Object {
    Object::Group { name: name.into(), config }
}

fn binding(name: &str, config: BindingConfig) -> Object {
    Object::Binding { name: name.into(), config }
}

fn filtered(topic: &str, expression: &str) -> GroupConfig {
    let mut config = group_config(&[topic]);
    let binding = builtin(Slot::Filter, None, None, expression);
    config.topics[0].filter = Some(Shorthand { tags: Some(expression.into()), binding });
    config
}

/// (created, unchanged, revision) of a put that went through.
fn configured(outcome: Outcome) -> (bool, bool, u64) {
    match outcome {
        Outcome::Configured { created, unchanged, revision, .. } => (created, unchanged, revision),
        other => panic!("{other:?}"),
    }
}

fn refused(outcome: Outcome) -> Refusal {
    match outcome {
        Outcome::Refused(refusal) => refusal,
        other => panic!("{other:?}"),
    }
}

fn generations(shard: &Shard) -> (u32, u32) {
    let state = shard.machine.state();
    (state.topic(TENANT, "orders").unwrap().generation.0, state.group(TENANT, "workers").unwrap().generation.0)
}

#[test]
fn a_put_that_changes_nothing_keeps_revision_and_generation() {
    let mut shard = Shard::with_group();
    shard.one(put(binding("b", builtin(Slot::Selector, Some("orders"), None, "x"))));
    shard.one(put(group("filtered", filtered("orders", "a"))));
    for object in [
        topic("orders", Some(2)),
        topic("orders", None),
        group("workers", group_config(&["orders"])),
        group("filtered", filtered("orders", "a")),
        binding("b", builtin(Slot::Selector, Some("orders"), None, "x")),
        Object::Tenant { name: "acme".into(), id: TENANT.0 },
    ] {
        let before = shard.machine.state().clone();
        let applied = shard.entry(&[put(object.clone())]);
        assert!(!applied.config_changed, "{object:?}");
        let (created, unchanged, revision) = configured(applied.outcomes[0].clone());
        assert!(!created && unchanged && revision <= before.counters.revision, "{object:?}");
        let tables = applied.writes.iter().map(|(key, _)| key[0]).filter(|table| *table != crate::table::SEGMENT);
        assert_eq!(tables.collect::<Vec<_>>(), [crate::table::SHARD], "the outcome hash alone");
        let now = shard.machine.state();
        let (outcome_hash, segments) = (now.outcome_hash, now.segments.clone());
        assert_eq!(now, &crate::State { outcome_hash, segments, ..before });
    }
}

#[test]
fn a_change_gives_a_new_revision_and_a_new_generation_to_what_it_judges() {
    let mut shard = Shard::with_group();
    assert_eq!(generations(&shard), (1, 1));
    let mut last = shard.machine.state().counters.revision;
    let mut config = group_config(&["orders"]);
    config.lease_ms += 1;
    for (object, expected) in [
        (topic("orders", Some(3)), (2, 1)),
        (group("workers", config), (2, 2)),
        (binding("s", builtin(Slot::Selector, Some("orders"), None, "x")), (3, 2)),
        (binding("s", builtin(Slot::Selector, Some("orders"), None, "y")), (4, 2)),
        (binding("f", builtin(Slot::Filter, None, Some("workers"), "y")), (4, 3)),
        (binding("f", builtin(Slot::Filter, Some("orders"), Some("workers"), "y")), (4, 4)),
        (topic("other", None), (4, 4)),
        (binding("s", builtin(Slot::Selector, Some("other"), None, "y")), (5, 4)),
        (binding("d", builtin(Slot::Dedup, Some("orders"), None, "y")), (6, 4)),
        (binding("c", builtin(Slot::CheckBack, Some("orders"), None, "y")), (7, 4)),
        (binding("r", builtin(Slot::Retry, None, Some("workers"), "y")), (7, 5)),
        (binding("d", builtin(Slot::Dedup, Some("other"), None, "y")), (8, 5)),
    ] {
        let applied = shard.entry(&[put(object.clone())]);
        let (_, unchanged, revision) = configured(applied.outcomes[0].clone());
        assert!(!unchanged && revision > last && applied.config_changed, "{object:?}");
        assert_eq!(generations(&shard), expected, "{object:?}");
        last = revision;
    }
    let state = shard.machine.state();
    assert_eq!(state.selector(state.topic(TENANT, "other").unwrap().id).unwrap().generation, Generation(2));
    assert!(state.selector(shard.topic()).is_none());
    assert_eq!(state.filter(GroupId(1), shard.topic()).unwrap().generation, Generation(4));

    assert_eq!(shard.one(delete(Target::Binding("f".into()))), Outcome::Deleted);
    assert_eq!(generations(&shard), (8, 6));
    shard.reload();
    shard.check_again();
}

#[test]
fn preconditions() {
    let mut shard = Shard::with_group();
    let revision = shard.machine.state().topic(TENANT, "orders").unwrap().revision;
    let change = || topic("orders", Some(3));
    for expect in [Expect::Absent, Expect::Revision(vec![]), Expect::Revision(vec![revision + 1])] {
        assert_eq!(refused(shard.one(put_if(expect, change()))), Refusal::PreconditionFailed);
    }
    assert_eq!(refused(shard.one(put_if(Expect::Present, topic("new", None)))), Refusal::PreconditionFailed);
    configured(shard.one(put_if(Expect::Revision(vec![revision + 1, revision]), change())));
    assert_eq!(
        refused(shard.one(put_if(Expect::Revision(vec![revision]), topic("orders", Some(4))))),
        Refusal::PreconditionFailed,
        "another write came first"
    );
    configured(shard.one(put_if(Expect::Present, topic("orders", Some(4)))));
    assert!(configured(shard.one(put_if(Expect::Absent, topic("new", None)))).0);
}

#[test]
fn a_topic_only_grows_and_its_slots_keep_barriers() {
    let mut shard = Shard::with_group();
    let id = shard.topic();
    let publish = commands::publish(id, 1, 1, &PublishHead::default());
    shard.entry(&vec![publish; 3]);
    assert_eq!(refused(shard.one(put(topic("orders", Some(1))))), Refusal::FewerQueues(2));
    for queues in [0, 1_025] {
        let outcome = shard.one(put(topic("orders", Some(queues))));
        assert!(matches!(outcome, Outcome::Refused(Refusal::Malformed(_))), "{queues}");
    }
    configured(shard.one(put(topic("orders", Some(4)))));
    let topic = &shard.machine.state().topics[&id];
    let moves: Vec<_> = (0..4_096).flat_map(|slot| topic.slots.moves(slot)).collect();
    assert_eq!(moves.len(), 2_048);
    assert!(moves.iter().all(|m| m.barrier == if m.from == 1 { 3 } else { 0 }));
    assert_eq!(shard.machine.state().floor(GroupId(1), id, QueueId(3)), QueueOffset(0), "a new queue starts at 0");
    configured(shard.one(put(Object::Topic { name: "max".into(), config: topic_config(Some(1_024)) })));
    configured(shard.one(put(Object::Topic { name: "default".into(), config: topic_config(None) })));
    assert_eq!(shard.machine.state().topic(TENANT, "default").unwrap().queues(), 4);
    shard.reload();
}

#[test]
fn what_is_used_stays() {
    let mut shard = Shard::with_group();
    shard.one(put(binding("s", builtin(Slot::Selector, Some("orders"), None, "x"))));
    shard.one(put(group("filtered", filtered("orders", "a"))));
    let users = vec!["workers".into(), "filtered".into(), "s".into()];
    assert_eq!(refused(shard.one(delete(Target::Topic("orders".into())))), Refusal::InUse(users));
    let shorthand = delete(Target::Binding("filtered:orders".into()));
    assert_eq!(refused(shard.one(shorthand)), Refusal::InUse(vec!["filtered".into()]));

    for target in [
        Target::Group("workers".into()),
        Target::Group("filtered".into()),
        Target::Binding("s".into()),
        Target::Topic("orders".into()),
    ] {
        assert_eq!(shard.one(delete(target)), Outcome::Deleted);
    }
    assert!(shard.machine.state().bindings.is_empty() && shard.machine.state().filters.is_empty());
    let left: Vec<_> = shard.rows.0.keys().map(|key| key[0]).collect();
    let left: Vec<_> = left.into_iter().filter(|table| *table < table::USAGE).collect();
    assert_eq!(left, [table::SHARD, table::TENANT], "nothing is left behind but usage and audit");
    for (target, refusal) in [
        (Target::Group("workers".into()), Refusal::GroupNotFound),
        (Target::Binding("s".into()), Refusal::BindingNotFound),
        (Target::Topic("orders".into()), Refusal::TopicNotFound("orders".into())),
        (Target::PluginVersion("p".into(), "1.0.0".into()), Refusal::PluginNotFound("p@1.0.0".into())),
    ] {
        assert_eq!(refused(shard.one(delete(target))), refusal);
    }
    let old = shard.machine.state().counters.topic;
    shard.one(put(topic("orders", None)));
    assert_eq!(shard.topic().0, old + 1, "ids are never used again");
}

#[test]
fn a_group_keeps_the_positions_of_topics_that_stay() {
    let mut shard = Shard::with_group();
    shard.one(put(topic("other", Some(1))));
    shard.one(put(topic("third", Some(1))));
    let id = |shard: &Shard, name| shard.machine.state().topic(TENANT, name).unwrap().id;
    let (orders, other, third) = (id(&shard, "orders"), id(&shard, "other"), id(&shard, "third"));
    for topic in [orders, other, third] {
        shard.entry(&vec![commands::publish(topic, 0, 1, &PublishHead::default()); 5]);
    }
    let mut config = group_config(&["orders", "other"]);
    config.start = Start::Latest;
    shard.one(put(group("workers", config)));
    let floor = |shard: &Shard, topic| shard.machine.state().floor(GroupId(1), topic, QueueId(0)).0;
    assert_eq!((floor(&shard, orders), floor(&shard, other)), (0, 5), "orders was there, other starts at the end");

    shard.one(commands::ack(1, &[commands::lease(orders, 0, 3, 1)]));
    shard.one(commands::nack(1, commands::lease(orders, 0, 0, 1), 9));
    let mut config = group_config(&["other", "third"]);
    config.start = Start::Time(77);
    config.topics[1].start_offsets = vec![2];
    shard.one(put(group("workers", config.clone())));
    assert_eq!((floor(&shard, other), floor(&shard, third)), (5, 2));
    let state = shard.machine.state();
    assert!(state.cursor(GroupId(1), orders, QueueId(0)).is_none() && state.retrying.is_empty());
    assert!(state.group(TENANT, "workers").unwrap().config.topics[1].start_offsets.is_empty());
    let gone = [table::RETRY, table::DUE, table::RETRYING, table::CURSOR_BLOCK];
    assert!(!shard.rows.0.keys().any(|key| gone.contains(&key[0])));

    config.topics[1].start_offsets = vec![4];
    assert!(configured(shard.one(put(group("workers", config)))).1, "where it would start now changes nothing");
    let mut config = group_config(&["other", "orders"]);
    config.start = Start::Time(77);
    config.topics[1].start_offsets = vec![99];
    shard.one(put(group("workers", config)));
    assert_eq!(floor(&shard, orders), 5, "never past the end");
    shard.reload();
    shard.check_again();
}

#[test]
fn a_group_names_topics_that_are_there_and_each_once() {
    let mut shard = Shard::with_group();
    let missing = put(group("g", group_config(&["orders", "none"])));
    assert_eq!(refused(shard.one(missing)), Refusal::TopicNotFound("none".into()));
    let twice = shard.one(put(group("g", group_config(&["orders", "orders"]))));
    assert!(matches!(twice, Outcome::Refused(Refusal::Malformed(_))));
    let names: Vec<_> = (0..65).map(|i| format!("t{i}")).collect();
    for name in &names {
        shard.one(put(topic(name, Some(1))));
    }
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    for (count, fits) in [(63, true), (64, true), (65, false)] {
        let outcome = shard.one(put(group("wide", group_config(&names[..count]))));
        assert_eq!(matches!(outcome, Outcome::Configured { .. }), fits, "{count}");
    }
    assert!(shard.machine.state().group(TENANT, "g").is_none());
}

#[test]
fn a_filter_in_a_group_is_a_binding_that_comes_and_goes_with_it() {
    let mut shard = Shard::with_group();
    shard.one(put(group("workers", filtered("orders", "a"))));
    let of_shard = |shard: &Shard| shard.machine.state().binding(TENANT, "workers:orders").cloned();
    let first = of_shard(&shard).unwrap();
    assert!(first.shorthand && first.generation == Generation(2));
    assert_eq!((first.config.topic.as_deref(), first.config.group.as_deref()), (Some("orders"), Some("workers")));
    assert_eq!(shard.machine.state().filter(GroupId(1), shard.topic()), Some(&first));

    let mut config = filtered("orders", "a");
    config.max_retries += 1;
    shard.one(put(group("workers", config)));
    assert_eq!(of_shard(&shard).unwrap(), first, "it did not change");
    shard.one(put(group("workers", filtered("orders", "b"))));
    let second = of_shard(&shard).unwrap();
    assert_eq!((second.id, second.generation, second.created_at), (first.id, Generation(4), first.created_at));
    assert!(second.revision > first.revision);
    shard.one(put(group("workers", group_config(&["orders"]))));
    assert_eq!(of_shard(&shard), None);

    shard.one(put(binding("mine", builtin(Slot::Filter, Some("orders"), Some("workers"), "x"))));
    let beside = put(group("workers", filtered("orders", "a")));
    assert_eq!(refused(shard.one(beside)), Refusal::InUse(vec!["mine".into()]));
    shard.one(put(topic("other", None)));
    let without = put(group("workers", group_config(&["other"])));
    assert_eq!(refused(shard.one(without)), Refusal::InUse(vec!["mine".into()]));
    shard.reload();
    shard.check_again();
}

#[test]
fn a_filter_for_one_topic_beats_one_for_all() {
    let mut shard = Shard::with_group();
    let filter =
        |shard: &Shard| shard.machine.state().filter(GroupId(1), shard.topic()).map(|filter| filter.name.to_string());
    shard.one(put(binding("all", builtin(Slot::Filter, None, Some("workers"), "x"))));
    assert_eq!(filter(&shard).as_deref(), Some("all"));
    shard.one(put(binding("one", builtin(Slot::Filter, Some("orders"), Some("workers"), "x"))));
    assert_eq!(filter(&shard).as_deref(), Some("one"));
    shard.one(delete(Target::Binding("one".into())));
    assert_eq!(filter(&shard).as_deref(), Some("all"));
}

#[test]
fn a_binding_needs_a_target_a_plugin_and_a_free_place() {
    let mut shard = Shard::with_group();
    shard.one(put(binding("held", builtin(Slot::Selector, Some("orders"), None, "x"))));
    shard.one(put(binding("filter", builtin(Slot::Filter, None, Some("workers"), "x"))));
    shard.one(put(topic("other", None)));
    let uploaded = |name: &str| BindingConfig {
        plugin: name.into(),
        builtin_digest: None,
        ..builtin(Slot::Selector, Some("other"), None, "x")
    };
    let not_found = |name: &str| Refusal::TopicNotFound(name.into());
    for (config, refusal) in [
        (builtin(Slot::Selector, Some("orders"), None, "x"), Refusal::InUse(vec!["held".into()])),
        (builtin(Slot::Filter, None, Some("workers"), "x"), Refusal::InUse(vec!["filter".into()])),
        (builtin(Slot::Selector, Some("none"), None, "x"), not_found("none")),
        (builtin(Slot::Filter, Some("none"), Some("workers"), "x"), not_found("none")),
        (builtin(Slot::Filter, Some("other"), Some("workers"), "x"), not_found("other")),
        (builtin(Slot::Filter, None, Some("none"), "x"), Refusal::GroupNotFound),
        (builtin(Slot::Dedup, Some("none"), None, "x"), not_found("none")),
        (builtin(Slot::Retry, None, Some("none"), "x"), Refusal::GroupNotFound),
        (uploaded("p"), Refusal::PluginNotFound("p@1.0.0".into())),
    ] {
        assert_eq!(refused(shard.one(put(binding("b", config.clone())))), refusal, "{config:?}");
    }
    let wrong_policy =
        |slot, topic, group, on_failure| BindingConfig { on_failure, ..builtin(slot, topic, group, "x") };
    for config in [
        builtin(Slot::Selector, None, None, "x"),
        builtin(Slot::Selector, Some("other"), Some("workers"), "x"),
        builtin(Slot::Filter, Some("orders"), None, "x"),
        BindingConfig { builtin_digest: Some([1; 32]), ..uploaded("p") },
        wrong_policy(Slot::Selector, Some("other"), None, FailurePolicy::Skip),
        wrong_policy(Slot::Filter, Some("orders"), Some("workers"), FailurePolicy::Hash),
        builtin(Slot::Dedup, None, Some("workers"), "x"),
        builtin(Slot::CheckBack, Some("orders"), Some("workers"), "x"),
        builtin(Slot::Retry, Some("orders"), Some("workers"), "x"),
        builtin(Slot::Retry, None, None, "x"),
        wrong_policy(Slot::Dedup, Some("other"), None, FailurePolicy::Hash),
        wrong_policy(Slot::Retry, None, Some("workers"), FailurePolicy::Refuse),
        wrong_policy(Slot::CheckBack, Some("other"), None, FailurePolicy::Keep),
    ] {
        let outcome = shard.one(put(binding("b", config.clone())));
        assert!(matches!(outcome, Outcome::Refused(Refusal::Malformed(_))), "{config:?}");
    }
    let named = shard.one(put(binding("a:b", builtin(Slot::Selector, Some("other"), None, "x"))));
    assert!(matches!(named, Outcome::Refused(Refusal::Malformed(_))));
    assert!(shard.machine.state().binding(TENANT, "b").is_none());
}

#[test]
fn each_slot_of_a_topic_or_group_has_one_holder() {
    let mut shard = Shard::with_group();
    let of_topic = [Slot::Selector, Slot::Dedup, Slot::CheckBack];
    let config = |slot| match slot {
        Slot::Retry => builtin(slot, None, Some("workers"), "x"),
        _ => builtin(slot, Some("orders"), None, "x"),
    };
    for (slot, name) in [(Slot::Selector, "s"), (Slot::Dedup, "d"), (Slot::CheckBack, "c"), (Slot::Retry, "r")] {
        assert!(configured(shard.one(put(binding(name, config(slot))))).0, "{slot:?}");
        let taken = refused(shard.one(put(binding("second", config(slot)))));
        assert_eq!(taken, Refusal::InUse(vec![name.into()]), "{slot:?}");
    }
    let held = |shard: &Shard| {
        let (state, topic) = (shard.machine.state(), shard.topic());
        let held = [state.selector(topic), state.dedup(topic), state.check_back(topic), state.retry(GroupId(1))];
        held.map(|binding| binding.map(|binding| binding.name.to_string()))
    };
    let all = ["s", "d", "c", "r"].map(|name| Some(name.to_owned()));
    assert_eq!(held(&shard), all);
    shard.reload();
    assert_eq!(held(&shard), all);

    assert_eq!(shard.one(delete(Target::Group("workers".into()))), Outcome::Deleted);
    assert!(shard.machine.state().binding(TENANT, "r").is_none(), "a group takes its bindings along");
    let users = ["s", "d", "c"].map(str::to_owned).to_vec();
    assert_eq!(refused(shard.one(delete(Target::Topic("orders".into())))), Refusal::InUse(users));
    for (slot, name) in of_topic.into_iter().zip(["s", "d", "c"]) {
        assert_eq!(shard.one(delete(Target::Binding(name.into()))), Outcome::Deleted, "{slot:?}");
    }
    assert_eq!(held(&shard), [const { None }; 4]);
    assert_eq!(shard.one(delete(Target::Topic("orders".into()))), Outcome::Deleted);
    shard.reload();
}

#[test]
fn tenants_have_one_id_and_one_home() {
    let mut shard = Shard::new();
    let home = |name: &str, shard| put(Object::TenantHome { name: name.into(), shard });
    assert_eq!(configured(shard.one(home("acme", 3))), (true, false, 1));
    assert_eq!(configured(shard.one(home("acme", 4))), (false, true, 1));
    assert_eq!(configured(shard.one(home("other", 4))), (true, false, 2));
    let state = shard.machine.state();
    let acme = state.homes["acme"];
    assert_eq!((acme.id, acme.shard, acme.created_at), (TenantId(1), ShardId(3), Timestamp(1_000)));

    let tenant = |name: &str, id| put(Object::Tenant { name: name.into(), id });
    assert!(configured(shard.one(tenant("acme", 1))).0);
    assert!(configured(shard.one(tenant("acme", 1))).1);
    assert_eq!(refused(shard.one(tenant("acme", 2))), Refusal::AlreadyExists("acme".into()));
    assert_eq!(refused(shard.one(tenant("other", 1))), Refusal::TenantIdTaken(TenantId(1)));
    assert!(matches!(shard.one(tenant("other", 0)), Outcome::Refused(Refusal::Malformed(_))));
    assert!(matches!(shard.one(tenant("no name", 5)), Outcome::Refused(Refusal::Malformed(_))));
    for command in [put(topic("t", None)), delete(Target::Topic("t".into()))] {
        assert_eq!(refused(shard.one(command)), Refusal::TenantNotFound);
    }

    let key = |id, byte| put(Object::ClusterKey { id, secret: [byte; 32] });
    assert!(configured(shard.one(key(1, 5))).0);
    assert!(configured(shard.one(key(1, 5))).1);
    assert_eq!(refused(shard.one(key(1, 6))), Refusal::AlreadyExists("1".into()));
    assert_eq!(shard.machine.state().cluster_keys[&1], [5; 32]);
    shard.reload();
}

#[test]
fn a_node_never_goes_back_to_an_earlier_life() {
    let mut shard = Shard::new();
    let node = |id, incarnation, address: &str| {
        let (peer_address, address) = ("a:1".to_owned(), address.to_owned());
        put(Object::Node { id, incarnation, peer_address, address })
    };
    assert_eq!(configured(shard.one(node(1, 0, "a:2"))), (true, false, 1));
    assert_eq!(configured(shard.one(node(1, 0, "a:2"))), (false, true, 1));
    assert_eq!(configured(shard.one(node(1, 2, "a:2"))), (false, false, 2));
    assert_eq!(configured(shard.one(node(1, 2, "a:3"))), (false, false, 3), "an address may change");
    let long = "x".repeat(limits::NODE_ADDRESS_BYTES_MAX + 1);
    for bad in [node(0, 0, "a:2"), node(1, 1, "a:3"), node(1, 2, &long)] {
        assert!(matches!(shard.one(bad), Outcome::Refused(Refusal::Malformed(_))));
    }
    let held = &shard.machine.state().nodes[&NodeId(1)];
    assert_eq!((held.incarnation, &*held.address), (2, "a:3"));
    for id in 2..=u32::try_from(limits::NODES_MAX).expect("few") {
        assert!(configured(shard.one(node(id, 0, &long[1..]))).0, "{id}");
    }
    assert!(matches!(shard.one(node(1_000, 0, "a:2")), Outcome::Refused(Refusal::Malformed(_))));
    shard.reload();
}

#[test]
fn tenants_do_not_see_each_other() {
    let mut shard = Shard::with_group();
    shard.one(put(Object::Tenant { name: "other".into(), id: 8 }));
    let foreign = |command: Command| command.change(|header| header.tenant = TenantId(8));
    let not_found = Refusal::TopicNotFound("orders".into());
    assert_eq!(refused(shard.one(foreign(put(group("g", group_config(&["orders"])))))), not_found);
    assert_eq!(refused(shard.one(foreign(delete(Target::Topic("orders".into()))))), not_found);
    assert_eq!(refused(shard.one(foreign(delete(Target::Group("workers".into()))))), Refusal::GroupNotFound);
    assert!(configured(shard.one(foreign(put(topic("orders", None))))).0, "the name is free there");
    let selector = builtin(Slot::Selector, Some("orders"), None, "x");
    shard.one(foreign(put(binding("b", selector))));
    assert!(shard.machine.state().selector(shard.topic()).is_none());
}
