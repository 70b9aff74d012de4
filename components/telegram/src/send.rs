//! Sending: messages in parts, drafts, edits, deletions, reactions.

use sluicegate_sdk::http::{FormPart, PartData};
use sluicegate_sdk::parts::{self, Place, Slot, Target};
use sluicegate_sdk::serde_json::{Map, Value, json};
use sluicegate_sdk::{
    Action, Attachment, AttachmentSource, Conversation, DeliveryError, OutboundMessage, Reaction, Receipt, debug,
};

use crate::bot::{Bot, present_chat, remember_migration};
use crate::failure::Failure;
use crate::map::Migration;
use crate::markup::to_html;
use crate::plan::{self, TEXT_UNITS_MAX};

/// Telegram's words for a text that it can't take as HTML, so that it is sent as it is.
const NOT_HTML: [&str; 3] = ["can't parse entities", "text is empty", "text must be non-empty"];
/// Telegram's words for a message that can't be edited (any more).
const NOT_EDITABLE: [&str; 4] = [
    "message to edit not found",
    "can't be edited",
    "message_id_invalid",
    "no text in the message",
];

/// Delivers a message: see [`sluicegate_sdk::Channel::deliver`].
///
/// # Errors
/// As the host's contract says; parts that were accepted before the error stay accepted, and are reported as such.
pub fn deliver(message: &OutboundMessage) -> Result<Receipt, DeliveryError> {
    let mut chat = Chat::of(&message.conversation);
    match &message.action {
        Action::Send | Action::Edit(_) => parts::send(&mut chat, message, &plan::parts(message), Target::of(message)),
        Action::Delete(id) => delete(&mut chat, id),
        Action::React(reaction) => react(&mut chat, message, reaction),
    }
}

/// Creates or edits the draft of an answer and returns its id.
///
/// # Errors
/// As [`deliver`].
pub fn draft(message: &OutboundMessage) -> Result<String, DeliveryError> {
    let mut chat = Chat::of(&message.conversation);
    let parts = plan::text_parts(&message.text);
    let text = parts
        .first()
        .ok_or_else(|| DeliveryError::Rejected("there is nothing to show yet".to_owned()))?;
    let fields = Fields {
        reply: plan::reply_parameters(message),
        keyboard: None,
    };
    match &message.draft_id {
        Some(id) => {
            chat.edit_text(id, text, &fields)?;
            Ok(id.clone())
        }
        None => Ok(chat.create(text, &fields)?),
    }
}

/// Shows that an answer is being made. It is not worth an error.
pub fn typing(conversation: &Conversation) {
    let mut chat = Chat::of(conversation);
    let mut params = chat.addressed();
    params.insert("action".to_owned(), json!("typing"));
    if let Err(failure) = chat.call("sendChatAction", params) {
        debug!("typing was not shown: {failure}");
    }
}

/// What goes with a part besides its contents.
#[derive(Debug, Clone, Default)]
struct Fields {
    reply: Option<Value>,
    keyboard: Option<Value>,
}

impl Fields {
    fn of(slot: Slot<'_>) -> Self {
        let message = slot.message;
        Self {
            reply: (slot.index == 0).then(|| plan::reply_parameters(message)).flatten(),
            keyboard: slot.is_last.then(|| plan::keyboard(message)).flatten(),
        }
    }

    fn add_to(&self, params: &mut Map<String, Value>) {
        if let Some(reply) = &self.reply {
            params.insert("reply_parameters".to_owned(), reply.clone());
        }
        if let Some(keyboard) = &self.keyboard {
            params.insert("reply_markup".to_owned(), keyboard.clone());
        }
    }
}

fn delete(chat: &mut Chat, id: &str) -> Result<Receipt, DeliveryError> {
    own_message(id)?;
    chat.delete(id)?;
    Ok(Receipt::complete([id]))
}

fn react(chat: &mut Chat, message: &OutboundMessage, reaction: &Reaction) -> Result<Receipt, DeliveryError> {
    let named = plan::message_id(&reaction.message_id, &message.extra);
    let id = match named {
        Some(id) => json!(id),
        None => own_message(&reaction.message_id)?,
    };
    // Telegram knows its emoji without the selector that asks for their coloured form.
    let emoji = reaction.emoji.replace('\u{fe0f}', "");
    let reactions = if emoji.is_empty() {
        json!([])
    } else {
        json!([{"type": "emoji", "emoji": emoji}])
    };
    let mut params = Map::new();
    params.insert("message_id".to_owned(), id);
    params.insert("reaction".to_owned(), reactions);
    chat.call("setMessageReaction", params)?;
    Ok(Receipt::complete([reaction.message_id.clone()]))
}

