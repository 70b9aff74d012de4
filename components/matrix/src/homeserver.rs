//! Calls of the client-server API through the host's HTTP. The token stands as `{{access-token}}` in a header: only the
//! host knows it.

use serde::de::DeserializeOwned;
use sluicegate_sdk::http::{Request, segment_escaped};
use sluicegate_sdk::serde_json::{self, Value};
use sluicegate_sdk::{clock, settings, state, warn};

use crate::failure::Failure;
use crate::wire::Me;

/// Longer than any answer takes but that of a sync, milliseconds.
const CALL_TIMEOUT_MS: u32 = 30_000;
/// For files, milliseconds.
const FILE_TIMEOUT_MS: u32 = 120_000;
/// Where the account's own id is kept.
const ME_KEY: &str = "me";
/// Below it a homeserver takes clients.
const CLIENT: &str = "_matrix/client/v3";

/// The homeserver, as this channel's settings describe it.
#[derive(Debug, Clone)]
pub struct Homeserver {
    base: String,
}

impl Homeserver {
    /// Reads the settings.
    pub fn from_settings() -> Self {
        let base = settings::get("homeserver").unwrap_or_default();
        Self {
            base: base.trim().trim_end_matches('/').to_owned(),
        }
    }

    /// Returns whether the operator named no server.
    pub fn is_unset(&self) -> bool {
        self.base.is_empty()
    }

    /// Gets `path` below the client API.
    ///
    /// # Errors
    /// See [`Failure`].
    pub fn get(&self, path: &str) -> Result<Value, Failure> {
        self.get_within(CALL_TIMEOUT_MS, path)
    }

    /// Gets `path` below the client API, which may take `timeout_ms`.
    ///
    /// # Errors
    /// See [`Failure`].
    pub fn get_within(&self, timeout_ms: u32, path: &str) -> Result<Value, Failure> {
        self.sent(Request::get(self.url(path)).timeout_ms(timeout_ms))
    }

    /// Gets `path` below version 1 of the client API, where newer endpoints stand.
    ///
    /// # Errors
    /// See [`Failure`].
    pub fn get_v1(&self, path: &str) -> Result<Value, Failure> {
        let url = format!("{}/_matrix/client/v1/{path}", self.base);
        self.sent(Request::get(url).timeout_ms(CALL_TIMEOUT_MS))
    }

    /// Gets `path` below the client API and reads it; none where the server says that there is nothing.
    ///
    /// # Errors
    /// See [`Failure`]; of those that will not change, only [`Failure::Unreadable`].
    pub fn find<T: DeserializeOwned>(&self, path: &str) -> Result<Option<T>, Failure> {
        match self.get(path) {
            Ok(found) => read(found).map(Some),
            Err(failure) if failure.is_lasting() => Ok(None),
            Err(failure) => Err(failure),
        }
    }

    /// Puts `content` to `path` below the client API.
    ///
    /// # Errors
    /// See [`Failure`].
    pub fn put(&self, path: &str, content: &Value) -> Result<Value, Failure> {
        self.sent(
            Request::new("PUT", self.url(path))
                .json(content)
                .timeout_ms(CALL_TIMEOUT_MS),
        )
    }

    /// Posts `content` to `path` below the client API.
    ///
    /// # Errors
    /// See [`Failure`].
    pub fn post(&self, path: &str, content: &Value) -> Result<Value, Failure> {
        self.sent(Request::post(self.url(path)).json(content).timeout_ms(CALL_TIMEOUT_MS))
    }

    /// Uploads a file and returns its `mxc://` address.
    ///
    /// # Errors
    /// See [`Failure`].
    pub fn upload(&self, name: &str, media_type: &str, blob: &str) -> Result<String, Failure> {
        let url = format!(
            "{}/_matrix/media/v3/upload?filename={}",
            self.base,
            segment_escaped(name)
        );
        let request = Request::post(url).header("Content-Type", media_type).blob(blob);
        let uploaded = self.sent(request.timeout_ms(FILE_TIMEOUT_MS))?;
        uploaded["content_uri"]
            .as_str()
            .map(str::to_owned)
            .ok_or_else(|| Failure::Unreadable("the upload has no address".to_owned()))
    }

    /// Fetches the file at `server` and `id` of an `mxc://` address and returns the handle of its blob.
    ///
    /// # Errors
    /// See [`Failure`].
    pub fn download(&self, server: &str, id: &str) -> Result<String, Failure> {
        let file = format!("download/{}/{}", segment_escaped(server), segment_escaped(id));
        match self.downloaded(&format!("_matrix/client/v1/media/{file}")) {
            // Servers from before Matrix 1.11 hand out files elsewhere.
            Err(failure) if failure.is_unrecognized() => self.downloaded(&format!("_matrix/media/v3/{file}")),
            settled => settled,
        }
    }

    fn downloaded(&self, path: &str) -> Result<String, Failure> {
        let request = authorized(Request::get(format!("{}/{path}", self.base))).timeout_ms(FILE_TIMEOUT_MS);
        let (response, blob) = request.download()?;
        if response.is_success() {
            return Ok(blob);
        }
        // The words of the refusal went into the blob, and its status says enough.
        Err(Failure::Gateway(response.status))
    }

    /// Returns the account as it was last seen, or else asks for it.
    ///
    /// # Errors
    /// See [`Failure`].
    pub fn me(&self) -> Result<Me, Failure> {
        match state::get_json(ME_KEY) {
            Ok(Some(me)) => Ok(me),
            Ok(None) => self.fresh_me(),
            Err(error) => {
                warn!("the account is asked for again: {error}");
                self.fresh_me()
            }
        }
    }

    /// Asks for the account and keeps it for [`Self::me`].
    ///
    /// # Errors
    /// See [`Failure`].
    pub fn fresh_me(&self) -> Result<Me, Failure> {
        let me: Me = read(self.get("account/whoami")?)?;
        // Writes wait for the disk, so an unchanged account is not written again.
        if state::get_json(ME_KEY).ok().flatten().as_ref() != Some(&me)
            && let Err(error) = state::set_json(ME_KEY, &me)
        {
            warn!("the account's id was not kept: {error}");
        }
        Ok(me)
    }

    fn url(&self, path: &str) -> String {
        format!("{}/{CLIENT}/{path}", self.base)
    }

    fn sent(&self, request: Request) -> Result<Value, Failure> {
        let response = authorized(request).send()?;
        Failure::or_result(&response, clock::now_ms())
    }
}

fn authorized(request: Request) -> Request {
    request.header("Authorization", "Bearer {{access-token}}")
}

/// Reads a result.
///
/// # Errors
/// [`Failure::Unreadable`].
pub fn read<T: DeserializeOwned>(result: Value) -> Result<T, Failure> {
    serde_json::from_value(result).map_err(|error| Failure::Unreadable(error.to_string()))
}

/// Returns the path of something in a room; every piece after `room` is escaped.
pub fn room_path(room: &str, pieces: &[&str]) -> String {
    let mut path = format!("rooms/{}", segment_escaped(room));
    for piece in pieces {
        path.push('/');
        path.push_str(&segment_escaped(piece));
    }
    path
}

#[cfg(test)]
mod tests {
    use super::room_path;

    #[test]
    fn an_id_can_not_leave_its_place_in_the_path() {
        assert_eq!(
            room_path("!a:b/../x", &["send", "m.room.message", "k{{access-token}}?"]),
            "rooms/%21a%3Ab%2F..%2Fx/send/m.room.message/k%7B%7Baccess-token%7D%7D%3F"
        );
    }
}
