//! Streams over fakes.

use std::time::Duration;

use pointsman_model::message::NewMessage;
use pointsman_model::{QueueId, Timestamp, limits};
use pointsman_state_machine::command::Expect;

use super::TopicStream;
use super::merge::Merge;
use crate::Error;
use crate::ports::Shard;
use crate::testing::fixture::{Fixture, TENANT, call, message, plugin_filter, tagged};
use crate::view::{FilterSpec, Publish, StreamEvent, StreamFrom, StreamRequest};

fn from(from: StreamFrom) -> StreamRequest {
    StreamRequest { from, until_tail: true, ..StreamRequest::default() }
}

fn earliest() -> StreamRequest {
    from(StreamFrom::Earliest)
}

async fn open(f: &Fixture, request: StreamRequest) -> Result<TopicStream, Error> {
    f.broker.open_stream(&call(), TENANT, "t", request).await
}

/// All events of a stream that ends: payload and cursor of messages, names of the others.
async fn drain(mut stream: TopicStream) -> Vec<(String, String)> {
    let mut events = Vec::new();
    while let Some(event) = stream.next().await {
        events.push(match event {
            StreamEvent::Open { resumed, .. } => (format!("open {resumed}"), String::new()),
            StreamEvent::Message { message, cursor } => {
                (String::from_utf8_lossy(&message.record.body).into_owned(), cursor)
            }
            StreamEvent::CaughtUp => ("caught-up".into(), String::new()),
            StreamEvent::Gap { from, to, .. } => (format!("gap {from} {to}"), String::new()),
            StreamEvent::Failed(error) => (format!("failed {error}"), String::new()),
            StreamEvent::Drain => ("drain".into(), String::new()),
        });
    }
    events
}

fn names(events: &[(String, String)]) -> Vec<&str> {
    events.iter().map(|(name, _)| name.as_str()).collect()
}

#[tokio::test]
async fn log_order_over_queues_and_resumed_from_every_cursor_exactly_once() {
    let f = Fixture::new().await;
    f.topic("t", 3).await;
    let mut sent = Vec::new();
    for batch in 0..100 {
        let messages: Vec<_> = (0..5).map(|n| message(&format!("{batch}.{n}"))).collect();
        sent.extend(messages.iter().map(|m| String::from_utf8_lossy(&m.body).into_owned()));
        f.publish("t", messages).await.unwrap();
    }
    let events = drain(open(&f, earliest()).await.unwrap()).await;
    let expected: Vec<_> =
        ["open false"].into_iter().chain(sent.iter().map(String::as_str)).chain(["caught-up"]).collect();
    assert_eq!(names(&events), expected);
    for at in (0..sent.len()).step_by(7).chain([sent.len() - 1]) {
        let cursor = events[at + 1].1.clone();
        let rest = drain(open(&f, from(StreamFrom::Cursor(cursor))).await.unwrap()).await;
        let expected: Vec<_> =
            ["open true"].into_iter().chain(sent[at + 1..].iter().map(String::as_str)).chain(["caught-up"]).collect();
        assert_eq!(names(&rest), expected, "after {at}");
    }
}

#[tokio::test]
async fn a_stream_goes_on_at_the_tail_and_loses_nothing_when_dropped() {
    let f = Fixture::new().await;
    f.topic("t", 2).await;
    f.send("t", message("before")).await;
    let mut stream = open(&f, StreamRequest::default()).await.unwrap();
    assert!(matches!(stream.next().await, Some(StreamEvent::Open { resumed: false, .. })));
    assert!(matches!(stream.next().await, Some(StreamEvent::CaughtUp)));
    for n in 0..50 {
        // Dropped again and again, as the HTTP edge does for its heartbeat.
        for _ in 0..3 {
            let next = tokio::time::timeout(Duration::from_millis(1), stream.next()).await;
            assert!(next.is_err(), "nothing is there yet");
        }
        let started = std::time::Instant::now();
        let (event, _) = tokio::join!(stream.next(), f.send("t", message(&n.to_string())));
        let Some(StreamEvent::Message { message, .. }) = event else { panic!("{event:?}") };
        assert_eq!(message.record.body, n.to_string());
        assert!(started.elapsed() < Duration::from_millis(900), "woken, not polled");
    }
}

