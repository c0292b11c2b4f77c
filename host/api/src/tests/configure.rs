//! Configuration resources: PUT, GET, PATCH, DELETE, tags, preconditions, dry runs.

use pointsman_broker::testing::FakePlugin;
use pointsman_model::judge::{CheckAnswer, Plan, RetryAnswer, Target, Verdict};
use serde_json::json;

use super::Api;

#[tokio::test]
async fn what_get_shows_put_takes_and_changes_nothing() {
    let api = Api::with_orders().await;
    api.fixture.upload("keep", FakePlugin::filter(Plan::default(), |_, _| Verdict::Answer(true))).await;
    api.fixture
        .upload(
            "first",
            FakePlugin::selector(Plan::default(), |_, _| Verdict::Answer(vec![Target { destination: 0, queue: None }])),
        )
        .await;
    let none = || Verdict::Answer(CheckAnswer::Unknown { after_ms: None });
    api.fixture.upload("key", FakePlugin::dedup(Plan::default(), |_, _| Verdict::Answer(None))).await;
    api.fixture.upload("again", FakePlugin::retry(|_| Verdict::Answer(RetryAnswer::Drop))).await;
    api.fixture.upload("asker", FakePlugin::check_back(move |_, _| none(), move |_, _| none())).await;
    api.json("PUT ~/groups/h", r#"{"topics":[{"topic":"orders","filter":{"tags":"a || b"}}],"start":"earliest"}"#, 201)
        .await;
    let filter = r#"{"topics":[{"topic":"orders","filter":{"plugin":"keep","config":{"a":  1}}}],"max_retries":3}"#;
    let group = api.json("PUT ~/groups/i", filter, 201).await;
    let expected = json!({"plugin": "keep", "version": "1.0.0", "config": {"a": 1}});
    assert_eq!(group["topics"][0]["filter"], expected, "pinned and shown");
    let binding = r#"{"slot":"selector","topic":"orders","plugin":"first","version":"1.0.0","limits":{"fuel":5}}"#;
    api.json("PUT ~/bindings/b", binding, 201).await;
    for path in ["~/topics/orders", "~/groups/h", "~/groups/i", "~/bindings/b", "/v1/tenants/default"] {
        let before = api.call(&format!("GET {path}")).await;
        assert_eq!(before.status, 200, "{path}: {:?}", before.bytes);
        insta::with_settings!({snapshot_suffix => path.trim_matches(['~', '/']).replace('/', "-")}, {
            insta::assert_json_snapshot!(before.json());
        });
        let put = api.send(&format!("PUT {path}"), &[], before.bytes.clone()).await;
        assert_eq!((put.status.as_u16(), put.text()), (200, before.text()), "{path}");
        assert_eq!(put.header("etag"), before.header("etag"), "an identical PUT keeps the tag: {path}");
    }
    let shorthand = api.call("GET ~/bindings/h:orders").await.json();
    assert_eq!((&shorthand["plugin"], &shorthand["slot"]), (&json!("builtin/tags"), &json!("filter")));
    assert_eq!(api.call("GET ~/bindings/h:orders/stats").await.json()["breaker"], "closed");
    assert_eq!(api.call("GET ~/bindings/h:orders/logs").await.json(), json!({"items": [], "next_cursor": null}));
    for (name, bound, on_failure) in [
        ("d", r#"{"slot":"dedup","topic":"orders","plugin":"key","version":"1.0.0"}"#, "keep"),
        ("r", r#"{"slot":"retry","group":"h","plugin":"again","version":"1.0.0"}"#, "default"),
        ("c", r#"{"slot":"check-back","topic":"orders","plugin":"asker","version":"1.0.0"}"#, "unknown"),
    ] {
        let put = api.json(&format!("PUT ~/bindings/{name}"), bound, 201).await;
        assert_eq!(put["on_failure"], on_failure, "{name}");
        let read = api.call(&format!("GET ~/bindings/{name}")).await;
        assert_eq!(api.send(&format!("PUT ~/bindings/{name}"), &[], read.bytes.clone()).await.text(), read.text());
    }
    let names = api.call("GET ~/bindings?limit=1").await.json();
    assert_eq!(names["items"][0]["name"], "b");
    assert!(names["next_cursor"].is_string());
}

#[tokio::test]
async fn preconditions_and_tags() {
    let api = Api::new().await;
    let put = api.send("PUT ~/topics/t", &[("if-none-match", "*")], "").await;
    assert_eq!(put.status, 201, "{:?}", put.bytes);
    let tag = put.header("etag").expect("a tag").to_owned();
    assert!(tag.starts_with('"'), "strong: {tag}");
    let again = api.send("PUT ~/topics/t", &[("if-none-match", "*")], "{}").await;
    assert_eq!(again.problem().1, "precondition-failed");
    let fresh = api.send("GET ~/topics/t", &[("if-none-match", &tag)], "").await;
    assert_eq!((fresh.status.as_u16(), fresh.bytes.len(), fresh.header("etag")), (304, 0, Some(tag.as_str())));
    let changed = api.send("PUT ~/topics/t", &[("if-match", &tag)], r#"{"retention_ms":5}"#).await;
    assert_eq!(changed.status, 200);
    assert_ne!(changed.header("etag"), Some(tag.as_str()));
    for (line, body) in [
        ("PUT ~/topics/t", "{}"),
        ("PATCH ~/topics/t", "{}"),
        ("DELETE ~/topics/t", ""),
        ("DELETE ~/topics/t?dry_run=true", ""),
    ] {
        let stale = api.send(line, &[("if-match", &tag)], body).await;
        assert_eq!(stale.problem().1, "precondition-failed", "{line}");
    }
}

#[tokio::test]
async fn queues_page() {
    let api = Api::new().await;
    api.json("PUT ~/topics/t", r#"{"queues":3}"#, 201).await;
    for list in ["queues?", "offsets?time=2020-01-01T00:00:00Z&"] {
        let first = api.call(&format!("GET ~/topics/t/{list}limit=2")).await.json();
        assert_eq!(first["items"].as_array().map(Vec::len), Some(2));
        let cursor = first["next_cursor"].as_str().expect("a cursor");
        let second = api.call(&format!("GET ~/topics/t/{list}limit=2&cursor={cursor}")).await.json();
        assert_eq!((&second["items"][0]["queue"], &second["next_cursor"]), (&json!(2), &json!(null)));
    }
}

#[tokio::test]
async fn a_patch_merges() {
    let api = Api::new().await;
    api.json("PUT ~/topics/t", r#"{"queues":3,"retention_ms":9000,"retention_bytes":"77"}"#, 201).await;
    let kind = [("content-type", "application/merge-patch+json")];
    let patched = api.send("PATCH ~/topics/t", &kind, r#"{"retention_ms":null,"durability":"leader"}"#).await;
    assert_eq!(patched.status, 200, "{:?}", patched.bytes);
    let expected = json!({"name": "t", "queues": 3, "retention_ms": 604_800_000, "retention_bytes": "77",
        "max_message_bytes": 4_194_304, "dedup_window_ms": 600_000, "durability": "leader", "trace": "off"});
    assert_eq!(patched.json(), expected);
    let grown = api.send("PATCH ~/topics/t", &kind, r#"{"queues":5.0}"#).await;
    assert_eq!(grown.json()["queues"], 5);
    let wrong = api.send("PATCH ~/topics/t", &[("content-type", "application/json-patch+json")], "[]").await;
    assert_eq!(wrong.problem().1, "unsupported-media-type");
}

#[tokio::test]
async fn deletes_and_their_dry_runs() {
    let api = Api::with_orders().await;
    api.send("POST ~/topics/orders/messages", &[], "x").await;
    api.json("PUT ~/groups/h", r#"{"topics":[{"topic":"orders","filter":{"tags":"a"}}]}"#, 201).await;
    for query in ["", "?dry_run=true"] {
        let answer = api.call(&format!("DELETE ~/topics/orders{query}")).await;
        assert_eq!(answer.problem().1, "in-use", "{query}");
        let mut users: Vec<_> = answer.json()["users"].as_array().expect("users").clone();
        users.sort_by_key(ToString::to_string);
        assert_eq!(users, ["g", "h"], "{query}");
    }
    let dry = api.call("DELETE ~/groups/h?dry_run=true").await.json();
    assert_eq!(dry, json!({"dry_run": true, "would": "delete", "bindings": 1}));
    assert_eq!(api.call("GET ~/groups/h").await.status, 200, "still there");
    for group in ["g", "h"] {
        let gone = api.call(&format!("DELETE ~/groups/{group}")).await;
        assert_eq!((gone.status.as_u16(), gone.bytes.len()), (204, 0));
    }
    let dry = api.call("DELETE ~/topics/orders?dry_run=true").await.json();
    assert_eq!(dry, json!({"dry_run": true, "would": "delete", "messages": "1"}));
    assert_eq!(api.call("DELETE ~/topics/orders").await.status, 204);
    assert_eq!(api.call("DELETE ~/topics/orders").await.problem().1, "topic-not-found");
}

#[tokio::test]
async fn plugin_versions() {
    let api = Api::new().await;
    let bytes = api.fixture.judges.add("comp", FakePlugin::filter(Plan::default(), |_, _| Verdict::Answer(true)));
    let other = api.fixture.judges.add("other", FakePlugin::filter(Plan::default(), |_, _| Verdict::Answer(true)));
    let wasm = [("content-type", "application/wasm")];
    let put = "PUT ~/plugins/p/versions/1.0.0";
    let tried = api.send("PUT ~/plugins/p/versions/1.0.0?validate_only=true", &wasm, bytes.clone()).await;
    assert_eq!((tried.status.as_u16(), &tried.json()["kind"]), (200, &json!("filter")));
    assert_eq!(api.call("GET ~/plugins/p/versions/1.0.0").await.status, 404, "validated only");
    let created = api.send(put, &wasm, bytes.clone()).await;
    assert_eq!(created.status, 201, "{:?}", created.bytes);
    let version = created.json();
    assert!(version["digest"].as_str().is_some_and(|digest| digest.len() == 71 && digest.starts_with("sha256:")));
    assert_eq!((&version["size_bytes"], &version["imports"]), (&json!("4"), &json!([])));
    assert_eq!(api.send(put, &wasm, bytes.clone()).await.status, 200, "the same bytes");
    let only_new = [wasm[0], ("if-none-match", "*")];
    assert_eq!(api.send(put, &only_new, bytes).await.problem().1, "precondition-failed");
    assert_eq!(api.send(put, &wasm, other).await.problem().1, "already-exists");
    let fetched = api.call("GET ~/plugins/p/versions/1.0.0/wasm").await;
    assert_eq!((fetched.text(), fetched.header("content-type")), ("comp", Some("application/wasm")));
    let plugin = api.call("GET ~/plugins/p").await.json();
    assert_eq!((&plugin["latest"], &plugin["versions"][0]), (&json!("1.0.0"), &version));
    let builtin = api.call("GET ~/plugins/builtin/tags").await.json();
    assert_eq!(builtin["name"], "builtin/tags");
    let built = builtin["latest"].as_str().expect("a version");
    assert_eq!(api.call(&format!("GET ~/plugins/builtin/tags/versions/{built}/wasm")).await.text(), "tags");
    let all = api.call("GET ~/plugins").await.json();
    assert_eq!(all["items"].as_array().map(Vec::len), Some(2));
    assert_eq!(api.call("DELETE ~/plugins/p/versions/1.0.0?dry_run=true").await.json()["would"], "delete");
    assert_eq!(api.call("DELETE ~/plugins/p/versions/1.0.0").await.status, 204);
    assert_eq!(api.call("GET ~/plugins/p").await.status, 404);
}
