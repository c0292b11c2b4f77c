//! ConsumeQueue, key and position sidecars of a segment.
