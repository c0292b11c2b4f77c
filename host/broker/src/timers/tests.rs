//! The timer loop over fakes.
