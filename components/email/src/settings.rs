//! What the operator set.

use sluicegate_sdk::settings;

use crate::map::{Mailbox, is_address};
use crate::wire::Server;

/// The settings, checked.
#[derive(Debug, Clone)]
pub struct Configuration {
    /// Where mail is read.
    pub imap: Server,
    /// Where mail is submitted.
    pub smtp: Server,
    /// Whom both servers know.
    pub user: String,
    /// The name in `From`.
    pub name: String,
    /// The mailbox that is read.
    pub folder: String,
    /// Where the server keeps what was submitted, if it does.
    pub sent_folder: Option<String>,
    /// Who we are.
    pub mailbox: Mailbox,
}

impl Configuration {
    /// Reads and checks the settings.
    ///
    /// # Errors
    /// Words for the operator.
    pub fn from_settings() -> Result<Self, String> {
        Self::read(&|key| settings::get(key))
    }

    fn read(get: &dyn Fn(&str) -> Option<String>) -> Result<Self, String> {
        let text = |key: &str| {
            get(key)
                .map(|value| value.trim().to_owned())
                .filter(|value| !value.is_empty())
        };
        let required = |key: &str| text(key).ok_or_else(|| format!("the setting {key} is missing"));
        let is_clear = text("clear").as_deref() == Some("true");
        let address = required("address")?;
        if !is_address(&address) {
            return Err(format!(
                "address is {address:?}: it must be a plain address, such as bot@example.org"
            ));
        }
        let user = text("user").unwrap_or_else(|| address.clone());
        if user.contains(char::is_control) || user.contains("{{") || user.contains("}}") {
            return Err("user has control characters or double braces".to_owned());
        }
        Ok(Self {
            imap: Server::parse("imap", &required("imap")?, is_clear)?,
            smtp: Server::parse("smtp", &required("smtp")?, is_clear)?,
            user,
            name: text("name")
                .unwrap_or_default()
                .chars()
                .filter(|c| !c.is_control())
                .collect(),
            sent_folder: text("sent-folder"),
            folder: text("folder").unwrap_or_else(|| "INBOX".to_owned()),
            mailbox: Mailbox {
                address,
                authenticated_by: text("authenticated-by"),
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_break_a_command_is_refused() {
        let read = |address: &str, user: &str| {
            Configuration::read(&|key| match key {
                "imap" => Some("tls://m.x.example:993".to_owned()),
                "smtp" => Some("tcp://m.x.example:587".to_owned()),
                "address" => Some(address.to_owned()),
                "user" => Some(user.to_owned()),
                _ => None,
            })
        };
        assert_eq!(read("bot@x.example", "").unwrap().user, "bot@x.example");
        for (address, user) in [
            ("bot", "u"),
            ("b@x>\r\nDATA", "u"),
            ("b@x.example", "{{password}}"),
            ("b@x.example", "a\0b"),
        ] {
            assert!(read(address, user).is_err(), "{address:?} {user:?}");
        }
    }
}
