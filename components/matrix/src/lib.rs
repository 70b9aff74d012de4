//! The Matrix channel: an account on any homeserver, over the client-server API.
//!
//! [`map`] and [`wire`] read events, [`plan`] and [`markup`] make what is sent, [`failure`] says what a refusal means; all
//! of them are pure. [`homeserver`] calls, [`receive`] and [`send`] put them together.

pub mod failure;
pub mod homeserver;
pub mod map;
pub mod markup;
pub mod plan;
pub mod receive;
pub mod send;
pub mod wire;

use sluicegate_sdk::{
    Channel, Conversation, DeliveryError, Description, Endpoint, Features, Health, Listener, ListenerError,
    OutboundMessage, Presence, Receipt, Scheme, Secret, Setting,
};

use crate::homeserver::Homeserver;
use crate::receive::SYNC_SECONDS;

/// How long a homeserver is trusted to know a transaction id again, seconds: half of the day that Synapse 1.163 keeps
/// them (the specification names no time).
const DEDUPLICATES_FOR_S: u32 = 12 * 3600;

/// How long a homeserver keeps what a room said, seconds: for good, where its operator sets no retention.
const EVENTS_KEPT_FOR_S: u32 = u32::MAX;

/// The Matrix channel.
pub struct Matrix;

sluicegate_sdk::export!(Matrix: listener, presence, health);

impl Channel for Matrix {
    fn describe() -> Description {
        let hosts = ["{homeserver}"];
        Description::new(
            "matrix",
            env!("CARGO_PKG_VERSION"),
            "A Matrix account in rooms without encryption",
        )
        .features(Features::all() - Features::CHOICES)
        .setting(
            Setting::text(
                "homeserver",
                "The homeserver's address, such as https://matrix.example.org",
            )
            .required(),
        )
        .setting(
            Setting::number("sync-seconds", "How long one sync waits for messages, 1 to 90 seconds")
                .default(&SYNC_SECONDS.to_string()),
        )
        .setting(
            Setting::boolean(
                "notices",
                "Whether answers are notices, which clients show without a notification",
            )
            .default("false"),
        )
        .secret(Secret::in_header("access-token", "The account's access token", hosts).required())
        .endpoint(Endpoint::new(Scheme::Https, "{homeserver}", "the homeserver"))
        .endpoint(Endpoint::new(
            Scheme::Http,
            "{homeserver}",
            "a homeserver on your own network",
        ))
        .deduplicates_for_s(DEDUPLICATES_FOR_S)
        .replays_for_s(EVENTS_KEPT_FOR_S)
    }

    fn deliver(message: OutboundMessage) -> Result<Receipt, DeliveryError> {
        send::deliver(&message)
    }
}

impl Listener for Matrix {
    fn run() -> Result<(), ListenerError> {
        receive::sync_until_shutdown()
    }
}

impl Presence for Matrix {
    fn typing(conversation: Conversation) {
        send::typing(&conversation);
    }

    fn draft(message: OutboundMessage) -> Result<String, DeliveryError> {
        send::draft(&message)
    }
}

impl Health for Matrix {
    fn check() -> Result<String, DeliveryError> {
        Ok(Homeserver::from_settings().fresh_me()?.user_id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_token_goes_to_the_configured_homeserver_only() {
        let description = Matrix::describe();
        let [secret] = &description.secrets[..] else {
            panic!("one secret");
        };
        assert_eq!(secret.hosts, ["{homeserver}"]);
        assert!(secret.required && !secret.reveal);
    }
}
