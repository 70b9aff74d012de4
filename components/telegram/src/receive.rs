//! Receiving: the long poll, the webhook, and what both do with an update.
//!
//! Telegram forgets an update as soon as `getUpdates` asks for a later one, so the next poll starts only after the host
//! has stored what the last one brought, together with the cursor.

use sluicegate_sdk::files::{Unfetched, until_room};
use sluicegate_sdk::http::HttpError;
use sluicegate_sdk::inbox::{self, PublishError, Published};
use sluicegate_sdk::recovery::{Backoff, Remedy};
use sluicegate_sdk::serde_json::{self, Value, json};
use sluicegate_sdk::webhook::{Request, Response};
use sluicegate_sdk::{
    Attachment, AttachmentSource, InboundMessage, ListenerError, clock, debug, error, secrets, settings, warn,
};

use crate::bot::{Bot, read, remember_migration};
use crate::failure::Failure;
use crate::map::{self, WantedFile};
use crate::wire::{Update, User};

/// The largest file that the Bot API hands out, bytes (core.telegram.org/bots/api#getfile).
const DOWNLOAD_BYTES_MAX: u64 = 20 * 1024 * 1024;
/// How long one file may take where Telegram is polled, milliseconds: enough for the largest over a slow line.
const POLL_FILE_MS: u64 = 120_000;
/// How long the files of an update may take together in a webhook, milliseconds: the gateway ends a call of a webhook after
/// ten seconds, and Telegram would send the same update again and again, and nothing after it.
const WEBHOOK_FILES_MS: u64 = 5_000;
/// How often a file is asked for before the message goes on without it.
const DOWNLOAD_ATTEMPTS: u32 = 2;
/// How long a poll waits for an update unless the operator says otherwise, seconds.
pub const POLL_SECONDS: u32 = 25;
/// The longest wait that Telegram's server grants, seconds.
const POLL_SECONDS_MAX: u32 = 50;
/// How much longer the host waits than the server was asked to, milliseconds.
const POLL_SLACK_MS: u32 = 10_000;
/// The most updates that one poll may bring (core.telegram.org/bots/api#getupdates).
const POLL_UPDATES_MAX: u32 = 100;
/// The pause after an empty answer that came at once: some self-hosted servers do not hold a poll open.
const EMPTY_PAUSE_MS: u64 = 250;
/// The first and the longest wait after a failed poll, milliseconds.
pub(crate) const BACKOFF_MS: (u64, u64) = (1_000, 60_000);
/// How long the answer to a pressed button may take, milliseconds: it only ends the button's animation.
const QUERY_TIMEOUT_MS: u32 = 5_000;

/// What the bot wants to hear of.
pub fn allowed_updates() -> Value {
    json!(["message", "edited_message", "callback_query", "message_reaction"])
}

/// Polls until the channel is shut down.
///
/// # Errors
/// Words for the operator where polling again is of no use.
pub fn poll_until_shutdown() -> Result<(), ListenerError> {
    let mut poller = Poller::new();
    loop {
        let go_on = match poller.poll() {
            Ok(go_on) => go_on,
            Err(failure) => poller.remedy(&failure)?,
        };
        if !go_on {
            return Ok(());
        }
    }
}

struct Poller {
    bot: Bot,
    /// The bot's account: asked for at the start, since the token may be another one than last time.
    me: Option<User>,
    seconds: u32,
    updates_max: u32,
    backoff: Backoff,
}

impl Poller {
    fn new() -> Self {
        let seconds = settings::get("poll-seconds").and_then(|value| value.trim().parse().ok());
        Self {
            bot: Bot::from_settings(),
            me: None,
            seconds: seconds.unwrap_or(POLL_SECONDS).clamp(1, POLL_SECONDS_MAX),
            updates_max: POLL_UPDATES_MAX,
            backoff: Backoff::new(BACKOFF_MS.0, BACKOFF_MS.1),
        }
    }

