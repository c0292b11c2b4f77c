//! Tests of dead letters.
