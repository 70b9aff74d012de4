//! Sending: one mail for each delivery.

use sluicegate_sdk::{Action, AttachmentSource, DeliveryError, Finding, OutboundMessage, Receipt, blobs, clock, warn};

use crate::imap::Imap;
use crate::map::{self, File, is_address, message_id};
use crate::settings::Configuration;
use crate::smtp;
use crate::wire::Failure;

/// Delivers a message: see [`sluicegate_sdk::Channel::deliver`].
///
/// # Errors
/// As the host's contract says.
pub fn deliver(message: &OutboundMessage) -> Result<Receipt, DeliveryError> {
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

/// Says what became of a mail, where the server keeps what was submitted: see
/// [`sluicegate_sdk::Reconciliation::reconcile`].
pub fn reconcile(message: &OutboundMessage) -> Finding {
    match find(message) {
        Ok(finding) => finding,
        Err(why) => {
            warn!("the mail was not searched for: {why}");
            Finding::Unknown
        }
    }
}

fn find(message: &OutboundMessage) -> Result<Finding, String> {
    let configuration = Configuration::from_settings()?;
    let Some(folder) = &configuration.sent_folder else {
        return Ok(Finding::Unknown);
    };
    let id = message_id(&message.delivery_key, &configuration.mailbox.address);
    let found = Imap::open(&configuration.imap, &configuration.user, folder).and_then(|mut imap| imap.has(&id));
    match found {
        Ok(true) => Ok(Finding::Delivered(Receipt::complete([id]))),
        Ok(false) => Ok(Finding::NotDelivered(Vec::new())),
        Err(Failure::Shutdown) => Err("shutting down".to_owned()),
        Err(Failure::Broken(why) | Failure::Refused(why)) => Err(why),
    }
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
