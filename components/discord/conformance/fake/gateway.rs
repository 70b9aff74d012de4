//! The fake's gateway.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade};
use axum::extract::{Query, State as Held};
use axum::response::Response;
use axum::routing::get;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::state::{Session, bot, member, person};
use super::{ADA, CHANNEL, GUILD, Shared, THREAD, TOKEN};

/// Frames that may wait for one connection.
const FRAMES_MAX: usize = 1024;
/// Frames that a bot may send in a minute (Discord: Gateway, Rate Limiting).
const FRAMES_PER_MINUTE: usize = 120;
/// The time between two new sessions.
const IDENTIFY_PERIOD: Duration = Duration::from_millis(4_500);
/// How late a heartbeat may be: far more than a machine that compiles other things meanwhile takes.
const LATE_MAX: Duration = Duration::from_secs(20);

/// What a connection is told to do.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Order {
    /// Send this frame.
    Frame(Value),
    /// End without a farewell.
    Drop,
    /// Ask the bot to connect again.
    Reconnect,
    /// Say that the session is invalid, and whether it can be resumed.
    Invalidate(bool),
    /// Leave heartbeats without an answer, or answer them again.
    Silence(bool),
    /// Close the next connection with this code after its greeting.
    RefuseNext(u16),
    /// The time between heartbeats of connections to come.
    HeartbeatMs(u64),
}

pub(crate) fn routes() -> Router<Arc<Shared>> {
    Router::new()
        .route("/", get(connect))
        .route("/gw/", get(connect))
        .route("/gw", get(connect))
}

async fn connect(
    Held(shared): Held<Arc<Shared>>,
    Query(query): Query<HashMap<String, String>>,
    upgrade: WebSocketUpgrade,
) -> Response {
    upgrade.on_upgrade(async move |socket| {
        let is_right = query.get("v").is_some_and(|v| v == "10") && query.get("encoding").is_some_and(|e| e == "json");
        Connection::new(shared, socket).run(is_right).await;
    })
}

struct Connection {
    shared: Arc<Shared>,
    socket: WebSocket,
    orders: mpsc::Receiver<Order>,
    line: mpsc::Sender<Order>,
    session: Option<String>,
    interval: Duration,
    beaten: Instant,
    frames: Vec<Instant>,
}

impl Connection {
    fn new(shared: Arc<Shared>, socket: WebSocket) -> Self {
        let (line, orders) = mpsc::channel(FRAMES_MAX);
        let interval = Duration::from_millis(shared.lock().heartbeat_ms);
        Self {
            shared,
            socket,
            orders,
            line,
            session: None,
            interval,
            beaten: Instant::now(),
            frames: Vec::new(),
        }
    }

    async fn run(mut self, is_right: bool) {
        if !is_right {
            return self.close(4012).await;
        }
        let hello =
            json!({"op": 10, "s": null, "t": null, "d": {"heartbeat_interval": self.interval.as_millis() as u64}});
        self.send(&hello).await;
        loop {
            let deadline = self.beaten + self.interval + LATE_MAX;
            let go_on = tokio::select! {
                frame = self.socket.recv() => match frame {
                    Some(Ok(Message::Text(text))) => self.take(&text).await,
                    Some(Ok(Message::Ping(_) | Message::Pong(_))) => true,
                    _ => false,
                },
                Some(order) = self.orders.recv() => self.obey(order).await,
                () = tokio::time::sleep_until(deadline.into()) => {
                    self.violation("no heartbeat came in time");
                    self.close(4009).await;
                    false
                }
            };
            if !go_on {
                return;
            }
        }
    }

    async fn obey(&mut self, order: Order) -> bool {
        match order {
            Order::Frame(frame) => self.send(&frame).await,
            Order::Drop => return false,
            Order::Reconnect => self.send(&json!({"op": 7, "d": null, "s": null, "t": null})).await,
            Order::Invalidate(can_resume) => {
                self.send(&json!({"op": 9, "d": can_resume, "s": null, "t": null}))
                    .await;
            }
            Order::Silence(_) | Order::RefuseNext(_) | Order::HeartbeatMs(_) => {}
        }
        true
    }

    async fn take(&mut self, text: &str) -> bool {
        self.frames.retain(|at| at.elapsed() < Duration::from_secs(60));
        self.frames.push(Instant::now());
        if self.frames.len() > FRAMES_PER_MINUTE {
            self.violation("more than 120 frames in a minute");
            self.close(4008).await;
            return false;
        }
        let Ok(frame) = serde_json::from_str::<Value>(text) else {
            self.close(4002).await;
            return false;
        };
        match frame["op"].as_u64() {
            Some(1) => self.beat(&frame["d"]).await,
            Some(2) => return self.identify(&frame["d"]).await,
            Some(6) => return self.resume(&frame["d"]).await,
            // Presence and voice: nothing that a test needs.
            Some(3 | 4 | 8) => {}
            _ => {
                self.close(4001).await;
                return false;
            }
        }
        true
    }

    async fn beat(&mut self, seq: &Value) {
        self.beaten = Instant::now();
        let (is_silent, known) = {
            let state = self.shared.lock();
            let session = state
                .sessions
                .iter()
                .find(|session| Some(&session.id) == self.session.as_ref());
            (state.is_silent, session.map(|session| session.events.len() as u64))
        };
        if let (Some(known), Some(said)) = (known, seq.as_u64())
            && said > known
        {
            self.violation("a heartbeat with a number that was never sent");
        }
        if !is_silent {
            self.send(&json!({"op": 11, "d": null, "s": null, "t": null})).await;
        }
    }

