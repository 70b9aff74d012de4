//! `folder`: whole files for the one folder that the operator granted.

mod place;

use self::place::{Place, PutError};
use crate::guest::bindings::sluicegate::channel::folder::{Content, FolderError, Host};
use crate::guest::{Errand, Guest, Services};
use crate::limit;
use crate::shown::printable;

impl From<PutError> for FolderError {
    fn from(error: PutError) -> Self {
        let words = error.to_string();
        match error {
            PutError::Taken => Self::Taken,
            PutError::Full(_) => Self::Full(words),
            PutError::Failed(_) => Self::Failed(words),
            PutError::Interrupted(_) => Self::Interrupted(words),
        }
    }
}

/// Refuses names that mean another place, that a shell or another system would misread, or that a person can't see.
fn refuse_name(name: &str) -> Result<(), FolderError> {
    const MISREAD: [char; 9] = ['/', '\\', ':', '*', '?', '"', '<', '>', '|'];
    let why = if name.is_empty() || name.len() > limit::FOLDER_NAME_BYTES_MAX {
        format!("a name has 1 to {} bytes", limit::FOLDER_NAME_BYTES_MAX)
    } else if !name.starts_with(char::is_alphanumeric) {
        "a name begins with a letter or digit".to_owned()
    } else if name.ends_with([' ', '.']) || name.contains(MISREAD) || printable(name) != name {
        format!("`{}` is no name of a file", printable(name))
    } else {
        return Ok(());
    };
    Err(FolderError::Invalid(why))
}

/// Returns the bytes to write.
async fn bytes_of(services: &Services, content: Content) -> Result<Vec<u8>, FolderError> {
    let bytes = match content {
        Content::Bytes(bytes) => bytes,
        Content::Blob(blob) => match services.store.blob_get(&services.name, &blob).await {
            Ok(Some((_, bytes))) => bytes,
            Ok(None) => return Err(FolderError::Invalid("there is no such blob".to_owned())),
            Err(error) => return Err(FolderError::Failed(format!("the blob can't be read: {error}"))),
        },
    };
    if bytes.len() > limit::BLOB_BYTES_MAX {
        return Err(FolderError::TooLarge);
    }
    Ok(bytes)
}

impl Host for Guest {
    async fn put(&mut self, name: String, content: Content) -> wasmtime::Result<Result<(), FolderError>> {
        let Some(services) = &self.services else {
            return Ok(Err(FolderError::Denied(super::NO_CAPABILITY.into())));
        };
        if services.shutdown.is_cancelled() {
            return Ok(Err(FolderError::ShuttingDown));
        }
        // One at a time, so that the bounds of the folder hold, and no more than one file is read for it. The guard goes
        // along: a call that is given up writes on.
        let turn = services.share.folder_turn().await;
        let prepared = async {
            refuse_name(&name)?;
            let place = Place::new(
                services.egress.folder().map_err(FolderError::Denied)?,
                services.clock.now_ms(),
            );
            Ok((place, bytes_of(services, content).await?))
        };
        let (place, bytes) = match prepared.await {
            Ok(prepared) => prepared,
            Err(error) => return Ok(Err(error)),
        };
        let errand = Errand::file(bytes.len());
        let unanswered = match self.evidence.begin().await {
            Ok(unanswered) => unanswered,
            Err(error) => return Ok(Err(FolderError::Failed(error.to_string()))),
        };
        let written = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            place.put(&name, &bytes)
        });
        let written = match written.await {
            Ok(written) => written,
            Err(error) => Err(PutError::Interrupted(std::io::Error::other(error))),
        };
        match &written {
            Ok(()) => unanswered.settle(),
            Err(PutError::Interrupted(_)) => drop(unanswered),
            Err(_) => unanswered.withdraw(),
        }
        services.pay(errand).await;
        Ok(written.map_err(Into::into))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_can_neither_leave_the_folder_nor_hide_in_it() {
        for fine in ["a", "dlv_1.json", "Übersicht 2026.pdf", "7-up", "a..b", "日本.txt"] {
            assert!(refuse_name(fine).is_ok(), "{fine:?}");
        }
        let long = "x".repeat(limit::FOLDER_NAME_BYTES_MAX + 1);
        for wrong in [
            "",
            ".",
            "..",
            "../up",
            "/etc/passwd",
            "a/b",
            "a\\b",
            "a:b",
            ".hidden",
            "-rf",
            " a",
            "a ",
            "a.",
            "a\nb",
            "a\0b",
            "a\u{202e}b",
            "a*",
            "a?",
            "a|b",
            &long,
        ] {
            assert!(matches!(refuse_name(wrong), Err(FolderError::Invalid(_))), "{wrong:?}");
        }
    }
}
