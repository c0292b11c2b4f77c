//! One replication session with a transport that the test plays.

use futures_util::stream;
use openraft::entry::RaftEntry as _;
use tokio::sync::mpsc;

use super::super::wire::Place;
use super::*;
use crate::entry::{Entry, Payload};
use crate::raft_types::{LeaderId, LogId, Vote, log_id};

/// The far end of a stream.
struct Far {
    requests: mpsc::Receiver<Vec<Bytes>>,
    answers: mpsc::Sender<Bytes>,
}

impl Far {
    /// Indexes of the entries of every request that has arrived; `None` for one without.
    fn arrived(&mut self) -> Vec<Option<u64>> {
        std::iter::from_fn(|| self.requests.try_recv().ok())
            .map(|pieces| {
                let request = append::decode(&pieces.concat().into()).unwrap().request;
                request.entries.last().map(|entry| entry.log_id.index)
            })
            .collect()
    }

    async fn answer(&self, answer: Answer) {
        self.answers.send(answer.encode().unwrap()).await.unwrap();
    }
}

fn request(after: u64, entries: u64) -> AppendEntriesRequest<Types> {
    AppendEntriesRequest {
        vote: Vote { leader_id: LeaderId { term: 1, voted_for: 1 }, committed: true },
        prev_log_id: Some(log_id(1, after)),
        entries: (after + 1..=after + entries).map(|index| Entry::new(log_id(1, index), Payload::Blank)).collect(),
        leader_commit: Some(log_id(1, after)),
    }
}

type Input = Pin<Box<dyn Stream<Item = AppendEntriesRequest<Types>> + Send>>;

fn session(first: AppendEntriesRequest<Types>, input: Input) -> (Session<Input>, Far) {
    let (requests, to_far) = mpsc::channel(64);
    let (from_far, answers) = mpsc::channel(64);
    let session = Session::new((1 << 32, 2 << 32), first, input, AppendStream { requests, answers }, Arc::default());
    (session, Far { requests: to_far, answers: from_far })
}

/// One entry a request, without end.
fn endless() -> Input {
    Box::pin(stream::iter((1..).map(|after| request(after, 1))))
}

fn matched(item: &Item) -> Option<LogId> {
    match item {
        Ok(Ok(matched)) => *matched,
        other => panic!("{other:?}"),
    }
}

/// Lets a session run until it waits.
async fn run(task: &mut (impl Future + Unpin)) {
    assert!(futures_util::future::poll_immediate(task).await.is_none(), "it is over");
}

#[tokio::test(start_paused = true)]
async fn no_more_requests_are_under_way_than_the_window_holds() {
    let (session, mut far) = session(request(0, 1), endless());
    let mut next = Box::pin(session.next());
    run(&mut next).await;
    assert_eq!(far.arrived(), [1, 2, 3, 4].map(Some));
    run(&mut next).await;
    assert_eq!(far.arrived(), []);
    far.answer(Answer::Matched(Some(Place::from(log_id(1, 1))))).await;
    let (item, session) = next.await.unwrap();
    assert_eq!(matched(&item), Some(log_id(1, 1)));
    run(&mut Box::pin(session.unwrap().next())).await;
    assert_eq!(far.arrived(), [Some(5)]);
}

#[tokio::test(start_paused = true)]
async fn a_commit_index_goes_with_the_next_entry_or_alone_after_a_while() {
    let (feed, fed) = mpsc::channel(8);
    let input: Input = Box::pin(stream::unfold(fed, |mut fed| async move { Some((fed.recv().await?, fed)) }));
    let (session, mut far) = session(request(0, 1), input);
    let mut next = Box::pin(session.next());
    feed.send(request(1, 0)).await.unwrap();
    run(&mut next).await;
    assert_eq!(far.arrived(), [Some(1)], "it waits");
    feed.send(request(1, 2)).await.unwrap();
    run(&mut next).await;
    tokio::time::sleep(LINGER * 2).await;
    run(&mut next).await;
    assert_eq!(far.arrived(), [Some(3)], "once, with the entries");
    feed.send(request(3, 0)).await.unwrap();
    run(&mut next).await;
    assert_eq!(far.arrived(), []);
    tokio::time::sleep(LINGER * 2).await;
    run(&mut next).await;
    assert_eq!(far.arrived(), [None], "nothing came to go with");
}

#[tokio::test(start_paused = true)]
async fn silence_ends_a_stream_and_so_does_its_other_end() {
    let (silent, _far) = session(request(0, 1), endless());
    let start = Instant::now();
    let (item, rest) = silent.next().await.unwrap();
    assert!(matches!(item, Err(RPCError::Network(_))) && rest.is_none(), "{item:?}");
    assert!(start.elapsed() >= STALL && start.elapsed() < STALL * 2, "{:?}", start.elapsed());

    let (cut, far) = session(request(0, 1), endless());
    drop(far);
    let (item, rest) = cut.next().await.unwrap();
    assert!(matches!(item, Err(RPCError::Network(_))) && rest.is_none(), "{item:?}");
}

#[tokio::test(start_paused = true)]
async fn an_idle_stream_lasts() {
    let (idle, far) = session(request(0, 1), Box::pin(stream::pending()));
    far.answer(Answer::Matched(Some(Place::from(log_id(1, 1))))).await;
    let (_, rest) = idle.next().await.unwrap();
    let mut next = Box::pin(rest.unwrap().next());
    assert!(tokio::time::timeout(STALL * 20, &mut next).await.is_err(), "nothing is under way");
}

#[tokio::test(start_paused = true)]
async fn refusals_end_a_stream_and_say_why() {
    for (answer, expected) in [
        (Answer::Conflict(Some(Place::from(log_id(1, 0)))), "conflict"),
        (Answer::HigherVote(super::super::wire::WireVote::from(&request(0, 0).vote)), "vote"),
        (Answer::Refused("the disk is full".to_owned()), "unreachable"),
        (Answer::Have(4), "network"),
    ] {
        let (session, far) = session(request(0, 1), endless());
        far.answer(answer).await;
        let (item, rest) = session.next().await.unwrap();
        let found = match &item {
            Ok(Err(StreamAppendError::Conflict(_))) => "conflict",
            Ok(Err(StreamAppendError::HigherVote(_))) => "vote",
            Err(RPCError::Unreachable(_)) => "unreachable",
            Err(RPCError::Network(_)) => "network",
            other => panic!("{other:?}"),
        };
        assert_eq!((found, rest.is_none()), (expected, true));
    }
}

#[tokio::test(start_paused = true)]
async fn a_stream_ends_once_everything_is_answered() {
    let (session, far) = session(request(0, 1), Box::pin(stream::iter([request(1, 1)])));
    far.answer(Answer::Matched(Some(Place::from(log_id(1, 1))))).await;
    let (_, session) = session.next().await.unwrap();
    let mut next = Box::pin(session.unwrap().next());
    run(&mut next).await;
    far.answer(Answer::Matched(Some(Place::from(log_id(1, 2))))).await;
    let (item, session) = next.await.unwrap();
    assert_eq!(matched(&item), Some(log_id(1, 2)));
    assert!(session.unwrap().next().await.is_none());
}
