//! One session with a server: registering, staying, sending in turn. Pure: lines and times go in, effects come out.

use std::collections::{BTreeMap, BTreeSet};

use sluicegate_sdk::InboundMessage;

use crate::map::{self, Answer, Order, Place};
use crate::pacer::Pacer;
use crate::wire::{CaseMapping, Line, is_word};

/// What is asked for where the server offers it, one by one: a single name that the server does not know would refuse a
/// list as a whole.
const WANTED: [&str; 7] = [
    "message-tags",
    "server-time",
    "account-tag",
    "batch",
    "echo-message",
    "labeled-response",
    "draft/bot",
];
/// How often a nick in use is tried with another ending.
const NICK_TRIES_MAX: usize = 5;
/// The length that every server allows a nick (RFC 1459 section 1.2), bytes: where another ending must be found.
const NICK_BYTES_SAFE: usize = 9;
/// How long registering may take, milliseconds.
const REGISTER_MS_MAX: u64 = 60_000;
/// How long the server may be silent before it is asked whether it is there, milliseconds.
const QUIET_MS_MAX: u64 = 90_000;
/// How long it may leave that, or an order, unanswered, milliseconds.
const ANSWER_MS_MAX: u64 = 30_000;
/// A server's words for a refused password, where it has no number for it (ngircd).
const BAD_PASSWORD: &str = "password";

/// Who we are.
#[derive(Debug, Clone, Default)]
pub struct Profile {
    /// The nick that is wanted.
    pub nick: String,
    /// What stands for a person's name.
    pub real_name: String,
    /// The account at the network's services.
    pub account: String,
    /// The channels to join.
    pub channels: Vec<String>,
    /// Whether there is a password for the account.
    pub has_password: bool,
    /// Whether there is a password for the server.
    pub has_server_password: bool,
    /// Stands before the ids that we give, and is another one in every session.
    pub id: String,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// Write a line.
    Write(String),
    /// Write a line in which `{{name}}` is a secret.
    WriteSecret(String),
    /// Give a message in.
    Publish(Box<InboundMessage>),
    /// Tell the host that a conversation can be reached.
    Reachable(String),
    /// Answer the order of this number.
    Answer(u64, Answer),
    /// The server has taken us in.
    Registered,
    /// Tell the operator.
    Warn(String),
    /// The server refuses our credentials: nothing can be sent until someone corrects them. The session is over.
    Refused(String),
    /// The session is over.
    End(String),
}

#[derive(Debug, PartialEq)]
enum Phase {
    /// Capabilities are asked for; these many answers are awaited.
    Capabilities { awaited: usize },
    /// SASL goes on.
    Authenticating,
    /// The server's welcome is awaited.
    Welcoming,
    /// We are in.
    Registered,
}

/// An order that the server has, and the barrier behind it: what it has to say of the order comes before its answer to
/// the barrier.
#[derive(Debug)]
struct InFlight {
    number: u64,
    token: String,
    sent_at_ms: u64,
    id: String,
    refusal: Option<Answer>,
}

/// One session.
#[derive(Debug)]
pub struct Session {
    profile: Profile,
    place: Place,
    phase: Phase,
    offered: BTreeMap<String, String>,
    enabled: BTreeSet<String>,
    nick_tries: usize,
    pacer: Pacer,
    in_flight: Option<InFlight>,
    /// Counts ids and barriers.
    count: u64,
    began_ms: u64,
    heard_ms: u64,
    /// When the server was asked whether it is there.
    asked_ms: Option<u64>,
    has_joined: bool,
}

impl Session {
    /// Begins a session; `line_interval_ms` is the pace after a burst.
    pub fn new(profile: Profile, line_interval_ms: u64, now_ms: u64) -> (Self, Vec<Effect>) {
        let place = Place {
            nick: profile.nick.clone(),
            casemapping: CaseMapping::default(),
            channel_types: "#&".to_owned(),
            status_prefixes: String::new(),
            has_accounts: false,
        };
        let mut effects = vec![Effect::Write("CAP LS 302".to_owned())];
        if profile.has_server_password {
            effects.push(Effect::WriteSecret("PASS :{{server-password}}".to_owned()));
        }
        effects.push(Effect::Write(format!("NICK {}", profile.nick)));
        effects.push(Effect::Write(format!(
            "USER {} 0 * :{}",
            user_name(&profile.nick),
            profile.real_name
        )));
        let session = Self {
            place,
            profile,
            phase: Phase::Capabilities { awaited: 1 },
            offered: BTreeMap::new(),
            enabled: BTreeSet::new(),
            nick_tries: 0,
            pacer: Pacer::new(line_interval_ms, now_ms),
            in_flight: None,
            count: 0,
            began_ms: now_ms,
            heard_ms: now_ms,
            asked_ms: None,
            has_joined: false,
        };
        (session, effects)
    }

