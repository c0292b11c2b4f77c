//! A node among others: who they are, how the cluster is formed, and what they ask of each other.
//!
//! | module | holds |
//! |---|---|
//! | `peer_list` | `--peers` |
//! | `options` | what a cluster node is told at start |
//! | `note` | what formation says in every hello |
//! | `formation` | whether a node may start: a pure function of what it is and what it hears |
//! | `form` | the same, done: waiting, giving out the uuid, asking for the next life |
//! | `directory` | whose data directory this is |
//! | `ask` | what nodes ask each other as nodes |
//! | `front` | what arrives from other nodes |
//! | `links` | the way to them, as the ports of consensus, broker and API |
//! | `roll` | the nodes that the metadata shard knows, kept true |

mod ask;
mod directory;
mod form;
mod formation;
mod front;
mod links;
mod note;
mod options;
mod peer_list;
mod roll;

pub(crate) use directory::Directory;
pub(crate) use form::{Begin, Error as FormError, first_contact, form};
pub(crate) use formation::Refusal;
pub(crate) use front::{Front, FrontConfig};
pub(crate) use links::Links;
pub(crate) use options::{ClusterArgs, ClusterOptions, Error as OptionsError};
pub(crate) use roll::keep_roll;
