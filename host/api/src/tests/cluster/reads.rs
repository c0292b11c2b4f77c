//! What a node that is behind says: nothing is unknown before it has caught up.

use super::*;

#[tokio::test]
async fn what_another_node_made_is_known_by_the_next_call() {
    let cluster = Cluster::new(2).await;
    (0..3).for_each(|shard| cluster.shard(shard, 2).set_lagging(true));
    cluster.json(1, "PUT /v1/tenants/acme", "{}", 201).await;
    cluster.json(1, "PUT /v1/tenants/acme/topics/t", r#"{"queues":1}"#, 201).await;
    let token = cluster.json(1, "POST /v1/tenants/acme/tokens", r#"{"scopes":["consume:*","publish:*"]}"#, 201).await;
    let bearer = format!("Bearer {}", token["token"].as_str().expect("a token"));
    let headers = [("authorization", &*bearer), ("accept", "application/x-ndjson"), ("content-type", "text/plain")];
    let stream = cluster.send(2, "GET /v1/tenants/acme/topics/t/stream?until=tail", &headers, "").await;
    assert_eq!(stream.status.as_u16(), 200, "{}", stream.text());

    let id = cluster.send(1, "POST /v1/tenants/acme/topics/t/messages", &headers[..1], "x").await.json();
    let payload = format!("GET /v1/tenants/acme/messages/{}/payload", id["id"].as_str().expect("an id"));
    assert_eq!(cluster.send(2, &payload, &headers[..1], "").await.bytes, "x");
    assert_eq!(cluster.call(2, &payload.replace("/payload", "x/payload")).await.problem().1, "message-not-found");

    cluster.send(1, "POST /v1/tenants/acme/topics/t/messages", &headers[..1], "y").await;
    let path = "GET /v1/tenants/acme/topics/t/stream?from=earliest&until=tail";
    let stream = cluster.send(2, path, &headers, "").await;
    assert_eq!(stream.text().matches("\"event\":\"message\"").count(), 2, "{}", stream.text());
    for path in ["topics/nope/stream", "topics/nope/messages?queue=0&offset=0"] {
        let refused = cluster.call(2, &format!("GET /v1/tenants/acme/{path}")).await;
        assert_eq!(refused.problem().1, "topic-not-found", "{path}");
    }
    assert_eq!(cluster.call(2, "GET /v1/tenants/nope/topics").await.problem().1, "tenant-not-found");
    let refused = cluster.send(2, "GET /v1/whoami", &[("authorization", "Bearer pm_0_0")], "").await;
    assert_eq!(refused.problem().1, "unauthenticated");
    let audit = cluster.json(2, "GET /v1/audit", "", 200).await;
    assert!(audit["items"].as_array().is_some_and(|rows| rows.len() >= 4));
}

#[tokio::test]
async fn a_leader_of_the_home_need_not_know_the_tenant_yet() {
    let cluster = Cluster::new(2).await;
    cluster.shard(2, 2).take_over();
    cluster.shard(0, 2).set_lagging(true);
    // The least loaded shard is 2.
    cluster.json(1, "PUT /v1/tenants/acme", "{}", 201).await;
    let token = cluster.json(1, "POST /v1/tenants/acme/tokens", r#"{"scopes":["admin:*"]}"#, 201).await;
    let bearer = format!("Bearer {}", token["token"].as_str().expect("a token"));
    let headers = [("authorization", &*bearer), ("content-type", "application/json")];
    let created = cluster.send(1, "PUT /v1/tenants/acme/topics/t", &headers, "{}").await;
    assert_eq!(created.status.as_u16(), 201, "{}", created.text());
    assert_eq!(cluster.metric(2, "forwards_served").await, 1);
}

#[tokio::test(start_paused = true)]
async fn without_a_leader_nothing_is_unknown() {
    let cluster = Cluster::with_orders(2).await;
    cluster.shard(0, 1).depose();
    for line in ["GET /v1/tenants/nope/topics", "GET /v1/tenants"] {
        assert_eq!(cluster.call(2, line).await.problem().1, "no-leader", "{line}");
    }
    let refused = cluster.send(2, "GET /v1/whoami", &[("authorization", "Bearer pm_0_0")], "").await;
    assert_eq!(refused.problem().1, "no-leader");
    // What is known goes on: streams serve what is applied here.
    cluster.publish(2, "a").await;
    cluster.shard(1, 1).depose();
    let stream = cluster.call(2, "GET ~/topics/orders/stream?from=earliest&until=tail").await;
    assert!(stream.text().contains("event: message"), "{}", stream.text());
    assert_eq!(cluster.call(2, "GET ~/topics/orders/messages?queue=0&offset=0").await.status.as_u16(), 200);
    assert_eq!(cluster.call(2, "GET ~/topics/orders/messages?key=k").await.problem().1, "no-leader");
    let stream = cluster.call(2, "GET ~/topics/nope/stream").await;
    assert!(stream.text().contains("event: error") && stream.text().contains("no-leader"), "{}", stream.text());
}

#[tokio::test]
async fn tenants_are_made_and_deleted_over_two_shards() {
    let cluster = Cluster::new(3).await;
    cluster.shard(2, 3).take_over();
    // Metadata on node 1, the home on node 3, asked on node 2.
    let made = cluster.json(2, "PUT /v1/tenants/acme", "{}", 201).await;
    assert_eq!(cluster.json(3, "PUT /v1/tenants/acme", "{}", 200).await, made);
    cluster.json(2, "PUT /v1/tenants/acme/topics/t", "{}", 201).await;
    let dry = cluster.call(2, "DELETE /v1/tenants/acme?dry_run=true").await;
    assert_eq!(dry.problem().1, "in-use");
    assert_eq!(cluster.call(2, "DELETE /v1/tenants/acme").await.problem().1, "in-use");
    assert_eq!(cluster.call(2, "DELETE /v1/tenants/acme/topics/t").await.status.as_u16(), 204);
    assert_eq!(cluster.call(2, "DELETE /v1/tenants/acme?dry_run=true").await.status.as_u16(), 200);
    assert_eq!(cluster.call(2, "DELETE /v1/tenants/acme").await.status.as_u16(), 204);
    for node in 1..=3 {
        assert_eq!(cluster.call(node, "GET /v1/tenants/acme/topics").await.problem().1, "tenant-not-found");
    }
    cluster.json(2, "PUT /v1/tenants/acme", "{}", 201).await;
    cluster.json(1, "PUT /v1/tenants/acme/topics/t", "{}", 201).await;
}

#[tokio::test]
async fn a_ticket_of_one_node_opens_a_stream_of_another_once() {
    let cluster = Cluster::with_orders(2).await;
    let path = "/v1/tenants/default/topics/orders/stream";
    let made = cluster.json(1, "POST ~/stream-tickets", &format!(r#"{{"path":"{path}"}}"#), 201).await;
    let ticket = made["ticket"].as_str().expect("a ticket");
    assert!(ticket.starts_with("1-"), "{ticket}");
    let line = format!("GET {path}?until=tail&ticket={ticket}");
    assert_eq!(cluster.call(2, &line).await.status.as_u16(), 200);
    assert_eq!(cluster.call(2, &line).await.problem().1, "unauthenticated", "used");
    assert_eq!(cluster.call(1, &line).await.problem().1, "unauthenticated", "used");
    for none in ["9-00", "x", "-", "2-"] {
        let refused = cluster.call(2, &format!("GET {path}?ticket={none}")).await;
        assert_eq!(refused.problem().1, "unauthenticated", "{none}");
    }
}

#[tokio::test]
async fn the_cluster_and_who_leads() {
    let cluster = Cluster::with_orders(3).await;
    let seen = cluster.json(2, "GET /v1/cluster", "", 200).await;
    assert_eq!(seen["nodes"].as_array().map(Vec::len), Some(3));
    assert_eq!(
        (&seen["nodes"][0]["node"], &seen["nodes"][0]["state"], &seen["nodes"][0]["address"]),
        (&1.into(), &"up".into(), &"127.0.0.1:7070".into())
    );
    let shard = &seen["shards"][1];
    assert_eq!((&shard["shard"], &shard["leader"], &shard["term"]), (&1.into(), &1.into(), &"1".into()));
    assert_eq!((&shard["replicas"][2]["role"], &shard["replicas"][2]["lag"]), (&"follower".into(), &"0".into()));

    cluster.shard(1, 3).set_lagging(true);
    cluster.publish(2, "a").await;
    cluster.0.nodes.set_down(&[2]);
    let seen = cluster.json(1, "GET /v1/cluster", "", 200).await;
    assert_eq!(seen["nodes"][1]["state"], "down");
    let replicas = &seen["shards"][1]["replicas"];
    assert_eq!((&replicas[1]["role"], &replicas[1]["applied"]), (&serde_json::Value::Null, &serde_json::Value::Null));
    assert_eq!(replicas[2]["lag"], "1");
    cluster.0.nodes.set_down(&[]);

    let moved = cluster.json(2, "POST /v1/cluster/shards/1/transfer", r#"{"node":3}"#, 200).await;
    assert_eq!((&moved["leader"], &moved["term"]), (&3.into(), &"2".into()));
    assert_eq!(cluster.json(1, "GET ~/topics/orders/queues", "", 200).await["items"][0]["leader"], 3);
    cluster.json(3, "POST /v1/cluster/shards/1/transfer", r#"{"node":3}"#, 200).await;
    let refused = cluster.send(1, "POST /v1/cluster/shards/1/transfer", &[], r#"{"node":9}"#).await;
    assert_eq!(refused.problem(), (400, "invalid-request".into(), "/node".into()));
    assert_eq!(cluster.send(1, "POST /v1/cluster/shards/9/transfer", &[], r#"{"node":1}"#).await.problem().0, 400);
    assert_eq!(cluster.send(1, "POST /v1/cluster/shards/x/transfer", &[], r#"{"node":1}"#).await.problem().0, 400);
    for line in ["POST /v1/cluster/nodes", "DELETE /v1/cluster/nodes/2", "POST /v1/cluster/nodes/2/drain"] {
        assert_eq!(cluster.call(1, line).await.problem().0, 400, "{line}");
    }
}

#[tokio::test]
async fn ready_says_what_is_not() {
    let cluster = Cluster::with_orders(2).await;
    for node in [1, 2] {
        assert_eq!(cluster.call(node, "GET /health/ready").await.status.as_u16(), 200);
    }
    let failing = async |node: u32| {
        let ready = cluster.call(node, "GET /health/ready").await;
        assert_eq!(ready.status.as_u16(), 503);
        let checks = ready.json()["checks"].as_array().cloned().unwrap_or_default();
        let failing = checks.iter().filter(|check| check["ok"] == false);
        failing.map(|check| check["name"].as_str().unwrap_or_default().to_owned()).collect::<Vec<_>>()
    };
    cluster.0.nodes.set_down(&[1]);
    assert_eq!(failing(2).await, ["shard-0-leader", "shard-1-leader", "shard-2-leader"]);
    cluster.0.nodes.set_down(&[]);
    cluster.shard(2, 1).depose();
    assert_eq!(failing(1).await, ["shard-2-leader"]);
    assert_eq!(failing(2).await, ["shard-2-leader"]);
}
