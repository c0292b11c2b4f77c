//! Asking a bound plugin: one function a kind, on a worker thread or on the caller's own.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use parking_lot::Mutex;
use pointsman_model::judge::{
    self, CheckAnswer, CheckResponse, Context, DedupKey, Failure, Half, RetryAnswer, RetryQuestion, Target, Verdict,
};
use pointsman_model::limits;
use tokio::sync::oneshot;

use super::PluginHost;
use crate::judge::judge;
use crate::queue::Task;
use crate::wit::World;
use crate::wit::check_back::{self, CheckBack};
use crate::wit::columns::Batch;
use crate::wit::dedup::Dedup;
use crate::wit::filter::Filter;
use crate::wit::retry::Retry;
use crate::wit::selector::Selector;
use crate::wit::types::{Column, Ctx};
use crate::worker::{Caches, Worker};
use crate::{Bound, Error};

impl PluginHost {
    /// Judges a batch by a filter, on a worker thread. One verdict a message.
    ///
    /// # Errors
    /// [`Error::Busy`] if too many calls wait, and errors of a caller who hands in what does not fit.
    pub async fn filter(
        &self,
        bound: &Arc<Bound>,
        columns: Vec<judge::Column>,
        n: usize,
    ) -> Result<Vec<Verdict<bool>>, Error> {
        self.call::<Filter>(bound, batch(bound, Arc::default(), columns, n)?).await
    }

    /// Places a batch by a selector, on a worker thread. One verdict a message. Destinations are checked against
    /// the plan; queues are the caller's to check.
    ///
    /// # Errors
    /// As [`Self::filter`].
    pub async fn select(
        &self,
        bound: &Arc<Bound>,
        context: &Context,
        columns: Vec<judge::Column>,
        n: usize,
    ) -> Result<Vec<Verdict<Vec<Target>>>, Error> {
        self.call::<Selector>(bound, batch(bound, Arc::new(Ctx::from(context)), columns, n)?).await
    }

    /// Names the keys of a batch by a dedup, on a worker thread. One verdict a message.
    ///
    /// # Errors
    /// As [`Self::filter`].
    pub async fn dedup(
        &self,
        bound: &Arc<Bound>,
        columns: Vec<judge::Column>,
        n: usize,
    ) -> Result<Vec<Verdict<Option<DedupKey>>>, Error> {
        self.call::<Dedup>(bound, batch(bound, Arc::default(), columns, n)?).await
    }

    /// Decides by a retry policy, on a worker thread.
    ///
    /// # Errors
    /// [`Error::Busy`] if too many calls wait, [`Error::WrongKind`].
    pub async fn retry(&self, bound: &Arc<Bound>, question: RetryQuestion) -> Result<Verdict<RetryAnswer>, Error> {
        self.call::<Retry>(bound, Arc::new(question.into())).await.map(one)
    }

    /// Checks a transaction by a check-back for the `attempt`th time, on a worker thread.
    ///
    /// # Errors
    /// As [`Self::retry`].
    pub async fn check_back(
        &self,
        bound: &Arc<Bound>,
        half: Half,
        attempt: u16,
    ) -> Result<Verdict<CheckAnswer>, Error> {
        let question = check_back::Question::Check(check_back::Half::new(half, &bound.plan), attempt);
        self.call::<CheckBack>(bound, question).await.map(one)
    }

    /// Hands a check-back what came of its request, on a worker thread.
    ///
    /// # Errors
    /// As [`Self::retry`].
    pub async fn check_answer(
        &self,
        bound: &Arc<Bound>,
        half: Half,
        response: CheckResponse,
    ) -> Result<Verdict<CheckAnswer>, Error> {
        let half = check_back::Half::new(half, &bound.plan);
        let question = check_back::Question::Answer(half, check_back::response(response));
        self.call::<CheckBack>(bound, question).await.map(one)
    }

    /// As [`Self::filter`], on the caller's thread: for threads that may be held up for twice the wall time.
    ///
    /// # Errors
    /// As [`Self::filter`].
    pub fn filter_now(
        &self,
        bound: &Bound,
        columns: Vec<judge::Column>,
        n: usize,
    ) -> Result<Vec<Verdict<bool>>, Error> {
        self.call_now::<Filter>(bound, &batch(bound, Arc::default(), columns, n)?)
    }

    /// As [`Self::select`], on the caller's thread: for threads that may be held up for twice the wall time.
    ///
    /// # Errors
    /// As [`Self::select`].
    pub fn select_now(
        &self,
        bound: &Bound,
        context: &Context,
        columns: Vec<judge::Column>,
        n: usize,
    ) -> Result<Vec<Verdict<Vec<Target>>>, Error> {
        self.call_now::<Selector>(bound, &batch(bound, Arc::new(Ctx::from(context)), columns, n)?)
    }

