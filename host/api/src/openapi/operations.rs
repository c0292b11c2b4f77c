//! One row an operation.

mod cluster;
mod configure;
mod delivery;
mod messages;
mod node;
mod plugins;
mod scheduled;
mod schedules;
mod tenancy;
mod transactions;

use pointsman_api_types::Code;

/// A body of a request.
pub(super) struct Input {
    pub(super) required: bool,
    /// Media types and the names of their schemas; an empty name is plain bytes.
    pub(super) contents: &'static [(&'static str, &'static str)],
}

/// An answer that is no problem.
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) description: &'static str,
    /// As in [`Input`].
    pub(super) contents: &'static [(&'static str, &'static str)],
}

/// A method of a path.
pub(super) struct Operation {
    pub(super) path: &'static str,
    pub(super) method: &'static str,
    pub(super) id: &'static str,
    pub(super) summary: &'static str,
    pub(super) tag: &'static str,
    /// Names of [`super::parameters::PARAMETERS`]; those of the path come from the path.
    pub(super) parameters: &'static [&'static str],
    pub(super) input: Option<Input>,
    pub(super) answers: &'static [Answer],
    /// Codes beside the ones that any call of its kind has.
    pub(super) codes: &'static [Code],
}

impl Operation {
    /// It may propose.
    pub(super) fn writes(&self) -> bool {
        self.method != "get"
    }
}

const JSON: &str = "application/json";
const FRAMES: &str = "application/vnd.pointsman.frames";

const fn answer(status: u16, description: &'static str, contents: &'static [(&'static str, &'static str)]) -> Answer {
    Answer { status, description, contents }
}

/// All operations.
pub(super) fn all() -> impl Iterator<Item = &'static Operation> {
    [
        cluster::OPERATIONS,
        configure::OPERATIONS,
        delivery::OPERATIONS,
        messages::OPERATIONS,
        plugins::OPERATIONS,
        scheduled::OPERATIONS,
        schedules::OPERATIONS,
        node::OPERATIONS,
        tenancy::OPERATIONS,
        transactions::OPERATIONS,
    ]
    .into_iter()
    .flatten()
}
