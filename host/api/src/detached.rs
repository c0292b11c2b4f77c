//! Work that ends even if its caller leaves.
//!
//! hyper drops a handler whose client hung up. What proposes must not stop there: part of it may be in the log.

use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_util::FutureExt;
use pointsman_api_types::Code;
use pointsman_broker::Error;

use crate::failure::Failure;

/// Runs work that must end even if the client leaves: hyper drops the handler then, and what is left of the work goes on
/// in a task of its own. Until then it needs none.
pub(crate) async fn detached<T: Send + 'static>(
    work: impl Future<Output = Result<T, Error>> + Send + 'static,
) -> Result<T, Failure> {
    let work = AssertUnwindSafe(work).catch_unwind();
    match Detached(Some(Box::pin(work))).await {
        Ok(result) => result.map_err(Failure::from),
        Err(_) => {
            tracing::error!("a use case panicked");
            Err(Failure::new(Code::OutcomeUnknown, "the broker failed midway; its log says why"))
        }
    }
}

/// Work that a task takes over when this is dropped before its end.
struct Detached<F: Future<Output: Send + 'static> + Send + 'static>(Option<Pin<Box<F>>>);

impl<F: Future<Output: Send + 'static> + Send + 'static> Future for Detached<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let Some(work) = &mut self.0 else { return Poll::Pending };
        let polled = work.as_mut().poll(cx);
        if polled.is_ready() {
            self.0 = None;
        }
        polled
    }
}

impl<F: Future<Output: Send + 'static> + Send + 'static> Drop for Detached<F> {
    fn drop(&mut self) {
        // Without a runtime the process ends.
        if let (Some(work), Ok(runtime)) = (self.0.take(), tokio::runtime::Handle::try_current()) {
            runtime.spawn(work);
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::*;

    #[tokio::test]
    async fn the_answer_is_the_works() {
        assert_eq!(detached(async { Ok(7) }).await.ok(), Some(7));
        let refused = detached(async { Err::<(), _>(Error::MessageNotFound) }).await;
        assert_eq!(refused.map_err(|failure| failure.problem().code), Err(Code::MessageNotFound));
    }

    #[tokio::test]
    async fn a_panic_is_an_unknown_outcome() {
        let answer = detached(async { if true { panic!("on purpose") } else { Ok(()) } }).await;
        assert_eq!(answer.map_err(|failure| failure.problem().code), Err(Code::OutcomeUnknown));
    }

    #[tokio::test]
    async fn what_was_begun_goes_on_without_the_caller() {
        let (go, gone) = oneshot::channel();
        let (tell, told) = oneshot::channel();
        let mut work = Box::pin(detached(async move {
            let heard = gone.await;
            let _ = tell.send(heard.is_ok());
            Ok(())
        }));
        assert!((&mut work).now_or_never().is_none(), "it waits");
        drop(work);
        go.send(()).expect("the work still listens");
        assert_eq!(told.await, Ok(true));
    }
}