    /// Whether an order may be taken now.
    pub fn takes_orders(&mut self, now_ms: u64) -> bool {
        self.phase == Phase::Registered && self.in_flight.is_none() && self.pacer.wait_ms(now_ms) == 0
    }

    /// Takes an order that [`takes_orders`](Self::takes_orders) had room for.
    pub fn order(&mut self, number: u64, order: Order, now_ms: u64) -> Vec<Effect> {
        if !is_word(&order.target) || order.target.contains(',') {
            let why = format!("{:?} is no channel and no nick", order.target);
            return vec![Effect::Answer(number, Answer::Rejected(why))];
        }
        self.pacer.take(now_ms);
        self.count += 1;
        let token = format!("{}-{}", self.profile.id, self.count);
        let label = if self.enabled.contains("labeled-response") {
            format!("@label={token} ")
        } else {
            String::new()
        };
        let text: String = order
            .text
            .chars()
            .filter(|c| !matches!(c, '\r' | '\n' | '\0'))
            .collect();
        let effects = vec![
            Effect::Write(format!("{label}PRIVMSG {} :{text}", order.target)),
            Effect::Write(format!("PING :{token}")),
        ];
        self.in_flight = Some(InFlight {
            number,
            id: token.clone(),
            token,
            sent_at_ms: now_ms,
            refusal: None,
        });
        effects
    }

    /// Says how long nothing needs to be done unless something comes, milliseconds.
    pub fn wait_ms(&self, now_ms: u64) -> u64 {
        let pace = match (&self.phase, &self.in_flight) {
            (Phase::Registered, None) => Some(self.pacer.wait_ms(now_ms)).filter(|wait| *wait > 0),
            _ => None,
        };
        let deadline = self.deadline_ms();
        pace.unwrap_or(u64::MAX).min(deadline.saturating_sub(now_ms)).max(1)
    }

    fn deadline_ms(&self) -> u64 {
        let answer = self
            .in_flight
            .as_ref()
            .map_or(u64::MAX, |order| order.sent_at_ms + ANSWER_MS_MAX);
        let life = match (&self.phase, self.asked_ms) {
            (Phase::Registered, Some(asked)) => asked + ANSWER_MS_MAX,
            (Phase::Registered, None) => self.heard_ms + QUIET_MS_MAX,
            _ => self.began_ms + REGISTER_MS_MAX,
        };
        answer.min(life)
    }

    /// Does what is due when nothing came.
    pub fn tick(&mut self, now_ms: u64) -> Vec<Effect> {
        if now_ms < self.deadline_ms() {
            return Vec::new();
        }
        let is_overdue = self.phase != Phase::Registered || self.asked_ms.is_some() || self.in_flight.is_some();
        if is_overdue {
            return vec![Effect::End("the server does not answer".to_owned())];
        }
        self.asked_ms = Some(now_ms);
        vec![Effect::Write(format!("PING :{}", self.profile.id))]
    }

