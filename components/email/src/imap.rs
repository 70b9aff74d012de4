//! As much of IMAP (RFC 3501, IDLE of RFC 2177) as a mailbox needs that is only read: nothing in it is changed.

use sluicegate_sdk::clock;

use crate::wire::{Connection, Failure, Protection, Server};

/// How long an answer may take, milliseconds.
const ANSWER_MS_MAX: u64 = 60_000;
/// The largest mail that is fetched, bytes.
pub const MAIL_BYTES_MAX: usize = 25 * 1024 * 1024;
/// The most lines of one answer.
const ANSWER_LINES_MAX: usize = 10_000;

/// The pause before mails are asked for again that were announced meanwhile, milliseconds: for servers that announce what
/// they have with every answer.
const NEWS_PAUSE_MS: u64 = 200;

/// What one answer brought: its untagged lines, and the literal of the last of them that had one.
#[derive(Debug, Default)]
struct Answer {
    lines: Vec<String>,
    literal: Option<Vec<u8>>,
    /// The words after the tag.
    status: String,
}

/// A session with a selected mailbox.
pub struct Imap {
    connection: Connection,
    count: u32,
    can_idle: bool,
    /// Whether the server has announced mails since it was last asked which there are. It may do so in the answer to any
    /// command, and says it only once.
    has_news: bool,
    /// Changes when the server has numbered the mails anew.
    pub uid_validity: u32,
    /// The number of the next mail.
    pub uid_next: u32,
}

impl Imap {
    /// Connects, logs in and selects a mailbox to be read.
    ///
    /// # Errors
    /// See [`Failure`].
    pub fn open(server: &Server, user: &str, mailbox: &str) -> Result<Self, Failure> {
        let mut imap = Self {
            connection: Connection::open(server)?,
            count: 0,
            can_idle: false,
            has_news: false,
            uid_validity: 0,
            uid_next: 1,
        };
        let greeting = text(&imap.connection.must_line(ANSWER_MS_MAX)?);
        if !greeting.to_ascii_uppercase().starts_with("* OK") {
            return Err(Failure::Broken(format!("the IMAP server says {greeting}")));
        }
        if server.protection == Protection::StartTls {
            imap.ask("STARTTLS")?;
            imap.connection.start_tls()?;
        }
        imap.log_in(user)?;
        let capabilities = imap.ask("CAPABILITY")?;
        imap.can_idle = capabilities
            .lines
            .iter()
            .any(|line| line.split(' ').any(|word| word.eq_ignore_ascii_case("IDLE")));
        let selected = imap.ask(&format!("EXAMINE {}", quoted(mailbox)))?;
        for line in &selected.lines {
            if let Some(number) = code(line, "UIDVALIDITY") {
                imap.uid_validity = number;
            }
            if let Some(number) = code(line, "UIDNEXT") {
                imap.uid_next = number;
            }
        }
        Ok(imap)
    }

    fn log_in(&mut self, user: &str) -> Result<(), Failure> {
        let tag = self.next_tag();
        self.connection
            .write(format!("{tag} AUTHENTICATE PLAIN\r\n").as_bytes())?;
        self.go_ahead("AUTHENTICATE PLAIN")?;
        self.connection
            .write_secret(&format!("{{{{base64:\0{user}\0{{{{password}}}}}}}}\r\n"))?;
        let answer = self.answer(&tag)?;
        if answer.status.starts_with("OK") {
            Ok(())
        } else if is_passing(&answer.status) {
            Err(Failure::Broken(format!(
                "the IMAP server can't log in: {}",
                answer.status
            )))
        } else {
            Err(Failure::Refused(format!("IMAP: {}", answer.status)))
        }
    }

    /// Waits until the server asks for the rest of a command.
    fn go_ahead(&mut self, command: &str) -> Result<(), Failure> {
        for _ in 0..ANSWER_LINES_MAX {
            let line = text(&self.connection.must_line(ANSWER_MS_MAX)?);
            if line.starts_with('+') {
                return Ok(());
            }
            if !line.starts_with('*') || is_farewell(&line) {
                return Err(Failure::Broken(format!("the IMAP server takes no {command}: {line}")));
            }
            self.has_news |= is_news(&line);
        }
        Err(Failure::Broken("the IMAP server's answer has no end".to_owned()))
    }

