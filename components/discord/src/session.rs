//! The gateway's protocol as a state machine, without any I/O (Discord: Gateway).
//!
//! Frames and the passing of time go in, [`Step`]s come out. What must outlive the process is [`Saved`]: it is the
//! channel's cursor, and moves on only together with the messages that it covers.

use serde::{Deserialize, Serialize};
use sluicegate_sdk::serde_json::{self, Value, json};

use crate::wire::{Frame, Ready, op};

/// The shortest time between heartbeats that is believed, milliseconds: less would be a flood of ours.
const INTERVAL_MS_MIN: u64 = 1_000;
/// The time between heartbeats until the gateway has said its own, milliseconds.
const INTERVAL_MS_DEFAULT: u64 = 41_250;
/// The waits before a session that was refused is tried anew, milliseconds: Discord asks for one to five seconds.
const REFUSED_WAIT_MS: (u64, u64) = (1_000, 5_000);

/// A session that can be resumed, from where it was stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Saved {
    /// The bot's own id: another bot's session is of no use.
    pub bot: String,
    /// The session's id.
    pub session: String,
    /// Where it is resumed.
    pub url: Option<String>,
    /// The last event that is stored.
    pub seq: u64,
}

impl Saved {
    /// Reads a cursor; none where it belongs to another bot.
    pub fn of_cursor(cursor: &str, bot: &str) -> Option<Self> {
        serde_json::from_str::<Self>(cursor)
            .ok()
            .filter(|saved| saved.bot == bot)
    }

    /// Writes the cursor.
    pub fn cursor(&self) -> String {
        json!({"bot": self.bot, "session": self.session, "url": self.url, "seq": self.seq}).to_string()
    }
}

/// What to do next.
#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    /// Send this frame.
    Send(Value),
    /// The session is up.
    Up,
    /// Something happened on Discord.
    Event {
        /// The event's name.
        name: String,
        /// Its contents.
        data: Value,
    },
    /// Connect again after this wait, milliseconds; with [`Session::saved`] where there is one.
    Again(u64),
    /// Stop with these words for the operator.
    Stop(String),
}

/// One bot's session over any number of connections.
#[derive(Debug, Clone, PartialEq)]
pub struct Session {
    bot: String,
    intents: u64,
    saved: Option<Saved>,
    /// The last event seen, also where no session is known yet.
    seq: Option<u64>,
    interval_ms: u64,
    /// When the next heartbeat is due; none before the gateway has said hello.
    beat_due_ms: Option<u64>,
    /// Whether the last heartbeat was answered.
    is_answered: bool,
}

impl Session {
    /// Starts from what is stored.
    pub fn new(bot: &str, intents: u64, saved: Option<Saved>) -> Self {
        Self {
            bot: bot.to_owned(),
            intents,
            seq: saved.as_ref().map(|saved| saved.seq),
            saved,
            interval_ms: INTERVAL_MS_DEFAULT,
            beat_due_ms: None,
            is_answered: true,
        }
    }

    /// Returns the session that can be resumed.
    pub fn saved(&self) -> Option<&Saved> {
        self.saved.as_ref()
    }

    /// Forgets the connection: a new one begins with the gateway's hello.
    pub fn disconnected(&mut self) {
        self.beat_due_ms = None;
        self.is_answered = true;
    }

    /// Returns when the next heartbeat is due, Unix milliseconds.
    pub fn beat_due_ms(&self) -> Option<u64> {
        self.beat_due_ms
    }

    /// Takes a frame. `random` is any number: it spreads heartbeats and waits.
    pub fn frame(&mut self, frame: Frame, now_ms: u64, random: u64) -> Option<Step> {
        match frame.op {
            op::HELLO => {
                let interval = frame.d["heartbeat_interval"].as_u64().unwrap_or(INTERVAL_MS_DEFAULT);
                self.interval_ms = interval.max(INTERVAL_MS_MIN);
                // The first one comes at a random time, so that a restart of the gateway does not line all bots up.
                self.beat_due_ms = Some(now_ms.saturating_add(random % self.interval_ms));
                Some(Step::Send(self.greeting()))
            }
            op::HEARTBEAT => Some(Step::Send(self.heartbeat())),
            op::HEARTBEAT_ACK => {
                self.is_answered = true;
                None
            }
            op::RECONNECT => Some(Step::Again(0)),
            op::INVALID_SESSION => {
                if frame.d != Value::Bool(true) {
                    self.forget();
                }
                let (least, most) = REFUSED_WAIT_MS;
                Some(Step::Again(least + random % (most - least)))
            }
            op::DISPATCH => self.dispatch(frame),
            _ => None,
        }
    }

