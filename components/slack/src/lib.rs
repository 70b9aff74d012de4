//! The Slack channel: an app over Socket Mode, or over the Events API.
//!
//! [`map`] and [`wire`] read events, [`plan`] and [`markup`] make what is sent, [`trace`] finds it again, [`failure`] says what a refusal means; all
//! of them are pure. [`api`] calls, [`receive`] and [`send`] put them together.

pub mod api;
pub mod failure;
pub mod map;
pub mod markup;
pub mod plan;
pub mod receive;
pub mod send;
pub mod trace;
pub mod uploads;
pub mod wire;

use sluicegate_sdk::{
    Channel, Conversation, DeliveryError, Description, Endpoint, Features, Finding, Health, Lifecycle, Listener,
    ListenerError, OutboundMessage, Presence, Receipt, Reconciliation, Scheme, Secret, Setting, SignatureScheme,
    Webhook, WebhookRecipe, secrets, settings, webhook,
};

use crate::api::{API_BASE, Api};

/// The largest event that is taken, bytes: many times the longest message with its blocks.
const EVENT_BYTES_MAX: u32 = 1024 * 1024;
/// How far an event's time may be off, seconds (docs.slack.dev: Verifying requests from Slack).
const TOLERANCE_S: u32 = 300;
/// For how long Slack sends an event again that nobody took: at once, after one minute and after five
/// (docs.slack.dev: The Events API, Retries).
const REPLAYS_FOR_S: u32 = 6 * 60;

/// The Slack channel.
pub struct Slack;

sluicegate_sdk::export!(Slack: listener, webhook, presence, reconciliation, lifecycle, health);

/// How the channel gets its events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Socket,
    Events,
}

impl Mode {
    /// Reads the setting; none is Socket Mode.
    ///
    /// # Errors
    /// Words for the operator.
    fn parse(setting: Option<&str>) -> Result<Self, String> {
        match setting.map(str::trim) {
            None | Some("" | "socket") => Ok(Self::Socket),
            Some("events") => Ok(Self::Events),
            Some(other) => Err(format!("mode is {other:?}: it must be \"socket\" or \"events\"")),
        }
    }

    fn from_settings() -> Result<Self, String> {
        Self::parse(settings::get("mode").as_deref())
    }
}

/// What Slack signs (docs.slack.dev: Verifying requests from Slack).
fn recipe() -> WebhookRecipe {
    WebhookRecipe {
        scheme: SignatureScheme::HmacSha256,
        secret: Some("signing-secret".to_owned()),
        signature_header: Some("X-Slack-Signature".to_owned()),
        signature_prefix: Some("v0=".to_owned()),
        timestamp_header: Some("X-Slack-Request-Timestamp".to_owned()),
        signed_payload: Some("v0:{timestamp}:{body}".to_owned()),
        tolerance_s: Some(TOLERANCE_S),
        body_bytes_max: EVENT_BYTES_MAX,
    }
}

