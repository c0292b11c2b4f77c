//! Node-to-node frames.
