//! Replicated commands and their pure application.
