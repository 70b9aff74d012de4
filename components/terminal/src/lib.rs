//! The terminal that the gateway runs in: a typed line is a message, an answer is printed.
//!
//! Only [`deliver`](Channel::deliver) prints answers, so one that a crash left behind is printed at the next start.

mod map;
mod wire;

use std::io::{self, IsTerminal as _, Write as _};

use sluicegate_sdk::inbox::{self, Outcome, PublishError};
use sluicegate_sdk::{
    Action, Channel, DeliveryError, Description, Features, Listener, ListenerError, OutboundMessage, Receipt, clock,
};
use wire::Line;

struct Terminal;

impl Channel for Terminal {
    fn describe() -> Description {
        Description::new(
            "terminal",
            env!("CARGO_PKG_VERSION"),
            "Chats in the terminal that the gateway runs in",
        )
        .features(Features::empty())
        .terminal()
    }

    fn deliver(message: OutboundMessage) -> Result<Receipt, DeliveryError> {
        if message.action != Action::Send {
            return Err(DeliveryError::Rejected(
                "what a terminal has printed can't be changed".to_owned(),
            ));
        }
        print(&wire::answer(&map::printable(&message.text), is_interactive()))
            .map_err(|error| DeliveryError::Unavailable(format!("the terminal can't be written to: {error}")))?;
        Ok(Receipt::complete([message.delivery_key]))
    }
}

impl Listener for Terminal {
    fn run() -> Result<(), ListenerError> {
        let started_ms = clock::now_ms();
        let mut input = io::stdin().lock();
        let mut count = 0_u64;
        loop {
            prompt()?;
            match wire::next_line(&mut input).map_err(|error| format!("the terminal can't be read: {error}"))? {
                Line::End => return Ok(()),
                Line::TooLong => notice(&format!(
                    "a line of more than {} bytes was skipped",
                    wire::LINE_BYTES_MAX
                ))?,
                Line::Text(text) if text.trim().is_empty() => {}
                Line::Text(text) => {
                    count += 1;
                    if !publish(map::message(&text, started_ms, count))? {
                        return Ok(());
                    }
                }
            }
        }
    }
}

/// Publishes one message; returns false when the channel is being shut down.
fn publish(message: sluicegate_sdk::InboundMessage) -> Result<bool, String> {
    match inbox::publish_waiting(&[message], None) {
        Ok(outcomes) => {
            if outcomes.contains(&Outcome::Refused) {
                notice("this terminal may not talk to the agent: see `access` of its channel")?;
            }
            Ok(true)
        }
        Err(PublishError::ShuttingDown) => Ok(false),
        Err(error) => {
            notice(&format!("the line was not taken: {error}"))?;
            Ok(true)
        }
    }
}

/// Returns whether a person sits on both ends: only then is there a prompt.
fn is_interactive() -> bool {
    io::stdin().is_terminal() && io::stdout().is_terminal()
}

fn prompt() -> Result<(), String> {
    if is_interactive() { say(wire::PROMPT) } else { Ok(()) }
}

/// Says something that is not an answer: to a person in the terminal, and to the log for a program.
fn notice(text: &str) -> Result<(), String> {
    if is_interactive() {
        return say(&format!("({text})\n"));
    }
    sluicegate_sdk::warn!("{text}");
    Ok(())
}

fn say(text: &str) -> Result<(), String> {
    print(text).map_err(|error| format!("the terminal can't be written to: {error}"))
}

/// Writes to the terminal at once.
fn print(text: &str) -> io::Result<()> {
    let mut output = io::stdout().lock();
    output.write_all(text.as_bytes())?;
    output.flush()
}

sluicegate_sdk::export!(Terminal: listener);