    /// Returns the numbers of the mails after `uid`, in order.
    ///
    /// # Errors
    /// See [`Failure`].
    pub fn after(&mut self, uid: u32) -> Result<Vec<u32>, Failure> {
        self.has_news = false;
        let answer = self.ask(&format!("UID SEARCH UID {}:*", uid.saturating_add(1)))?;
        let mut found: Vec<u32> = answer.lines.iter().flat_map(|line| search_result(line)).collect();
        // `n:*` always names the last mail, however low its number is.
        found.retain(|found| *found > uid);
        found.sort_unstable();
        found.dedup();
        Ok(found)
    }

    /// Returns whether the mailbox has a mail with this id, which comes without its brackets.
    ///
    /// # Errors
    /// See [`Failure`].
    pub fn has(&mut self, message_id: &str) -> Result<bool, Failure> {
        let id = quoted(&format!("<{message_id}>"));
        let answer = self.ask(&format!("UID SEARCH HEADER Message-ID {id}"))?;
        Ok(answer.lines.iter().any(|line| !search_result(line).is_empty()))
    }

    /// Returns a mail; none where it is gone, or larger than [`MAIL_BYTES_MAX`].
    ///
    /// # Errors
    /// See [`Failure`].
    pub fn fetch(&mut self, uid: u32) -> Result<Option<Vec<u8>>, Failure> {
        let sized = self.ask(&format!("UID FETCH {uid} (RFC822.SIZE)"))?;
        let size = sized.lines.iter().find_map(|line| item(line, "RFC822.SIZE"));
        match size {
            Some(size) if size as usize <= MAIL_BYTES_MAX => {
                Ok(self.ask(&format!("UID FETCH {uid} (BODY.PEEK[])"))?.literal)
            }
            _ => Ok(None),
        }
    }

    /// Waits until something may have changed, at most so long; hardly at all where the server has announced it before.
    ///
    /// # Errors
    /// See [`Failure`].
    pub fn wait(&mut self, idle_ms: u64, poll_ms: u64) -> Result<(), Failure> {
        if self.has_news {
            return pause(NEWS_PAUSE_MS);
        }
        if !self.can_idle {
            pause(poll_ms)?;
            return self.ask("NOOP").map(|_| ());
        }
        let tag = self.next_tag();
        self.connection.write(format!("{tag} IDLE\r\n").as_bytes())?;
        self.go_ahead("IDLE")?;
        // What the server says only to keep the connection open does not make it longer.
        let end_ms = clock::now_ms().saturating_add(idle_ms);
        while !self.has_news {
            let left_ms = end_ms.saturating_sub(clock::now_ms());
            if left_ms == 0 {
                break;
            }
            let Some(line) = self.connection.line(left_ms)? else {
                break;
            };
            let line = text(&line);
            if is_farewell(&line) {
                return Err(Failure::Broken(line));
            }
            self.has_news |= is_news(&line);
        }
        self.connection.write(b"DONE\r\n")?;
        self.answer(&tag).map(|_| ())
    }

    fn next_tag(&mut self) -> String {
        self.count += 1;
        format!("a{}", self.count)
    }

    fn ask(&mut self, command: &str) -> Result<Answer, Failure> {
        let tag = self.next_tag();
        self.connection.write(format!("{tag} {command}\r\n").as_bytes())?;
        let answer = self.answer(&tag)?;
        if answer.status.starts_with("OK") {
            return Ok(answer);
        }
        let verb = command.split(' ').next().unwrap_or_default();
        Err(Failure::Broken(format!(
            "the IMAP server refuses {verb}: {}",
            answer.status
        )))
    }

    fn answer(&mut self, tag: &str) -> Result<Answer, Failure> {
        let mut answer = Answer::default();
        for _ in 0..ANSWER_LINES_MAX {
            let line = text(&self.connection.must_line(ANSWER_MS_MAX)?);
            if let Some(status) = line.strip_prefix(tag).and_then(|rest| rest.strip_prefix(' ')) {
                status.clone_into(&mut answer.status);
                return Ok(answer);
            }
            if let Some(bytes) = literal(&line) {
                if bytes > MAIL_BYTES_MAX {
                    return Err(Failure::Broken("the IMAP server sends more than it said".to_owned()));
                }
                answer.literal = Some(self.connection.exactly(bytes, ANSWER_MS_MAX)?);
            }
            self.has_news |= is_news(&line);
            answer.lines.push(line);
        }
        Err(Failure::Broken("the IMAP server's answer has no end".to_owned()))
    }
}

fn pause(ms: u64) -> Result<(), Failure> {
    if clock::sleep_ms(ms) {
        Ok(())
    } else {
        Err(Failure::Shutdown)
    }
}

