//! A channel whose listener only waits: what is left is what a running listener holds in the host.

use sluicegate_sdk::{Channel, DeliveryError, Description, Listener, ListenerError, OutboundMessage, Receipt, clock};

/// Longer than any measurement.
const NAP_MS: u64 = 3_600_000;

struct Idle;

impl Channel for Idle {
    fn describe() -> Description {
        Description::new("idle", env!("CARGO_PKG_VERSION"), "Waits, and confirms every message")
    }

    fn deliver(message: OutboundMessage) -> Result<Receipt, DeliveryError> {
        Ok(Receipt::complete([message.delivery_key]))
    }
}

impl Listener for Idle {
    fn run() -> Result<(), ListenerError> {
        while clock::sleep_ms(NAP_MS) {}
        Ok(())
    }
}

sluicegate_sdk::export!(Idle: listener);
