//! Who calls, and until when.

use std::time::Instant;

/// Who is behind a call. Tokens come with the multi-tenant issue; until an operator token exists every local caller is
/// the operator.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Principal {
    /// May do everything.
    Operator,
}

/// What every use case is told about its caller.
#[derive(Clone, Debug)]
pub struct Call {
    /// Who calls.
    pub principal: Principal,
    /// Nothing is proposed after this moment.
    pub deadline: Instant,
    /// Shown in logs and answers.
    pub request_id: String,
}
