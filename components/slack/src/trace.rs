//! Finding a delivery's parts again: each text is sent with a mark in its metadata (docs.slack.dev: Message metadata), each
//! file has an id that is kept before it is shared, and the conversation's latest messages are searched for them. Pure.

use std::collections::BTreeMap;

use sluicegate_sdk::parts::Part;
use sluicegate_sdk::serde_json::{Value, json};
use sluicegate_sdk::{Action, Conversation, Finding, OutboundMessage, Receipt, SentPart};

use crate::plan;
use crate::uploads::Uploads;
use crate::wire::{Marked, Me};

/// The type of the metadata that holds a mark.
const EVENT_TYPE: &str = "sluicegate_delivery";
/// How far before the first attempt the search begins, milliseconds: Slack's clock is not the host's, and a draft that
/// became the answer's first part was posted while the agent was still at work.
const SLACK_MS: u64 = 10 * 60 * 1000;
/// Messages of one page (docs.slack.dev recommends no more).
const PAGE_MESSAGES: &str = "200";
/// Pages that are searched for one delivery: a thousand messages. What lies behind them stays unknown.
pub const PAGES_MAX: usize = 5;

/// The parts of a delivery that were found, by index: Slack's name of each message, and the id of each file.
pub type Found = BTreeMap<u32, String>;

/// Returns the metadata by which a part is found again.
pub fn mark(delivery_key: &str, index: u32) -> Value {
    json!({"event_type": EVENT_TYPE, "event_payload": {"delivery_key": delivery_key, "part": index}})
}

/// Returns the method that lists a conversation's or thread's messages since an attempt, and its parameters.
pub fn search(conversation: &Conversation, since_ms: u64) -> (&'static str, Vec<(&'static str, String)>) {
    let oldest_ms = since_ms.saturating_sub(SLACK_MS);
    let mut params = vec![
        ("channel", conversation.id.clone()),
        ("oldest", format!("{}.{:06}", oldest_ms / 1000, oldest_ms % 1000 * 1000)),
        ("limit", PAGE_MESSAGES.to_owned()),
        ("include_all_metadata", "true".to_owned()),
    ];
    match &conversation.thread {
        Some(thread) => {
            params.push(("ts", thread.clone()));
            ("conversations.replies", params)
        }
        None => ("conversations.history", params),
    }
}

/// Adds the parts that a page of messages shows. A message counts where it is the app's own, and bears the delivery's mark or
/// shares one of its uploads.
pub fn add_found(found: &mut Found, page: &[Value], me: &Me, delivery_key: &str, uploads: &Uploads) {
    for message in page {
        // What can't be read has no mark of ours.
        let Ok(message) = sluicegate_sdk::serde_json::from_value::<Marked>(message.clone()) else {
            continue;
        };
        if !message.is_by(me) {
            continue;
        }
        if let (Some(index), Some(ts)) = (marked_part(&message, delivery_key), plan::message_ts(&message.ts)) {
            found.entry(index).or_insert_with(|| ts.to_owned());
        }
        for file in &message.files {
            if let Some((index, _)) = uploads.iter().find(|(_, ids)| ids.contains(&file.id)) {
                found.entry(*index).or_insert_with(|| file.id.clone());
            }
        }
    }
}

/// Returns the part of a delivery that a message is by its mark.
fn marked_part(message: &Marked, delivery_key: &str) -> Option<u32> {
    let metadata = message.metadata.as_ref()?;
    let payload = &metadata.event_payload;
    let is_marked = metadata.event_type == EVENT_TYPE && payload["delivery_key"] == delivery_key;
    let index = payload["part"].as_u64().filter(|_| is_marked)?;
    u32::try_from(index).ok()
}

/// Returns whether nobody needs to search: what the message asks for can be done again without a copy.
pub fn is_repeatable(message: &OutboundMessage) -> bool {
    matches!(message.action, Action::Delete(_) | Action::React(_))
}

