//! Messages as signed JSON to a URL, by the Standard Webhooks specification. It only sends.

mod map;
mod wire;

use sluicegate_sdk::secrets::{self, Signing};
use sluicegate_sdk::{
    Attachment, AttachmentSource, Channel, DeliveryError, Description, Endpoint, Features, OutboundMessage, Receipt,
    Scheme, Secret, Setting, blobs, clock, http, serde_json, settings,
};

/// The setting with the URL that everything is posted to.
const URL: &str = "url";
/// The secret that signs.
const SIGNING_KEY: &str = "signing-key";

struct WebhookOut;

sluicegate_sdk::export!(WebhookOut);

impl Channel for WebhookOut {
    fn describe() -> Description {
        let reason = "messages are posted to the `url` of the settings";
        Description::new(
            "webhook-out",
            env!("CARGO_PKG_VERSION"),
            "Posts messages as signed JSON to a URL",
        )
        .features(Features::THREADS | Features::EDIT | Features::DELETE | Features::REACT | Features::FILES_OUT)
        .setting(Setting::text(URL, "Where messages are posted to").required())
        .secret(Secret::for_signing(
            SIGNING_KEY,
            "The key of the HMAC-SHA-256 in webhook-signature (Standard Webhooks)",
        ))
        .endpoint(Endpoint::new(Scheme::Https, "{url}", reason))
        .endpoint(Endpoint::new(Scheme::Http, "{url}", reason))
    }

    fn deliver(message: OutboundMessage) -> Result<Receipt, DeliveryError> {
        let url = settings::get(URL).filter(|url| !url.trim().is_empty());
        let url = url.ok_or_else(|| DeliveryError::Rejected("no url is set (`settings.url`)".to_owned()))?;
        let files = message.attachments.iter().map(file).collect::<Result<_, _>>()?;
        let body = serde_json::to_vec(&map::posted(&message, files))
            .map_err(|error| DeliveryError::Rejected(format!("the message can't be written as JSON: {error}")))?;
        let seconds = clock::now_ms() / 1000;
        let mut request = http::Request::post(url)
            .header("content-type", "application/json")
            .header(wire::ID_HEADER, &message.delivery_key)
            .header(wire::TIMESTAMP_HEADER, seconds.to_string());
        if secrets::available(SIGNING_KEY) {
            let signed = map::signed_payload(&message.delivery_key, seconds, &body);
            let signature = secrets::sign(SIGNING_KEY, Signing::HmacSha256, &signed)
                .map_err(|why| DeliveryError::Unavailable(format!("the body can't be signed: {why}")))?;
            request = request.header(wire::SIGNATURE_HEADER, map::signature(&signature));
        }
        let response = request.bytes(body).send_for_status()?;
        map::receipt(&response, &message.delivery_key, clock::now_ms())
    }
}

/// Fetches the bytes of a file that has no link.
fn file(attachment: &Attachment) -> Result<wire::File, DeliveryError> {
    let bytes = match &attachment.source {
        AttachmentSource::Url(_) => Vec::new(),
        AttachmentSource::Blob(blob) => {
            blobs::get(blob).map_err(|why| DeliveryError::Rejected(format!("a file is gone: {why}")))?
        }
    };
    Ok(map::file(attachment, &bytes))
}