    fn dispatch(&mut self, frame: Frame) -> Option<Step> {
        let name = frame.t?;
        if let Some(seq) = frame.s {
            self.seq = Some(seq);
            if let Some(saved) = &mut self.saved {
                saved.seq = seq;
            }
        }
        match name.as_str() {
            "READY" => {
                let ready = serde_json::from_value::<Ready>(frame.d).ok();
                self.saved = ready.map(|ready| Saved {
                    bot: self.bot.clone(),
                    session: ready.session_id,
                    url: ready.resume_gateway_url,
                    seq: self.seq.unwrap_or_default(),
                });
                Some(Step::Up)
            }
            "RESUMED" => Some(Step::Up),
            _ => Some(Step::Event { name, data: frame.d }),
        }
    }

    /// Sends the heartbeat that is due. One that is due while the last is unanswered means a dead connection.
    pub fn beat(&mut self, now_ms: u64) -> Option<Step> {
        if self.beat_due_ms? > now_ms {
            return None;
        }
        if !self.is_answered {
            return Some(Step::Again(0));
        }
        self.is_answered = false;
        self.beat_due_ms = Some(now_ms.saturating_add(self.interval_ms));
        Some(Step::Send(self.heartbeat()))
    }

    /// Takes the gateway's close (Discord: Gateway Close Event Codes).
    pub fn closed(&mut self, code: u16, reason: &str) -> Step {
        let stop = match code {
            4004 => "the bot token is refused: take a new one from the Developer Portal",
            4010 | 4011 => "the bot is in too many servers for one connection, and sharding is not offered",
            4012 => "the gateway's version is gone: this component is too old",
            4013 => "the intents are invalid",
            4014 => {
                "an intent is not allowed: turn on Message Content Intent in the Developer Portal, or set \
                 message-content to false"
            }
            // Not authenticated, a wrong number, or a session that is over: a new one.
            4003 | 4007 | 4009 => {
                self.forget();
                return Step::Again(REFUSED_WAIT_MS.0);
            }
            // Too many frames of ours.
            4008 => return Step::Again(REFUSED_WAIT_MS.1),
            _ => return Step::Again(REFUSED_WAIT_MS.0),
        };
        Step::Stop(format!("the gateway closed with {code} ({reason}): {stop}"))
    }

    fn forget(&mut self) {
        self.saved = None;
        self.seq = None;
    }

    fn heartbeat(&self) -> Value {
        json!({"op": op::HEARTBEAT, "d": self.seq})
    }

