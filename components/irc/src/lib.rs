//! The IRC channel: one connection that both listens and sends, with IRCv3 where the server offers it.
//!
//! [`wire`] reads lines, [`session`] is the protocol, [`map`] and [`markup`] make messages of lines and lines of messages,
//! [`pacer`] keeps the pace; all of them are pure. [`receive`] holds the connection, [`send`] hands it what is to be sent.

pub mod map;
pub mod markup;
pub mod pacer;
pub mod receive;
pub mod send;
pub mod session;
pub mod wire;

use sluicegate_sdk::{
    Channel, DeliveryError, Description, Endpoint, Features, Lifecycle, Listener, ListenerError, OutboundMessage,
    Placement, Receipt, Scheme, Secret, Setting, SettingKind,
};

use crate::receive::LINE_INTERVAL_MS;

/// The IRC channel.
pub struct Irc;

sluicegate_sdk::export!(Irc: listener, lifecycle);

impl Channel for Irc {
    fn describe() -> Description {
        let server = ["{server}"];
        Description::new(
            "irc",
            env!("CARGO_PKG_VERSION"),
            "An IRC network, in channels and queries",
        )
        .features(Features::GROUP_CONVERSATIONS)
        .setting(
            Setting::text(
                "server",
                "The server: tls://irc.example.org:6697, or tcp://… in the clear",
            )
            .required(),
        )
        .setting(Setting::text("nick", "The nick, at most 30 bytes").required())
        .setting(Setting::text(
            "account",
            "The account at the network's services; the nick where there is none",
        ))
        .setting(Setting::text("real-name", "What stands for a person's name").default("Sluicegate"))
        .setting(Setting::new(
            SettingKind::ListOfText,
            "channels",
            "The channels to join",
        ))
        .setting(
            Setting::number("line-interval-ms", "The pace of lines after a burst of 4, milliseconds")
                .default(&LINE_INTERVAL_MS.to_string()),
        )
        .secret(Secret::new(
            "password",
            "The account's password (SASL PLAIN)",
            Placement::TCP_TEXT,
            server,
        ))
        .secret(Secret::new(
            "server-password",
            "The server's own password (PASS)",
            Placement::TCP_TEXT,
            server,
        ))
        .endpoint(Endpoint::new(Scheme::Tls, "{server}", "the IRC server"))
        .endpoint(Endpoint::new(
            Scheme::Tcp,
            "{server}",
            "an IRC server without TLS, on your own network",
        ))
        .single_receiver()
    }

    fn deliver(message: OutboundMessage) -> Result<Receipt, DeliveryError> {
        send::deliver(&message)
    }
}

impl Listener for Irc {
    fn run() -> Result<(), ListenerError> {
        receive::stay_connected()
    }
}

impl Lifecycle for Irc {
    /// Checks what the operator set, so that a mistake is told at once.
    fn start(_webhook_url: Option<String>) -> Result<(), String> {
        receive::Configuration::from_settings().map(|_| ())
    }

    fn stop() {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_description_binds_each_secret_to_the_configured_server() {
        let description = Irc::describe();
        assert!(description.single_receiver);
        for secret in &description.secrets {
            assert_eq!(secret.hosts, ["{server}"], "{}", secret.name);
            assert_eq!(secret.placements, Placement::TCP_TEXT);
            assert!(!secret.reveal);
        }
    }
}
