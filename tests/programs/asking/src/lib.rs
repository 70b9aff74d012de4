//! The test platform as one that can be asked what became of a delivery.

use sluicegate_sdk::webhook::{Request, Response};
use sluicegate_sdk::{Channel, DeliveryError, Description, Finding, OutboundMessage, Receipt, Reconciliation, Webhook};

struct Asking;

impl Channel for Asking {
    fn describe() -> Description {
        courier::description("asking")
    }

    fn deliver(message: OutboundMessage) -> Result<Receipt, DeliveryError> {
        courier::deliver(&message)
    }
}

impl Webhook for Asking {
    fn handle(request: Request) -> Response {
        courier::handle(&request)
    }
}

impl Reconciliation for Asking {
    fn reconcile(message: OutboundMessage, _since_ms: u64) -> Finding {
        courier::reconcile(&message)
    }
}

sluicegate_sdk::export!(Asking: reconciliation, webhook);
