//! The webhook's registration with Telegram: made, and taken back, by the listener, which can wait where Telegram can't be
//! reached. A channel that registered while it starts would not start with the network down, and stay so.

use sluicegate_sdk::recovery::Backoff;
use sluicegate_sdk::serde_json::json;
use sluicegate_sdk::{ListenerError, info, state};

use crate::bot::{Bot, read};
use crate::failure::Failure;
use crate::receive::{BACKOFF_MS, allowed_updates};
use crate::wire::WebhookInfo;

/// Where the address is kept that Telegram is to call, or was told to call while the channel was in webhook mode.
const URL_KEY: &str = "webhook-url";

/// Remembers the address that the listener is to register.
///
/// # Errors
/// Words for the operator.
pub fn want(url: &str) -> Result<(), String> {
    if state::get(URL_KEY).as_deref() == Some(url.as_bytes()) {
        return Ok(());
    }
    state::set(URL_KEY, url.as_bytes()).map_err(|error| format!("the webhook's address was not kept: {error}"))
}

/// Registers the webhook, trying again while Telegram can't be reached. False at shutdown.
///
/// # Errors
/// Words for the operator, where Telegram does not take it.
pub fn register() -> Result<bool, ListenerError> {
    let url = wanted().ok_or_else(|| "the webhook's address is not known: restart the channel".to_owned())?;
    let bot = Bot::from_settings();
    settle("registering the webhook", || {
        bot.fresh_me()?;
        let params = json!({"url": url, "secret_token": "{{webhook-secret}}", "allowed_updates": allowed_updates()});
        bot.call_with_secrets("setWebhook", &params)?;
        info!("the webhook is registered");
        Ok(())
    })
}

/// Removes the webhook that this channel registered when it was in webhook mode: while there is one, nobody can poll.
/// Another's stays. False at shutdown.
///
/// # Errors
/// Words for the operator, where Telegram refuses it.
pub fn take_back() -> Result<bool, ListenerError> {
    let Some(url) = wanted() else { return Ok(true) };
    let bot = Bot::from_settings();
    let goes_on = settle("taking the webhook back", || {
        let found: WebhookInfo = read(bot.call("getWebhookInfo", &json!({}))?)?;
        if found.url == url {
            // What waits is kept for the poll.
            bot.call("deleteWebhook", &json!({}))?;
            info!("the webhook is taken back, and the channel polls");
        }
        Ok(())
    })?;
    if goes_on {
        state::delete(URL_KEY);
    }
    Ok(goes_on)
}

fn wanted() -> Option<String> {
    state::get(URL_KEY).and_then(|url| String::from_utf8(url).ok())
}

/// Does something until it succeeds. False at shutdown.
fn settle(doing: &str, attempt: impl Fn() -> Result<(), Failure>) -> Result<bool, ListenerError> {
    let mut backoff = Backoff::new(BACKOFF_MS.0, BACKOFF_MS.1);
    loop {
        let Err(failure) = attempt() else { return Ok(true) };
        if !failure.remedy(doing).follow(&mut backoff, &failure)? {
            return Ok(false);
        }
    }
}