    /// Fetches and stores one batch. False when the channel is being shut down.
    fn poll(&mut self) -> Result<bool, Failure> {
        let me = match self.me.take() {
            Some(me) => me,
            None => self.bot.fresh_me()?,
        };
        let me = self.me.insert(me).clone();
        let started = clock::now_ms();
        let fetched = self.fetch(&me);
        let took_ms = clock::now_ms().saturating_sub(started);
        let updates = match fetched {
            // The wait of a long poll has ended without an answer, as it may.
            Err(Failure::Http(HttpError::Interrupted(_))) if took_ms >= u64::from(self.seconds) * 1000 => {
                return Ok(true);
            }
            fetched => fetched?,
        };
        self.backoff.reset();
        self.updates_max = POLL_UPDATES_MAX;
        if updates.is_empty() {
            return Ok(took_ms >= EMPTY_PAUSE_MS || clock::sleep_ms(EMPTY_PAUSE_MS));
        }
        self.store(&me, updates)
    }

    fn fetch(&self, me: &User) -> Result<Vec<Value>, Failure> {
        let mut params = json!({
            "timeout": self.seconds, "limit": self.updates_max, "allowed_updates": allowed_updates(),
        });
        if let Some(last) = inbox::cursor().and_then(|cursor| last_update(&cursor, me.id)) {
            params["offset"] = json!(last.saturating_add(1));
        }
        let timeout_ms = self.seconds * 1000 + POLL_SLACK_MS;
        read(self.bot.call_within(timeout_ms, "getUpdates", &params)?)
    }

    /// Stores a batch together with the cursor, then answers the pressed buttons. False at shutdown.
    fn store(&self, me: &User, updates: Vec<Value>) -> Result<bool, Failure> {
        let batch = Batch::collect(&self.bot, me, updates)?;
        let Some(last) = batch.last else {
            return Err(Failure::Unreadable("no update of the batch has an id".to_owned()));
        };
        let cursor = cursor_text(me.id, last);
        if inbox::publish_all(&batch.messages, Some(&cursor)) == Published::ShuttingDown {
            return Ok(false);
        }
        for query in &batch.queries {
            answer_query(&self.bot, query);
        }
        Ok(true)
    }

    /// Does what a failed poll asks for. False at shutdown.
    fn remedy(&mut self, failure: &Failure) -> Result<bool, ListenerError> {
        match failure.remedy("polling") {
            Remedy::Smaller if self.updates_max > 1 => {
                self.updates_max /= 2;
                Ok(true)
            }
            remedy => remedy.follow(&mut self.backoff, failure),
        }
    }
}

/// The cursor names the bot as well: another bot's updates have other ids, and an offset from them would drop messages.
fn cursor_text(bot: i64, update: i64) -> String {
    format!("{bot}:{update}")
}

/// Returns the last stored update of this bot.
fn last_update(cursor: &str, bot: i64) -> Option<i64> {
    let (owner, update) = cursor.split_once(':')?;
    if owner.parse() == Ok(bot) {
        update.parse().ok()
    } else {
        None
    }
}

/// The updates of one poll, ready to be stored.
struct Batch {
    messages: Vec<InboundMessage>,
    queries: Vec<String>,
    /// The highest update id, that of unreadable updates included.
    last: Option<i64>,
}

impl Batch {
    /// Reads updates, with their files.
    ///
    /// # Errors
    /// [`HttpError::ShuttingDown`]: nothing of the batch may be stored, since a file of it was not fetched.
    fn collect(bot: &Bot, me: &User, updates: Vec<Value>) -> Result<Self, HttpError> {
        let mut batch = Self {
            messages: Vec::new(),
            queries: Vec::new(),
            last: None,
        };
        for update in updates {
            let id = update["update_id"].as_i64();
            batch.last = batch.last.max(id);
            match serde_json::from_value::<Update>(update) {
                Ok(update) => batch.add(bot, me, &update)?,
                Err(why) => error!("update {} is skipped, it can't be read: {why}", id.unwrap_or_default()),
            }
        }
        Ok(batch)
    }

    fn add(&mut self, bot: &Bot, me: &User, update: &Update) -> Result<(), HttpError> {
        if let Some(received) = receive(bot, me, update, None)? {
            self.messages.push(received.message);
            self.queries.extend(received.query);
        }
        Ok(())
    }
}

