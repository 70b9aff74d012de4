//! A channel for the test platform, which speaks as the generic webhook's URL does and also answers whether it has a
//! delivery. What sets the members `keyed` and `asking` apart is how much of this they tell the host.

use sluicegate_sdk::inbox::Outcome;
use sluicegate_sdk::serde_json::{self, Value, json};
use sluicegate_sdk::webhook::{Request, Response};
use sluicegate_sdk::{
    Conversation, DeliveryError, Description, Endpoint, Finding, InboundMessage, OutboundMessage, Receipt, Scheme,
    Sender, Setting, WebhookRecipe, http, inbox, settings,
};

/// The longest body that is taken, bytes.
const BODY_BYTES_MAX: u32 = 64 * 1024;

/// Describes the channel.
pub fn description(name: &str) -> Description {
    let reason = "answers are posted to the `url` of the settings";
    Description::new(name, env!("CARGO_PKG_VERSION"), "The test platform")
        .setting(Setting::text("url", "Where answers are posted to"))
        .endpoint(Endpoint::new(Scheme::Http, "{url}", reason))
        .endpoint(Endpoint::new(Scheme::Https, "{url}", reason))
        .webhook(WebhookRecipe::open(BODY_BYTES_MAX))
}

/// Posts a message.
pub fn deliver(message: &OutboundMessage) -> Result<Receipt, DeliveryError> {
    let body = json!({
        "delivery_key": message.delivery_key,
        "conversation": message.conversation.id,
        "text": message.text,
        "attempt": message.attempt,
    });
    let request = http::Request::post(url())
        .header("idempotency-key", &message.delivery_key)
        .bytes(body.to_string().into_bytes());
    match request.send()?.status {
        200 => Ok(Receipt::complete([message.delivery_key.clone()])),
        503 => Err(DeliveryError::Unavailable("as ordered".to_owned())),
        other => Err(DeliveryError::Rejected(format!("the platform answered {other}"))),
    }
}

/// Asks whether the platform has a message.
pub fn reconcile(message: &OutboundMessage) -> Finding {
    let asked = http::Request::get(url())
        .header("idempotency-key", &message.delivery_key)
        .send();
    match asked.map(|response| response.status) {
        Ok(200) => Finding::Delivered(Receipt::complete([message.delivery_key.clone()])),
        Ok(404) => Finding::NotDelivered(Vec::new()),
        _ => Finding::Unknown,
    }
}

/// Takes a message that was posted.
pub fn handle(request: &Request) -> Response {
    let Ok(body) = serde_json::from_slice::<Value>(&request.body) else {
        return Response::json(400, &json!({"error": "not JSON"}));
    };
    let field = |name: &str| body[name].as_str().unwrap_or_default().to_owned();
    let conversation = Conversation::direct(field("conversation"));
    let message = InboundMessage::text(
        field("id"),
        conversation,
        Sender::person(field("sender")),
        field("text"),
    );
    match inbox::publish(&[message], None).as_deref() {
        Ok([Outcome::Accepted]) => Response::json(200, &json!({"status": "accepted"})),
        Ok([Outcome::Duplicate]) => Response::json(200, &json!({"status": "duplicate"})),
        _ => Response::json(503, &json!({"error": "not taken"})),
    }
}

fn url() -> String {
    settings::get("url").unwrap_or_default()
}
