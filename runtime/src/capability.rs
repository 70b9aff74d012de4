//! What guests may import: one file for each interface of the contract, each checking every use.
//!
//! Architecture invariant: a host function returns `Err` (a trap) only to end the guest. Everything that can be expected
//! (not granted, too large, too fast, gone) is a typed result of the contract. Nothing here calls back into a guest.
//! While a component is asked what it is, none of this leads anywhere: `Guest::services` is none then.

pub mod blobs;
pub mod clients;
pub mod clock;
pub mod folder;
pub mod http;
pub mod inbox;
pub mod log;
pub mod net;
pub mod progress;
pub mod relay;
pub mod secrets;
pub mod settings;
pub mod state;

use crate::guest::Guest;
use crate::guest::bindings::sluicegate::channel::types;

impl types::Host for Guest {}

/// What a guest hears that uses an import while it is only asked what it is.
const NO_CAPABILITY: &str = "nothing is granted while a component is asked what it is";
