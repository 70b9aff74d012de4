//! The generic channel: programs post JSON here, and answers are posted as JSON to a URL.

mod map;
mod wire;

use sluicegate_sdk::secrets::{self, Signing};
use sluicegate_sdk::webhook::{Request, Response};
use sluicegate_sdk::{
    Action, Channel, DeliveryError, Description, Endpoint, Features, OutboundMessage, Receipt, Scheme, Secret, Setting,
    Webhook, WebhookRecipe, clock, http, inbox, settings,
};

/// The setting with the URL that answers are posted to.
const URL: &str = "url";
/// The secret that signs both ways.
const SIGNING_KEY: &str = "signing-key";

struct Generic;

impl Channel for Generic {
    fn describe() -> Description {
        let reason = "answers are posted to the `url` of the settings";
        Description::new(
            "webhook",
            env!("CARGO_PKG_VERSION"),
            "Takes messages as JSON and posts answers to a URL",
        )
        .features(Features::THREADS | Features::GROUP_CONVERSATIONS)
        .setting(Setting::text(
            URL,
            "Where answers are posted to; without it, messages only come in",
        ))
        .secret(Secret::for_signing(
            SIGNING_KEY,
            "The key of the HMAC-SHA-256 in X-Signature, both ways",
        ))
        .endpoint(Endpoint::new(Scheme::Https, "{url}", reason))
        .endpoint(Endpoint::new(Scheme::Http, "{url}", reason))
        .webhook(WebhookRecipe::hmac_sha256(
            SIGNING_KEY,
            wire::SIGNATURE_HEADER,
            wire::SIGNATURE_PREFIX,
            wire::BODY_BYTES_MAX,
        ))
    }

    fn deliver(message: OutboundMessage) -> Result<Receipt, DeliveryError> {
        if message.action != Action::Send {
            return Err(DeliveryError::Rejected("what was posted can't be changed".to_owned()));
        }
        let url = settings::get(URL).filter(|url| !url.is_empty()).ok_or_else(|| {
            DeliveryError::Rejected("no url is set: answers can't be posted anywhere (`settings.url`)".to_owned())
        })?;
        let body = serde_json::to_vec(&map::outgoing(&message))
            .map_err(|error| DeliveryError::Rejected(format!("the message can't be written as JSON: {error}")))?;
        let mut request = http::Request::post(url)
            .header("content-type", "application/json")
            .header("idempotency-key", &message.delivery_key);
        if let Some(signature) = sign(&body)? {
            request = request.header(wire::SIGNATURE_HEADER, signature);
        }
        let response = request.bytes(body).send_for_status()?;
        map::receipt(&response, &message.delivery_key, clock::now_ms())
    }
}

impl Webhook for Generic {
    fn handle(request: Request) -> Response {
        if let Some(refusal) = map::refused_call(&request.method, &request.path) {
            return refusal;
        }
        match wire::parse(&request.body) {
            Ok(incoming) => {
                let outcomes = inbox::publish(&[map::message(incoming)], None);
                map::published(outcomes.as_ref().map(|all| all.first()).map_err(Clone::clone))
            }
            Err(why) => map::malformed(&why),
        }
    }
}

/// Signs a body, where the operator has given the key.
fn sign(body: &[u8]) -> Result<Option<String>, DeliveryError> {
    if !secrets::available(SIGNING_KEY) {
        return Ok(None);
    }
    let signature = secrets::sign(SIGNING_KEY, Signing::HmacSha256, body)
        .map_err(|why| DeliveryError::Unavailable(format!("the body can't be signed: {why}")))?;
    Ok(Some(wire::signature(&signature)))
}

sluicegate_sdk::export!(Generic: webhook);
