//! What a channel says of itself, with builders for the common shapes.

pub use crate::bindings::channel::exports::sluicegate::channel::descriptor::{
    Description, Endpoint, Features, Placement, Scheme, Secret, Setting, SettingKind, SignatureScheme,
    Webhook as WebhookRecipe,
};

impl Description {
    /// Makes a description that asks for nothing and can only send plain messages.
    pub fn new(name: &str, version: &str, summary: &str) -> Self {
        Self {
            name: name.to_owned(),
            version: version.to_owned(),
            summary: summary.to_owned(),
            features: Features::empty(),
            settings: Vec::new(),
            secrets: Vec::new(),
            endpoints: Vec::new(),
            webhook: None,
            deduplicates_for_s: None,
            replays_for_s: None,
            single_receiver: false,
            terminal: false,
            folder: None,
        }
    }

    /// Sets what the platform can do through this channel.
    pub fn features(mut self, features: Features) -> Self {
        self.features = features;
        self
    }

    /// Adds a setting.
    pub fn setting(mut self, setting: Setting) -> Self {
        self.settings.push(setting);
        self
    }

    /// Adds a secret that the channel asks for.
    pub fn secret(mut self, secret: Secret) -> Self {
        self.secrets.push(secret);
        self
    }

    /// Adds an endpoint that the channel asks for.
    pub fn endpoint(mut self, endpoint: Endpoint) -> Self {
        self.endpoints.push(endpoint);
        self
    }

    /// Sets how the host checks that a call of the platform is genuine.
    pub fn webhook(mut self, recipe: WebhookRecipe) -> Self {
        self.webhook = Some(recipe);
        self
    }

    /// Says that the platform drops a second send with the same delivery key within this many seconds.
    pub fn deduplicates_for_s(mut self, seconds: u32) -> Self {
        self.deduplicates_for_s = Some(seconds);
        self
    }

    /// Says that the platform keeps what the channel has not taken for this many seconds, and hands it out again.
    pub fn replays_for_s(mut self, seconds: u32) -> Self {
        self.replays_for_s = Some(seconds);
        self
    }

    /// Says that two receivers with the same credential would disturb each other.
    pub fn single_receiver(mut self) -> Self {
        self.single_receiver = true;
        self
    }

    /// Asks for the process's terminal.
    pub fn terminal(mut self) -> Self {
        self.terminal = true;
        self
    }

    /// Asks for a folder to put files into; `reason` says what for.
    pub fn folder(mut self, reason: &str) -> Self {
        self.folder = Some(reason.to_owned());
        self
    }
}

impl Setting {
    /// Makes an optional setting without a default.
    pub fn new(kind: SettingKind, key: &str, summary: &str) -> Self {
        Self {
            key: key.to_owned(),
            summary: summary.to_owned(),
            kind,
            required: false,
            default: None,
        }
    }

    /// Makes an optional setting that holds text.
    pub fn text(key: &str, summary: &str) -> Self {
        Self::new(SettingKind::Text, key, summary)
    }

    /// Makes an optional setting that holds a whole number.
    pub fn number(key: &str, summary: &str) -> Self {
        Self::new(SettingKind::Number, key, summary)
    }

    /// Makes an optional setting that is true or false.
    pub fn boolean(key: &str, summary: &str) -> Self {
        Self::new(SettingKind::Boolean, key, summary)
    }

    /// Requires the setting.
    pub fn required(mut self) -> Self {
        self.required = true;
        self
    }

    /// Sets what counts where the operator says nothing.
    pub fn default(mut self, value: &str) -> Self {
        self.default = Some(value.to_owned());
        self
    }
}

impl Secret {
    /// Makes an optional secret that may be placed as `placements` say, in requests to `hosts` only.
    pub fn new<const N: usize>(name: &str, summary: &str, placements: Placement, hosts: [&str; N]) -> Self {
        Self {
            name: name.to_owned(),
            summary: summary.to_owned(),
            required: false,
            hosts: hosts.map(str::to_owned).to_vec(),
            placements,
            reveal: false,
        }
    }

    /// Makes an optional secret for a request header, sent to `hosts` only.
    pub fn in_header<const N: usize>(name: &str, summary: &str, hosts: [&str; N]) -> Self {
        Self::new(name, summary, Placement::HEADER, hosts)
    }

    /// Makes an optional secret that the host only signs and verifies with: it is never sent.
    pub fn for_signing(name: &str, summary: &str) -> Self {
        Self::new(name, summary, Placement::empty(), [])
    }

    /// Requires the secret.
    pub fn required(mut self) -> Self {
        self.required = true;
        self
    }
}

impl Endpoint {
    /// Makes a request for an endpoint at the scheme's usual port; `host` may be `{setting-key}`.
    pub fn new(scheme: Scheme, host: &str, reason: &str) -> Self {
        Self {
            scheme,
            host: host.to_owned(),
            port: None,
            reason: reason.to_owned(),
        }
    }

    /// Asks for another port than the scheme's usual one.
    pub fn port(mut self, port: u16) -> Self {
        self.port = Some(port);
        self
    }
}

impl WebhookRecipe {
    /// Makes a recipe without a signature: anyone who knows the address may call. Bodies end at `body_bytes_max`.
    pub fn open(body_bytes_max: u32) -> Self {
        Self {
            scheme: SignatureScheme::None,
            secret: None,
            signature_header: None,
            signature_prefix: None,
            timestamp_header: None,
            signed_payload: None,
            tolerance_s: None,
            body_bytes_max,
        }
    }

    /// Makes a recipe for HMAC-SHA-256 in hexadecimal over the whole body, after `prefix` in `header`.
    pub fn hmac_sha256(secret: &str, header: &str, prefix: &str, body_bytes_max: u32) -> Self {
        Self {
            scheme: SignatureScheme::HmacSha256,
            secret: Some(secret.to_owned()),
            signature_header: Some(header.to_owned()),
            signature_prefix: Some(prefix.to_owned()),
            signed_payload: Some("{body}".to_owned()),
            ..Self::open(body_bytes_max)
        }
    }

    /// Makes a recipe for a secret that the platform sends as it is in `header`.
    pub fn shared_secret(secret: &str, header: &str, body_bytes_max: u32) -> Self {
        Self {
            scheme: SignatureScheme::SharedSecret,
            secret: Some(secret.to_owned()),
            signature_header: Some(header.to_owned()),
            ..Self::open(body_bytes_max)
        }
    }
}
