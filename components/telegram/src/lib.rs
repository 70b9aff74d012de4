//! The Telegram channel: a bot over the Bot API, by long poll or webhook.
//!
//! [`map`] and [`wire`] read updates, [`plan`] and [`markup`] make what is sent, [`failure`] says what a refusal means;
//! all of them are pure. [`bot`] calls, [`receive`], [`registration`] and [`send`] put them together.

pub mod bot;
pub mod failure;
pub mod map;
pub mod markup;
pub mod plan;
pub mod receive;
pub mod registration;
pub mod send;
pub mod wire;

use sluicegate_sdk::{
    Channel, Conversation, DeliveryError, Description, Endpoint, Features, Health, Lifecycle, Listener, ListenerError,
    OutboundMessage, Placement, Presence, Receipt, Scheme, Secret, Setting, Webhook, WebhookRecipe, secrets, settings,
    webhook,
};

use crate::bot::{API_BASE, Bot};
use crate::receive::POLL_SECONDS;

/// The largest update that is taken, bytes: many times the longest message with all its entities.
const UPDATE_BYTES_MAX: u32 = 1024 * 1024;
/// How long Telegram keeps updates that nobody took ("Getting updates": "not longer than 24 hours").
const UPDATES_KEPT_FOR_S: u32 = 24 * 3600;
/// The header in which Telegram sends the webhook's secret.
const SECRET_HEADER: &str = "X-Telegram-Bot-Api-Secret-Token";

/// The Telegram channel.
pub struct Telegram;

sluicegate_sdk::export!(Telegram: listener, webhook, presence, lifecycle, health);

/// How the channel gets its updates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Poll,
    Webhook,
}

impl Mode {
    /// Reads the setting; none is long poll.
    ///
    /// # Errors
    /// Words for the operator.
    fn parse(setting: Option<&str>) -> Result<Self, String> {
        match setting.map(str::trim) {
            None | Some("" | "poll") => Ok(Self::Poll),
            Some("webhook") => Ok(Self::Webhook),
            Some(other) => Err(format!("mode is {other:?}: it must be \"poll\" or \"webhook\"")),
        }
    }

    fn from_settings() -> Result<Self, String> {
        Self::parse(settings::get("mode").as_deref())
    }
}

impl Channel for Telegram {
    fn describe() -> Description {
        let hosts = ["api.telegram.org", "{api-base}"];
        Description::new(
            "telegram",
            env!("CARGO_PKG_VERSION"),
            "A Telegram bot, by long poll or webhook",
        )
        .features(Features::all())
        .replays_for_s(UPDATES_KEPT_FOR_S)
        .setting(Setting::text("mode", "How messages are received: poll or webhook").default("poll"))
        .setting(Setting::text("api-base", "The Bot API server").default(API_BASE))
        .setting(
            Setting::number("poll-seconds", "How long one poll waits for messages, 1 to 50 seconds")
                .default(&POLL_SECONDS.to_string()),
        )
        .secret(
            Secret::new(
                "bot-token",
                "The bot's token, from @BotFather",
                Placement::URL_PATH,
                hosts,
            )
            .required(),
        )
        .secret(Secret::new(
            "webhook-secret",
            "What Telegram sends with each webhook call: 1 to 256 of A-Z, a-z, 0-9, _ and -; needed in webhook mode",
            Placement::JSON_BODY,
            hosts,
        ))
        .endpoint(Endpoint::new(Scheme::Https, "api.telegram.org", "Telegram's Bot API"))
        .endpoint(Endpoint::new(
            Scheme::Https,
            "{api-base}",
            "a Bot API server of your own",
        ))
        .endpoint(Endpoint::new(
            Scheme::Http,
            "{api-base}",
            "a Bot API server of your own, on your own network",
        ))
        .webhook(WebhookRecipe::shared_secret(
            "webhook-secret",
            SECRET_HEADER,
            UPDATE_BYTES_MAX,
        ))
        .single_receiver()
    }

    fn deliver(message: OutboundMessage) -> Result<Receipt, DeliveryError> {
        send::deliver(&message)
    }
}

impl Listener for Telegram {
    fn run() -> Result<(), ListenerError> {
        match Mode::from_settings()? {
            Mode::Poll => {
                if registration::take_back()? {
                    receive::poll_until_shutdown()?;
                }
            }
            Mode::Webhook => {
                if registration::register()? {
                    receive::wait_for_shutdown();
                }
            }
        }
        Ok(())
    }
}

impl Webhook for Telegram {
    fn handle(request: webhook::Request) -> webhook::Response {
        match Mode::from_settings() {
            Ok(Mode::Webhook) => receive::handle_update(&request),
            // A polling channel expects no calls, and nobody set a secret for them.
            _ => webhook::Response::empty(404),
        }
    }
}

impl Presence for Telegram {
    fn typing(conversation: Conversation) {
        send::typing(&conversation);
    }

    fn draft(message: OutboundMessage) -> Result<String, DeliveryError> {
        send::draft(&message)
    }
}

impl Lifecycle for Telegram {
    fn start(webhook_url: Option<String>) -> Result<(), String> {
        if Mode::from_settings()? == Mode::Poll {
            return Ok(());
        }
        let url = webhook_url.ok_or("webhook mode needs the gateway's public address, and none is configured")?;
        if !secrets::available("webhook-secret") {
            return Err(
                "webhook mode needs the secret webhook-secret: without it anyone could write as anyone".to_owned(),
            );
        }
        registration::want(&url)
    }

    /// Leaves the webhook in place: Telegram keeps what comes meanwhile, and sends it when the channel is back.
    fn stop() {}
}

impl Health for Telegram {
    fn check() -> Result<String, DeliveryError> {
        let me = Bot::from_settings().fresh_me()?;
        match me.username {
            Some(username) => Ok(format!("@{username}, id {}", me.id)),
            None => Ok(format!("id {}", me.id)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mode_is_poll_unless_it_says_webhook() {
        assert_eq!(Mode::parse(None), Ok(Mode::Poll));
        assert_eq!(Mode::parse(Some("poll")), Ok(Mode::Poll));
        assert_eq!(Mode::parse(Some("webhook")), Ok(Mode::Webhook));
        assert!(Mode::parse(Some("pull")).is_err_and(|words| words.contains("\"pull\"")));
    }

    #[test]
    fn the_description_binds_each_secret_to_telegram_and_the_configured_server() {
        let description = Telegram::describe();
        assert!(description.single_receiver);
        for secret in &description.secrets {
            assert_eq!(secret.hosts, ["api.telegram.org", "{api-base}"], "{}", secret.name);
            assert!(!secret.reveal);
        }
        let recipe = description.webhook.expect("it has a webhook");
        assert_eq!(recipe.secret.as_deref(), Some("webhook-secret"));
        assert_eq!(
            recipe.signature_header.as_deref(),
            Some("X-Telegram-Bot-Api-Secret-Token")
        );
    }
}
