//! Two channels that are one account to their platform: each takes the other's messages, or both answer every one. It is
//! said and not refused, because only the platform knows it, and because it may be meant.

use std::sync::Arc;

use super::switchboard::Line;
use crate::component::Inspection;
use crate::config::ChannelConfig;
use crate::id::ChannelName;

/// A configured channel and what its component is.
#[derive(Clone, Copy)]
pub struct Configured<'a> {
    /// Its name.
    pub name: &'a ChannelName,
    /// What the operator wrote.
    pub config: &'a ChannelConfig,
    /// What its component asks for.
    pub component: &'a Inspection,
}

/// Says of each channel that receives for an account for which one before it receives as well. A channel has one line at
/// most, however many there are.
pub(super) fn shared(channels: &[Configured<'_>]) -> Vec<String> {
    let each = channels.iter().enumerate();
    each.filter_map(|(before, channel)| clash(*channel, channels[..before].iter().copied()))
        .collect()
}

/// Says that a channel of a gateway that runs receives for an account for which another one of it receives as well.
pub(super) fn clash_of_line(line: &Line, others: &[Arc<Line>]) -> Option<String> {
    let config = line.config();
    let configs: Vec<ChannelConfig> = others.iter().map(|other| other.config()).collect();
    let others = others.iter().zip(&configs);
    clash(
        configured(line, &config),
        others.map(|(other, config)| configured(other, config)),
    )
}

fn configured<'a>(line: &'a Line, config: &'a ChannelConfig) -> Configured<'a> {
    Configured {
        name: &line.channel.services().name,
        config,
        component: line.channel.inspection(),
    }
}

/// Says that a channel receives for an account for which one of the others receives as well.
pub fn clash<'a>(channel: Configured<'_>, others: impl IntoIterator<Item = Configured<'a>>) -> Option<String> {
    let mut others = others.into_iter().filter(|other| other.name != channel.name);
    let other = others.find(|other| channel.is_one_account_with(*other))?;
    let consequence = if channel.component.single_receiver {
        "the platform serves one receiver of an account, so that they take each other's messages"
    } else {
        "each message is taken in and answered by both"
    };
    Some(format!(
        "channels {} and {} receive for one account, since {}: {consequence}; give one of them an account of its own, or \
         pause or remove it",
        other.name,
        channel.name,
        channel.identity(),
    ))
}

impl Configured<'_> {
    /// Whether it fetches messages. Who is only called, as a webhook is, gets what is sent to its own address.
    fn fetches(self) -> bool {
        self.component.offers("listener") && !self.component.terminal && !self.config.paused
    }

    /// An account is what the component can't work without: its required secrets and settings.
    fn is_one_account_with(self, other: Self) -> bool {
        let (secrets, settings) = (self.secrets(), self.settings());
        self.component.name == other.component.name
            && self.fetches()
            && other.fetches()
            && !(secrets.is_empty() && settings.is_empty())
            && secrets.iter().all(|name| self.has_the_secret_of(other, name))
            && settings
                .iter()
                .all(|key| self.config.settings.get(*key) == other.config.settings.get(*key))
    }

    /// Whether a secret comes from the same place, or is the same from another place.
    fn has_the_secret_of(self, other: Self, name: &str) -> bool {
        let source = self.config.secret_sources.get(name);
        let value = self.config.secrets.get(name);
        source.is_some() && source == other.config.secret_sources.get(name)
            || value.is_some() && value == other.config.secrets.get(name)
    }

    fn secrets(&self) -> Vec<&str> {
        let secrets = self.component.secrets.iter();
        secrets.filter(|it| it.required).map(|it| it.name.as_str()).collect()
    }

    fn settings(&self) -> Vec<&str> {
        let settings = self.component.settings.iter();
        settings.filter(|it| it.required).map(|it| it.key.as_str()).collect()
    }

    /// What is the same in both, in words.
    fn identity(self) -> String {
        let names: Vec<String> = self.secrets().into_iter().chain(self.settings()).map(quoted).collect();
        match names.as_slice() {
            [one] => format!("{one} is the same in both"),
            several => format!("{} are the same in both", several.join(", ")),
        }
    }
}

/// The names are the component's own, which may be a stranger's.
fn quoted(name: &str) -> String {
    format!("`{}`", crate::shown::printable(name))
}