#[tokio::test]
async fn concurrent_publishes_are_streamed_in_log_order() {
    let f = Fixture::new().await;
    f.topic("t", 4).await;
    let mut stream = open(&f, StreamRequest::default()).await.unwrap();
    let broker = f.broker.clone();
    let publisher = tokio::spawn(async move {
        for n in 0..500 {
            let publish = Publish { messages: vec![message(&n.to_string())], ack: None, atomic: false };
            broker.publish(&call(), TENANT, "t", publish).await.unwrap();
        }
    });
    let mut places = Vec::new();
    while places.len() < 500 {
        if let Some(StreamEvent::Message { message, .. }) = stream.next().await {
            places.push((message.id.index, message.id.ordinal));
        }
    }
    publisher.await.unwrap();
    assert!(places.is_sorted(), "{places:?}");
}

fn to_queue(queue: u16, body: &str) -> NewMessage {
    NewMessage { queue: Some(QueueId(queue)), ..message(body) }
}

#[tokio::test]
async fn a_long_queue_is_not_overtaken_by_a_short_one() {
    let f = Fixture::new().await;
    f.topic("t", 2).await;
    let n = limits::STREAM_AHEAD_ENTRIES * 3;
    for i in 0..n {
        f.send("t", to_queue(0, &i.to_string())).await;
    }
    f.send("t", to_queue(1, "last")).await;
    let events = drain(open(&f, earliest()).await.unwrap()).await;
    let sent: Vec<_> = (0..n).map(|i| i.to_string()).collect();
    let expected: Vec<_> =
        ["open false"].into_iter().chain(sent.iter().map(String::as_str)).chain(["last", "caught-up"]).collect();
    assert_eq!(names(&events), expected);
}

#[tokio::test]
async fn a_queue_read_too_early_is_read_again_before_others_go_on() {
    let f = Fixture::new().await;
    let topic = f.topic("t", 2).await;
    let applied = || *Shard::applied(&*f.shard).borrow();
    f.send("t", to_queue(0, "first")).await;
    let at_first = applied();
    f.send("t", to_queue(1, "second")).await;
    let mut merge = Merge::new(topic, vec![(QueueId(0), 0), (QueueId(1), 0)], true);
    let mut pop = |applied| {
        merge.fill(&*f.shard, applied).unwrap();
        std::iter::from_fn(|| merge.pop(applied)).map(|merged| (merged.queue.0, merged.offset)).collect::<Vec<_>>()
    };
    assert_eq!(pop(at_first), [(0, 0)], "the second was applied after what is shown");
    f.send("t", to_queue(1, "third")).await;
    f.send("t", to_queue(0, "fourth")).await;
    let mut rest = pop(applied());
    rest.extend(pop(applied()));
    assert_eq!(rest, [(1, 0), (1, 1), (0, 1)]);
}

#[tokio::test]
async fn until_tail_ends_at_the_tail_of_the_opening_whatever_comes() {
    let f = Fixture::new().await;
    f.topic("t", 2).await;
    for n in 0..3 {
        f.send("t", message(&n.to_string())).await;
    }
    let mut stream = open(&f, earliest()).await.unwrap();
    let mut seen = Vec::new();
    while let Some(event) = stream.next().await {
        // The topic grows faster than the stream reads.
        f.send("t", message("later")).await;
        if let StreamEvent::Message { message, .. } = event {
            seen.push(String::from_utf8_lossy(&message.record.body).into_owned());
        }
        assert!(seen.len() <= 3, "{seen:?}");
    }
    assert_eq!(seen, ["0", "1", "2"]);
}

#[tokio::test]
async fn from_latest_and_from_a_time() {
    let f = Fixture::new().await;
    f.topic("t", 2).await;
    for n in 0..4 {
        f.clock.advance_ms(1_000);
        f.send("t", message(&n.to_string())).await;
    }
    let at = |ms: u64| from(StreamFrom::Time(Timestamp(1_700_000_000_000 + ms)));
    assert_eq!(names(&drain(open(&f, at(3_000)).await.unwrap()).await), ["open false", "2", "3", "caught-up"]);
    assert_eq!(names(&drain(open(&f, at(9_000)).await.unwrap()).await), ["open false", "caught-up"]);
    assert_eq!(names(&drain(open(&f, from(StreamFrom::Latest)).await.unwrap()).await), ["open false", "caught-up"]);
}

