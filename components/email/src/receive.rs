//! Receiving: mails after the last one that was stored, then IDLE until there are more.

use sluicegate_sdk::files::{self, Unfetched};
use sluicegate_sdk::inbox::{self, Published};
use sluicegate_sdk::{Attachment, AttachmentSource, InboundMessage, ListenerError, clock, debug, state, warn};

use crate::bounds;
use crate::imap::Imap;
use crate::map::{self, Reading, Received};
use crate::settings::Configuration;
use crate::wire::Failure;

/// How long one IDLE lasts, milliseconds: servers end it after half an hour (RFC 2177), and routers forget before.
const IDLE_MS: u64 = 9 * 60 * 1000;
/// How long a server without IDLE is left alone, milliseconds.
const POLL_MS: u64 = 30_000;
/// The wait before a lost connection is made again, milliseconds.
const RECONNECT_MS: u64 = 1_000;
/// How often in a row the server may fail before the operator sees the channel degraded.
const FAILURES_MAX: u32 = 3;
/// How many mails are looked at again where the server numbered them anew.
const LOOKED_AT_AGAIN_MAX: usize = 50;
/// How old a mail may be that is looked at again, milliseconds: less than the gateway remembers which it has seen.
const LOOKED_AT_AGAIN_MS_MAX: u64 = 3 * 24 * 3600 * 1000;

/// The state under which the mail is kept that was begun last, and how often.
const BEGUN_KEY: &str = "begun";
/// How often a mail is begun whole: an instance that did not come through it twice may have had the gateway killed under it
/// once.
const BEGUN_MAX: u32 = 2;
/// The size up to which no mail can do an instance harm, bytes; its beginning is not written down.
const HARMLESS_BYTES_MAX: usize = 64 * 1024;

/// Receives until the channel is shut down.
///
/// # Errors
/// Words for the operator, where the server refuses us or fails for a while.
pub fn stay_connected() -> Result<(), ListenerError> {
    let configuration = Configuration::from_settings()?;
    let mut failures = 0;
    loop {
        let mut has_worked = false;
        let why = match receive(&configuration, &mut has_worked) {
            Failure::Shutdown => return Ok(()),
            Failure::Refused(why) => return Err(ListenerError::Refused(why)),
            Failure::Broken(why) => why,
        };
        failures = if has_worked { 1 } else { failures + 1 };
        if failures >= FAILURES_MAX {
            return Err(ListenerError::Unavailable(why));
        }
        warn!("the connection to the IMAP server is lost, and is made again: {why}");
        if !clock::sleep_ms(RECONNECT_MS) {
            return Ok(());
        }
    }
}

/// Serves one connection to its end, which it returns.
fn receive(configuration: &Configuration, has_worked: &mut bool) -> Failure {
    let mut served = || -> Result<std::convert::Infallible, Failure> {
        let mut imap = Imap::open(&configuration.imap, &configuration.user, &configuration.folder)?;
        *has_worked = true;
        let (mut last, seen_until) = start(&mut imap)?;
        loop {
            for uid in imap.after(last)? {
                take(&mut imap, configuration, uid, uid <= seen_until)?;
                last = uid;
            }
            imap.wait(IDLE_MS, POLL_MS)?;
        }
    };
    let Err(failure) = served();
    failure
}

/// Returns the number after which mails are new: the cursor's, or the present end at the very first start. Where the
/// server has numbered its mails anew, the last ones are looked at again (those that were seen are known by their ids): the
/// second number is the last of these.
fn start(imap: &mut Imap) -> Result<(u32, u32), Failure> {
    let cursor = inbox::cursor().and_then(|cursor| parse_cursor(&cursor));
    match cursor {
        Some((validity, uid)) if validity == imap.uid_validity => Ok((uid, 0)),
        None => {
            let last = imap.uid_next.saturating_sub(1);
            store(&[], imap.uid_validity, last)?;
            Ok((last, 0))
        }
        Some(_) => {
            warn!("the server has numbered its mails anew: the last ones are looked at again");
            let all = imap.after(0)?;
            let surplus = all.len().saturating_sub(LOOKED_AT_AGAIN_MAX);
            let before = surplus.checked_sub(1).and_then(|at| all.get(at)).copied();
            Ok((before.unwrap_or(0), all.last().copied().unwrap_or(0)))
        }
    }
}

