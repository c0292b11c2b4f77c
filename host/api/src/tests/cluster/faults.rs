//! What is tried again, what is not known, and who says so.

use std::time::Instant;

use super::*;

#[tokio::test(start_paused = true)]
async fn without_a_leader_a_call_is_refused_soon() {
    let cluster = Cluster::with_orders(2).await;
    cluster.shard(1, 1).depose();
    for (line, body) in [("POST ~/topics/orders/messages", "x"), ("GET ~/topics/orders", ""), ("GET ~/topics", "")] {
        for node in [1, 2] {
            let started = tokio::time::Instant::now();
            let refused = cluster.send(node, line, &[], body).await;
            assert_eq!(refused.problem().1, "no-leader", "{line}");
            assert!(refused.header("retry-after").is_some());
            let waited = started.elapsed();
            assert!(waited >= Duration::from_millis(1_400) && waited < Duration::from_secs(2), "{line}: {waited:?}");
        }
    }
    // A stream says it inside: an `EventSource` gives up for good on a 503.
    let stream = cluster.call(2, "GET ~/groups/g/stream").await;
    assert_eq!(stream.status.as_u16(), 200);
    assert!(stream.text().contains("event: error") && stream.text().contains("no-leader"), "{}", stream.text());
    // The metadata shard is led.
    assert_eq!(cluster.call(2, "GET /v1/tenants").await.status.as_u16(), 200);
    let started = tokio::time::Instant::now();
    let refused = cluster.send(2, "GET ~/topics", &[("pm-timeout-ms", "100")], "").await;
    assert_eq!(refused.problem().1, "no-leader");
    assert!(started.elapsed() < Duration::from_millis(500), "its own time is shorter");
}

#[tokio::test(start_paused = true)]
async fn what_was_not_done_is_tried_again_with_its_body() {
    let cluster = Cluster::with_orders(3).await;
    cluster.faults(&[Fault::NotSent, Fault::Misled(3), Fault::NotSent]);
    cluster.publish(2, "a").await;
    assert_eq!(cluster.metric(2, "forwards_sent").await, 4);
    assert_eq!(cluster.metric(2, "forwards_retried").await, 1);
    assert_eq!(cluster.metric(3, "forwards_not_leader").await, 1);
    assert_eq!(cluster.lease(2, "{}").await, ["a"], "once");
}