fn text(line: &[u8]) -> String {
    String::from_utf8_lossy(line).into_owned()
}

/// Whether a line announces mails: `* 3 EXISTS`.
fn is_news(line: &str) -> bool {
    let mut words = line.split(' ');
    let count = words.nth(1).unwrap_or_default();
    let is_count = count.bytes().all(|byte| byte.is_ascii_digit());
    is_count && words.next().is_some_and(|word| word.eq_ignore_ascii_case("EXISTS"))
}

/// Whether the server is about to close the connection.
fn is_farewell(line: &str) -> bool {
    line.get(..5).is_some_and(|word| word.eq_ignore_ascii_case("* BYE"))
}

/// Whether a refused login says nothing about the password, so that trying again may do (RFC 5530): the server's own trouble,
/// or too many of us.
fn is_passing(status: &str) -> bool {
    let code = status
        .split_once('[')
        .and_then(|(_, rest)| rest.split([']', ' ']).next());
    let code = code.unwrap_or_default().to_ascii_uppercase();
    matches!(code.as_str(), "UNAVAILABLE" | "INUSE" | "LIMIT" | "SERVERBUG")
}

/// Returns how many bytes follow a line that ends with `{n}`.
fn literal(line: &str) -> Option<usize> {
    let (_, count) = line.strip_suffix('}')?.rsplit_once('{')?;
    count.trim_end_matches('+').parse().ok()
}

/// Returns the number in `* OK [NAME number]`.
fn code(line: &str, name: &str) -> Option<u32> {
    let inside = line.split_once('[')?.1.split(']').next()?;
    let (found, number) = inside.split_once(' ')?;
    if found.eq_ignore_ascii_case(name) {
        number.trim().parse().ok()
    } else {
        None
    }
}

/// Returns the number after an item's name in `* 1 FETCH (UID 4 RFC822.SIZE 44)`.
fn item(line: &str, name: &str) -> Option<u32> {
    let mut words = line.split([' ', '(', ')']).filter(|word| !word.is_empty());
    words.find(|word| word.eq_ignore_ascii_case(name))?;
    words.next()?.parse().ok()
}

fn search_result(line: &str) -> Vec<u32> {
    let Some(numbers) = line.strip_prefix("* SEARCH") else {
        return Vec::new();
    };
    numbers.split(' ').filter_map(|number| number.parse().ok()).collect()
}

/// Writes a text as a quoted string. Control characters, which none can hold, are left out.
fn quoted(text: &str) -> String {
    let plain: String = text.chars().filter(|c| !c.is_control()).collect();
    format!("\"{}\"", plain.replace('\\', "\\\\").replace('"', "\\\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn news_are_told_from_all_else() {
        for news in ["* 3 EXISTS", "* 0 exists"] {
            assert!(is_news(news), "{news}");
        }
        for other in ["* 3 EXPUNGE", "* OK 3 EXISTS", "* EXISTS", "a1 OK 3 EXISTS", ""] {
            assert!(!is_news(other), "{other}");
        }
    }

    #[test]
    fn a_server_in_trouble_has_not_refused_the_password() {
        for passing in [
            "NO [UNAVAILABLE] Temporary authentication failure",
            "NO [limit] too many of you",
        ] {
            assert!(is_passing(passing), "{passing}");
        }
        for refused in ["NO [AUTHENTICATIONFAILED] wrong", "NO [EXPIRED] old", "NO wrong", ""] {
            assert!(!is_passing(refused), "{refused}");
        }
    }

    #[test]
    fn answers_are_read() {
        assert_eq!(
            code("* OK [UIDVALIDITY 1700000000] UIDs valid", "UIDVALIDITY"),
            Some(1_700_000_000)
        );
        assert_eq!(code("* OK [UIDNEXT 4] Predicted", "uidnext"), Some(4));
        assert_eq!(code("* 3 EXISTS", "UIDNEXT"), None);
        assert_eq!(item("* 1 FETCH (UID 4 RFC822.SIZE 44)", "RFC822.SIZE"), Some(44));
        assert_eq!(search_result("* SEARCH 3 1 2"), [3, 1, 2]);
        assert_eq!(search_result("* SEARCH"), Vec::<u32>::new());
        assert_eq!(literal("* 1 FETCH (BODY[] {12}"), Some(12));
        for none in ["{x}", "{-1}", "12}", "* SEARCH 1", "{99999999999999999999}"] {
            assert_eq!(literal(none), None, "{none}");
        }
        assert_eq!(quoted("A \"b\\\r\n"), "\"A \\\"b\\\\\"");
    }
}