fn own_message(id: &str) -> Result<Value, DeliveryError> {
    let parsed: Result<i64, _> = id.parse();
    parsed
        .map(|id| json!(id))
        .map_err(|_| DeliveryError::Rejected(format!("{id:?} is no message id of Telegram's")))
}

/// The chat that calls go to.
struct Chat {
    bot: Bot,
    /// A number, or the `@name` of a public channel.
    id: Value,
    thread: Option<i64>,
}

impl Chat {
    fn of(conversation: &Conversation) -> Self {
        let id = match conversation.id.parse::<i64>() {
            Ok(id) => json!(present_chat(id)),
            Err(_) => json!(conversation.id),
        };
        Self {
            bot: Bot::from_settings(),
            id,
            thread: plan::thread(conversation),
        }
    }

    /// Returns the parameters that place a new message.
    fn addressed(&self) -> Map<String, Value> {
        let mut params = Map::new();
        if let Some(thread) = self.thread {
            params.insert("message_thread_id".to_owned(), json!(thread));
        }
        params
    }

    /// Calls a method for this chat.
    fn call(&mut self, method: &str, params: Map<String, Value>) -> Result<Value, Failure> {
        self.following(|bot, chat| {
            let mut params = params.clone();
            params.insert("chat_id".to_owned(), chat.clone());
            bot.call(method, &Value::Object(params))
        })
    }

    /// Makes a call, and where the group has moved, once more at its new id.
    fn following(&mut self, call: impl Fn(&Bot, &Value) -> Result<Value, Failure>) -> Result<Value, Failure> {
        let first = call(&self.bot, &self.id);
        let (Err(failure), Some(from)) = (&first, self.id.as_i64()) else {
            return first;
        };
        match failure.migrated_to() {
            Some(to) if to != from => {
                remember_migration(Migration { from, to });
                self.id = json!(to);
                call(&self.bot, &self.id)
            }
            _ => first,
        }
    }

    /// Sends a text and returns the message's id.
    fn create(&mut self, markdown: &str, fields: &Fields) -> Result<String, Failure> {
        let mut params = self.addressed();
        fields.add_to(&mut params);
        sent_id(&self.call_with_text("sendMessage", params, markdown)?)
    }

    /// Edits a text; one that reads like this already is fine.
    fn edit_text(&mut self, id: &str, markdown: &str, fields: &Fields) -> Result<(), Failure> {
        let mut params = Map::new();
        params.insert("message_id".to_owned(), number_or_text(id));
        // An edit can't change what the message answers.
        Fields {
            reply: None,
            ..fields.clone()
        }
        .add_to(&mut params);
        match self.call_with_text("editMessageText", params, markdown) {
            Err(failure) if !failure.is_bad_request(&["message is not modified"]) => Err(failure),
            _ => Ok(()),
        }
    }

    /// Calls a method with a text as HTML, and as plain text where it makes no good HTML.
    fn call_with_text(&mut self, method: &str, params: Map<String, Value>, markdown: &str) -> Result<Value, Failure> {
        let html = to_html(markdown);
        let is_plain = html.markup == markdown;
        if !is_plain && (1..=TEXT_UNITS_MAX).contains(&html.units) {
            let mut formatted = params.clone();
            formatted.insert("text".to_owned(), json!(html.markup));
            formatted.insert("parse_mode".to_owned(), json!("HTML"));
            match self.call(method, formatted) {
                Err(failure) if failure.is_bad_request(&NOT_HTML) => {
                    debug!("a text goes out without its formatting: {failure}");
                }
                settled => return settled,
            }
        }
        let mut plain = params;
        plain.insert("text".to_owned(), json!(markdown));
        self.call(method, plain)
    }

