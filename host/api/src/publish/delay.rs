//! When a message is to be delivered: at most one of three forms.

use pointsman_api_types::Time;
use pointsman_model::Timestamp;
use pointsman_model::delay::Delay;

use crate::failure::Failure;

/// The forms as they were given.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Forms {
    pub(crate) delay_ms: Option<u64>,
    pub(crate) delay_level: Option<u8>,
    pub(crate) deliver_at: Option<Time>,
}

impl Forms {
    /// The one that was given. `place` tells where a field is; its limits are the message's to check.
    pub(crate) fn one(self, place: impl Fn(&str) -> String) -> Result<Option<Delay>, Failure> {
        let given = [
            self.delay_ms.map(Delay::After),
            self.delay_level.map(Delay::Level),
            self.deliver_at.map(|at| Delay::At(Timestamp(at.0))),
        ];
        let mut given = given.into_iter().flatten();
        let first = given.next();
        match given.next() {
            Some(second) => {
                let detail = "at most one of `delay_ms`, `delay_level` and `deliver_at`";
                Err(Failure::invalid(place(second.field()), detail))
            }
            None => Ok(first),
        }
    }
}
