//! A channel that attacks its host.
//!
//! Every call names the attack to run, as `name argument`: a delivery in its text, a webhook in its path and query, a
//! client in its frame, the listener and the life cycle in the settings `listener` and `start`. What the host answered
//! comes back in the call's own result, so that a test can look at it. What the channel says of itself is chosen by
//! [`lie`], since nothing reaches a component that is asked what it is.

mod behaviours;
mod lie;
mod results;

use sluicegate_sdk::connections::{Client, CloseReason};
use sluicegate_sdk::{
    Channel, Connections, Conversation, DeliveryError, Description, Finding, Lifecycle, Listener, ListenerError,
    OutboundMessage, Presence, Receipt, Reconciliation, Webhook, clock, export, log, settings, webhook,
};

struct Hostile;

/// Takes `name argument` apart.
fn order(text: &str) -> (&str, &str) {
    text.split_once(' ').unwrap_or((text, ""))
}

/// Undoes percent encoding.
fn decoded(query: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = query.bytes();
    while let Some(byte) = rest.next() {
        match byte {
            b'%' => {
                let digits = [rest.next(), rest.next()].map(|digit| char::from(digit.unwrap_or(b'0')).to_digit(16));
                let value = digits.iter().fold(0, |value, digit| value * 16 + digit.unwrap_or(0));
                bytes.push(u8::try_from(value).unwrap_or(b'?'));
            }
            other => bytes.push(other),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn run(text: &str) -> String {
    let (name, argument) = order(text);
    behaviours::run(name, argument).unwrap_or_else(|| format!("no attack is called {name}"))
}

impl Channel for Hostile {
    fn describe() -> Description {
        lie::describe()
    }

    fn deliver(message: OutboundMessage) -> Result<Receipt, DeliveryError> {
        match order(&message.text) {
            ("receipt", count) => Ok(results::receipt(count)),
            ("error", argument) => Err(results::error(argument)),
            _ => Ok(Receipt::complete([run(&message.text)])),
        }
    }
}

impl Webhook for Hostile {
    fn handle(request: webhook::Request) -> webhook::Response {
        let name = request.path.trim_start_matches('/').to_owned();
        let argument = decoded(&request.query.unwrap_or_default());
        match name.as_str() {
            "reply" => results::reply(&argument),
            "seen" => results::seen(&request.headers, &argument, &request.body),
            _ => webhook::Response {
                status: 200,
                headers: Vec::new(),
                body: run(&format!("{name} {argument}")).into_bytes(),
            },
        }
    }
}

impl Connections for Hostile {
    fn opened(client: Client) -> Result<Vec<String>, CloseReason> {
        client
            .query
            .map_or_else(|| Ok(Vec::new()), |attack| results::frames(&decoded(&attack), run))
    }

    fn received(_: String, frame: String) -> Result<Vec<String>, CloseReason> {
        results::frames(&frame, run)
    }

    fn closed(_: String) {
        if let Some(attack) = settings::get("closed") {
            log::write(log::Level::Info, &run(&attack));
        }
    }
}

impl Listener for Hostile {
    fn run() -> Result<(), ListenerError> {
        match settings::get("listener").as_deref().map(order) {
            Some(("fail", words)) => Err(ListenerError::Unavailable(results::words(words))),
            Some(("refuse", words)) => Err(ListenerError::Refused(results::words(words))),
            Some((name, argument)) => {
                log::write(log::Level::Info, &run(&format!("{name} {argument}")));
                Ok(())
            }
            None => {
                while clock::sleep_ms(60_000) {}
                Ok(())
            }
        }
    }
}

impl Lifecycle for Hostile {
    fn start(_: Option<String>) -> Result<(), String> {
        match settings::get("start").as_deref().map(order) {
            Some(("fail", words)) => Err(results::words(words)),
            Some((name, argument)) => {
                run(&format!("{name} {argument}"));
                Ok(())
            }
            None => Ok(()),
        }
    }

    fn stop() {
        if let Some(attack) = settings::get("stop") {
            run(&attack);
        }
    }
}

impl Presence for Hostile {
    fn typing(conversation: Conversation) {
        run(&conversation.id);
    }

    fn draft(message: OutboundMessage) -> Result<String, DeliveryError> {
        match order(&message.text) {
            ("draft-id", bytes) => Ok(results::filler(bytes)),
            _ => Ok(run(&message.text)),
        }
    }
}

impl Reconciliation for Hostile {
    fn reconcile(message: OutboundMessage, _since_ms: u64) -> Finding {
        match order(&message.text) {
            ("receipt", count) => Finding::Delivered(results::receipt(count)),
            ("parts", count) => Finding::NotDelivered(results::parts(count)),
            _ => Finding::Delivered(Receipt::complete([run(&message.text)])),
        }
    }
}

export!(Hostile: listener, webhook, connections, presence, reconciliation, lifecycle);
