//! Checkpoints: the sorted, checksummed export of the state at a segment boundary.
