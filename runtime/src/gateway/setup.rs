//! What one channel's component asks for against what the operator wrote: everything that does not fit is reported at
//! once, and what fits becomes the channel's grants, secrets and settings.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::component::{Inspection, Placement, SecretRequest, SettingKind, WebhookRecipe};
use crate::config::{Access, ChannelConfig, ComponentSource, Fault, FaultKind, SettingValue, nearest};
use crate::egress::{ChannelSettings, EgressLimits};
use crate::id::ChannelName;
use crate::limit;
use crate::policy::grants::Request;
use crate::policy::webhook::{Door, PathTokens, RecipeSource, SignatureScheme, Verifier};
use crate::policy::{Grants, Host, HostPattern, Scheme};
use crate::secret::{BoundSecret, Keyring, Placements};
use tokio_util::sync::CancellationToken;

/// One channel's configuration, held against its component.
pub(super) struct Setup<'a> {
    name: &'a ChannelName,
    config: &'a ChannelConfig,
    inspection: &'a Inspection,
    tokens: &'a PathTokens,
    faults: Vec<Fault>,
    warnings: Vec<String>,
}

/// What a channel is made with.
pub(super) struct Ready {
    pub(super) access: Access,
    pub(super) settings: BTreeMap<String, String>,
    pub(super) egress: ChannelSettings,
    pub(super) door: Door,
    pub(super) terminal: bool,
    pub(super) warnings: Vec<String>,
}

impl<'a> Setup<'a> {
    pub(super) fn new(
        name: &'a ChannelName,
        config: &'a ChannelConfig,
        inspection: &'a Inspection,
        tokens: &'a PathTokens,
    ) -> Self {
        Self {
            name,
            config,
            inspection,
            tokens,
            faults: Vec::new(),
            warnings: Vec::new(),
        }
    }

    /// Checks everything.
    ///
    /// # Errors
    /// All that is wrong.
    pub(super) fn check(mut self) -> Result<Ready, Vec<Fault>> {
        let settings = self.settings();
        self.secrets();
        let grants = self.grants(&settings);
        let terminal = self.terminal(&grants);
        let access = self.access();
        let keyring = self.keyring(&settings);
        let door = self.door();
        if !self.faults.is_empty() {
            return Err(self.faults);
        }
        let wanted = &self.config.limits;
        let limits = EgressLimits {
            in_flight_max: wanted.requests_in_flight as usize,
            sockets_max: wanted.sockets as usize,
            response_body_bytes_max: wanted.response_mib as usize * 1024 * 1024,
            bytes_per_minute_max: u64::from(wanted.network_mib_per_minute) * 1024 * 1024,
            ..EgressLimits::default()
        };
        let egress = ChannelSettings {
            grants,
            keyring,
            limits,
            shutdown: CancellationToken::new(),
        };
        Ok(Ready {
            access,
            settings,
            egress,
            door,
            terminal,
            warnings: self.warnings,
        })
    }

    fn fault(&mut self, kind: FaultKind, key: &str, problem: String, remedy: String) {
        let key = format!("channels.{}.{key}", self.name);
        self.faults.push(Fault {
            kind,
            file: None,
            line: None,
            key,
            problem,
            remedy,
        });
    }

    /// Returns the settings as the guest reads them: the operator's, else the component's defaults.
    fn settings(&mut self) -> BTreeMap<String, String> {
        let inspection = self.inspection;
        for (key, value) in &self.config.settings {
            match inspection.settings.iter().find(|setting| setting.key == *key) {
                Some(setting) if fits(setting.kind, value) => {}
                Some(setting) => {
                    let problem = format!("the component `{}` wants {}", inspection.name, in_words(setting.kind));
                    self.fault(
                        FaultKind::WrongValue,
                        &format!("settings.{key}"),
                        problem,
                        setting.summary.clone(),
                    );
                }
                None => self.unknown(
                    &format!("settings.{key}"),
                    key,
                    inspection.settings.iter().map(|s| s.key.as_str()),
                ),
            }
        }
        let mut settings = BTreeMap::new();
        for setting in &inspection.settings {
            match (self.config.settings.get(&setting.key), &setting.default) {
                (Some(value), _) => settings.insert(setting.key.clone(), value.to_guest_text()),
                (None, Some(default)) => settings.insert(setting.key.clone(), default.clone()),
                (None, None) if setting.required => {
                    let remedy = format!("add it to `settings`: {}", setting.summary);
                    let problem = format!("the component `{}` needs this setting", inspection.name);
                    self.fault(
                        FaultKind::MissingKey,
                        &format!("settings.{}", setting.key),
                        problem,
                        remedy,
                    );
                    None
                }
                (None, None) => None,
            };
        }
        settings
    }