#[tokio::test(start_paused = true)]
async fn a_call_waits_for_the_next_leader() {
    let cluster = Arc::new(Cluster::with_orders(3).await);
    cluster.shard(1, 1).depose();
    let (waiting, other) = (Arc::clone(&cluster), Arc::clone(&cluster));
    let publish = tokio::spawn(async move { waiting.publish(2, "a").await });
    let forwarded_to_itself = tokio::spawn(async move { other.publish(3, "b").await });
    tokio::time::sleep(Duration::from_millis(700)).await;
    cluster.shard(1, 3).take_over();
    publish.await.expect("published");
    forwarded_to_itself.await.expect("published");
    assert_eq!(cluster.lease(1, "{}").await.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_lost_answer_is_an_unknown_outcome_of_what_writes_alone() {
    let cluster = Cluster::with_orders(2).await;
    cluster.faults(&[Fault::Lost]);
    let lost = cluster.send(2, "POST ~/topics/orders/messages", &[("pm-queue", "0")], "a").await;
    assert_eq!(lost.problem(), (504, "outcome-unknown".into(), String::new()));
    assert_eq!(cluster.metric(2, "forwards_lost").await, 1);
    assert_eq!(cluster.lease(2, "{}").await.len(), 1, "it was done, once");
    cluster.faults(&[Fault::Lost, Fault::Lost]);
    assert_eq!(cluster.call(2, "GET ~/topics/orders").await.status.as_u16(), 200);
    cluster.faults(&[Fault::Refused]);
    assert_eq!(cluster.call(2, "GET ~/topics/orders").await.problem().1, "overloaded");
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_is_silent_and_replaced_is_not_waited_for() {
    let cluster = Arc::new(Cluster::with_orders(3).await);
    let call = |line: &'static str| {
        let cluster = Arc::clone(&cluster);
        tokio::spawn(async move {
            cluster.send(2, line, &[("pm-queue", "0")][..line.starts_with("POST").into()], "x").await
        })
    };
    for (line, status) in [("POST ~/topics/orders/messages", 504), ("GET ~/topics/orders", 200)] {
        cluster.shard(1, 1).take_over();
        cluster.faults(&[Fault::Silent]);
        let started = tokio::time::Instant::now();
        let waiting = call(line);
        tokio::time::sleep(Duration::from_millis(2_000)).await;
        cluster.shard(1, 3).take_over();
        assert_eq!(waiting.await.expect("answers").status.as_u16(), status, "{line}");
        assert!(started.elapsed() < Duration::from_millis(4_000), "{line}: {:?}", started.elapsed());
    }
    // Without another leader it is waited for as long as the call has time.
    cluster.faults(&[Fault::Silent]);
    let started = tokio::time::Instant::now();
    assert_eq!(call("POST ~/topics/orders/messages").await.expect("answers").status.as_u16(), 504);
    assert_eq!(started.elapsed().as_secs(), 10);
}

#[tokio::test(start_paused = true)]
async fn the_deadline_goes_with_the_call() {
    let cluster = Cluster::with_orders(2).await;
    cluster.shard(1, 1).hold();
    let started = tokio::time::Instant::now();
    let headers = [("pm-timeout-ms", "300"), ("pm-queue", "0")];
    let unknown = cluster.send(2, "POST ~/topics/orders/messages", &headers, "a").await;
    assert_eq!(unknown.problem().1, "outcome-unknown");
    let took = started.elapsed();
    assert!(took >= Duration::from_millis(300) && took < Duration::from_millis(800), "{took:?}");
    // What is left after waiting for a leader is all that the leader has.
    cluster.shard(1, 1).release();
    cluster.shard(1, 1).depose();
    let cluster = Arc::new(cluster);
    let waiting = Arc::clone(&cluster);
    let call = tokio::spawn(async move {
        let started = tokio::time::Instant::now();
        let headers = [("pm-timeout-ms", "1400"), ("pm-queue", "0")];
        let answer = waiting.send(2, "POST ~/topics/orders/messages", &headers, "b").await;
        (answer.problem().1, started.elapsed())
    });
    tokio::time::sleep(Duration::from_millis(1_000)).await;
    cluster.shard(1, 1).hold();
    cluster.shard(1, 1).take_over();
    let (code, took) = call.await.expect("answered");
    assert_eq!(code, "outcome-unknown");
    assert!(took < Duration::from_millis(1_950), "{took:?}");
}

#[tokio::test]
async fn a_long_poll_dies_with_its_client_on_the_leader_too() {
    let cluster = Arc::new(Cluster::with_orders(2).await);
    let waiting = Arc::clone(&cluster);
    let poll = tokio::spawn(async move { waiting.lease(2, r#"{"wait_ms":20000}"#).await });
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(cluster.metric(1, "forwards_served").await, 1, "it waits there");
    poll.abort();
    assert!(poll.await.is_err());
    cluster.publish(1, "a").await;
    assert_eq!(cluster.lease(1, "{}").await, ["a"], "the poll leased nothing");

    let waiting = Arc::clone(&cluster);
    let poll = tokio::spawn(async move { waiting.lease(2, r#"{"wait_ms":20000}"#).await });
    tokio::time::sleep(Duration::from_millis(50)).await;
    let started = Instant::now();
    cluster.publish(2, "b").await;
    assert_eq!(poll.await.expect("answered"), ["b"]);
    assert!(started.elapsed() < Duration::from_secs(5), "woken, not polled");
}

#[tokio::test]
async fn garbage_between_nodes_does_nothing() {
    let cluster = Cluster::with_orders(2).await;
    let api = cluster.0.api(NodeId(1)).expect("up");
    for head in [&b""[..], b"\x01", b"\xff\xff", &[1; 100_000]] {
        let request = Forwarded { head: Bytes::copy_from_slice(head), body: futures_util::stream::empty().boxed() };
        let answer = api.serve_forwarded(NodeId(2), request).await;
        assert_eq!(&answer.head[..], [1, 0], "not leader");
    }
}
