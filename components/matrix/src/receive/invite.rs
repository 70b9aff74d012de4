//! Invitations: those of people who may talk to the agent are accepted, others declined.
//!
//! Who may talk is the gateway's to say, and it says so of messages only: so each invitation is published as an event of
//! its inviter, and what becomes of that decides.

use std::collections::BTreeMap;

use sluicegate_sdk::inbox::{self, Outcome, PublishError};
use sluicegate_sdk::serde_json::{Value, json};
use sluicegate_sdk::{Conversation, EventKind, InboundMessage, Sender, error, info, warn};

use super::lasting;
use crate::failure::Failure;
use crate::homeserver::{Homeserver, room_path};
use crate::wire::{Invited, Me};

/// How often accepting or declining an invitation may fail for a reason that passes, before it is left alone: a room whose
/// own server is gone must not hold up what people say in others.
const INVITE_ATTEMPTS_MAX: u32 = 3;
/// Rooms whose invitations that failed are counted; above it counting begins anew.
const INVITES_COUNTED_MAX: usize = 500;

/// How often answering the invitations to rooms has failed.
#[derive(Debug, Default)]
pub(super) struct Invitations {
    failed: BTreeMap<String, u32>,
}

impl Invitations {
    /// Accepts or declines an invitation; one whose answer has failed too often is left alone. False when the channel is
    /// being shut down.
    pub(super) fn answer(
        &mut self,
        server: &Homeserver,
        me: &Me,
        room: &str,
        invited: &Invited,
    ) -> Result<bool, Failure> {
        let failure = match answer(server, me, room, invited) {
            Err(failure) if failure.is_of_one_call() => failure,
            answered => {
                self.failed.remove(room);
                return answered;
            }
        };
        if self.failed.len() >= INVITES_COUNTED_MAX {
            self.failed.clear();
        }
        let count = self.failed.entry(room.to_owned()).or_default();
        *count += 1;
        if *count < INVITE_ATTEMPTS_MAX {
            return Err(failure);
        }
        error!("an invitation to room {room} is left alone, since answering it failed {count} times: {failure}");
        self.failed.remove(room);
        Ok(true)
    }
}

fn answer(server: &Homeserver, me: &Me, room: &str, invited: &Invited) -> Result<bool, Failure> {
    let Some(inviter) = inviter(me, &invited.invite_state.events) else {
        warn!("an invitation to room {room} names nobody who invites, and is left alone");
        return Ok(true);
    };
    let permitted = match inbox::publish_waiting(&[event(room, inviter)], None) {
        Ok(outcomes) => outcomes != [Outcome::Refused],
        Err(PublishError::Invalid(why)) => {
            warn!("an invitation to room {room} is left alone: {why}");
            return Ok(true);
        }
        Err(PublishError::ShuttingDown | PublishError::Busy(_)) => return Ok(false),
    };
    if permitted {
        info!("{inviter} invites to room {room}: accepted");
        lasting(server.post(&room_path(room, &["join"]), &json!({})), "joining a room")?;
    } else {
        warn!("{inviter} invites to room {room}: declined, since they may not talk to the agent");
        lasting(
            server.post(&room_path(room, &["leave"]), &json!({})),
            "declining an invitation",
        )?;
    }
    Ok(true)
}

fn event(room: &str, inviter: &str) -> InboundMessage {
    InboundMessage {
        kind: EventKind::Other,
        addressed: false,
        ..InboundMessage::text(
            format!("invite:{room}"),
            Conversation::group(room),
            Sender::person(inviter),
            "invites the account to this room",
        )
    }
}

/// Returns who sent the invitation.
fn inviter<'a>(me: &Me, state: &'a [Value]) -> Option<&'a str> {
    let is_mine = |event: &&Value| {
        event["type"] == "m.room.member"
            && event["state_key"] == me.user_id
            && event["content"]["membership"] == "invite"
    };
    state.iter().find(is_mine)?["sender"].as_str()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_accounts_own_invitation_names_the_inviter() {
        let me = Me {
            user_id: "@bot:a".to_owned(),
        };
        let member = |of: &str, membership: &str, sender: &str| json!({"type": "m.room.member", "state_key": of, "sender": sender, "content": {"membership": membership}});
        let state = [
            json!(7),
            member("@eve:a", "invite", "@mallory:a"),
            member("@ada:a", "join", "@ada:a"),
            member("@bot:a", "invite", "@ada:a"),
        ];
        assert_eq!(inviter(&me, &state), Some("@ada:a"));
        assert_eq!(inviter(&me, &state[..3]), None);
    }
}
