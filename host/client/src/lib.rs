//! The Rust client: a lean HTTP/1.1 connection pool, raw and typed calls, and a stream reader that resumes.
//!
//! [`Client`] owns the pool and sends a [`Request`] as it is; [`Tenant`] has one typed method for each call of the
//! contract and turns a refusal into [`Error::Refused`] with the server's problem. [`TopicStream`] follows a topic over
//! SSE and goes on by `Last-Event-ID` where a connection breaks.
//!
//! Plain `http` only. A connection that idles longer than [`IDLE_MS_MAX`] is not used again, because the server
//! closes idle connections and a `POST` that meets such a close has no known outcome.
//!
//! It never knows a server crate: what it shares with the server are the types of `api-types`.

mod base_url;
mod calls;
mod error;
mod frames;
mod pool;
mod request;
mod sse;
mod stream;

pub use base_url::{encode_component, is_loopback_url};
pub use calls::{ManyOptions, PublishOptions, StreamOptions, Tenant};
pub use error::Error;
pub use frames::push_frame;
pub use pool::{Client, ClientOptions, IDLE_MS_MAX};
pub use request::{Request, Response, Streamed};
pub use sse::{Event, Parser};
pub use stream::TopicStream;
