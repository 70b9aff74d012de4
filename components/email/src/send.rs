//! Sending: one mail for each delivery.

use sluicegate_sdk::{Action, AttachmentSource, DeliveryError, OutboundMessage, Receipt, blobs, clock, state};

use crate::REFUSED;
use crate::map::{self, File, is_address, message_id};
use crate::settings::Configuration;
use crate::smtp;

/// Delivers a message: see [`sluicegate_sdk::Channel::deliver`].
///
/// # Errors
/// As the host's contract says.
pub fn deliver(message: &OutboundMessage) -> Result<Receipt, DeliveryError> {
    if let Some(why) = state::get(REFUSED) {
        return Err(DeliveryError::Unauthorized(String::from_utf8_lossy(&why).into_owned()));
    }
    if message.action != Action::Send {
        return Err(DeliveryError::Rejected(
            "a mail that was sent can't be changed".to_owned(),
        ));
    }
    let configuration = Configuration::from_settings().map_err(DeliveryError::Unavailable)?;
    let to = message.conversation.id.as_str();
    if !is_address(to) {
        return Err(DeliveryError::NoSuchConversation(format!("{to:?} is no address")));
    }
    let mut message = message.clone();
    let files = files(&mut message)?;
    let mail = map::outbound(
        &message,
        &configuration.mailbox,
        &configuration.name,
        &files,
        clock::now_ms(),
    );
    let mail = mail.map_err(DeliveryError::Rejected)?;
    smtp::submit(
        &configuration.smtp,
        &configuration.user,
        &configuration.mailbox.address,
        to,
        &mail,
    )?;
    Ok(Receipt::complete([message_id(
        &message.delivery_key,
        &configuration.mailbox.address,
    )]))
}

/// Fetches the files; a link is written below the text.
fn files(message: &mut OutboundMessage) -> Result<Vec<File>, DeliveryError> {
    let mut files = Vec::new();
    for attachment in &message.attachments {
        match &attachment.source {
            AttachmentSource::Url(url) => message.text.push_str(&format!("\n\n<{url}>")),
            AttachmentSource::Blob(blob) => files.push(File {
                name: attachment.name.clone(),
                media_type: attachment.media_type.clone(),
                bytes: blobs::get(blob).map_err(DeliveryError::Rejected)?,
            }),
        }
    }
    Ok(files)
}
