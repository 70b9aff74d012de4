//! Messages that no agent made: the operator, or a program of theirs, sends them through any channel. So a channel that
//! only sends has something to send.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::desk::{Desk, failed};
use crate::admin::{Outgoing, OutgoingFile, Refusal, Sent};
use crate::bus::Event;
use crate::event::{Action, Attachment, AttachmentSource, Conversation, OutboundEvent, Purpose};
use crate::id::{ChannelName, DeliveryKey, random_hex};
use crate::limit;
use crate::store::Quota;

impl Desk {
    /// Checks and stores a message, and wakes who delivers it. Its files are stored before it: after a failure in between
    /// they are swept like any that nothing names.
    pub(super) async fn enqueue(&self, message: Outgoing) -> Result<Sent, Refusal> {
        refuse_unusable(&message)?;
        let found = self
            .roster
            .switchboard
            .channels()
            .into_iter()
            .find(|channel| channel.services().name.as_str() == message.channel);
        let (channel, quota) = match found {
            Some(channel) => (channel.services().name.clone(), channel.services().quota),
            None => return Err(Refusal::NotFound(format!("channel {:?}", message.channel))),
        };
        let id = message.key.unwrap_or_else(random_hex::<16>);
        let key = DeliveryKey::of_operator(&channel, &id);
        let known = self.store.delivery(&key).await.map_err(failed)?.is_some();
        if known {
            return Ok(Sent {
                delivery_key: key,
                known,
            });
        }
        let event = OutboundEvent {
            key: key.clone(),
            attachments: self.stored(&channel, message.files, quota).await?,
            channel,
            conversation: Conversation::at(message.conversation, message.thread),
            action: Action::Send,
            in_reply_to: None,
            text: message.text,
            choices: Vec::new(),
            cause: None,
            purpose: Purpose::Answer,
            extra: Vec::new(),
        };
        let now = self.clock.now_ms();
        self.store.enqueue(vec![event.clone()], now).await.map_err(failed)?;
        tracing::info!(channel = %event.channel, key = %key, "the operator sent a message");
        self.bus.publish(|| Event::outbound(&event, now));
        self.bus.deliveries_due().wake();
        Ok(Sent {
            delivery_key: key,
            known,
        })
    }

    async fn stored(
        &self,
        channel: &ChannelName,
        files: Vec<OutgoingFile>,
        quota: Quota,
    ) -> Result<Vec<Attachment>, Refusal> {
        let mut attachments = Vec::with_capacity(files.len());
        for file in files {
            let bytes = STANDARD.decode(&file.base64).map_err(|error| {
                let name = &file.name;
                Refusal::Misunderstood(format!("the file {name:?} is not in base64: {error}"))
            })?;
            let put = self
                .store
                .blob_put(channel, &file.media_type, bytes, quota, self.clock.now_ms());
            attachments.push(Attachment {
                source: AttachmentSource::Blob(put.await.map_err(failed)?),
                name: Some(file.name),
                media_type: file.media_type,
            });
        }
        Ok(attachments)
    }
}

fn refuse_unusable(message: &Outgoing) -> Result<(), Refusal> {
    let refuse = |words: String| Err(Refusal::Misunderstood(words));
    let words = [
        ("conversation", Some(&message.conversation)),
        ("thread", message.thread.as_ref()),
        ("key", message.key.as_ref()),
    ];
    for (what, word) in words {
        if word.is_some_and(|word| word.is_empty() || word.len() > limit::PLATFORM_ID_BYTES_MAX) {
            return refuse(format!("`{what}` has 1 to {} bytes", limit::PLATFORM_ID_BYTES_MAX));
        }
    }
    if message.text.trim().is_empty() && message.files.is_empty() {
        return refuse("the message has neither text nor files".to_owned());
    }
    if message.text.len() > limit::ANSWER_BYTES_MAX {
        return refuse(format!("`text` has more than {} bytes", limit::ANSWER_BYTES_MAX));
    }
    if message.files.len() > limit::OPERATOR_SEND_FILES_MAX {
        return refuse(format!("there are more than {} files", limit::OPERATOR_SEND_FILES_MAX));
    }
    Ok(())
}
