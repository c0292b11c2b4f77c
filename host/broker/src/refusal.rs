//! What a refusal of `apply`, a failed proposal or a failed read means to a caller.

use pointsman_model::limits;
use pointsman_state_machine::outcome::{Outcome, Refusal};

use crate::error::Error;
use crate::ports::{ProposeError, ReadError};

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Stale(_) => Self::Overloaded("the configuration changed meanwhile".into()),
            Refusal::TenantNotFound => Self::TenantNotFound,
            Refusal::TopicNotFound(name) => Self::TopicNotFound(name),
            Refusal::GroupNotFound => Self::GroupNotFound(String::new()),
            Refusal::BindingNotFound => Self::BindingNotFound(String::new()),
            Refusal::PluginNotFound(name) => Self::PluginNotFound(name),
            Refusal::QueueNotFound(queue) => Self::invalid("/queue", format!("the topic has no queue {queue}")),
            Refusal::FewerQueues(queues) => {
                Self::invalid("/queues", format!("queues only grow, and there are {queues} already"))
            }
            Refusal::AlreadyExists(name) => Self::AlreadyExists(format!("`{name}` exists already")),
            Refusal::InUse(users) => Self::InUse(users),
            Refusal::PreconditionFailed => Self::PreconditionFailed,
            Refusal::IdempotencyMismatch => Self::IdempotencyMismatch,
            Refusal::TooManyKeys => Self::QuotaExceeded(format!(
                "the topic remembers {} dedup keys, and none of them may be forgotten yet",
                limits::DEDUP_KEYS_MAX
            )),
            Refusal::WrongSlot => Self::invalid("/slot", "the plugin is of another kind"),
            Refusal::AlreadyDelivered => Self::AlreadyDelivered,
            Refusal::NotScheduled => Self::MessageNotFound,
            Refusal::ScheduleNotFound => Self::ScheduleNotFound(String::new()),
            Refusal::TransactionNotFound => Self::TransactionNotFound,
            Refusal::TransactionResolved(state) => Self::TransactionResolved(state),
            Refusal::TokenNotFound => Self::TokenNotFound,
            Refusal::TooManySchedules => {
                Self::QuotaExceeded(format!("the tenant has its {} schedules", pointsman_model::limits::SCHEDULES_MAX))
            }
            Refusal::QuotaExceeded(what, limit) => Self::QuotaExceeded(format!("the tenant has its {limit} {what}")),
            Refusal::NameTaken => Self::IdempotencyMismatch,
            Refusal::Malformed(detail) => Self::invalid("", detail),
            other => Self::Internal(format!("refused: {other:?}")),
        }
    }
}

impl From<ReadError> for Error {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Expired { earliest } => Self::OffsetExpired { earliest: earliest.0 },
            ReadError::Gone => Self::MessageNotFound,
            ReadError::Storage(detail) => Self::StorageFailed(detail),
        }
    }
}

impl From<ProposeError> for Error {
    fn from(error: ProposeError) -> Self {
        match error {
            ProposeError::NotLeader => Self::NoLeader,
            ProposeError::Overloaded => Self::Overloaded("the shard has as much under way as it may".into()),
            ProposeError::DiskFull => Self::DiskFull,
            ProposeError::StorageFailed(detail) => Self::StorageFailed(detail),
            ProposeError::OutcomeUnknown => Self::OutcomeUnknown,
        }
    }
}

/// The outcome of a record, unless it was refused.
///
/// # Errors
/// What the refusal means to a caller.
pub(crate) fn accepted(outcome: Option<&Outcome>) -> Result<&Outcome, Error> {
    match outcome {
        Some(Outcome::Refused(refusal)) => Err(refusal.clone().into()),
        Some(outcome) => Ok(outcome),
        None => Err(Error::Internal("a record without an outcome".into())),
    }
}
