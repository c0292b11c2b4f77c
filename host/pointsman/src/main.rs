//! The one binary: the server, the client commands, and the tools for plugin authors.
//!
//! [`cli`] is the tree of commands; each has one file in [`commands`]. [`node`] wires a broker together, for `serve`
//! and for `demo` alike.

mod cli;
mod cluster;
mod commands;
mod component;
mod demo;
mod judges;
mod node;
mod output;
mod outside;
mod sample;
mod scaffold;
mod settings;

fn main() -> std::process::ExitCode {
    cli::main()
}
