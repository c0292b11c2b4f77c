//! Configuration over fakes.

use bytes::Bytes;
use pointsman_model::judge::{CheckAnswer, Field, Plan, RetryAnswer, Verdict};
use pointsman_model::{MessageId, QueueId, limits};
use pointsman_state_machine::command::{Expect, FailurePolicy, Slot, Start};

use crate::Error;
use crate::ports::Shard as _;
use crate::testing::FakePlugin;
use crate::testing::fixture::{
    Fixture, TENANT, binding_settings, bodies, call, group_settings, message, plugin_filter, tagged, topic_config,
};
use crate::view::{FilterSpec, PageRequest};

fn by_tag() -> Plan {
    Plan { fields: vec![Field::Tag], ..Plan::default() }
}

fn accept_all() -> FakePlugin {
    FakePlugin::filter(by_tag(), |_, _| Verdict::Answer(true))
}

fn pointer<T>(result: Result<T, Error>) -> String {
    match result.err() {
        Some(Error::InvalidRequest { pointer, .. } | Error::InvalidFilter { pointer, .. }) => pointer,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn tenants_are_made_once_and_listed() {
    let f = Fixture::new().await;
    f.broker.bootstrap().await.unwrap();
    let first = f.broker.put_tenant(&call(), "acme", Expect::Anything).await.unwrap();
    let again = f.broker.put_tenant(&call(), "acme", Expect::Anything).await.unwrap();
    assert!(first.created && !again.created);
    assert_eq!(first.object, again.object);
    assert_eq!(f.broker.get_tenant(&call(), "acme").await.unwrap(), first.object);
    assert_eq!(f.broker.put_tenant(&call(), "acme", Expect::Absent).await, Err(Error::PreconditionFailed));
    assert_eq!(f.broker.get_tenant(&call(), "nobody").await, Err(Error::TenantNotFound));
    for bad in ["9a", "a b", "pm.x", "builtin", ""] {
        let refused = f.broker.put_tenant(&call(), bad, Expect::Anything).await;
        assert!(matches!(refused, Err(Error::InvalidName { .. })), "{bad}");
    }
    let all = f.broker.list_tenants(&call(), &PageRequest::default()).await.unwrap();
    assert_eq!(all.items.iter().map(|tenant| tenant.name.as_str()).collect::<Vec<_>>(), ["acme", "default"]);
    f.metadata.set_term(None);
    assert_eq!(f.broker.get_tenant(&call(), "nobody").await, Err(Error::NoLeader), "nobody knows");
}

#[tokio::test]
async fn topics_are_checked_written_and_read() {
    let f = Fixture::new().await;
    let put = async |change: &dyn Fn(&mut crate::command::TopicConfig), expect| {
        let mut config = topic_config(2);
        change(&mut config);
        f.broker.put_topic(&call(), TENANT, "t", config, expect).await
    };
    assert_eq!(pointer(put(&|c| c.queues = Some(0), Expect::Anything).await), "/queues");
    assert_eq!(pointer(put(&|c| c.queues = Some(limits::QUEUES_MAX + 1), Expect::Anything).await), "/queues");
    assert_eq!(pointer(put(&|c| c.retention_ms = 0, Expect::Anything).await), "/retention_ms");
    assert_eq!(pointer(put(&|c| c.max_message_bytes = (16 << 20) + 1, Expect::Anything).await), "/max_message_bytes");
    assert_eq!(pointer(put(&|c| c.dedup_window_ms = u64::MAX, Expect::Anything).await), "/dedup_window_ms");
    let made = put(&|_| {}, Expect::Absent).await.unwrap();
    assert!(made.created);
    assert_eq!(put(&|_| {}, Expect::Absent).await, Err(Error::PreconditionFailed));
    assert_eq!(pointer(put(&|c| c.queues = Some(1), Expect::Anything).await), "/queues");
    let grown = put(&|c| c.queues = Some(3), Expect::Revision(vec![made.object.revision])).await.unwrap();
    assert_eq!(grown.object.queues(), 3);
    assert_eq!(put(&|_| {}, Expect::Revision(vec![made.object.revision])).await, Err(Error::PreconditionFailed));
    f.send("t", pointsman_model::message::NewMessage { queue: Some(QueueId(1)), ..message("x") }).await;
    let queues = f.broker.topic_queues(&call(), TENANT, "t").await.unwrap();
    assert_eq!(
        queues.iter().map(|q| (q.queue.0, q.earliest, q.latest)).collect::<Vec<_>>(),
        [(0, 0, 0), (1, 0, 1), (2, 0, 0)]
    );
    let at = f.broker.topic_offsets(&call(), TENANT, "t", pointsman_model::Timestamp(0)).await.unwrap();
    assert_eq!(at, [0, 0, 0]);
    f.group("g", "t", None).await;
    let in_use = f.broker.delete_topic(&call(), TENANT, "t", Expect::Anything).await;
    assert_eq!(in_use, Err(Error::InUse(vec!["g".into()])));
    f.broker.delete_group(&call(), TENANT, "g", Expect::Anything).await.unwrap();
    f.broker.delete_topic(&call(), TENANT, "t", Expect::Anything).await.unwrap();
    assert!(matches!(f.broker.get_topic(&call(), TENANT, "t").await, Err(Error::TopicNotFound(_))));
    assert!(matches!(f.broker.get_topic(&call(), "nobody", "t").await, Err(Error::TenantNotFound)));
}

#[tokio::test]
async fn pages_cover_a_list_once_and_cursors_are_signed() {
    let f = Fixture::new().await;
    for n in 0..7 {
        f.topic(&format!("t{n}"), 1).await;
    }
    let mut names = Vec::new();
    let mut page = PageRequest { limit: 3, cursor: None };
    loop {
        let got = f.broker.list_topics(&call(), TENANT, &page).await.unwrap();
        assert!(got.items.len() <= 3);
        names.extend(got.items.iter().map(|topic| topic.name.to_string()));
        let Some(cursor) = got.next_cursor else { break };
        let foreign =
            f.broker.list_groups(&call(), TENANT, &PageRequest { limit: 3, cursor: Some(cursor.clone()) }).await;
        assert!(matches!(foreign, Err(Error::InvalidCursor { .. })), "a cursor of another list");
        for at in 0..cursor.len() {
            let mut forged = cursor.clone().into_bytes();
            forged[at] = if forged[at] == b'A' { b'B' } else { b'A' };
            let forged = PageRequest { limit: 3, cursor: Some(String::from_utf8(forged).unwrap()) };
            let refused = f.broker.list_topics(&call(), TENANT, &forged).await;
            assert!(matches!(refused, Err(Error::InvalidCursor { .. })), "byte {at}");
        }
        page.cursor = Some(cursor);
    }
    assert_eq!(names, (0..7).map(|n| format!("t{n}")).collect::<Vec<_>>());
    for (limit, ok) in [(0, true), (1, true), (1_000, true), (1_001, false)] {
        let page = f.broker.list_topics(&call(), TENANT, &PageRequest { limit, cursor: None }).await;
        assert_eq!(page.is_ok(), ok, "{limit}");
    }
}

#[tokio::test]
async fn a_plugin_is_stored_in_pieces_and_read_back() {
    let f = Fixture::new().await;
    let name: &'static str = Box::leak("x".repeat(limits::PLUGIN_CHUNK_BYTES * 2 + 1).into_boxed_str());
    let bytes = f.judges.add(name, accept_all());
    let put = async |version, bytes: &Bytes, dry| {
        f.broker.put_plugin(&call(), TENANT, "mine", version, bytes.clone(), dry).await
    };
    let dry = put("1.0.0", &bytes, true).await.unwrap();
    assert!(dry.created);
    assert!(matches!(f.broker.get_plugin(&call(), TENANT, "mine").await, Err(Error::PluginNotFound(_))), "only tried");
    let made = put("1.0.0", &bytes, false).await.unwrap();
    let again = put("1.0.0", &bytes, false).await.unwrap();
    assert!(made.created && !again.created);
    let other = f.judges.add("other", accept_all());
    assert!(matches!(put("1.0.0", &other, false).await, Err(Error::AlreadyExists(_))));
    assert!(matches!(put("1.0", &other, false).await, Err(Error::InvalidRequest { .. })));
    put("0.9.0", &other, false).await.unwrap();
    let versions = f.broker.get_plugin(&call(), TENANT, "mine").await.unwrap();
    assert_eq!(versions.iter().map(|view| view.version.as_str()).collect::<Vec<_>>(), ["0.9.0", "1.0.0"]);
    assert_eq!(f.broker.plugin_component(&call(), TENANT, "mine", "1.0.0").await.unwrap(), bytes);
    let junk = put("2.0.0", &Bytes::from_static(b"junk"), false).await;
    assert!(matches!(junk, Err(Error::PluginInvalid(_))));
    let large = Bytes::from(vec![0; limits::PLUGIN_BYTES_DEFAULT as usize + 1]);
    assert!(matches!(put("2.0.0", &large, false).await, Err(Error::PluginTooLarge { .. })));
    let all = f.broker.list_plugins(&call(), TENANT, &PageRequest::default()).await.unwrap();
    let names: Vec<_> = all.items.iter().map(|view| format!("{}@{}", view.name, view.version)).collect();
    assert_eq!(names, ["builtin/tags@0.1.0", "mine@0.9.0", "mine@1.0.0"]);
    assert_eq!(f.broker.get_plugin_version(&call(), TENANT, "builtin/tags", "0.1.0").await.unwrap().created_at, None);
    f.topic("t", 1).await;
    f.group("g", "t", Some(plugin_filter("mine"))).await;
    let in_use = f.broker.delete_plugin_version(&call(), TENANT, "mine", "1.0.0").await;
    assert!(matches!(in_use, Err(Error::InUse(_))), "{in_use:?}");
    f.broker.delete_plugin_version(&call(), TENANT, "mine", "0.9.0").await.unwrap();
}

#[tokio::test]
async fn a_groups_filter_is_tried_and_its_version_pinned() {
    let f = Fixture::new().await;
    f.topic("t", 1).await;
    let picky = accept_all().with_init(|config| match config {
        b"{}" => Ok(by_tag()),
        _ => Err("unknown key at position 7".into()),
    });
    let bytes = f.judges.add("picky", picky);
    for version in ["1.9.0", "1.10.0", "1.2.0"] {
        f.broker.put_plugin(&call(), TENANT, "picky", version, bytes.clone(), false).await.unwrap();
    }
    f.group("g", "t", Some(plugin_filter("picky"))).await;
    let binding = f.broker.get_binding(&call(), TENANT, "g:t").await.unwrap();
    assert_eq!((binding.config.version.as_str(), binding.shorthand), ("1.10.0", true), "newest by semver");
    let put = async |filter| {
        f.broker.put_group(&call(), TENANT, "g", group_settings(&[("t", Some(filter))]), Expect::Anything).await
    };
    let bad = FilterSpec::Plugin { plugin: "picky".into(), version: None, config: Bytes::from_static(b"{\"a\":1}") };
    let refused = put(bad).await;
    assert!(
        matches!(&refused, Err(Error::InvalidFilter { pointer, position: Some(7), .. }) if pointer == "/topics/0/filter")
    );
    assert!(matches!(put(FilterSpec::Tags("a ||".into())).await, Err(Error::InvalidFilter { position: Some(0), .. })));
    assert!(matches!(put(plugin_filter("nope")).await, Err(Error::PluginNotFound(_))));
    f.upload("chooser", FakePlugin::selector(by_tag(), |_, _| Verdict::Answer(Vec::new()))).await;
    assert!(matches!(put(plugin_filter("chooser")).await, Err(Error::InvalidFilter { .. })), "not a filter");
    let group = f.broker.get_group(&call(), TENANT, "g").await.unwrap();
    assert_eq!(
        group.config.topics[0].filter.as_ref().unwrap().binding.plugin,
        "picky",
        "what was refused changed nothing"
    );

    let settings = |change: &dyn Fn(&mut crate::view::GroupSettings)| {
        let mut settings = group_settings(&[("t", None)]);
        change(&mut settings);
        settings
    };
    for (bad, expected) in [
        (settings(&|s| s.lease_ms = 0), "/lease_ms"),
        (settings(&|s| s.max_retries = limits::RETRIES_MAX + 1), "/max_retries"),
        (settings(&|s| s.max_inflight = 0), "/max_inflight"),
        (settings(&|s| s.topics = Vec::new()), "/topics"),
        (settings(&|s| s.topics = vec![("t".into(), None), ("t".into(), None)]), "/topics/1/topic"),
    ] {
        assert_eq!(pointer(f.broker.put_group(&call(), TENANT, "g2", bad, Expect::Anything).await), expected);
    }
    let missing = group_settings(&[("nope", None)]);
    let missing = f.broker.put_group(&call(), TENANT, "g2", missing, Expect::Anything).await;
    assert_eq!(missing.err(), Some(Error::TopicNotFound("nope".into())));
}

#[tokio::test]
async fn a_group_starts_at_the_latest_the_earliest_or_a_time() {
    let f = Fixture::new().await;
    f.topic("t", 1).await;
    for n in 0..3 {
        f.clock.advance_ms(1_000);
        f.send("t", message(&n.to_string())).await;
    }
    for (name, start, expected) in [
        ("late", Start::Latest, vec![]),
        ("early", Start::Earliest, vec!["0", "1", "2"]),
        ("timed", Start::Time(1_700_000_002_000), vec!["1", "2"]),
    ] {
        let mut settings = group_settings(&[("t", None)]);
        settings.start = start;
        f.put_group(name, settings).await;
        assert_eq!(bodies(&f.lease(name, 9).await), expected, "{name}");
    }
}

#[tokio::test]
async fn bindings_are_tried_and_refused_with_a_pointer() {
    let f = Fixture::new().await;
    f.topic("t", 1).await;
    f.topic("u", 1).await;
    f.group("g", "t", None).await;
    f.upload(
        "all",
        accept_all().with_init(|config| match config {
            b"{}" => Ok(by_tag()),
            _ => Err("no such key".into()),
        }),
    )
    .await;
    f.upload("chooser", FakePlugin::selector(by_tag(), |_, _| Verdict::Answer(Vec::new()))).await;
    let put = async |settings| f.broker.put_binding(&call(), TENANT, "b", settings, Expect::Anything).await;
    let filter = || binding_settings(Slot::Filter, Some("t"), Some("g"), "all");
    let selector = || binding_settings(Slot::Selector, Some("t"), None, "chooser");
    use crate::view::BindingSettings as B;
    for (settings, expected) in [
        (B { group: None, ..filter() }, "/group"),
        (B { group: Some("nope".into()), ..filter() }, "/group"),
        (B { topic: Some("nope".into()), ..filter() }, "/topic"),
        (B { topic: Some("u".into()), ..filter() }, "/topic"),
        (B { topic: None, ..selector() }, "/topic"),
        (B { group: Some("g".into()), ..selector() }, "/group"),
        (B { plugin: "all".into(), ..selector() }, "/slot"),
        (B { config: Bytes::from_static(b"{\"x\":1}"), ..filter() }, "/config"),
        (B { keyed: true, ..filter() }, "/keyed"),
        (B { on_failure: Some(FailurePolicy::Hash), ..filter() }, "/on_failure"),
        (B { on_failure: Some(FailurePolicy::Skip), ..selector() }, "/on_failure"),
        (B { fuel: Some(0), ..filter() }, "/limits/fuel"),
        (B { memory_bytes: Some(limits::PLUGIN_MEMORY_BYTES_CAP + 1), ..filter() }, "/limits/memory_bytes"),
        (B { wall_ms: Some(limits::PLUGIN_WALL_MS_CAP + 1), ..filter() }, "/limits/wall_ms"),
    ] {
        assert_eq!(pointer(put(settings).await), expected);
    }
    assert!(matches!(put(B { version: "9.0.0".into(), ..filter() }).await, Err(Error::PluginNotFound(_))));
    put(filter()).await.unwrap();
    let second = f.broker.put_binding(&call(), TENANT, "b2", filter(), Expect::Anything).await;
    assert_eq!(second.err(), Some(Error::InUse(vec!["b".into()])));

    f.send("t", tagged("x")).await;
    assert_eq!(f.lease("g", 1).await.len(), 1);
    assert_eq!(f.broker.binding_stats(&call(), TENANT, "b").await.unwrap().messages, 1);
    assert!(f.broker.binding_logs(&call(), TENANT, "b").await.unwrap().is_empty());
    f.broker.delete_binding(&call(), TENANT, "b", Expect::Anything).await.unwrap();
    let gone = f.broker.delete_binding(&call(), TENANT, "b", Expect::Anything).await;
    assert_eq!(gone, Err(Error::BindingNotFound("b".into())));
    assert!(f.broker.list_bindings(&call(), TENANT, &PageRequest::default()).await.unwrap().items.is_empty());
}

#[tokio::test]
async fn every_kind_is_bound_to_its_target_with_its_policies() {
    let f = Fixture::new().await;
    f.topic("t", 1).await;
    f.group("g", "t", None).await;
    f.upload("key", FakePlugin::dedup(by_tag(), |_, _| Verdict::Answer(None))).await;
    f.upload("again", FakePlugin::retry(|_| Verdict::Answer(RetryAnswer::Drop))).await;
    let unknown = || Verdict::Answer(CheckAnswer::Unknown { after_ms: None });
    f.upload("asker", FakePlugin::check_back(move |_, _| unknown(), move |_, _| unknown())).await;
    let dedup = || binding_settings(Slot::Dedup, Some("t"), None, "key");
    let retry = || binding_settings(Slot::Retry, None, Some("g"), "again");
    let check_back = || binding_settings(Slot::CheckBack, Some("t"), None, "asker");
    use crate::view::BindingSettings as B;
    for (settings, expected) in [
        (B { topic: None, ..dedup() }, "/topic"),
        (B { group: Some("g".into()), ..dedup() }, "/group"),
        (B { on_failure: Some(FailurePolicy::Hash), ..dedup() }, "/on_failure"),
        (B { plugin: "again".into(), ..dedup() }, "/slot"),
        (B { keyed: true, ..dedup() }, "/keyed"),
        (B { group: None, ..retry() }, "/group"),
        (B { topic: Some("t".into()), ..retry() }, "/topic"),
        (B { on_failure: Some(FailurePolicy::Keep), ..retry() }, "/on_failure"),
        (B { topic: None, ..check_back() }, "/topic"),
        (B { group: Some("g".into()), ..check_back() }, "/group"),
        (B { on_failure: Some(FailurePolicy::Default), ..check_back() }, "/on_failure"),
    ] {
        let put = f.broker.put_binding(&call(), TENANT, "b", settings, Expect::Anything).await;
        assert_eq!(pointer(put), expected);
    }
    for (name, settings, policy) in [
        ("d", dedup(), FailurePolicy::Keep),
        ("r", retry(), FailurePolicy::Default),
        ("c", check_back(), FailurePolicy::Unknown),
    ] {
        let put = f.broker.put_binding(&call(), TENANT, name, settings, Expect::Anything).await.unwrap();
        assert_eq!(put.object.config.on_failure, policy, "{name}");
    }
    let state = f.shard.state();
    let tenant = *state.tenants.keys().next().unwrap();
    let (topic, group) = (state.topic(tenant, "t").unwrap().id, state.group(tenant, "g").unwrap().id);
    assert!(state.dedup(topic).is_some() && state.retry(group).is_some() && state.check_back(topic).is_some());
}

#[tokio::test]
async fn a_judge_is_bound_once_for_each_version_of_its_binding() {
    let f = Fixture::new().await;
    f.topic("t", 1).await;
    f.upload("chooser", FakePlugin::selector(by_tag(), |_, _| Verdict::Answer(vec![]))).await;
    f.bind("b", binding_settings(Slot::Selector, Some("t"), None, "chooser")).await;
    let bound = || f.judges.bound.load(std::sync::atomic::Ordering::SeqCst);
    for _ in 0..5 {
        let _ = f.publish("t", vec![message("x")]).await.unwrap();
    }
    assert_eq!(bound(), 1);
    let mut settings = binding_settings(Slot::Selector, Some("t"), None, "chooser");
    settings.fuel = Some(1_000);
    f.bind("b", settings).await;
    for _ in 0..5 {
        let _ = f.publish("t", vec![message("x")]).await.unwrap();
    }
    assert_eq!(bound(), 2);
}

#[tokio::test]
async fn messages_are_found_by_id_offset_and_key_within_their_tenant() {
    let f = Fixture::new().await;
    f.topic("t", 2).await;
    let keyed =
        |body: &str, key: &str| pointsman_model::message::NewMessage { keys: vec![key.into()], ..message(body) };
    let mut sent = Vec::new();
    for (body, key) in [("a", "k"), ("b", "other"), ("c", "k"), ("d", "k")] {
        sent.push(f.send("t", keyed(body, key)).await);
    }
    let id = sent[2].id.unwrap();
    let found = f.broker.get_message(&call(), TENANT, id).await.unwrap();
    assert_eq!((found.record.body.as_ref(), found.offset, found.id), (&b"c"[..], sent[2].offset.unwrap(), id));
    let body = |m: &crate::view::StoredMessage| String::from_utf8_lossy(&m.record.body).into_owned();
    let by_key = f.broker.list_messages_by_key(&call(), TENANT, "t", "k", 2).await.unwrap();
    assert_eq!(by_key.iter().map(body).collect::<Vec<_>>(), ["d", "c"], "newest first");
    let queue = sent[0].queue.unwrap();
    let listed = f.broker.list_messages(&call(), TENANT, "t", queue, 1, 10).await.unwrap();
    assert_eq!(listed.iter().map(body).collect::<Vec<_>>(), ["c"]);
    let missing = MessageId { ordinal: pointsman_model::Ordinal(9), ..id };
    assert_eq!(f.broker.get_message(&call(), TENANT, missing).await.unwrap_err(), Error::MessageNotFound);
    f.broker.put_tenant(&call(), "acme", Expect::Anything).await.unwrap();
    assert_eq!(f.broker.get_message(&call(), "acme", id).await.unwrap_err(), Error::MessageNotFound);
    let queue = f.broker.list_messages(&call(), TENANT, "t", QueueId(2), 0, 10).await;
    assert_eq!(pointer(queue), "queue");
}