impl Channel for Slack {
    fn describe() -> Description {
        let own = "a server of your own that speaks Slack's protocol";
        Description::new(
            "slack",
            env!("CARGO_PKG_VERSION"),
            "A Slack app, over Socket Mode or the Events API",
        )
        .features(
            Features::EDIT
                | Features::DELETE
                | Features::REACT
                | Features::THREADS
                | Features::FILES_IN
                | Features::FILES_OUT
                | Features::GROUP_CONVERSATIONS,
        )
        .setting(Setting::text("mode", "How events are received: socket or events").default("socket"))
        .setting(
            Setting::boolean(
                "answer-in-thread",
                "Whether a message in a channel is answered in a thread of its own",
            )
            .default("true"),
        )
        .setting(Setting::text("api-base", "The Web API").default(API_BASE))
        .setting(Setting::text(
            "socket-base",
            "Where Socket Mode connects to, where that is not below slack.com",
        ))
        .secret(
            Secret::in_header(
                "bot-token",
                "The bot token, xoxb-…",
                ["slack.com", "files.slack.com", "{api-base}"],
            )
            .required(),
        )
        .secret(Secret::in_header(
            "app-token",
            "The app-level token, xapp-…, with the scope connections:write; needed in socket mode",
            ["slack.com", "{api-base}"],
        ))
        .secret(Secret::for_signing(
            "signing-secret",
            "The signing secret; needed in events mode",
        ))
        .endpoint(Endpoint::new(Scheme::Https, "slack.com", "Slack's Web API"))
        .endpoint(Endpoint::new(Scheme::Https, "files.slack.com", "files, both ways"))
        .endpoint(Endpoint::new(Scheme::Wss, "*.slack.com", "Socket Mode"))
        .endpoint(Endpoint::new(Scheme::Https, "{api-base}", own))
        .endpoint(Endpoint::new(Scheme::Http, "{api-base}", own))
        .endpoint(Endpoint::new(Scheme::Wss, "{socket-base}", own))
        .endpoint(Endpoint::new(Scheme::Ws, "{socket-base}", own))
        .webhook(recipe())
        .replays_for_s(REPLAYS_FOR_S)
        .single_receiver()
    }

    fn deliver(message: OutboundMessage) -> Result<Receipt, DeliveryError> {
        send::deliver(&message)
    }
}

impl Listener for Slack {
    fn run() -> Result<(), ListenerError> {
        match Mode::from_settings()? {
            Mode::Socket => receive::receive_until_shutdown(),
            Mode::Events => {
                receive::wait_for_shutdown();
                Ok(())
            }
        }
    }
}

impl Webhook for Slack {
    fn handle(request: webhook::Request) -> webhook::Response {
        match Mode::from_settings() {
            Ok(Mode::Events) => receive::handle_event(&request),
            // In socket mode no calls are expected.
            _ => webhook::Response::empty(404),
        }
    }
}

impl Presence for Slack {
    fn typing(conversation: Conversation) {
        send::typing(&conversation);
    }

    fn draft(message: OutboundMessage) -> Result<String, DeliveryError> {
        send::draft(&message)
    }
}

impl Reconciliation for Slack {
    fn reconcile(message: OutboundMessage, since_ms: u64) -> Finding {
        send::reconcile(&message, since_ms)
    }
}

impl Lifecycle for Slack {
    fn start(_webhook_url: Option<String>) -> Result<(), String> {
        let (mode, needed) = match Mode::from_settings()? {
            Mode::Socket => ("socket", "app-token"),
            Mode::Events => ("events", "signing-secret"),
        };
        if secrets::available(needed) {
            Ok(())
        } else {
            Err(format!("{mode} mode needs the secret {needed}"))
        }
    }

    fn stop() {}
}

impl Health for Slack {
    fn check() -> Result<String, DeliveryError> {
        let me = Api::from_settings().fresh_me()?;
        Ok(format!("@{} in {}", me.user, me.team))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mode_is_socket_unless_it_says_events() {
        assert_eq!(Mode::parse(None), Ok(Mode::Socket));
        assert_eq!(Mode::parse(Some("events")), Ok(Mode::Events));
        assert!(Mode::parse(Some("rtm")).is_err_and(|words| words.contains("\"rtm\"")));
    }

    #[test]
    fn each_secret_is_bound_to_slack_and_the_configured_server() {
        let description = Slack::describe();
        for secret in &description.secrets {
            let known = ["slack.com", "files.slack.com", "{api-base}"];
            assert!(
                secret.hosts.iter().all(|host| known.contains(&host.as_str())),
                "{}",
                secret.name
            );
            assert!(!secret.reveal);
        }
        // The recipe is what Slack's own verifier checks: `oracle.py` signs with that.
        assert_eq!(recipe().signed_payload.as_deref(), Some("v0:{timestamp}:{body}"));
    }
}