    fn secrets(&mut self) {
        let inspection = self.inspection;
        for name in self.config.secret_sources.keys() {
            if !inspection.secrets.iter().any(|secret| secret.name == *name) {
                self.unknown(
                    &format!("secrets.{name}"),
                    name,
                    inspection.secrets.iter().map(|s| s.name.as_str()),
                );
            }
        }
        for secret in inspection.secrets.iter().filter(|secret| secret.required) {
            if !self.config.secret_sources.contains_key(&secret.name) {
                let problem = format!(
                    "the component `{}` needs this secret: {}",
                    inspection.name, secret.summary
                );
                let remedy = format!(
                    "add `secrets = {{ {} = {{ env = \"…\" }} }}`, or `{{ file = \"…\" }}`",
                    secret.name
                );
                self.fault(
                    FaultKind::MissingKey,
                    &format!("secrets.{}", secret.name),
                    problem,
                    remedy,
                );
            }
        }
    }

    fn unknown<'k>(&mut self, at: &str, key: &str, known: impl Iterator<Item = &'k str> + Clone) {
        let remedy = match nearest(key, known.clone()) {
            Some(meant) => format!("did you mean `{meant}`?"),
            None => format!("it knows: {}", listed(known)),
        };
        let problem = format!("the component `{}` does not know it", self.inspection.name);
        self.fault(FaultKind::UnknownKey, at, problem, remedy);
    }

    /// Puts requests and grants together, and says which requests are not granted.
    fn grants(&mut self, settings: &BTreeMap<String, String>) -> Grants {
        let values_of = |key: &str| -> Vec<String> {
            match self.config.settings.get(key) {
                Some(SettingValue::Texts(texts)) => texts.clone(),
                _ => settings
                    .get(key)
                    .cloned()
                    .into_iter()
                    .filter(|value| !value.is_empty())
                    .collect(),
            }
        };
        let mut requested = Vec::new();
        for endpoint in &self.inspection.endpoints {
            let Ok(scheme) = endpoint.scheme.parse::<Scheme>() else {
                continue;
            };
            let request = Request {
                scheme,
                host: endpoint.host.clone(),
                port: endpoint.port,
                reason: endpoint.reason.clone(),
            };
            match request.resolve(&values_of) {
                // Several settings may name the same one.
                Ok(endpoints) => {
                    for endpoint in endpoints {
                        if !requested.contains(&endpoint) {
                            requested.push(endpoint);
                        }
                    }
                }
                Err(error) => self.fault(
                    FaultKind::WrongValue,
                    "settings",
                    format!("an endpoint can't be made of them: {error}"),
                    "write a host or a URL".into(),
                ),
            }
        }
        let mut grants = Grants::new(requested, self.config.grants.iter().cloned());
        self.folder(&mut grants);
        for endpoint in grants.ungranted() {
            self.warnings.push(format!(
                "channel {}: `{endpoint}` is asked for and not granted; to allow it, add \"{endpoint}\" to `grant`",
                self.name
            ));
        }
        for grant in grants.unused() {
            let endpoint = &grant.endpoint;
            self.warnings.push(format!(
                "channel {}: `{endpoint}` is granted, but its component never asks for it",
                self.name
            ));
        }
        grants
    }

    /// A folder needs both sides, as an endpoint does.
    fn folder(&mut self, grants: &mut Grants) {
        let name = self.name;
        match &self.inspection.folder {
            Some(_) if grants.folder().is_none() => self.warnings.push(format!(
                "channel {name}: a folder is asked for and not granted; to allow one, add \"folder:/absolute/path\" to `grant`"
            )),
            Some(_) => {}
            None => {
                if let Some(path) = grants.without_folder() {
                    self.warnings.push(format!(
                        "channel {name}: `folder:{}` is granted, but its component never asks for a folder",
                        path.display()
                    ));
                }
            }
        }
    }

    /// Naming the bundled terminal is as clear as granting it the terminal; a stranger's component needs the grant.
    fn terminal(&mut self, grants: &Grants) -> bool {
        if !self.inspection.terminal {
            return false;
        }
        let bundled = matches!(&self.config.component, ComponentSource::Bundled(_));
        if !bundled && !grants.terminal() {
            let problem = format!("the component `{}` wants this process's terminal", self.inspection.name);
            self.fault(
                FaultKind::MissingKey,
                "grant",
                problem,
                "add \"terminal\" to `grant` if it may have it".into(),
            );
        }
        bundled || grants.terminal()
    }

    /// A channel that fetches from a platform hears strangers: its operator must say who may talk. One that is called
    /// or connected to is reached only by who can reach this gateway's own listener.
    fn access(&mut self) -> Access {
        if let Some(access) = &self.config.access {
            return access.clone();
        }
        if self.inspection.offers("listener") && !self.inspection.terminal {
            self.fault(
                FaultKind::MissingKey,
                "access",
                "it is not said who may talk to the agent through this channel".into(),
                "add `access = { allow = [\"ID\"] }` with the platform's ids of senders, or `access = \"open\"`".into(),
            );
        }
        Access::Open
    }

    fn keyring(&mut self, settings: &BTreeMap<String, String>) -> Keyring {
        let mut bound = BTreeMap::new();
        for request in &self.inspection.secrets {
            if let Some(secret) = self.config.secrets.get(&request.name) {
                let hosts = request
                    .hosts
                    .iter()
                    .filter_map(|host| host_pattern(host, settings))
                    .collect();
                let placements = placements(request);
                if secret.expose().len() < limit::REDACTED_BYTES_MIN {
                    self.warnings.push(format!(
                        "channel {}: the secret `{}` is shorter than {} bytes, so that it is not redacted where a server \
                         repeats it: looking for so little would hide ordinary text; take a longer one where you can",
                        self.name,
                        request.name,
                        limit::REDACTED_BYTES_MIN
                    ));
                }
                bound.insert(
                    request.name.clone(),
                    BoundSecret {
                        secret: secret.clone(),
                        hosts,
                        placements,
                    },
                );
            }
        }
        Keyring::new(bound)
    }

    /// Prepares the check of webhooks.
    fn door(&mut self) -> Door {
        let recipe = self.inspection.webhook.as_ref();
        let signed = recipe.and_then(|recipe| Some((recipe, scheme(recipe)?)));
        let Some((recipe, scheme)) = signed else {
            return Door::Hidden(self.tokens.of(self.name));
        };
        let secret = recipe.secret.as_ref().and_then(|name| self.config.secrets.get(name));
        let Some(secret) = secret else {
            return self.unsigned_door(recipe.secret.as_deref().unwrap_or("its key"));
        };
        let source = RecipeSource {
            scheme,
            signature_header: recipe.signature_header.clone(),
            prefix: recipe.signature_prefix.clone(),
            timestamp_header: recipe.timestamp_header.clone(),
            signed_payload: recipe.signed_payload.clone(),
            tolerance: recipe.tolerance_s.map(|seconds| Duration::from_secs(seconds.into())),
            body_bytes_max: recipe.body_bytes_max as usize,
        };
        match Verifier::new(&source, Some(secret)) {
            Ok(verifier) => Door::Signed(Box::new(verifier)),
            Err(error) => {
                let remedy = "correct the secret, or report the component to its author".into();
                self.fault(FaultKind::WrongValue, "secrets", error.to_string(), remedy);
                Door::Hidden(self.tokens.of(self.name))
            }
        }
    }

    /// Without the recipe's secret there is nothing to check with: the operator chose so, and is warned. A channel that has a
    /// listener gets its messages there, and is not meant to be open: its webhook is left to who knows the path.
    fn unsigned_door(&mut self, secret: &str) -> Door {
        if self.inspection.offers("listener") {
            return Door::Hidden(self.tokens.of(self.name));
        }
        self.warnings.push(format!(
            "channel {}: webhooks are not checked, because the secret `{secret}` is not set: \
             whoever reaches this gateway can post as anyone",
            self.name
        ));
        Door::Open
    }
}

