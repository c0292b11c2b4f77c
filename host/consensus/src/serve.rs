//! What other nodes ask of this one: the other end of [`crate::network`].

mod incoming;

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream;
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, StreamAppendError, TransferLeaderRequest, VoteRequest,
};
use parking_lot::Mutex;
use pointsman_broker::ports::BoxFuture;
use pointsman_model::{NodeId, ShardId};
use tokio::sync::mpsc;

use crate::core::Core;
use crate::entry::Entry;
use crate::network::append::{self, Received};
use crate::network::wire::{self, APPEND, Answer, Ask, Candidate, Envelope, Place};
use crate::raft_types::{LogId, RaftNodeId, Types, log_id};
use crate::shard::{Raft, SEGMENT_OVERHEAD_BYTES, group::node_of};
use crate::transport::{Lane, Serve};
use crate::{Error, Node, Shard, questions, read_index};
pub(crate) use incoming::Receiver;

type Answered<T> = Result<T, String>;

impl Serve for Node {
    fn serve_call(
        &self,
        from: NodeId,
        lane: Lane,
        shard: ShardId,
        request: Bytes,
    ) -> BoxFuture<'static, Result<Vec<Bytes>, String>> {
        match self.shard(shard) {
            Some(shard) => shard.serve_call(from, lane, request),
            None => Box::pin(async move { Err(format!("there is no shard {shard}")) }),
        }
    }

    fn serve_append_stream(
        &self,
        from: NodeId,
        shard: ShardId,
        requests: mpsc::Receiver<Bytes>,
        answers: mpsc::Sender<Vec<Bytes>>,
    ) -> BoxFuture<'static, ()> {
        match self.shard(shard) {
            Some(shard) => shard.serve_append_stream(from, requests, answers),
            None => Box::pin(async {}),
        }
    }
}

impl Shard {
    /// Answers one call of another replica.
    pub(crate) fn serve_call(
        &self,
        from: NodeId,
        _lane: Lane,
        request: Bytes,
    ) -> BoxFuture<'static, Result<Vec<Bytes>, String>> {
        if let Some(answer) = questions::serve(&self.core, &request) {
            return answer;
        }
        let server = self.server(from);
        Box::pin(async move {
            let answer = server?.call(request).await?;
            Ok(vec![answer.encode().map_err(|error| error.to_string())?])
        })
    }

    /// Serves a stream of appends until it ends.
    pub(crate) fn serve_append_stream(
        &self,
        from: NodeId,
        requests: mpsc::Receiver<Bytes>,
        answers: mpsc::Sender<Vec<Bytes>>,
    ) -> BoxFuture<'static, ()> {
        let server = self.server(from);
        Box::pin(async move {
            let refusal = match server {
                Ok(server) => server.appends(requests, &answers).await,
                Err(refusal) => Err(refusal),
            };
            if let Err(refusal) = refusal {
                // Whoever is gone needs no word.
                let _ = send(&answers, &Answer::Refused(refusal)).await;
            }
        })
    }

    fn server(&self, from: NodeId) -> Answered<Server> {
        let raft = self.raft().ok_or_else(|| self.failure().unwrap_or_else(|| "the shard is not open".to_owned()))?;
        Ok(Server { raft: raft.clone(), core: Arc::clone(&self.core), from })
    }
}

/// Appends of a stream that are taken and not answered.
#[derive(Debug, Default)]
struct Pending(Mutex<(usize, VecDeque<Taken>)>);

/// Bytes of an append, its term, and what was committed when it left.
type Taken = (usize, u64, Option<LogId>);

impl Pending {
    /// One more; returns the bytes of all.
    fn add(&self, bytes: usize, term: u64, commit: Option<LogId>) -> usize {
        let (total, queue) = &mut *self.0.lock();
        queue.push_back((bytes, term, commit));
        *total += bytes;
        *total
    }

    /// The oldest is answered.
    fn answered(&self) -> (u64, Option<LogId>) {
        let (total, queue) = &mut *self.0.lock();
        let (bytes, term, commit) = queue.pop_front().unwrap_or_default();
        *total -= bytes;
        (term, commit)
    }
}

