//! The gateway that runs in a data directory, spoken to over its own HTTP surface.
//!
//! This does not go through the egress gate: that one keeps guests from the operator's own machine, and here the operator
//! speaks to a process of that machine, at an address that the process itself wrote down. No proxy is asked, so that the
//! admin token stays here.

use std::path::Path;
use std::time::Instant;

use reqwest::{Method, StatusCode};
use serde::de::DeserializeOwned;
use serde_json::Value;
use url::Url;

use super::component::bundled_names;
use super::failure::{Failure, Kind};
use super::run::start_runtime;
use crate::admin::{ChannelChanged, ChannelView, List};
use crate::config::{Config, Sources};
use crate::gateway::{Beacon, Presence};
use crate::limit;

/// A gateway that runs.
pub(super) struct Running {
    base: Url,
    token: String,
    client: reqwest::Client,
    runtime: tokio::runtime::Runtime,
}

impl Running {
    /// Finds the gateway that runs in the configured data directory; none where none runs. One that is starting is waited for.
    ///
    /// # Errors
    /// Where its files can't be read, and where it does not come up in time.
    pub(super) fn find(sources: &Sources) -> Result<Option<Self>, Failure> {
        let data = Config::read(sources, &bundled_names()).config.gateway.data;
        let Some(beacon) = beacon_in(&data)? else {
            return Ok(None);
        };
        let token = std::fs::read_to_string(data.join("admin-token"));
        let token = token.map_err(|error| unreadable(&data.join("admin-token"), &error))?;
        let mut address = beacon.address;
        if address.ip().is_unspecified() {
            // One that listens everywhere is reached nearby.
            address.set_ip(if address.is_ipv4() {
                [127, 0, 0, 1].into()
            } else {
                std::net::Ipv6Addr::LOCALHOST.into()
            });
        }
        let internal = |error: &dyn std::fmt::Display| Failure::plain(format!("the gateway can't be asked: {error}"));
        // The client wants a TLS provider even where it never speaks TLS; whichever was chosen before does as well.
        let _chosen_before = rustls::crypto::ring::default_provider().install_default();
        let client = reqwest::Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            // Without TLS the system's certificates need not be read.
            .tls_certs_only([])
            .timeout(limit::OPERATOR_TIMEOUT)
            .build();
        Ok(Some(Self {
            base: Url::parse(&format!("http://{address}/api/v1/")).map_err(|error| internal(&error))?,
            token: token.trim().to_owned(),
            client: client.map_err(|error| internal(&error))?,
            runtime: start_runtime()?,
        }))
    }

    /// Finds the gateway, which must run.
    ///
    /// # Errors
    /// As [`Running::find`], and where none runs.
    pub(super) fn require(sources: &Sources) -> Result<Self, Failure> {
        Self::find(sources)?.ok_or_else(|| {
            let data = Config::read(sources, &bundled_names()).config.gateway.data;
            let message = format!("no gateway runs in the data directory {}", data.display());
            let remedy = "start one with `sluicegate run`, or name another directory with `sluicegate --data DIR …`";
            Failure::new(Kind::Failed, message, remedy)
        })
    }

    /// Asks for the channels.
    pub(super) fn channels(&self) -> Result<Vec<ChannelView>, Failure> {
        let list: List<ChannelView> = self.get(&["channels"], &[])?;
        Ok(list.items)
    }

    /// Asks for what stands at a path, given in its segments.
    pub(super) fn get<T: DeserializeOwned>(&self, path: &[&str], query: &[(&str, String)]) -> Result<T, Failure> {
        self.ask(self.request(Method::GET, path, query)?)
    }

    /// Asks for up to `max` items of a list, part by part.
    pub(super) fn list<T: DeserializeOwned>(
        &self,
        path: &[&str],
        query: &[(&str, String)],
        max: usize,
    ) -> Result<Vec<T>, Failure> {
        let (mut items, mut after) = (Vec::new(), None);
        loop {
            let mut query = query.to_vec();
            query.push(("limit", (max - items.len()).min(limit::OPERATOR_ROWS_MAX).to_string()));
            query.extend(after.map(|after: String| ("after", after)));
            let part: List<T> = self.get(path, &query)?;
            items.extend(part.items);
            match part.next.filter(|_| items.len() < max) {
                Some(next) => after = Some(next),
                None => return Ok(items),
            }
        }
    }

    /// Orders a change.
    pub(super) fn post<T: DeserializeOwned>(&self, path: &[&str], body: Option<Value>) -> Result<T, Failure> {
        let request = self.request(Method::POST, path, &[])?;
        self.ask(match body {
            None => request,
            Some(body) => with_json(request, &body),
        })
    }

    /// Orders a change of a channel, which may take as long as a component takes to compile, to stop and to start.
    pub(super) fn change(&self, path: &[&str]) -> Result<ChannelChanged, Failure> {
        self.ask(self.changing(path)?)
    }

    /// Orders what [`Running::change`] does, as a staged configuration has it. None where that was made from a file that was
    /// changed meanwhile, so that nothing was done.
    ///
    /// # Errors
    /// Why not.
    pub(super) fn take_over(&self, path: &[&str], edit: &Value) -> Result<Option<ChannelChanged>, Failure> {
        match self.runtime.block_on(answer(with_json(self.changing(path)?, edit)))? {
            (StatusCode::PRECONDITION_FAILED, _) => Ok(None),
            (status, bytes) => understood(status, &bytes).map(Some),
        }
    }

