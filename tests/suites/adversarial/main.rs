//! One test or more for every hostile guest: what it tries ends in a typed way, within named bounds, without a secret in
//! any log or file, and the next call works.
//!
//! `tests/programs/hostile` has an attack in each file of `behaviours/`; `coverage.rs` fails where one has no test here.
//! Most tests call the host's own [`sluicegate::channel::Channel`], which tells exactly how a call ended. `neighbours.rs`
//! runs the real binary, where another channel must be served meanwhile. `shapes.rs` tries files that nobody wrote.

mod compiling;
mod coverage;
mod cpu;
mod descriptions;
mod folder;
mod limits;
mod listener;
mod logs;
mod malformed;
mod memory;
mod neighbours;
mod network;
mod publishing;
mod relay;
mod results;
mod shapes;
mod store;
mod support;
mod trial;
mod wasi;
mod wasi_http;