    /// Takes a line from the server.
    pub fn line(&mut self, line: &Line, now_ms: u64) -> Vec<Effect> {
        self.heard_ms = now_ms;
        self.asked_ms = None;
        match line.command.as_str() {
            "PING" => vec![Effect::Write(format!("PONG :{}", line.last()))],
            "PONG" => self.pong(line),
            "CAP" => self.capabilities(line),
            "AUTHENTICATE" | "900" | "902" | "903" | "904" | "905" | "906" | "907" | "908" => self.sasl(line),
            "001" => self.welcome(line),
            "005" => self.supports(line),
            "376" | "422" => self.join(),
            "432" | "433" | "436" | "437" if self.phase != Phase::Registered => self.another_nick(line),
            "464" | "465" => vec![Effect::Refused(format!("the server says: {}", line.last()))],
            "ERROR" => vec![self.closing(line.last())],
            "PRIVMSG" => self.message(line),
            "JOIN" if self.place.is_me(line.nick()) => {
                vec![Effect::Reachable(self.place.conversation_id(line.param(0)))]
            }
            "NICK" if self.place.is_me(line.nick()) => {
                self.place.nick = line.param(0).to_owned();
                Vec::new()
            }
            "KICK" if self.place.is_me(line.param(1)) => {
                let words = format!("{} threw us out of {}: {}", line.nick(), line.param(0), line.last());
                vec![Effect::Warn(words)]
            }
            "471" | "473" | "474" | "475" | "476" | "405" => {
                vec![Effect::Warn(format!(
                    "{} can't be joined: {}",
                    line.param(1),
                    line.last()
                ))]
            }
            _ => self.refusal(line),
        }
    }

    fn closing(&self, words: &str) -> Effect {
        if self.phase != Phase::Registered && words.to_ascii_lowercase().contains(BAD_PASSWORD) {
            return Effect::Refused(format!("the server says: {words}"));
        }
        Effect::End(format!("the server closed the connection: {words}"))
    }

    fn capabilities(&mut self, line: &Line) -> Vec<Effect> {
        let Phase::Capabilities { awaited } = &mut self.phase else {
            return Vec::new();
        };
        match line.param(1).to_ascii_uppercase().as_str() {
            "LS" => {
                let named = line.last().split_whitespace();
                let pairs = named.map(|named| named.split_once('=').unwrap_or((named, "")));
                self.offered
                    .extend(pairs.map(|(name, value)| (name.to_owned(), value.to_owned())));
                if line.param(2) == "*" {
                    return Vec::new();
                }
                self.request()
            }
            answer @ ("ACK" | "NAK") => {
                *awaited = awaited.saturating_sub(1);
                let is_last = *awaited == 0;
                if answer == "ACK" {
                    self.enabled.extend(line.last().split_whitespace().map(str::to_owned));
                }
                if is_last { self.authenticate() } else { Vec::new() }
            }
            _ => Vec::new(),
        }
    }

    fn request(&mut self) -> Vec<Effect> {
        let sasl = self.profile.has_password.then_some("sasl");
        let wanted = WANTED
            .into_iter()
            .chain(sasl)
            .filter(|name| self.offered.contains_key(*name));
        let requests: Vec<Effect> = wanted.map(|name| Effect::Write(format!("CAP REQ :{name}"))).collect();
        if requests.is_empty() {
            return self.authenticate();
        }
        self.phase = Phase::Capabilities {
            awaited: requests.len(),
        };
        requests
    }

    fn authenticate(&mut self) -> Vec<Effect> {
        self.place.has_accounts = self.enabled.contains("account-tag");
        if !self.profile.has_password {
            self.phase = Phase::Welcoming;
            return vec![Effect::Write("CAP END".to_owned())];
        }
        if !self.enabled.contains("sasl") {
            let why = "there is a password for an account, but the server offers no SASL to use it with";
            return vec![Effect::End(why.to_owned())];
        }
        self.phase = Phase::Authenticating;
        vec![Effect::Write("AUTHENTICATE PLAIN".to_owned())]
    }

    fn sasl(&mut self, line: &Line) -> Vec<Effect> {
        if self.phase != Phase::Authenticating {
            return Vec::new();
        }
        match line.command.as_str() {
            // RFC 4616: who we act for, who we are, the password.
            "AUTHENTICATE" => {
                let account = &self.profile.account;
                let template = format!("AUTHENTICATE {{{{base64:{account}\0{account}\0{{{{password}}}}}}}}");
                vec![Effect::WriteSecret(template)]
            }
            "903" | "907" => {
                self.phase = Phase::Welcoming;
                vec![Effect::Write("CAP END".to_owned())]
            }
            "900" | "908" => Vec::new(),
            _ => vec![Effect::Refused(format!(
                "the server refuses the account {}: {}",
                self.profile.account,
                line.last()
            ))],
        }
    }

