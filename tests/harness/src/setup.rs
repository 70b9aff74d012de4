//! The configuration of a gateway under test.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use crate::{FakePlatform, MockModel, TempFolder, TestGateway};

/// A configuration that grows by sections, and the environment that it needs.
#[derive(Debug, Clone, Default)]
pub struct Setup {
    sections: String,
    environment: Vec<(String, String)>,
    /// How long accepted work may take at the stop; 10 where nothing is said.
    grace_s: Option<u32>,
    public_url: Option<String>,
    /// Further lines of `[gateway]`.
    gateway: String,
    /// Where the data is; `data` beside the file where nothing is said.
    data: Option<PathBuf>,
}

impl Setup {
    /// Makes an empty configuration: a free port, a data directory of the test's own, and nothing else.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds sections as they stand in the file.
    #[must_use]
    pub fn section(mut self, toml: &str) -> Self {
        self.sections.push_str(toml);
        self.sections.push('\n');
        self
    }

    /// Bounds how long accepted work may take at the stop, seconds.
    #[must_use]
    pub fn grace_s(mut self, seconds: u32) -> Self {
        self.grace_s = Some(seconds);
        self
    }

    /// Says where the gateway is reached from outside.
    #[must_use]
    pub fn public_url(mut self, url: &str) -> Self {
        self.public_url = Some(url.to_owned());
        self
    }

    /// Adds lines to `[gateway]`.
    #[must_use]
    pub fn gateway(mut self, lines: &str) -> Self {
        self.gateway.push_str(lines);
        self.gateway.push('\n');
        self
    }

    /// Keeps the data in this directory in place of one beside the configuration.
    #[must_use]
    pub fn data(mut self, directory: &Path) -> Self {
        self.data = Some(directory.to_owned());
        self
    }

    /// Sets a variable of the gateway's environment, for secrets.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Answers with what was said.
    #[must_use]
    pub fn echo(self) -> Self {
        self.section("[agents.main]\nkind = \"echo\"")
    }

    /// Answers with what a model says.
    #[must_use]
    pub fn model(self, model: &MockModel) -> Self {
        let base_url = model.base_url();
        self.section(&format!(
            "[agents.main]\nkind = \"openai\"\nbase_url = \"{base_url}\"\nmodel = \"mock\""
        ))
    }

    /// Answers with what a program says.
    #[must_use]
    pub fn command(self, words: &[&str]) -> Self {
        self.section(&format!("[agents.main]\nkind = \"command\"\ncommand = {}", list(words)))
    }

    /// Adds the channel `websocket`, open to everyone.
    #[must_use]
    pub fn websocket(self) -> Self {
        self.section("[channels.websocket]\ncomponent = \"websocket\"\naccess = \"open\"")
    }

    /// Adds a generic webhook of this name, open to everyone, that delivers to a platform and gives each delivery two
    /// seconds.
    #[must_use]
    pub fn webhook(self, name: &str, platform: &FakePlatform) -> Self {
        self.webhook_with(name, platform, "")
    }

    /// Adds a generic webhook as [`Setup::webhook`], with more lines in its table.
    #[must_use]
    pub fn webhook_with(self, name: &str, platform: &FakePlatform, lines: &str) -> Self {
        self.posting(name, "webhook", platform, lines)
    }

    /// Adds a channel of a component that posts to the URL of its settings, as the generic webhook does.
    #[must_use]
    pub fn posting(self, name: &str, component: &str, platform: &FakePlatform, lines: &str) -> Self {
        self.posting_to(name, component, &platform.endpoint(), lines)
    }

    /// Adds a channel as [`Setup::posting`], whose platform is reached at another endpoint.
    #[must_use]
    pub fn posting_to(self, name: &str, component: &str, endpoint: &str, lines: &str) -> Self {
        let (url, grant) = (format!("{endpoint}/deliver"), endpoint);
        self.section(&format!(
            "[channels.{name}]\ncomponent = \"{component}\"\naccess = \"open\"\nsettings = {{ url = \"{url}\" }}\n\
             grant = [\"{grant}\"]\nlimits = {{ call_timeout_s = 2 }}\n{lines}"
        ))
    }

    /// Returns the file's text.
    pub fn toml(&self) -> String {
        let grace_s = self.grace_s.unwrap_or(10);
        let data = self.data_directory().display();
        let mut text = format!("[gateway]\nlisten = \"127.0.0.1:0\"\ndata = \"{data}\"\ngrace_s = {grace_s}\n");
        // Writing to a string can't fail.
        if let Some(url) = &self.public_url {
            let _ = writeln!(text, "public_url = \"{url}\"");
        }
        let _ = write!(text, "{}\n{}", self.gateway, self.sections);
        text
    }

    /// Returns where the data is, as the file says it.
    pub fn data_directory(&self) -> &Path {
        self.data.as_deref().unwrap_or(Path::new("data"))
    }

    /// Returns the variables that it needs.
    pub fn environment(&self) -> &[(String, String)] {
        &self.environment
    }

    /// Starts a gateway with this configuration in a folder of its own, and waits until it is ready.
    ///
    /// # Panics
    /// When it does not become ready.
    pub async fn start(self) -> TestGateway {
        TestGateway::start(self, TempFolder::new()).await
    }
}

/// Writes a list of texts in TOML.
fn list(words: &[&str]) -> String {
    let words = words.iter().map(|word| toml::Value::from(*word)).collect::<Vec<_>>();
    toml::Value::from(words).to_string()
}
