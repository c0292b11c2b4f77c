//! The runtime openraft runs on: tokio's, but for sleeps too short for its timer.
//!
//! openraft forwards the completions of log I/O at most once a microsecond and sleeps until that microsecond is over.
//! tokio's timer is a millisecond coarse, so such a sleep lasts a thousand times too long and every group commit behind
//! it waits. A sleep shorter than [`SLEEP_MIN`] gives way to other tasks once and is over.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use openraft::async_runtime::{AsyncRuntime, Instant as _};
use openraft::{OptionalSend, TokioInstant, TokioRuntime};

/// Below this a sleep is a yield.
const SLEEP_MIN: Duration = Duration::from_micros(500);

/// tokio, without timers for what a timer cannot measure.
#[derive(Debug)]
pub(crate) struct Runtime(TokioRuntime);

/// A sleep of [`Runtime`].
pub(crate) enum Sleep {
    /// Too short for the timer; true once it has given way.
    Yield(bool),
    /// By the timer.
    Timer(Pin<Box<<TokioRuntime as AsyncRuntime>::Sleep>>),
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        match &mut *self {
            Self::Yield(true) => Poll::Ready(()),
            Self::Yield(given_way) => {
                *given_way = true;
                context.waker().wake_by_ref();
                Poll::Pending
            }
            Self::Timer(sleep) => sleep.as_mut().poll(context),
        }
    }
}

impl AsyncRuntime for Runtime {
    type JoinError = <TokioRuntime as AsyncRuntime>::JoinError;
    type JoinHandle<T: OptionalSend + 'static> = <TokioRuntime as AsyncRuntime>::JoinHandle<T>;
    type Sleep = Sleep;
    type Instant = TokioInstant;
    type TimeoutError = <TokioRuntime as AsyncRuntime>::TimeoutError;
    type Timeout<R, T: Future<Output = R> + OptionalSend> = <TokioRuntime as AsyncRuntime>::Timeout<R, T>;
    #[cfg(not(test))]
    type ThreadLocalRng = <TokioRuntime as AsyncRuntime>::ThreadLocalRng;
    #[cfg(test)]
    type ThreadLocalRng = rand::rngs::SmallRng;
    type Mpsc = <TokioRuntime as AsyncRuntime>::Mpsc;
    type Watch = <TokioRuntime as AsyncRuntime>::Watch;
    type Oneshot = <TokioRuntime as AsyncRuntime>::Oneshot;
    type Mutex<T: OptionalSend + 'static> = <TokioRuntime as AsyncRuntime>::Mutex<T>;

    fn spawn<T>(future: T) -> Self::JoinHandle<T::Output>
    where
        T: Future + OptionalSend + 'static,
        T::Output: OptionalSend + 'static,
    {
        TokioRuntime::spawn(future)
    }

    fn sleep(duration: Duration) -> Sleep {
        if duration < SLEEP_MIN { Sleep::Yield(false) } else { Sleep::Timer(Box::pin(TokioRuntime::sleep(duration))) }
    }

    fn sleep_until(deadline: TokioInstant) -> Sleep {
        if deadline < TokioInstant::now() + SLEEP_MIN {
            Sleep::Yield(false)
        } else {
            Sleep::Timer(Box::pin(TokioRuntime::sleep_until(deadline)))
        }
    }

    fn timeout<R, F: Future<Output = R> + OptionalSend>(duration: Duration, future: F) -> Self::Timeout<R, F> {
        TokioRuntime::timeout(duration, future)
    }

    fn timeout_at<R, F: Future<Output = R> + OptionalSend>(deadline: TokioInstant, future: F) -> Self::Timeout<R, F> {
        TokioRuntime::timeout_at(deadline, future)
    }

    fn is_panic(join_error: &Self::JoinError) -> bool {
        TokioRuntime::is_panic(join_error)
    }

    #[cfg(not(test))]
    fn thread_rng() -> Self::ThreadLocalRng {
        TokioRuntime::thread_rng()
    }

    #[cfg(test)]
    fn thread_rng() -> Self::ThreadLocalRng {
        crate::tests::cluster::seeded::rng()
    }

    fn new(threads: usize) -> Self {
        Self(TokioRuntime::new(threads))
    }

    fn block_on<F, T>(&mut self, future: F) -> T
    where
        F: Future<Output = T>,
    {
        self.0.block_on(future)
    }
}
