//! The agent that answers with what was said: it proves the whole path without a model.

use async_trait::async_trait;

use super::{Agent, AgentError, Growing, Turn};

/// Answers with the text of the message; where it has none, with what else it carries.
#[derive(Debug, Clone, Copy, Default)]
pub struct Echo;

#[async_trait]
impl Agent for Echo {
    fn describe(&self) -> String {
        "echo".to_owned()
    }

    fn wants_history(&self) -> bool {
        false
    }

    async fn answer(&self, turn: Turn<'_>, _growing: &Growing<'_>) -> Result<String, AgentError> {
        let text = &turn.event.message.text;
        Ok(if text.is_empty() { turn.said() } else { text.clone() })
    }
}