    /// As [`Self::dedup`], on the caller's thread: for threads that may be held up for twice the wall time.
    ///
    /// # Errors
    /// As [`Self::dedup`].
    pub fn dedup_now(
        &self,
        bound: &Bound,
        columns: Vec<judge::Column>,
        n: usize,
    ) -> Result<Vec<Verdict<Option<DedupKey>>>, Error> {
        self.call_now::<Dedup>(bound, &batch(bound, Arc::default(), columns, n)?)
    }

    /// As [`Self::retry`], on the caller's thread: for threads that may be held up for twice the wall time.
    ///
    /// # Errors
    /// [`Error::WrongKind`].
    pub fn retry_now(&self, bound: &Bound, question: RetryQuestion) -> Result<Verdict<RetryAnswer>, Error> {
        self.call_now::<Retry>(bound, &Arc::new(question.into())).map(one)
    }

    /// As [`Self::check_back`], on the caller's thread: for threads that may be held up for twice the wall time.
    ///
    /// # Errors
    /// [`Error::WrongKind`].
    pub fn check_back_now(&self, bound: &Bound, half: Half, attempt: u16) -> Result<Verdict<CheckAnswer>, Error> {
        let question = check_back::Question::Check(check_back::Half::new(half, &bound.plan), attempt);
        self.call_now::<CheckBack>(bound, &question).map(one)
    }

    /// As [`Self::check_answer`], on the caller's thread: for threads that may be held up for twice the wall time.
    ///
    /// # Errors
    /// [`Error::WrongKind`].
    pub fn check_answer_now(
        &self,
        bound: &Bound,
        half: Half,
        response: CheckResponse,
    ) -> Result<Verdict<CheckAnswer>, Error> {
        let half = check_back::Half::new(half, &bound.plan);
        let question = check_back::Question::Answer(half, check_back::response(response));
        self.call_now::<CheckBack>(bound, &question).map(one)
    }

    async fn call<W: World>(
        &self,
        bound: &Arc<Bound>,
        question: W::Question,
    ) -> Result<Vec<Verdict<W::Decision>>, Error>
    where
        Worker: Caches<W>,
    {
        check_kind::<W>(bound)?;
        if let Some(failure) = bound.breaker.is_open() {
            return Ok(vec![Verdict::Stopped(failure); W::messages(&question)]);
        }
        let (tx, rx) = oneshot::channel();
        let charged = bound.last_fuel.load(Ordering::Relaxed);
        let handle = Arc::clone(bound);
        let job = Box::new(move |worker: &mut Worker| {
            let (verdicts, fuel) = judge::<W>(worker.cache(), &handle, &question);
            handle.last_fuel.store(fuel, Ordering::Relaxed);
            // Whoever asked may be gone.
            let _ = tx.send(verdicts);
            fuel
        });
        let slow = bound.slow.load(Ordering::Relaxed) > 0;
        let queue = if slow { &self.shared.slow_queue } else { &self.shared.queue };
        queue.put(Task { tenant: bound.spec.tenant, charged, job })?;
        rx.await.map_err(|_| Error::Stopped)
    }

    fn call_now<W: World>(&self, bound: &Bound, question: &W::Question) -> Result<Vec<Verdict<W::Decision>>, Error>
    where
        Worker: Caches<W>,
    {
        check_kind::<W>(bound)?;
        let free = self.shared.inline.iter().find_map(Mutex::try_lock);
        let mut worker = free.unwrap_or_else(|| self.shared.inline[0].lock());
        let _running = self.shared.ticker.running();
        Ok(judge::<W>(worker.cache(), bound, question).0)
    }
}

fn check_kind<W: World>(bound: &Bound) -> Result<(), Error> {
    if bound.spec.kind == W::KIND { Ok(()) } else { Err(Error::WrongKind) }
}

/// Checks that the columns fit the plan, and takes them over.
fn batch(bound: &Bound, ctx: Arc<Ctx>, columns: Vec<judge::Column>, n: usize) -> Result<Batch, Error> {
    if n > limits::JUDGE_MESSAGES_MAX {
        return Err(Error::BatchTooLarge { messages: n, max: limits::JUDGE_MESSAGES_MAX });
    }
    if columns.len() != bound.plan.fields.len() || columns.iter().any(|column| column.ends.len() != n) {
        return Err(Error::BadBatch);
    }
    let columns = columns.into_iter().map(|column| Column { ends: column.ends, bytes: column.bytes });
    Ok(Batch { ctx, n, columns: Arc::new(columns.collect()) })
}

/// The verdict on the one message that was asked about.
fn one<T>(verdicts: Vec<Verdict<T>>) -> Verdict<T> {
    verdicts.into_iter().next().unwrap_or(Verdict::Stopped(Failure::Output))
}