/// Answers for one shard.
#[derive(Clone)]
struct Server {
    raft: Raft,
    core: Arc<Core>,
    /// Whose connection it is.
    from: NodeId,
}

async fn send(answers: &mpsc::Sender<Vec<Bytes>>, answer: &Answer) -> Answered<()> {
    let answer = answer.encode().map_err(|error| error.to_string())?;
    answers.send(vec![answer]).await.map_err(|_| "the stream is over".to_owned())
}

fn words(error: &(impl std::fmt::Display + ?Sized)) -> String {
    error.to_string()
}

impl Server {
    /// Refuses what is meant for another life of this node, or does not come from whom it says.
    fn check(&self, from: RaftNodeId, to: RaftNodeId) -> Answered<()> {
        if to != self.core.id {
            return Err("this is for another life of the node".to_owned());
        }
        if node_of(from) != self.from || from == to {
            return Err("it does not come from whom it says".to_owned());
        }
        if self.core.leadership.is_closing() {
            return Err("the node stops".to_owned());
        }
        self.core.failure().map_or(Ok(()), |failure| Err(format!("the shard stopped: {failure}")))
    }

    async fn call(&self, request: Bytes) -> Answered<Answer> {
        if request.first() == Some(&APPEND) {
            let received = append::decode(&request).map_err(|error| words(&error))?;
            self.check(received.from, received.to)?;
            self.core.leadership.heard_from(self.from);
            return self.append(received).await;
        }
        let (Envelope { from, to, ask }, piece) = Envelope::decode(&request).map_err(|error| words(&error))?;
        self.check(from, to)?;
        match ask {
            Ask::Vote(candidate) => self.vote(candidate, false).await,
            Ask::PreVote(candidate) => self.vote(candidate, true).await,
            Ask::Transfer { to, .. } if to == self.core.id && self.core.leadership.is_leaving() => {
                Ok(Answer::Transferring(false))
            }
            Ask::Transfer { from, to, last } => {
                let request = TransferLeaderRequest::new(from.into(), to, last.map(LogId::from));
                let answer = self.raft.handle_transfer_leader(request).await.map_err(|error| words(&error))?;
                Ok(Answer::Transferring(answer.is_ok()))
            }
            Ask::ReadIndex => Ok(Answer::ReadAt(read_index::confirmed(&self.raft).await)),
            Ask::MayLead => {
                let shut = self.core.gate.reason().is_some() || self.core.leadership.is_leaving();
                Ok(Answer::Transferring(!shut && self.core.log.check_room(0).is_ok()))
            }
            Ask::CheckpointBegin(of) => self.off(move |core| core.checkpoint_begin(of).map(Answer::Have)).await,
            Ask::CheckpointPiece { of, offset } => {
                self.off(move |core| core.checkpoint_piece(of, offset, &piece).map(Answer::Have)).await
            }
            Ask::CheckpointInstall { of, vote } => {
                let snapshot = self.off(move |core| core.checkpoint_whole(of)).await?;
                let answer = self.raft.install_full_snapshot(vote.into(), snapshot).await;
                let answer = answer.map_err(|error| words(&error))?;
                self.core.traffic.checkpoints_installed.add(1);
                Ok(Answer::Installed(wire::WireVote::from(&answer.vote)))
            }
        }
    }