    fn changing(&self, path: &[&str]) -> Result<reqwest::RequestBuilder, Failure> {
        let request = self.request(Method::POST, path, &[])?;
        Ok(request.timeout(limit::CHANNEL_CHANGE_TIMEOUT))
    }

    /// Orders that something is dropped.
    pub(super) fn delete<T: DeserializeOwned>(&self, path: &[&str]) -> Result<T, Failure> {
        self.ask(self.request(Method::DELETE, path, &[])?)
    }

    fn request(
        &self,
        method: Method,
        path: &[&str],
        query: &[(&str, String)],
    ) -> Result<reqwest::RequestBuilder, Failure> {
        // These drop out of a URL, however they are written there, and what is left leads somewhere else.
        if let Some(id) = path.iter().find(|segment| matches!(**segment, "" | "." | "..")) {
            return Err(not_found(format!("nothing has the id {id:?}")));
        }
        let mut url = self.base.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(path);
        }
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        Ok(self.client.request(method, url).bearer_auth(&self.token))
    }

    fn ask<T: DeserializeOwned>(&self, request: reqwest::RequestBuilder) -> Result<T, Failure> {
        let (status, bytes) = self.runtime.block_on(answer(request))?;
        understood(status, &bytes)
    }
}

/// Returns where the gateway listens that works in a data directory; none where none does. One that is starting has read its
/// configuration and takes no orders yet, and one that is stopping takes none any more: both are waited for.
fn beacon_in(data: &Path) -> Result<Option<Beacon>, Failure> {
    let until = Instant::now() + limit::OPERATOR_START_WAIT;
    loop {
        match Presence::look(data).map_err(|error| unreadable(data, &error))? {
            Presence::Lit(beacon) => return Ok(Some(beacon)),
            Presence::Nobody => return Ok(None),
            Presence::Dark if Instant::now() < until => std::thread::sleep(limit::OPERATOR_START_LOOK_PERIOD),
            Presence::Dark => {
                let message = format!(
                    "a gateway is starting or stopping in the data directory {}, and can't be asked yet",
                    data.display()
                );
                return Err(Failure::new(Kind::Failed, message, "try again when it is up"));
            }
        }
    }
}

fn unreadable(path: &Path, error: &std::io::Error) -> Failure {
    let remedy = "run this as the user that the gateway runs as, or start the gateway again";
    Failure::new(
        Kind::Failed,
        format!("{} can't be read: {error}", path.display()),
        remedy,
    )
}

/// Reads an answer, or why there is none.
fn understood<T: DeserializeOwned>(status: StatusCode, bytes: &[u8]) -> Result<T, Failure> {
    if !status.is_success() {
        return Err(refusal(status, bytes));
    }
    serde_json::from_slice(bytes).map_err(|error| {
        let remedy = "use the `sluicegate` of the same version as the gateway";
        let message = format!("the gateway's answer is not understood: {error}");
        Failure::new(Kind::Failed, message, remedy)
    })
}

fn with_json(request: reqwest::RequestBuilder, body: &Value) -> reqwest::RequestBuilder {
    request
        .header("content-type", "application/json")
        .body(body.to_string())
}

/// Sends a request and reads the whole answer, within bounds.
async fn answer(request: reqwest::RequestBuilder) -> Result<(StatusCode, Vec<u8>), Failure> {
    let unanswered = |error: reqwest::Error| {
        let why = std::iter::successors(Some(&error as &dyn std::error::Error), |error| error.source()).last();
        let why = why.map(ToString::to_string).unwrap_or_default();
        let remedy = "look at its log; it may be starting or stopping just now";
        Failure::new(Kind::Failed, format!("the gateway does not answer: {why}"), remedy)
    };
    let mut response = request.send().await.map_err(unanswered)?;
    let mut bytes = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(unanswered)? {
        bytes.extend_from_slice(&chunk);
        if bytes.len() > limit::OPERATOR_ANSWER_BYTES_MAX {
            return Err(Failure::new(
                Kind::Failed,
                "the gateway's answer is too long",
                "ask for less with --limit",
            ));
        }
    }
    Ok((response.status(), bytes))
}

fn refusal(status: StatusCode, bytes: &[u8]) -> Failure {
    let said = serde_json::from_slice::<Value>(bytes).ok();
    let words = said.as_ref().and_then(|said| said["error"].as_str()).map(|words| {
        words
            .lines()
            .map(crate::shown::printable)
            .collect::<Vec<_>>()
            .join("\n")
    });
    let words = words.unwrap_or_else(|| format!("the gateway answered {status}"));
    match status {
        StatusCode::UNAUTHORIZED => {
            let remedy = "the file admin-token in the data directory was changed; start the gateway again";
            Failure::new(Kind::Failed, "the gateway refuses the admin token", remedy)
        }
        StatusCode::UNPROCESSABLE_ENTITY => Failure::new(Kind::Configuration, words, "nothing was changed"),
        StatusCode::NOT_FOUND => not_found(words),
        _ => Failure::plain(words),
    }
}

fn not_found(words: String) -> Failure {
    let remedy = "see what there is: `sluicegate outbox list`, `dead list`, `inbox dead`, `channel list`";
    Failure::new(Kind::Failed, words, remedy)
}
