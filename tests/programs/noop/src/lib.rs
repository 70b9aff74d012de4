//! A delivery adapter that confirms at once, without doing anything: what is left is the cost of the host.

use sluicegate_sdk::{Channel, DeliveryError, Description, OutboundMessage, Receipt};

struct Noop;

impl Channel for Noop {
    fn describe() -> Description {
        Description::new(
            "noop",
            env!("CARGO_PKG_VERSION"),
            "Confirms every message, and sends none",
        )
    }

    fn deliver(message: OutboundMessage) -> Result<Receipt, DeliveryError> {
        Ok(Receipt::complete([message.delivery_key]))
    }
}

sluicegate_sdk::export!(Noop);