    /// The token is a placeholder, which the host fills in as the frame goes out.
    fn greeting(&self) -> Value {
        match &self.saved {
            Some(saved) => json!({
                "op": op::RESUME,
                "d": {"token": "{{bot-token}}", "session_id": saved.session, "seq": saved.seq},
            }),
            None => json!({
                "op": op::IDENTIFY,
                "d": {
                    "token": "{{bot-token}}", "intents": self.intents,
                    "properties": {"os": "linux", "browser": "sluicegate", "device": "sluicegate"},
                },
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(value: Value) -> Frame {
        serde_json::from_value(value).expect("a frame")
    }

    fn hello() -> Frame {
        frame(json!({"op": 10, "d": {"heartbeat_interval": 41_250}}))
    }

    fn ready() -> Frame {
        frame(json!({"op": 0, "s": 1, "t": "READY", "d": {
            "v": 10, "session_id": "s1", "resume_gateway_url": "wss://us.discord.gg",
        }}))
    }

    fn up() -> Session {
        let mut session = Session::new("700", 512, None);
        session.frame(hello(), 0, 1000);
        assert_eq!(session.frame(ready(), 0, 0), Some(Step::Up));
        session
    }

    #[test]
    fn a_new_session_identifies_and_beats_at_a_random_time_first() {
        let mut session = Session::new("700", 512, None);
        let Some(Step::Send(greeting)) = session.frame(hello(), 5_000, 41_250 * 3 + 1_234) else {
            panic!("it greets");
        };
        assert_eq!((&greeting["op"], &greeting["d"]["intents"]), (&json!(2), &json!(512)));
        assert_eq!(greeting["d"]["token"], "{{bot-token}}");
        assert_eq!(session.beat_due_ms(), Some(6_234));
        assert_eq!(session.beat(6_233), None);
        assert_eq!(session.beat(6_234), Some(Step::Send(json!({"op": 1, "d": null}))));
        assert_eq!(session.beat_due_ms(), Some(6_234 + 41_250));
    }

    #[test]
    fn a_heartbeat_carries_the_last_number_and_silence_means_a_dead_connection() {
        let mut session = up();
        assert_eq!(session.beat(1_000), Some(Step::Send(json!({"op": 1, "d": 1}))));
        assert_eq!(session.beat(42_250), Some(Step::Again(0)), "nothing answered");
        let mut session = up();
        session.beat(1_000);
        session.frame(frame(json!({"op": 11})), 1_100, 0);
        assert!(matches!(session.beat(42_250), Some(Step::Send(_))));
        let asked = session.frame(frame(json!({"op": 1, "d": null})), 0, 0);
        assert_eq!(asked, Some(Step::Send(json!({"op": 1, "d": 1}))));
    }

    #[test]
    fn a_session_is_resumed_from_its_cursor_with_the_last_stored_number() {
        let mut session = up();
        session.frame(frame(json!({"op": 0, "s": 9, "t": "MESSAGE_CREATE", "d": {}})), 0, 0);
        let cursor = session.saved().expect("it can be resumed").cursor();
        assert_eq!(Saved::of_cursor(&cursor, "701"), None, "another bot");
        let mut later = Session::new("700", 512, Saved::of_cursor(&cursor, "700"));
        let Some(Step::Send(greeting)) = later.frame(hello(), 0, 0) else {
            panic!("it greets");
        };
        let wanted = json!({"op": 6, "d": {"token": "{{bot-token}}", "session_id": "s1", "seq": 9}});
        assert_eq!(greeting, wanted);
        assert_eq!(
            later.saved().and_then(|saved| saved.url.as_deref()),
            Some("wss://us.discord.gg")
        );
    }

    #[test]
    fn an_invalid_session_is_resumed_or_begun_anew_as_the_gateway_says() {
        let mut session = up();
        assert_eq!(
            session.frame(frame(json!({"op": 9, "d": true})), 0, 500),
            Some(Step::Again(1_500))
        );
        assert!(session.saved().is_some());
        session.frame(frame(json!({"op": 9, "d": false})), 0, 0);
        assert_eq!(session.saved(), None);
        let Some(Step::Send(greeting)) = session.frame(hello(), 0, 0) else {
            panic!("it greets");
        };
        assert_eq!(greeting["op"], 2);
    }

    #[test]
    fn a_close_resumes_begins_anew_or_stops_by_its_code() {
        for code in [1000, 1001, 1006, 4000, 4001, 4002, 4005, 4008] {
            let mut session = up();
            assert!(matches!(session.closed(code, ""), Step::Again(_)), "{code}");
            assert!(session.saved().is_some(), "{code}");
        }
        for code in [4003, 4007, 4009] {
            let mut session = up();
            assert!(matches!(session.closed(code, ""), Step::Again(_)), "{code}");
            assert_eq!(session.saved(), None, "{code}");
        }
        for code in [4004, 4010, 4011, 4012, 4013, 4014] {
            assert!(matches!(up().closed(code, "x"), Step::Stop(_)), "{code}");
        }
        assert!(matches!(up().closed(4014, "x"), Step::Stop(words) if words.contains("Message Content Intent")));
    }

    #[test]
    fn frames_that_make_no_sense_are_passed_over() {
        let mut session = up();
        for odd in [json!({"op": 99}), json!({"op": 0}), json!({"op": 0, "t": null, "s": 3})] {
            assert_eq!(session.frame(frame(odd), 0, 0), None);
        }
        let silly = frame(json!({"op": 10, "d": {"heartbeat_interval": 0}}));
        assert!(matches!(session.frame(silly, 0, 7), Some(Step::Send(_))));
        assert!(session.beat_due_ms().is_some_and(|due| due < INTERVAL_MS_MIN));
    }
}
