//! Three processes are one broker: formed, loaded, killed, stopped, wiped, restarted.
//!
//! | module | what |
//! |---|---|
//! | `nodes`, `whole` | three processes: started, signalled, wiped; who leads, and whether all is well |
//! | `client` | calls that tell done, surely not done and unknown apart, and go on at another node |
//! | `ledger` | what clients know, what was seen, and where the two contradict |
//! | `load`, `consume`, `watch` | publishers, transactions, consumers, stream readers |
//! | `check` | the same from every node, and all that was acknowledged |
//! | `fault`, `matrix` | the four faults under load; `FAULT_ROUNDS=10` runs forty |
//! | `rolling` | each node restarted under load |
//! | `retention` | old messages go on three nodes alike, and a node that was away gets a checkpoint |
//! | `anywhere` | any node answers any call |
//! | `minority`, `strangers` | who is refused |
//! | `guide` | the commands of the guide |

mod anywhere;
mod check;
mod client;
mod consume;
mod fault;
mod guide;
mod ledger;
mod load;
mod matrix;
mod minority;
mod nodes;
mod retention;
mod rolling;
mod strangers;
mod watch;
mod whole;

/// The data shard that the tenant `default` lives on.
const HOME: u64 = 1;