    /// Returns the code to close with where the greeting is refused.
    fn refusal(&self, d: &Value) -> Option<u16> {
        let mut state = self.shared.lock();
        if let Some(code) = state.refuse_next.take() {
            return Some(code);
        }
        if self.session.is_some() {
            return Some(4005);
        }
        (d["token"] != TOKEN || state.refuses_token).then_some(4004)
    }

    async fn identify(&mut self, d: &Value) -> bool {
        if let Some(code) = self.refusal(d) {
            self.close(code).await;
            return false;
        }
        if !d["intents"].is_u64() || !d["properties"].is_object() {
            self.close(4002).await;
            return false;
        }
        let (too_soon, ready) = {
            let mut state = self.shared.lock();
            let too_soon = state.last_identify.is_some_and(|at| at.elapsed() < IDENTIFY_PERIOD);
            state.last_identify = Some(Instant::now());
            (too_soon, !too_soon)
        };
        if too_soon {
            self.violation("two new sessions within five seconds");
            self.send(&json!({"op": 9, "d": false, "s": null, "t": null})).await;
        }
        if ready {
            self.begin();
        }
        true
    }

    fn begin(&mut self) {
        let mut state = self.shared.lock();
        state.identified += 1;
        let id = format!("session-{}", state.identified);
        let resume = format!("ws://{}/gw", self.shared.address);
        let mut session = Session {
            id: id.clone(),
            events: Vec::new(),
            line: Some(self.line.clone()),
        };
        session.dispatch(
            "READY",
            &json!({"v": 10, "user": bot(), "guilds": [{"id": GUILD, "unavailable": true}], "session_id": id,
                "resume_gateway_url": resume, "session_type": "normal", "private_channels": [],
                "application": {"id": "700", "flags": 0}}),
        );
        let (channel, thread) = (
            state.channels.get(CHANNEL).cloned(),
            state.channels.get(THREAD).cloned(),
        );
        let mut members = Vec::new();
        for user in [bot(), person(ADA)] {
            let mut entry = member();
            entry["user"] = user;
            members.push(entry);
        }
        session.dispatch(
            "GUILD_CREATE",
            &json!({"id": GUILD, "name": "Crew", "owner_id": ADA, "unavailable": false, "member_count": 2, "large": false,
                "roles": [{"id": GUILD, "name": "@everyone", "color": 0, "hoist": false, "position": 0, "permissions": "0",
                "managed": false, "mentionable": false, "flags": 0}], "emojis": [], "stickers": [], "features": [],
                "members": members, "channels": channel.into_iter().collect::<Vec<_>>(),
                "threads": thread.into_iter().collect::<Vec<_>>(), "presences": [], "voice_states": [],
                "stage_instances": [], "guild_scheduled_events": [], "verification_level": 0, "nsfw_level": 0,
                "default_message_notifications": 0, "explicit_content_filter": 0, "mfa_level": 0, "afk_timeout": 300,
                "premium_tier": 0, "preferred_locale": "en-US", "system_channel_flags": 0, "joined_at": "2026-01-01T00:00:00+00:00"}),
        );
        state.sessions.push(session);
        state.receivers_max = state.receivers_max.max(state.receivers());
        drop(state);
        self.session = Some(id);
        self.shared.greeted.send_replace(());
    }

    async fn resume(&mut self, d: &Value) -> bool {
        if let Some(code) = self.refusal(d) {
            self.close(code).await;
            return false;
        }
        let missed = self.missed(d);
        match missed {
            Err(code) => {
                self.close(code).await;
                false
            }
            Ok(None) => {
                self.send(&json!({"op": 9, "d": false, "s": null, "t": null})).await;
                true
            }
            Ok(Some(frames)) => {
                for frame in frames {
                    self.send(&frame).await;
                }
                true
            }
        }
    }

    /// Takes over a session: what it missed, with `RESUMED` after it; none where there is no such session.
    fn missed(&mut self, d: &Value) -> Result<Option<Vec<Value>>, u16> {
        let mut state = self.shared.lock();
        let Some(session) = state
            .sessions
            .iter_mut()
            .find(|session| d["session_id"] == session.id.as_str())
        else {
            return Ok(None);
        };
        let seq = d["seq"].as_u64().ok_or(4002_u16)?;
        let seq = usize::try_from(seq).map_err(|_| 4007_u16)?;
        if seq > session.events.len() {
            return Err(4007);
        }
        let mut frames = session.events[seq..].to_vec();
        let resumed = json!({"op": 0, "s": session.events.len() + 1, "t": "RESUMED", "d": {"_trace": []}});
        session.events.push(resumed.clone());
        frames.push(resumed);
        // The old connection, should it still be there, loses the session.
        session.line = Some(self.line.clone());
        self.session = Some(session.id.clone());
        state.resumed += 1;
        state.receivers_max = state.receivers_max.max(state.receivers());
        drop(state);
        self.shared.greeted.send_replace(());
        Ok(Some(frames))
    }

    async fn send(&mut self, frame: &Value) {
        // A connection that is gone ends with the next read.
        let _ = self.socket.send(Message::text(frame.to_string())).await;
    }

    async fn close(&mut self, code: u16) {
        let frame = CloseFrame {
            code,
            reason: "as the fake was told, or as Discord would".into(),
        };
        let _ = self.socket.send(Message::Close(Some(frame))).await;
    }

    fn violation(&self, words: &str) {
        self.shared.lock().violations.push(words.to_owned());
    }
}
