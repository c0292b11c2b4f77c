//! The world outside as a closure, and what it was asked.

use std::sync::Arc;

use parking_lot::Mutex;
use pointsman_model::judge::{CheckResponse, OutsideRequest};

use crate::ports::{BoxFuture, Outside};

type Answer = Arc<dyn Fn(&OutsideRequest) -> CheckResponse + Send + Sync>;

/// Answers as the test says; at first nothing is reachable.
#[derive(Default)]
pub struct FakeOutside {
    answer: Mutex<Option<Answer>>,
    asked: Mutex<Vec<(OutsideRequest, Vec<String>)>>,
}

impl FakeOutside {
    /// Answers like this from now on.
    pub fn answer(&self, answer: impl Fn(&OutsideRequest) -> CheckResponse + Send + Sync + 'static) {
        *self.answer.lock() = Some(Arc::new(answer));
    }

    /// Requests so far, with the allow-list of each.
    pub fn asked(&self) -> Vec<(OutsideRequest, Vec<String>)> {
        self.asked.lock().clone()
    }
}

impl Outside for FakeOutside {
    fn ask(&self, request: OutsideRequest, allow: Vec<String>) -> BoxFuture<'_, CheckResponse> {
        let answer = self.answer.lock().clone();
        let response = answer.map_or_else(|| CheckResponse::Failed("unreachable".into()), |answer| answer(&request));
        self.asked.lock().push((request, allow));
        Box::pin(async move { response })
    }
}