    /// Sends a file and returns the message's id.
    fn upload(&mut self, file: &Attachment, fields: &Fields) -> Result<String, Failure> {
        let is_rejected = |failure: &Failure| matches!(failure.clone().into(), DeliveryError::Rejected(_));
        let (method, field) = plan::file_method(file);
        let mut sent = self.send_file_as(method, field, file, fields);
        // Telegram takes a picture that is too large or too long for a photo as a document.
        if method == "sendPhoto" && sent.as_ref().is_err_and(is_rejected) {
            sent = self.send_file_as("sendDocument", "document", file, fields);
        }
        match (sent, file.link_text()) {
            // Telegram fetches only some kinds of files by itself; people can open the link.
            (Err(failure), Some(link)) if is_rejected(&failure) => self.create(&link, fields),
            (sent, _) => sent,
        }
    }

    fn send_file_as(
        &mut self,
        method: &str,
        field: &str,
        file: &Attachment,
        fields: &Fields,
    ) -> Result<String, Failure> {
        let mut params = self.addressed();
        fields.add_to(&mut params);
        let sent = match &file.source {
            AttachmentSource::Url(url) => {
                params.insert(field.to_owned(), json!(url));
                self.call(method, params)?
            }
            AttachmentSource::Blob(blob) => {
                let part = || {
                    let data = PartData::Blob(blob.clone());
                    FormPart::file(field, file.file_name(), file.media_type.clone(), data)
                };
                self.following(|bot, chat| bot.upload(method, form(chat, &params, part())))?
            }
        };
        sent_id(&sent)
    }

    fn delete(&mut self, id: &str) -> Result<(), Failure> {
        let mut params = Map::new();
        params.insert("message_id".to_owned(), number_or_text(id));
        match self.call("deleteMessage", params) {
            // What is gone already needs no deleting.
            Err(failure) if !failure.is_bad_request(&["message to delete not found"]) => Err(failure),
            _ => Ok(()),
        }
    }
}

impl Place for Chat {
    type Failure = Failure;

    fn send_text(&mut self, text: &str, slot: Slot<'_>) -> Result<String, Failure> {
        self.create(text, &Fields::of(slot))
    }

    fn send_file(&mut self, file: &Attachment, slot: Slot<'_>) -> Result<String, Failure> {
        self.upload(file, &Fields::of(slot))
    }

    fn edit(&mut self, id: &str, text: &str, slot: Slot<'_>) -> Result<(), Failure> {
        self.edit_text(id, text, &Fields::of(slot))
    }

    fn remove(&mut self, id: &str, _: &OutboundMessage) -> Result<(), Failure> {
        self.delete(id)
    }

    fn is_gone(failure: &Failure) -> bool {
        failure.is_bad_request(&NOT_EDITABLE)
    }
}

/// Writes parameters and a file as a form: what is no text goes as JSON.
fn form(chat: &Value, params: &Map<String, Value>, file: FormPart) -> Vec<FormPart> {
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let mut form = vec![FormPart::text("chat_id", text(chat))];
    form.extend(
        params
            .iter()
            .map(|(name, value)| FormPart::text(name.as_str(), text(value))),
    );
    form.push(file);
    form
}

/// Writes an id as Telegram does; one that is no number is for Telegram to refuse.
fn number_or_text(id: &str) -> Value {
    id.parse::<i64>().map_or_else(|_| json!(id), |number| json!(number))
}

fn sent_id(message: &Value) -> Result<String, Failure> {
    let id = message["message_id"].as_i64();
    id.map(|id| id.to_string())
        .ok_or_else(|| Failure::Unreadable("the sent message has no id".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_carries_texts_as_they_are_and_the_rest_as_json() {
        let mut params = Map::new();
        params.insert("message_thread_id".to_owned(), json!(7));
        params.insert("reply_parameters".to_owned(), json!({"message_id": 3}));
        let file = FormPart::file("document", "a.txt", "text/plain", PartData::Blob("b".to_owned()));
        let form = form(&json!("@news"), &params, file.clone());
        let wanted = [
            FormPart::text("chat_id", "@news"),
            FormPart::text("message_thread_id", "7"),
            FormPart::text("reply_parameters", r#"{"message_id":3}"#),
            file,
        ];
        assert_eq!(form, wanted);
    }

    #[test]
    fn a_sent_message_has_an_id() {
        assert_eq!(sent_id(&json!({"message_id": 12})), Ok("12".to_owned()));
        assert!(matches!(sent_id(&json!(true)), Err(Failure::Unreadable(_))));
    }
}