fn parse_cursor(cursor: &str) -> Option<(u32, u32)> {
    let (validity, uid) = cursor.split_once(':')?;
    Some((validity.parse().ok()?, uid.parse().ok()?))
}

/// Stores one mail and the cursor behind it; an old one only where it is not looked at again.
fn take(imap: &mut Imap, configuration: &Configuration, uid: u32, is_again: bool) -> Result<(), Failure> {
    let validity = imap.uid_validity;
    let Some(raw) = imap.fetch(uid)? else {
        warn!("mail {uid} is gone or too large, and is passed over");
        return store(&[], validity, uid);
    };
    let reading = reading(&raw, &format!("{validity}:{uid}"));
    let fallback_id = format!("uid:{validity}.{uid}");
    match map::inbound(raw, reading, &configuration.mailbox, &fallback_id) {
        Ok(received) if is_again && is_old(&received.message) => {
            debug!("mail {uid} is days old, and is passed over");
            store(&[], validity, uid)
        }
        Ok(received) => store(&[with_files(received)?], validity, uid),
        Err(why) => {
            debug!("mail {uid} is not answered: {why}");
            store(&[], validity, uid)
        }
    }
}

/// Decides how much of a mail is read. Whatever it does to who reads it, the mails behind it are to be read.
fn reading(raw: &[u8], mail: &str) -> Reading {
    if !bounds::holds(raw) {
        warn!("mail {mail} has more parts than a mail of people; only its header is read");
        return Reading::Head;
    }
    if raw.len() <= HARMLESS_BYTES_MAX {
        return Reading::Whole;
    }
    let begun = state::get(BEGUN_KEY).map_or(0, |noted| times_begun(&noted, mail));
    if begun >= BEGUN_MAX {
        warn!("mail {mail} was begun {begun} times and never read to its end; only its header is read");
        return Reading::Head;
    }
    if let Err(why) = state::set(BEGUN_KEY, format!("{mail} {}", begun + 1).as_bytes()) {
        debug!("that mail {mail} is begun could not be written down: {why}");
    }
    Reading::Whole
}

fn times_begun(noted: &[u8], mail: &str) -> u32 {
    let noted = std::str::from_utf8(noted).ok().and_then(|noted| noted.split_once(' '));
    noted
        .filter(|(of, _)| *of == mail)
        .and_then(|(_, times)| times.parse().ok())
        .unwrap_or(0)
}

fn is_old(message: &InboundMessage) -> bool {
    let now = clock::now_ms();
    message
        .sent_at_ms
        .is_some_and(|sent| sent.saturating_add(LOOKED_AT_AGAIN_MS_MAX) < now)
}

/// Hands the files to the host, and waits where it has no room for one now. One that it does not take becomes a note.
///
/// # Errors
/// [`Failure::Shutdown`], in the middle of such a wait.
fn with_files(received: Received) -> Result<InboundMessage, Failure> {
    let mut message = received.message;
    for file in received.files {
        match files::put(&file.media_type, &file.bytes) {
            Ok(blob) => message.attachments.push(Attachment {
                name: file.name,
                media_type: file.media_type,
                source: AttachmentSource::Blob(blob),
            }),
            Err(Unfetched::Later(_shutting_down)) => return Err(Failure::Shutdown),
            Err(Unfetched::Lost(why)) => {
                let name = file.name.unwrap_or_else(|| "a file".to_owned());
                message.text.push_str(&format!("\n[{name} could not be kept: {why}]"));
            }
        }
    }
    Ok(message)
}

fn store(messages: &[InboundMessage], validity: u32, uid: u32) -> Result<(), Failure> {
    match inbox::publish_all(messages, Some(&format!("{validity}:{uid}"))) {
        Published::Durable => Ok(()),
        Published::ShuttingDown => Err(Failure::Shutdown),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_often_a_mail_was_begun_is_known_of_this_mail_alone() {
        assert_eq!(times_begun(b"7:12 2", "7:12"), 2);
        for other in [&b"7:1 2"[..], b"8:12 2", b"7:12", b"7:12 x", b"\xff"] {
            assert_eq!(times_begun(other, "7:12"), 0, "{other:?}");
        }
    }

    #[test]
    fn a_cursor_names_the_numbering_too() {
        assert_eq!(parse_cursor("17:4"), Some((17, 4)));
        for wrong in ["", "4", "a:b", "1:-1"] {
            assert_eq!(parse_cursor(wrong), None, "{wrong}");
        }
    }
}
