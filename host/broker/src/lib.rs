//! Use cases: publish, lease, settle, stream, bind.
