//! The agent worker and the delivery worker, each against fakes of what it needs and the real store on a disk.
//!
//! Time is tokio's paused clock: a wait of hours passes at once, and always to the same moment.

#![allow(clippy::unwrap_used, reason = "a test ends at the first surprise")]

mod agents;
mod crash;
mod deliveries;
mod hanging;
mod support;
mod turns;
