//! Write Pointsman plugins in Rust.
