//! The Discord channel: a bot over the gateway and the REST API.
//!
//! [`session`] is the gateway's protocol, [`map`] and [`wire`] read events, [`plan`] and [`markup`] make what is sent,
//! [`failure`] says what a refusal means; all of them are pure. [`buckets`] keeps the rate limits, [`rest`] calls,
//! [`receive`] and [`send`] put them together.

pub mod buckets;
pub mod failure;
pub mod map;
pub mod markup;
pub mod plan;
pub mod receive;
pub mod rest;
pub mod send;
pub mod session;
pub mod wire;

use sluicegate_sdk::{
    Channel, Conversation, DeliveryError, Description, Endpoint, Features, Health, Listener, ListenerError,
    OutboundMessage, Placement, Presence, Receipt, Scheme, Secret, Setting,
};

use crate::rest::{API_BASE, Rest};

/// For how long a nonce is checked: Discord says "the past few minutes" (Discord: Create Message, `enforce_nonce`), and
/// two are the fewest that are a few.
const DEDUPLICATES_FOR_S: u32 = 120;

/// For how long a session can be resumed. Discord promises no time; the bots of others see some minutes at most.
const REPLAYS_FOR_S: u32 = 60;

/// The Discord channel.
pub struct Discord;

sluicegate_sdk::export!(Discord: listener, presence, health);

impl Channel for Discord {
    fn describe() -> Description {
        let own = "a server of your own that speaks Discord's protocol";
        Description::new("discord", env!("CARGO_PKG_VERSION"), "A Discord bot, over the gateway")
            .features(
                Features::EDIT
                    | Features::DELETE
                    | Features::REACT
                    | Features::THREADS
                    | Features::FILES_IN
                    | Features::FILES_OUT
                    | Features::GROUP_CONVERSATIONS,
            )
            .setting(Setting::text("api-base", "The REST API").default(API_BASE))
            .setting(Setting::text(
                "gateway-base",
                "The gateway, where it is not the one that Discord names",
            ))
            .setting(
                Setting::boolean(
                    "message-content",
                    "Whether to ask for the contents of messages that don't name the bot (a privileged intent)",
                )
                .default("true"),
            )
            .secret(
                Secret::new(
                    "bot-token",
                    "The bot's token, from the Developer Portal",
                    Placement::HEADER | Placement::WEBSOCKET_TEXT,
                    ["discord.com", "*.discord.gg", "{api-base}", "{gateway-base}"],
                )
                .required(),
            )
            .endpoint(Endpoint::new(Scheme::Https, "discord.com", "Discord's REST API"))
            .endpoint(Endpoint::new(Scheme::Wss, "*.discord.gg", "Discord's gateway"))
            .endpoint(Endpoint::new(
                Scheme::Https,
                "cdn.discordapp.com",
                "files that people send",
            ))
            .endpoint(Endpoint::new(Scheme::Https, "{api-base}", own))
            .endpoint(Endpoint::new(Scheme::Http, "{api-base}", own))
            .endpoint(Endpoint::new(Scheme::Wss, "{gateway-base}", own))
            .endpoint(Endpoint::new(Scheme::Ws, "{gateway-base}", own))
            .deduplicates_for_s(DEDUPLICATES_FOR_S)
            .replays_for_s(REPLAYS_FOR_S)
            .single_receiver()
    }

    fn deliver(message: OutboundMessage) -> Result<Receipt, DeliveryError> {
        send::deliver(&message)
    }
}

impl Listener for Discord {
    fn run() -> Result<(), ListenerError> {
        receive::receive_until_shutdown()
    }
}

impl Presence for Discord {
    fn typing(conversation: Conversation) {
        send::typing(&conversation);
    }

    fn draft(message: OutboundMessage) -> Result<String, DeliveryError> {
        send::draft(&message)
    }
}

impl Health for Discord {
    fn check() -> Result<String, DeliveryError> {
        let me = Rest::from_settings().me()?;
        Ok(format!("{}, id {}", me.username, me.id))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_token_is_bound_to_discord_and_the_configured_servers() {
        let description = Discord::describe();
        assert!(description.single_receiver);
        let token = &description.secrets[0];
        assert_eq!(
            token.hosts,
            ["discord.com", "*.discord.gg", "{api-base}", "{gateway-base}"]
        );
        assert!(!token.reveal);
    }
}
