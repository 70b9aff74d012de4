//! Messages as files in a folder that the operator granted. It only sends.

mod map;
mod wire;

use sluicegate_sdk::folder::{self, Content};
use sluicegate_sdk::{
    AttachmentSource, Channel, DeliveryError, Description, Features, OutboundMessage, Receipt, Setting, progress,
    settings,
};

use crate::map::Form;

/// The setting that says how messages are written.
const FORMAT: &str = "format";

struct FileDrop;

sluicegate_sdk::export!(FileDrop);

impl Channel for FileDrop {
    fn describe() -> Description {
        Description::new(
            "file-drop",
            env!("CARGO_PKG_VERSION"),
            "Puts messages into a folder, each as a file",
        )
        .features(Features::THREADS | Features::EDIT | Features::DELETE | Features::REACT | Features::FILES_OUT)
        .setting(Setting::text(FORMAT, "`json` for programs, or `markdown` for people").default(map::JSON))
        .folder("each message as a file, and its attachments beside it")
    }

    fn deliver(message: OutboundMessage) -> Result<Receipt, DeliveryError> {
        let form: Form = settings::get(FORMAT).as_deref().unwrap_or(map::JSON).parse()?;
        let files = map::files(&message);
        let mut sent = Vec::with_capacity(files.len() + 1);
        // The message comes last: who sees it finds its attachments beside it.
        for (index, (file, attachment)) in (0_u32..).zip(files.iter().zip(&message.attachments)) {
            if let (AttachmentSource::Blob(blob), None) = (&attachment.source, message.sent_part(index)) {
                folder::put(&file.name, &Content::Blob(blob.clone()))?;
                progress::sent(&message.delivery_key, index, &file.name);
            }
            sent.push(file.name.clone());
        }
        let name = form.name(&message);
        folder::put(&name, &Content::Bytes(form.written(&message, files)?))?;
        sent.push(name);
        Ok(Receipt::complete(sent))
    }
}
