//! Sluicegate: a self-hosted gateway between people's messaging platforms and an AI agent.
//!
//! Every channel is a WebAssembly component: it parses the platform's bytes inside a sandbox, and reaches only the
//! endpoints that the operator granted. The host owns everything that must not be lost or leaked.
//!
//! # The path of a message
//!
//! ```text
//! platform ─▶ channel component ─▶ InboundEvent ─▶ inbox ─▶ agent worker ─▶ OutboundEvent ─▶ outbox ─▶ delivery worker ─▶ channel component ─▶ platform
//!   http        channel, capability     event       store       agent            event         store       delivery        channel, egress
//! ```
//!
//! The [`bus`] stands beside this path: wake-ups and the live view. It may drop everything at any moment, and the system
//! still finishes, because the workers read the store again.
//!
//! # Architecture invariants
//!
//! 1. Arrows point down: `cli` → `gateway` → {`http`, `channel`, `agent`, `delivery`} → {`store`, `bus`, `policy`,
//!    `egress`, `secret`} → {`event`, `id`, `limit`, `clock`}. The stages never use each other (but for the plain data of
//!    a delivery attempt, which `channel` carries out); a `channel` runs a component, its `capability` files fill the
//!    component's imports, over what the `guest` was given; [`gateway`] alone knows all of them.
//! 2. Only `channel`, `capability` and `guest` name wasmtime; only `http` and `gateway` name axum; only `store` speaks SQL.
//! 3. A platform gets its success only after the inbound event is committed.
//! 4. An inbound event is done, its history written and its outbound events stored in one transaction.
//! 5. A delivery may happen twice; both attempts carry the same key. Nothing promises more than that.
//! 6. One store of WebAssembly for each call; a trapped instance is discarded, never entered again.
//! 7. A guest has no ambient authority: each import checks the grants at each use; secrets are put in on the host's side.
//! 8. No unbounded queue, loop, buffer, retry or wait: each has a name in [`limit`].
//! 9. After a failed commit the store is poisoned: the gateway is no longer ready, and exits.

// Words: no I/O, nothing asynchronous.
pub mod clock;
pub mod component;
pub mod event;
pub mod id;
pub mod limit;
pub mod retry;
pub mod shown;

pub mod admin;

// The path of a message, in order.
pub mod http;
pub mod ingress;

pub mod channel;

pub mod capability;

pub mod guest;

pub mod agent;

pub mod store;

pub mod delivery;

// What connects and restrains the stages.
pub mod bus;
pub mod egress;
mod file;
pub mod policy;
pub mod process;
pub mod secret;

// Putting it together, and the edges.
pub mod cli;
pub mod config;
pub mod gateway;
pub mod telemetry;
