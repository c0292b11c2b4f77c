//! The Rust client used by the CLI and the tests.
