//! The test platform as one that drops a second delivery with the same key.

use sluicegate_sdk::webhook::{Request, Response};
use sluicegate_sdk::{Channel, DeliveryError, Description, OutboundMessage, Receipt, Webhook};

/// An hour, as long as no test lasts.
const DEDUPLICATES_FOR_S: u32 = 3600;

struct Keyed;

impl Channel for Keyed {
    fn describe() -> Description {
        courier::description("keyed").deduplicates_for_s(DEDUPLICATES_FOR_S)
    }

    fn deliver(message: OutboundMessage) -> Result<Receipt, DeliveryError> {
        courier::deliver(&message)
    }
}

impl Webhook for Keyed {
    fn handle(request: Request) -> Response {
        courier::handle(&request)
    }
}

sluicegate_sdk::export!(Keyed: webhook);
