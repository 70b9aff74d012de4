//! The e-mail channel: a mailbox over IMAP, answers over SMTP submission.
//!
//! [`map`] makes messages of mails and mails of messages, within its [`bounds`]; it is pure. [`imap`] and [`smtp`] speak the protocols over a
//! [`wire`]; [`receive`] and [`send`] put them together; [`settings`] is what the operator set.

pub mod bounds;
pub mod imap;
pub mod map;
pub mod receive;
pub mod send;
pub mod settings;
pub mod smtp;
pub mod texts;
pub mod wire;

use sluicegate_sdk::{
    Channel, DeliveryError, Description, Endpoint, Features, Finding, Health, Lifecycle, Listener, ListenerError,
    OutboundMessage, Placement, Receipt, Reconciliation, Scheme, Secret, Setting,
};

use crate::settings::Configuration;

/// How long a mailbox keeps what was not read, seconds: until somebody deletes it, here ten years.
const MAILS_KEPT_FOR_S: u32 = 10 * 365 * 24 * 3600;

/// The e-mail channel.
pub struct Email;

sluicegate_sdk::export!(Email: listener, reconciliation, lifecycle, health);

impl Channel for Email {
    fn describe() -> Description {
        let features = Features::THREADS | Features::FILES_IN | Features::FILES_OUT;
        let mut description = Description::new("email", env!("CARGO_PKG_VERSION"), "A mailbox, over IMAP and SMTP")
            .features(features)
            .setting(Setting::text("address", "The mailbox's address, such as bot@example.org").required())
            .setting(Setting::text("imap", "tls://host:993, or tcp://host:143 with STARTTLS").required())
            .setting(Setting::text("smtp", "tls://host:465, or tcp://host:587 with STARTTLS").required())
            .setting(Setting::text(
                "user",
                "Whom the servers know; the address where there is none",
            ))
            .setting(Setting::text("name", "The name that people see").default("Sluicegate"))
            .setting(Setting::text("folder", "The folder that is read").default("INBOX"))
            .setting(Setting::text(
                "sent-folder",
                "The folder in which the server itself keeps every mail that is submitted, if it does",
            ))
            .setting(Setting::text(
                "authenticated-by",
                "The server whose Authentication-Results count",
            ))
            .setting(Setting::boolean("clear", "No TLS on tcp://: for servers on this machine").default("false"))
            .secret(
                Secret::new(
                    "password",
                    "The mailbox's password",
                    Placement::TCP_TEXT,
                    ["{imap}", "{smtp}"],
                )
                .required(),
            )
            .replays_for_s(MAILS_KEPT_FOR_S)
            .single_receiver();
        for (key, reason) in [("{imap}", "reads the mailbox"), ("{smtp}", "submits mail")] {
            for scheme in [Scheme::Tls, Scheme::Tcp] {
                description = description.endpoint(Endpoint::new(scheme, key, reason));
            }
        }
        description
    }

    fn deliver(message: OutboundMessage) -> Result<Receipt, DeliveryError> {
        send::deliver(&message)
    }
}

impl Listener for Email {
    fn run() -> Result<(), ListenerError> {
        receive::stay_connected()
    }
}

impl Reconciliation for Email {
    fn reconcile(message: OutboundMessage, _since_ms: u64) -> Finding {
        send::reconcile(&message)
    }
}

impl Lifecycle for Email {
    /// Checks what the operator set, so that a mistake is told at once.
    fn start(_webhook_url: Option<String>) -> Result<(), String> {
        Configuration::from_settings().map(|_| ())
    }

    fn stop() {}
}

impl Health for Email {
    fn check() -> Result<String, DeliveryError> {
        let configuration = Configuration::from_settings().map_err(DeliveryError::Unavailable)?;
        let address = &configuration.mailbox.address;
        smtp::check(&configuration.smtp, &configuration.user, address)?;
        Ok(format!("{address}: the SMTP server takes the password"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_password_goes_to_the_two_servers_only() {
        let description = Email::describe();
        assert_eq!(description.secrets[0].hosts, ["{imap}", "{smtp}"]);
        assert!(!description.secrets[0].reveal);
    }
}
