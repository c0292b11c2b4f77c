//! Black-box tests: the built binary, over real TCP and by its command line.
//!
//! Each test starts its own server on a free loopback port in a temporary directory. Nothing here links a server crate.

mod cli;
mod cluster;
mod contract;
mod dedup;
mod delay;
mod durability;
mod groups;
mod guide;
mod hostile;
mod http;
mod kinds;
mod lease;
mod mission;
mod neighbour;
mod ordering;
mod publish;
mod retention;
mod retries;
mod server;
mod stream;
mod tenants;
mod transactions;
