//! Makes the agents that the configuration names.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::error::Error;
use crate::agent::command::CommandAgent;
use crate::agent::echo::Echo;
use crate::agent::local::{LOCAL_SERVERS, detect_local};
use crate::agent::openai::{ApiKey, OpenAi};
use crate::agent::{Agent, AgentTable, command, openai};
use crate::config::{AgentConfig, ChannelConfig, CommandConfig, OpenAiConfig};
use crate::id::ChannelName;
use crate::{limit, process};

/// An agent, and why it is that one, for a person.
pub(super) struct Chosen {
    pub(super) agent: Arc<dyn Agent>,
    pub(super) why: String,
}

/// Makes all agents. Asks the network only where the choice was left to the gateway, and then only this machine.
pub(super) async fn make_all(configured: &BTreeMap<String, AgentConfig>) -> Result<BTreeMap<String, Chosen>, Error> {
    let mut agents = BTreeMap::new();
    for (name, config) in configured {
        let chosen = make(config).await.map_err(|reason| Error::Agent {
            name: name.clone(),
            reason,
        })?;
        agents.insert(name.clone(), chosen);
    }
    Ok(agents)
}

/// Returns the agents that can't be set up, and why. The choice that is left to the gateway is not made here.
pub(super) async fn unusable(configured: &BTreeMap<String, AgentConfig>) -> Vec<(String, Error)> {
    let mut unusable = Vec::new();
    for (name, config) in configured {
        if matches!(config, AgentConfig::Automatic) {
            continue;
        }
        if let Err(reason) = make(config).await {
            let name = name.clone();
            unusable.push((name.clone(), Error::Agent { name, reason }));
        }
    }
    unusable
}

/// Returns which agent answers which channel.
pub(super) fn table(channels: &BTreeMap<ChannelName, ChannelConfig>, made: &BTreeMap<String, Chosen>) -> AgentTable {
    let table = AgentTable::new();
    for (name, channel) in channels {
        if let Some(chosen) = made.get(&channel.agent) {
            table.set(name.clone(), chosen.agent.clone());
        }
    }
    table
}

async fn make(config: &AgentConfig) -> Result<Chosen, String> {
    let configured = |agent: Arc<dyn Agent>| Chosen {
        agent,
        why: "as configured".into(),
    };
    Ok(match config {
        AgentConfig::Automatic => automatic().await?,
        AgentConfig::Echo => configured(Arc::new(Echo)),
        AgentConfig::OpenAi(config) => configured(Arc::new(openai(config)?)),
        AgentConfig::Command(config) => configured(Arc::new(CommandAgent::new(command_settings(config)?))),
    })
}

async fn automatic() -> Result<Chosen, String> {
    let Some(found) = detect_local(&LOCAL_SERVERS).await else {
        let why = "no agent is configured, and no model server answers on this machine".into();
        return Ok(Chosen {
            agent: Arc::new(Echo),
            why,
        });
    };
    let settings = openai::Settings {
        base_url: found.base_url,
        model: found.model,
        api_key: None,
        system: None,
        timeout: limit::TURN_TIMEOUT,
    };
    let agent = OpenAi::new(settings).map_err(|error| error.to_string())?;
    Ok(Chosen {
        agent: Arc::new(agent),
        why: "no agent is configured, and this one answers on this machine".into(),
    })
}

fn openai(config: &OpenAiConfig) -> Result<OpenAi, String> {
    OpenAi::new(openai::Settings {
        base_url: config.base_url.clone(),
        model: config.model.clone(),
        api_key: config.api_key.as_ref().map(|key| ApiKey::new(key.expose())),
        system: config.system.clone(),
        timeout: config.timeout,
    })
    .map_err(|error| error.to_string())
}

fn command_settings(config: &CommandConfig) -> Result<command::Settings, String> {
    let guard = process::own_executable().map_err(|error| format!("the gateway can't find itself: {error}"))?;
    Ok(command::Settings {
        guard,
        program: config.program.display().to_string(),
        args: config.args.clone(),
        env: config
            .env
            .iter()
            .map(|(name, value)| (name.clone(), value.expose().to_owned()))
            .collect(),
        directory: config.directory.clone(),
        timeout: config.timeout,
    })
}
