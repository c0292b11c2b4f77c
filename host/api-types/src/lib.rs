//! Request and response types and error codes of the HTTP contract: shared by the server, the client, the CLI and tests.
//!
//! Input types refuse unknown fields and take a null for an absent field; output types write every field, null without
//! a value. Numbers without a bound travel as [`Decimal`] strings, times as [`Time`] (RFC 3339 UTC, milliseconds).
//!
//! * [`scan`]: the walk over a body before serde sees it: depth, duplicate keys, UTF-8, and where an error lies.
//! * [`mod@decode`]: scan + serde, refusing with a JSON pointer.
//! * [`problem`]: RFC 9457 problems and the one table of codes.
//! * the rest: one module a resource.
//!
//! Never here: server crates, I/O, limits other than the shape of a value.

pub mod binding;
pub mod cluster;
pub mod decode;
pub mod dlq;
pub mod explain;
pub mod group;
pub mod lease;
pub mod list;
pub mod message;
pub mod node;
pub mod number;
pub mod object;
pub mod plugin;
pub mod problem;
pub mod progress;
pub mod publish;
pub mod quota;
pub mod scan;
pub mod schedule;
pub mod scheduled;
pub mod stream;
pub mod tenant;
pub mod text;
pub mod time;
pub mod token;
pub mod topic;
pub mod transaction;

pub use decode::{Error, decode};
pub use list::List;
pub use number::Decimal;
pub use problem::{Code, FieldError, Problem};
pub use time::Time;
