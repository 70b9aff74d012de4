//! The words of a channel whose clients connect to the gateway.

pub use crate::bindings::connections::exports::sluicegate::channel::connections::{Client, CloseReason};