    fn welcome(&mut self, line: &Line) -> Vec<Effect> {
        self.place.nick = line.param(0).to_owned();
        if self.phase == Phase::Registered {
            return Vec::new();
        }
        if self.profile.has_password && self.phase != Phase::Welcoming {
            // It let us in without asking who we are: others may hold the nick that people trust.
            return vec![Effect::End(
                "there is a password for an account, but the server knows no SASL".to_owned(),
            )];
        }
        self.phase = Phase::Registered;
        vec![Effect::Registered]
    }

    fn supports(&mut self, line: &Line) -> Vec<Effect> {
        let mut effects = Vec::new();
        for token in line.params.iter().skip(1) {
            let (name, value) = token.split_once('=').unwrap_or((token, ""));
            match name {
                "CASEMAPPING" => self.place.casemapping = CaseMapping::parse(value),
                "CHANTYPES" => value.clone_into(&mut self.place.channel_types),
                "STATUSMSG" => value.clone_into(&mut self.place.status_prefixes),
                // The mode that marks us as a program (ircv3.net/specs/extensions/bot-mode).
                "BOT" if value.len() == 1 && value.bytes().all(|byte| byte.is_ascii_alphabetic()) => {
                    effects.push(Effect::Write(format!("MODE {} +{value}", self.place.nick)));
                }
                _ => {}
            }
        }
        effects
    }

    fn join(&mut self) -> Vec<Effect> {
        if std::mem::replace(&mut self.has_joined, true) {
            return Vec::new();
        }
        let joins = self
            .profile
            .channels
            .iter()
            .map(|channel| Effect::Write(format!("JOIN {channel}")));
        joins.collect()
    }

    fn another_nick(&mut self, line: &Line) -> Vec<Effect> {
        if line.command == "432" || self.nick_tries >= NICK_TRIES_MAX {
            return vec![Effect::End(format!(
                "the server refuses the nick {}: {}",
                line.param(1),
                line.last()
            ))];
        }
        self.nick_tries += 1;
        let nick = with_ending(&self.profile.nick, self.nick_tries);
        self.place.nick.clone_from(&nick);
        vec![
            Effect::Warn(format!("the nick {} is in use: trying {nick}", line.param(1))),
            Effect::Write(format!("NICK {nick}")),
        ]
    }

    fn message(&mut self, line: &Line) -> Vec<Effect> {
        if self.place.is_me(line.nick()) {
            self.echo(line);
            return Vec::new();
        }
        self.count += 1;
        let fallback_id = format!("{}-{}", self.profile.id, self.count);
        let message = map::inbound(line, &self.place, &fallback_id);
        message
            .into_iter()
            .map(|message| Effect::Publish(Box::new(message)))
            .collect()
    }

    /// Takes the server's id of what we sent from its echo.
    fn echo(&mut self, line: &Line) {
        let Some(order) = &mut self.in_flight else { return };
        let is_ours = line.tags.get("label") == Some(&order.token);
        if let Some(id) = line.tags.get("msgid").filter(|id| is_ours && !id.is_empty()) {
            order.id.clone_from(id);
        }
    }

    /// Takes a reply that may refuse the order in flight.
    fn refusal(&mut self, line: &Line) -> Vec<Effect> {
        if let Some(order) = &mut self.in_flight
            && order.refusal.is_none()
        {
            order.refusal = Answer::from_numeric(line);
        }
        Vec::new()
    }

    /// The server has worked off all that was written before its barrier.
    fn pong(&mut self, line: &Line) -> Vec<Effect> {
        let answered = self.in_flight.take_if(|order| line.last() == order.token);
        let answer = answered.map(|order| {
            let answer = order.refusal.unwrap_or(Answer::Sent(order.id));
            Effect::Answer(order.number, answer)
        });
        answer.into_iter().collect()
    }
}

/// Returns a user name for a nick: what servers take is narrower than what they take for nicks.
fn user_name(nick: &str) -> String {
    let plain: String = nick.chars().filter(char::is_ascii_alphanumeric).take(9).collect();
    if plain.is_empty() {
        "gateway".to_owned()
    } else {
        plain.to_ascii_lowercase()
    }
}

/// Returns a nick with a number at its end, short enough for every server.
fn with_ending(nick: &str, number: usize) -> String {
    let ending = format!("_{number}");
    let end = nick.floor_char_boundary(NICK_BYTES_SAFE.saturating_sub(ending.len()));
    format!("{}{ending}", &nick[..end])
}

#[cfg(test)]
mod tests;