    /// Runs what reads or writes files off the reactor.
    async fn off<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Arc<Core>) -> Result<T, Error> + Send + 'static,
    ) -> Answered<T> {
        let core = Arc::clone(&self.core);
        let done = self.core.background.run(move || work(&core)).await;
        done.ok_or_else(|| "it panicked".to_owned())?.map_err(|error| words(&error))
    }

    async fn vote(&self, candidate: Candidate, pre_vote: bool) -> Answered<Answer> {
        let last = candidate.last.map(LogId::from);
        if !self.core.gate.may_vote(last) {
            return Err("this node does not vote: its log may lack what it acknowledged".to_owned());
        }
        let mut request = VoteRequest::<Types>::new(candidate.vote.into(), last);
        request.leadership_transfer = candidate.transfer;
        let answer = if pre_vote { self.raft.pre_vote(request).await } else { self.raft.vote(request).await };
        let answer = answer.map_err(|error| words(&error))?;
        Ok(Answer::Voted {
            vote: wire::WireVote::from(&answer.vote),
            granted: answer.vote_granted,
            last: answer.last_log_id.map(Place::from),
        })
    }

    /// An append outside a stream: a heartbeat.
    async fn append(&self, received: Received) -> Answered<Answer> {
        let request = received.request;
        let (prev, term, commit) = (request.prev_log_id, request.vote.leader_id.term, request.leader_commit);
        let last = request.entries.last().map(|entry| entry.log_id).or(prev);
        match self.raft.append_entries(request).await.map_err(|error| words(&error))? {
            AppendEntriesResponse::Success => {
                self.accepted(term, commit);
                Ok(Answer::Matched(last.map(Place::from)))
            }
            AppendEntriesResponse::PartialSuccess(last) => Ok(Answer::Matched(last.map(Place::from))),
            AppendEntriesResponse::Conflict => Ok(Answer::Conflict(prev.map(Place::from))),
            AppendEntriesResponse::HigherVote(vote) => Ok(Answer::HigherVote(wire::WireVote::from(&vote))),
        }
    }

    /// A leader's append is durable here.
    fn accepted(&self, term: u64, commit: Option<LogId>) {
        if self.core.gate.reason().is_some() {
            let last = self.core.log.last().map(|(term, index, _)| log_id(term.0, index.0));
            self.core.gate.appended(term, commit, last);
        }
    }

    /// Takes one append of a stream, if the log will have room for it and for those under way.
    fn accept(&self, request: &Bytes, pending: &Pending) -> Answered<AppendEntriesRequest<Types>> {
        self.core.traffic.append_bytes_received.add(request.len() as u64);
        let received = append::decode(request).map_err(|error| words(&error))?;
        self.check(received.from, received.to)?;
        self.core.leadership.heard_from(self.from);
        let bytes = request.len();
        let request = received.request;
        let ahead = pending.add(bytes, request.vote.leader_id.term, request.leader_commit);
        if !request.entries.is_empty() {
            // openraft does not survive a failed append, so a full disk must be found before, and heals by itself.
            let one_segment = self.core.log.segment_bytes().saturating_sub(SEGMENT_OVERHEAD_BYTES);
            let longest = request.entries.iter().map(Entry::records_bytes).max().unwrap_or(0);
            let ahead = ahead.min(usize::try_from(one_segment).unwrap_or(usize::MAX)).max(longest);
            self.core.check_room(ahead).map_err(|error| words(&error))?;
        }
        Ok(request)
    }

    async fn appends(&self, requests: mpsc::Receiver<Bytes>, answers: &mpsc::Sender<Vec<Bytes>>) -> Answered<()> {
        // What goes wrong with a request ends the stream, and is told behind the answers to those before.
        let (refuse, mut refused) = tokio::sync::oneshot::channel();
        let pending = Arc::new(Pending::default());
        let state = (requests, refuse, self.clone(), Arc::clone(&pending));
        let requests = stream::unfold(state, |(mut requests, refuse, server, pending)| async move {
            let request = requests.recv().await?;
            match server.accept(&request, &pending) {
                Ok(request) => Some((request, (requests, refuse, server, pending))),
                Err(refusal) => {
                    // The other end lives as long as this stream is read.
                    let _ = refuse.send(refusal);
                    None
                }
            }
        });
        let mut results = std::pin::pin!(self.raft.stream_append(requests));
        while let Some(result) = results.next().await {
            let (term, commit) = pending.answered();
            let answer = match result.map_err(|error| words(&error))? {
                Ok(matched) => {
                    self.accepted(term, commit);
                    Answer::Matched(matched.map(Place::from))
                }
                Err(StreamAppendError::Conflict(at)) => Answer::Conflict(Some(at.into())),
                Err(StreamAppendError::HigherVote(vote)) => Answer::HigherVote(wire::WireVote::from(&vote)),
            };
            send(answers, &answer).await?;
        }
        refused.try_recv().map_or(Ok(()), Err)
    }
}
