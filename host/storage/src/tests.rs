//! What the log promises, tried on a simulated disk: crashes, failing calls, decay, and the seeded bugs that must be found.

mod crash;
mod decay;
mod faults;
mod golden;
mod model;
mod mutants;
mod oracle;
mod random;
mod repair;
mod workload;
