//! Messages as push notifications through an ntfy server. It only sends: conversations are topics.

mod map;
mod wire;

use sluicegate_sdk::{
    Action, Channel, DeliveryError, Description, Endpoint, Features, OutboundMessage, Placement, Receipt, Scheme,
    Secret, Setting, clock, http, parts, secrets, settings,
};

use crate::map::Part;

/// The setting with the server.
const BASE_URL: &str = "base-url";
/// Where messages go unless the operator runs a server.
const BASE_URL_DEFAULT: &str = "https://ntfy.sh";
/// The secret that opens protected topics.
const TOKEN: &str = "token";
/// For files of some megabytes, milliseconds.
const UPLOAD_TIMEOUT_MS: u32 = 60_000;

struct Ntfy;

sluicegate_sdk::export!(Ntfy);

impl Channel for Ntfy {
    fn describe() -> Description {
        let reason = "the server that passes notifications on";
        Description::new(
            "ntfy",
            env!("CARGO_PKG_VERSION"),
            "Sends messages as push notifications through ntfy",
        )
        .features(Features::FILES_OUT)
        .setting(Setting::text(BASE_URL, "The ntfy server").default(BASE_URL_DEFAULT))
        .secret(Secret::new(
            TOKEN,
            "An access token, for topics that are protected",
            Placement::HEADER,
            ["{base-url}"],
        ))
        .endpoint(Endpoint::new(Scheme::Https, "{base-url}", reason))
        .endpoint(Endpoint::new(Scheme::Http, "{base-url}", reason))
    }

    fn deliver(message: OutboundMessage) -> Result<Receipt, DeliveryError> {
        if message.action != Action::Send {
            return Err(DeliveryError::Rejected("a notification can't be changed".to_owned()));
        }
        let topic = map::topic(&message.conversation)?;
        let parts = map::parts(&message);
        parts::each(&message, &parts, |part, _| publish(topic, part))
    }
}

/// Publishes a part, and returns the server's id of it.
fn publish(topic: &str, part: &Part<'_>) -> Result<String, DeliveryError> {
    let base = settings::get(BASE_URL).unwrap_or_default();
    let base = base.trim().trim_end_matches('/');
    let request = match part {
        Part::Text(text) => http::Request::post(format!("{base}/")).json(&wire::Publish::text(topic, text)),
        Part::Link(link) => http::Request::post(format!("{base}/")).json(&wire::Publish::link(topic, link)),
        // Whatever is the body of a request with a file name becomes a file.
        Part::Blob { name, blob } => {
            let name = http::segment_escaped(name);
            http::Request::new("PUT", format!("{base}/{topic}?filename={name}"))
                .blob(*blob)
                .timeout_ms(UPLOAD_TIMEOUT_MS)
        }
    };
    let request = if secrets::available(TOKEN) {
        request.header("authorization", "Bearer {{token}}")
    } else {
        request
    };
    map::published(&request.send_for_status()?, clock::now_ms())
}