struct Received {
    message: InboundMessage,
    query: Option<String>,
}

/// Maps an update, with its files fetched: all of them by `end_ms`, Unix milliseconds, where there is such an end; else a
/// file for which the gateway has no room is waited for.
///
/// # Errors
/// [`HttpError::Busy`] or [`HttpError::ShuttingDown`]: the update is not to be taken, since a file of it was not fetched.
fn receive(bot: &Bot, me: &User, update: &Update, end_ms: Option<u64>) -> Result<Option<Received>, HttpError> {
    if let Some(migration) = map::migration(update) {
        remember_migration(migration);
    }
    let Some(mapped) = map::mapped(update, me) else {
        return Ok(None);
    };
    let mut message = mapped.message;
    for file in &mapped.files {
        let fetched = match end_ms {
            Some(end_ms) => fetch_file(bot, file, end_ms),
            None => until_room(|| fetch_file(bot, file, clock::now_ms().saturating_add(POLL_FILE_MS))),
        };
        match fetched {
            Ok(attachment) => message.attachments.push(attachment),
            Err(Unfetched::Later(why)) => return Err(why),
            Err(Unfetched::Lost(why)) => {
                let name = file.name.as_deref().unwrap_or(&file.media_type);
                debug!("a file of update {} was not fetched: {why}", update.update_id);
                append_note(
                    &mut message.text,
                    &format!("[the file {name} could not be fetched: {why}]"),
                );
            }
        }
    }
    Ok(Some(Received {
        message,
        query: mapped.query,
    }))
}

/// Fetches a file.
fn fetch_file(bot: &Bot, file: &WantedFile, end_ms: u64) -> Result<Attachment, Unfetched> {
    if file.size.is_some_and(|size| size > DOWNLOAD_BYTES_MAX) {
        let words = "it is larger than the 20 MB that Telegram hands to bots";
        return Err(Unfetched::Lost(words.to_owned()));
    }
    let mut attempt = 1;
    loop {
        match bot.download(&file.file_id, end_ms) {
            Ok(blob) => {
                let source = AttachmentSource::Blob(blob);
                return Ok(Attachment {
                    name: file.name.clone(),
                    media_type: file.media_type.clone(),
                    source,
                });
            }
            Err(failure)
                if failure.is_passing()
                    && attempt < DOWNLOAD_ATTEMPTS
                    && clock::now_ms().saturating_add(BACKOFF_MS.0) < end_ms =>
            {
                attempt += 1;
                if !clock::sleep_ms(BACKOFF_MS.0) {
                    return Err(HttpError::ShuttingDown.into());
                }
            }
            Err(failure) => return Err(unfetched(failure)),
        }
    }
}

/// Says why a file is not there, in words that show nothing of the gateway's inside to the agent.
fn unfetched(failure: Failure) -> Unfetched {
    match failure {
        Failure::Api { description, .. } => Unfetched::Lost(description),
        Failure::Gateway(status) => Unfetched::Lost(format!("status {status}")),
        Failure::Unreadable(_) => Unfetched::Lost("the answer can't be read".to_owned()),
        Failure::Http(error) => error.into(),
    }
}

fn append_note(text: &mut String, note: &str) {
    if !text.is_empty() {
        text.push('\n');
    }
    text.push_str(note);
}

/// Ends the animation of a pressed button. The choice itself is stored already.
fn answer_query(bot: &Bot, query: &str) {
    let params = json!({"callback_query_id": query});
    if let Err(failure) = bot.call_within(QUERY_TIMEOUT_MS, "answerCallbackQuery", &params) {
        debug!("a pressed button was not answered: {failure}");
    }
}