#[tokio::test]
async fn tags_filters_queues_and_bounds() {
    let f = Fixture::new().await;
    f.topic("t", 2).await;
    for tag in ["a", "b", "c", "a", "b", "c"] {
        f.send("t", tagged(tag)).await;
    }
    f.send("t", NewMessage { ttl_ms: Some(10), ..tagged("a") }).await;
    f.clock.advance_ms(10);
    let tags = StreamRequest { tags: Some("a || c".into()), ..earliest() };
    assert_eq!(names(&drain(open(&f, tags).await.unwrap()).await), ["open false", "a", "c", "a", "c", "caught-up"]);
    let both = StreamRequest { tags: Some("a || c".into()), filter: Some(FilterSpec::Tags("c".into())), ..earliest() };
    assert_eq!(names(&drain(open(&f, both).await.unwrap()).await), ["open false", "c", "c", "caught-up"]);
    let queue = StreamRequest { queues: vec![QueueId(1)], ..earliest() };
    assert_eq!(names(&drain(open(&f, queue).await.unwrap()).await), ["open false", "b", "a", "c", "caught-up"]);
    let two = StreamRequest { max_events: Some(2), until_tail: false, ..earliest() };
    assert_eq!(names(&drain(open(&f, two).await.unwrap()).await), ["open false", "a", "b"]);
    let short = StreamRequest { max_ms: Some(50), until_tail: false, ..earliest() };
    assert_eq!(drain(open(&f, short).await.unwrap()).await.len(), 8);

    let bad = StreamRequest { tags: Some("a ||".into()), ..earliest() };
    assert!(matches!(open(&f, bad).await.err(), Some(Error::InvalidFilter { position: Some(0), .. })));
    let missing = StreamRequest { filter: Some(plugin_filter("nope")), ..earliest() };
    assert!(matches!(open(&f, missing).await.err(), Some(Error::PluginNotFound(_))));
    let queue = StreamRequest { queues: vec![QueueId(2)], ..earliest() };
    assert!(matches!(open(&f, queue).await.err(), Some(Error::InvalidRequest { .. })));
}

#[tokio::test]
async fn a_cursor_of_another_topic_or_tenant_or_a_forged_one_is_refused() {
    let f = Fixture::new().await;
    f.topic("t", 1).await;
    f.topic("u", 1).await;
    f.send("t", message("x")).await;
    let cursor = drain(open(&f, earliest()).await.unwrap()).await[1].1.clone();
    let at = |cursor: &str| from(StreamFrom::Cursor(cursor.into()));
    let refused = |result: Result<TopicStream, Error>| matches!(result.err(), Some(Error::InvalidCursor { .. }));
    assert!(refused(f.broker.open_stream(&call(), TENANT, "u", at(&cursor)).await));
    f.broker.put_tenant(&call(), "acme", Expect::Anything).await.unwrap();
    let config = crate::testing::fixture::topic_config(1);
    f.broker.put_topic(&call(), "acme", "t", config, Expect::Anything).await.unwrap();
    assert!(refused(f.broker.open_stream(&call(), "acme", "t", at(&cursor)).await));
    for i in 0..cursor.len() {
        let mut forged = cursor.clone().into_bytes();
        forged[i] = if forged[i] == b'A' { b'B' } else { b'A' };
        assert!(refused(open(&f, at(&String::from_utf8(forged).unwrap())).await), "byte {i}");
        assert!(refused(open(&f, at(&cursor[..i])).await), "cut at {i}");
    }
    f.broker.delete_topic(&call(), TENANT, "t", Expect::Anything).await.unwrap();
    f.topic("t", 1).await;
    assert!(refused(open(&f, at(&cursor)).await), "the topic was deleted and made again");
}

#[tokio::test]
async fn the_number_of_streams_is_bounded() {
    let f = Fixture::new().await;
    f.topic("t", 1).await;
    let mut streams = Vec::new();
    for _ in 0..limits::STREAMS_PER_TENANT_MAX {
        streams.push(open(&f, earliest()).await.unwrap());
    }
    assert!(matches!(open(&f, earliest()).await.err(), Some(Error::QuotaExceeded(_))));
    streams.pop();
    streams.push(open(&f, earliest()).await.unwrap());
    assert!(matches!(open(&f, earliest()).await.err(), Some(Error::QuotaExceeded(_))));
}

#[tokio::test]
async fn a_stop_drains_and_a_deleted_topic_fails() {
    let f = Fixture::new().await;
    f.topic("t", 1).await;
    let mut stream = open(&f, StreamRequest::default()).await.unwrap();
    stream.next().await;
    stream.next().await;
    let (event, ()) = tokio::join!(stream.next(), async {
        tokio::time::sleep(Duration::from_millis(10)).await;
        f.broker.shutdown().await;
    });
    assert!(matches!(event, Some(StreamEvent::Drain)));
    assert!(stream.next().await.is_none());

    let f = Fixture::new().await;
    f.topic("t", 1).await;
    let mut stream = open(&f, StreamRequest::default()).await.unwrap();
    stream.next().await;
    f.broker.delete_topic(&call(), TENANT, "t", Expect::Anything).await.unwrap();
    assert!(matches!(stream.next().await, Some(StreamEvent::Failed(Error::TopicNotFound(_)))));
    assert!(stream.next().await.is_none());
}