/// How the webhooks of a recipe are signed; none where they are not.
fn scheme(recipe: &WebhookRecipe) -> Option<SignatureScheme> {
    match recipe.scheme.as_str() {
        "hmac-sha256" => Some(SignatureScheme::HmacSha256),
        "ed25519" => Some(SignatureScheme::Ed25519),
        "shared-secret" => Some(SignatureScheme::SharedSecret),
        _ => None,
    }
}

fn placements(request: &SecretRequest) -> Placements {
    let has = |placement| request.placements.contains(&placement);
    Placements {
        header: has(Placement::Header),
        url_path: has(Placement::UrlPath),
        url_query: has(Placement::UrlQuery),
        json_body: has(Placement::JsonBody),
        websocket_text: has(Placement::WebsocketText),
        tcp_text: has(Placement::TcpText),
    }
}

/// Returns the host that a secret is bound to; `{key}` stands for the host part of a setting.
fn host_pattern(host: &str, settings: &BTreeMap<String, String>) -> Option<HostPattern> {
    let Some(key) = host.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) else {
        return HostPattern::parse(host).ok();
    };
    let value = settings.get(key)?;
    if value.contains("://") {
        let url = url::Url::parse(value).ok()?;
        // Outside the schemes of the web an address is read as a name: `Host` knows better.
        return Host::parse(url.host_str()?).ok().map(HostPattern::Exact);
    }
    let name = value.rsplit_once(':').map_or(value.as_str(), |(name, _)| name);
    Host::parse(name).ok().map(HostPattern::Exact)
}

