//! The sandbox: wasmtime behind limits, pools and one file per WIT interface.
