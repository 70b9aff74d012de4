//! The egress gate against real sockets: what leaves, what does not, and what comes back.

#![allow(clippy::unwrap_used, reason = "a test that can't go on panics")]

mod bounds;
mod departure;
mod evidence;
mod grants;
mod http;
mod http2;
mod resolving;
mod secrets;
mod sockets;
mod streams;
mod support;
mod tls;