fn fits(kind: SettingKind, value: &SettingValue) -> bool {
    matches!(
        (kind, value),
        (SettingKind::Text, SettingValue::Text(_))
            | (SettingKind::Number, SettingValue::Integer(_) | SettingValue::Float(_))
            | (SettingKind::Boolean, SettingValue::Boolean(_))
            | (SettingKind::ListOfText, SettingValue::Texts(_))
    )
}

fn in_words(kind: SettingKind) -> &'static str {
    match kind {
        SettingKind::Text => "a text in quotes",
        SettingKind::Number => "a number",
        SettingKind::Boolean => "`true` or `false`",
        SettingKind::ListOfText => "a list of texts",
    }
}

fn listed<'k>(names: impl Iterator<Item = &'k str>) -> String {
    let names: Vec<&str> = names.collect();
    if names.is_empty() {
        "nothing of that kind".into()
    } else {
        names.join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_bound_to_the_host_of_a_setting_however_that_is_written() {
        let bound = |value: &str| {
            let settings = BTreeMap::from([("server".to_owned(), value.to_owned())]);
            host_pattern("{server}", &settings)
        };
        for value in [
            "https://127.0.0.1:8443/path",
            "tcp://127.0.0.1:6667",
            "tls://127.0.0.1:6697",
            "127.0.0.1:6697",
        ] {
            assert_eq!(bound(value), HostPattern::parse("127.0.0.1").ok(), "{value}");
        }
        assert_eq!(bound("tls://[::1]:6697"), HostPattern::parse("::1").ok());
        assert_eq!(
            bound("tls://IRC.example.org:6697"),
            HostPattern::parse("irc.example.org").ok()
        );
        assert_eq!(bound("tls://"), None);
    }
}