/// Says what became of a message whose parts were searched for to the end.
///
/// Parts go out in order, and each is reported before the next: only the first that the host does not know of can be in
/// doubt.
pub fn finding(message: &OutboundMessage, parts: &[Part<'_>], found: &Found, uploads: &Uploads) -> Finding {
    let known = |index: u32| message.sent_part(index).or(found.get(&index).map(String::as_str));
    let ids: Vec<&str> = (0_u32..).zip(parts).map_while(|(index, _)| known(index)).collect();
    if !parts.is_empty() && ids.len() == parts.len() {
        return Finding::Delivered(Receipt::complete(ids));
    }
    let in_doubt = (0_u32..)
        .zip(parts)
        .find(|(index, _)| message.sent_part(*index).is_none());
    match in_doubt {
        // Slack shares a file some time after it has answered, so one that is not there may still come.
        Some((index, _)) if uploads.contains_key(&index) && !found.contains_key(&index) => Finding::Unknown,
        _ => Finding::NotDelivered(unreported(message, found)),
    }
}

fn unreported(message: &OutboundMessage, found: &Found) -> Vec<SentPart> {
    let unreported = found.iter().filter(|(index, _)| message.sent_part(**index).is_none());
    let part = |(index, id): (&u32, &String)| SentPart {
        index: *index,
        message_id: id.clone(),
    };
    unreported.map(part).collect()
}

#[cfg(test)]
mod tests {
    use sluicegate_sdk::{Attachment, AttachmentSource};

    use super::*;

    fn me() -> Me {
        Me {
            user_id: "U7".to_owned(),
            bot_id: Some("B7".to_owned()),
            ..Me::default()
        }
    }

    fn message(already_sent: &[u32]) -> OutboundMessage {
        OutboundMessage {
            action: Action::Send,
            delivery_key: "dlv_1".to_owned(),
            attempt: 2,
            conversation: Conversation::group("C1"),
            in_reply_to: None,
            text: String::new(),
            attachments: vec![Attachment {
                name: None,
                media_type: "image/png".to_owned(),
                source: AttachmentSource::Blob("b1".to_owned()),
            }],
            choices: Vec::new(),
            draft_id: None,
            already_sent: already_sent
                .iter()
                .map(|index| SentPart {
                    index: *index,
                    message_id: format!("known.{index}"),
                })
                .collect(),
            extra: Vec::new(),
        }
    }

    fn text(words: &str) -> Part<'static> {
        Part::Text(words.to_owned())
    }

    /// A message as `conversations.history` shows it with `include_all_metadata` (docs.slack.dev).
    fn shown(ts: &str, key: &str, part: u64) -> Value {
        json!({"type": "message", "user": "U7", "bot_id": "B7", "app_id": "A7", "text": "hi", "ts": ts, "team": "T1",
            "metadata": {"event_type": "sluicegate_delivery", "event_payload": {"delivery_key": key, "part": part}}})
    }

    fn found_in(page: &[Value]) -> Vec<(u32, String)> {
        let mut found = Found::new();
        let uploads = Uploads::from([(5, vec!["F1".to_owned(), "F2".to_owned()])]);
        add_found(&mut found, page, &me(), "dlv_1", &uploads);
        found.into_iter().collect()
    }

    #[test]
    fn a_part_is_found_by_the_mark_that_it_was_sent_with() {
        let mut sent = shown("1700000001.000200", "dlv_other", 0);
        sent["metadata"] = mark("dlv_1", 3);
        let page = [
            json!({"type": "message", "user": "U5", "text": "a person", "ts": "1700000000.000100"}),
            sent,
        ];
        assert_eq!(found_in(&page), [(3, "1700000001.000200".to_owned())]);
    }

    #[test]
    fn what_another_delivery_or_app_marked_is_no_part() {
        let mut forged = shown("1700000001.000200", "dlv_1", 0);
        forged["user"] = json!("U8");
        forged["bot_id"] = json!("B8");
        let mut odd = shown("1700000001.000200", "dlv_1", 0);
        odd["metadata"]["event_payload"]["part"] = json!("0");
        let mut other = shown("1700000001.000200", "dlv_1", 0);
        other["metadata"]["event_type"] = json!("task_created");
        for page in [
            forged,
            odd,
            other,
            shown("1700000001.000200", "dlv_2", 0),
            shown("no time", "dlv_1", 0),
            json!(7),
        ] {
            assert_eq!(found_in(std::slice::from_ref(&page)), [], "{page}");
        }
    }

    #[test]
    fn the_search_begins_before_the_first_attempt_and_in_its_thread() {
        let (method, params) = search(&Conversation::group("C1"), 1_700_000_600_007);
        assert_eq!(method, "conversations.history");
        assert!(
            params.contains(&("oldest", "1700000000.007000".to_owned())),
            "{params:?}"
        );
        assert!(
            params.contains(&("include_all_metadata", "true".to_owned())),
            "{params:?}"
        );
        let thread = Conversation {
            thread: Some("1.2".to_owned()),
            ..Conversation::group("C1")
        };
        let (method, params) = search(&thread, 0);
        assert_eq!(method, "conversations.replies");
        assert!(params.contains(&("ts", "1.2".to_owned())), "{params:?}");
    }

    #[test]
    fn a_message_is_delivered_only_when_each_of_its_parts_is_there() {
        let parts = [text("one"), text("two")];
        let none = Uploads::new();
        let both = Found::from([(0, "1.1".to_owned()), (1, "1.2".to_owned())]);
        let Finding::Delivered(receipt) = finding(&message(&[]), &parts, &both, &none) else {
            panic!("both are there");
        };
        assert_eq!(receipt.message_ids, ["1.1", "1.2"]);
        let Finding::Delivered(receipt) = finding(&message(&[0]), &parts, &Found::from([(1, "1.2".to_owned())]), &none)
        else {
            panic!("one was known");
        };
        assert_eq!(receipt.message_ids, ["known.0", "1.2"]);
        let Finding::NotDelivered(kept) = finding(&message(&[]), &parts, &Found::from([(0, "1.1".to_owned())]), &none)
        else {
            panic!("one is missing");
        };
        assert_eq!((kept.len(), kept[0].index, kept[0].message_id.as_str()), (1, 0, "1.1"));
        assert!(
            matches!(finding(&message(&[0]), &parts, &Found::new(), &none), Finding::NotDelivered(kept) if kept.is_empty())
        );
    }

    #[test]
    fn a_file_is_found_by_its_id_in_a_message_of_the_apps_own() {
        let shares = |user: &str, file: &str| json!({"type": "message", "user": user, "ts": "1.2", "files": [{"id": file, "name": "a.txt"}]});
        assert_eq!(found_in(&[shares("U7", "F2")]), [(5, "F2".to_owned())]);
        assert_eq!(found_in(&[shares("U8", "F2"), shares("U7", "F3")]), []);
    }

    #[test]
    fn a_file_that_may_have_been_shared_stays_unknown_and_one_that_was_not_is_sent() {
        let message_with_file = message(&[]);
        let parts = sluicegate_sdk::parts::of(vec!["one".to_owned()], &message_with_file);
        let begun = Uploads::from([(1, vec!["F1".to_owned()])]);
        assert!(matches!(
            finding(&message(&[0]), &parts, &Found::new(), &begun),
            Finding::Unknown
        ));
        let found = Found::from([(1, "F1".to_owned())]);
        assert!(
            matches!(finding(&message(&[0]), &parts, &found, &begun), Finding::Delivered(receipt) if receipt.message_ids == ["known.0", "F1"])
        );
        for (sent, found) in [
            (&[0][..], Found::new()),
            (&[], Found::new()),
            (&[], Found::from([(0, "1.1".to_owned())])),
        ] {
            assert!(matches!(
                finding(&message(sent), &parts, &found, &Uploads::new()),
                Finding::NotDelivered(_)
            ));
        }
    }
}
