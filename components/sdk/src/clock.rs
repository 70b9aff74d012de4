//! Time, as far as the host gives it.

pub use crate::bindings::imports::sluicegate::channel::clock::{now_ms, sleep_ms};