/// Answers one call of Telegram's. The host has compared the secret token before.
pub fn handle_update(request: &Request) -> Response {
    if !matches!(request.path.as_str(), "" | "/") {
        return refusal(404, "there is nothing below the webhook's address");
    }
    if request.method != "POST" {
        return refusal(405, "updates come by POST").header("allow", "POST");
    }
    // Without a secret anyone could write as anyone.
    if !secrets::available("webhook-secret") {
        return refusal(401, "the channel has no webhook-secret, so no call can be trusted");
    }
    // Read as the poll reads them, by way of a value: reading straight from bytes would double this component's code.
    let update = match serde_json::from_slice::<Value>(&request.body) {
        Ok(update) if update["update_id"].is_i64() => update,
        Ok(_) => return refusal(400, "this is no update: it has no update_id"),
        Err(why) => return refusal(400, &format!("this is no update: {why}")),
    };
    let id = update["update_id"].clone();
    match serde_json::from_value::<Update>(update) {
        Ok(update) => store_one(&update),
        Err(why) => passed_over(&id, &why.to_string()),
    }
}

/// Takes an update that nothing can be made of, as the poll does: Telegram would send it again and again, and what comes
/// after it would wait.
fn passed_over(id: &Value, why: &str) -> Response {
    error!("update {id} is skipped, it can't be read: {why}");
    Response::empty(200)
}

/// Stores the update of a webhook call; anything but success makes Telegram send it again.
fn store_one(update: &Update) -> Response {
    let bot = Bot::from_settings();
    let me = match bot.me() {
        Ok(me) => me,
        // Without its name the bot can't tell whether it is addressed.
        Err(failure) => {
            warn!("update {} has to wait, getMe failed: {failure}", update.update_id);
            return refusal(503, "the bot's account is not known yet").header("retry-after", "5");
        }
    };
    let end_ms = clock::now_ms().saturating_add(WEBHOOK_FILES_MS);
    let received = match receive(&bot, &me, update, Some(end_ms)) {
        Ok(Some(received)) => received,
        Ok(None) => return Response::empty(200),
        Err(why) => {
            warn!("update {} has to wait for its file: {}", update.update_id, why.words());
            return refusal(503, "there is no room for the file now").header("retry-after", "5");
        }
    };
    match inbox::publish(&[received.message], None) {
        Ok(_) => {
            if let Some(query) = &received.query {
                answer_query(&bot, query);
            }
            Response::empty(200)
        }
        Err(PublishError::Busy(wait_ms)) => {
            let seconds = wait_ms.div_ceil(1000).max(1).to_string();
            refusal(429, "too many messages are waiting").header("retry-after", &seconds)
        }
        Err(PublishError::Invalid(why)) => passed_over(&json!(update.update_id), &why),
        Err(PublishError::ShuttingDown) => refusal(503, "the channel is shutting down").header("retry-after", "5"),
    }
}

fn refusal(status: u16, why: &str) -> Response {
    Response::json(status, &json!({"error": why}))
}

/// Waits until the channel is shut down: in webhook mode there is nothing to fetch.
pub fn wait_for_shutdown() {
    // Any number would do: the host ends the wait at shutdown.
    while clock::sleep_ms(3_600_000) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_counts_only_for_its_own_bot() {
        let cursor = cursor_text(700_100_200, 610_000_007);
        assert_eq!(last_update(&cursor, 700_100_200), Some(610_000_007));
        assert_eq!(last_update(&cursor, 700_100_201), None);
        assert_eq!(last_update("610000007", 700_100_200), None);
        assert_eq!(last_update("", 0), None);
    }

    #[test]
    fn an_update_waits_for_the_gateways_room_and_not_for_a_file_that_can_not_be_had() {
        for error in [HttpError::Busy, HttpError::ShuttingDown] {
            assert_eq!(unfetched(Failure::Http(error.clone())), Unfetched::Later(error));
        }
        for failure in [
            Failure::Http(HttpError::TooLarge),
            Failure::Http(HttpError::Interrupted(String::new())),
            Failure::Gateway(404),
        ] {
            assert!(
                matches!(unfetched(failure.clone()), Unfetched::Lost(_)),
                "{failure:?} would be waited for"
            );
        }
    }

    #[test]
    fn a_note_stands_on_its_own_line() {
        let mut text = String::new();
        append_note(&mut text, "[a]");
        append_note(&mut text, "[b]");
        assert_eq!(text, "[a]\n[b]");
    }
}
