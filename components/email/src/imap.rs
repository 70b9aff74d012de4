//! As much of IMAP (RFC 3501, IDLE of RFC 2177) as a mailbox needs that is only read: nothing in it is changed.

use crate::wire::{Connection, Failure, Protection, Server};

/// How long an answer may take, milliseconds.
const ANSWER_MS_MAX: u64 = 60_000;
/// The largest mail that is fetched, bytes.
pub const MAIL_BYTES_MAX: usize = 25 * 1024 * 1024;
/// The most lines of one answer.
const ANSWER_LINES_MAX: usize = 10_000;

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
            uid_validity: 0,
            uid_next: 1,
        };
        imap.connection.must_line(ANSWER_MS_MAX)?;
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
        // The server asks for the proof, or refuses at once.
        let asked = text(&self.connection.must_line(ANSWER_MS_MAX)?);
        if !asked.starts_with('+') {
            return Err(Failure::Broken(format!(
                "the IMAP server takes no AUTHENTICATE PLAIN: {asked}"
            )));
        }
        self.connection
            .write_secret(&format!("{{{{base64:\0{user}\0{{{{password}}}}}}}}\r\n"))?;
        let answer = self.answer(&tag)?;
        if answer.status.starts_with("OK") {
            Ok(())
        } else {
            Err(Failure::Refused(format!("IMAP: {}", answer.status)))
        }
    }

    /// Returns the numbers of the mails after `uid`, in order.
    ///
    /// # Errors
    /// See [`Failure`].
    pub fn after(&mut self, uid: u32) -> Result<Vec<u32>, Failure> {
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

    /// Waits until something may have changed, at most so long.
    ///
    /// # Errors
    /// See [`Failure`].
    pub fn wait(&mut self, idle_ms: u64, poll_ms: u64) -> Result<(), Failure> {
        if !self.can_idle {
            if !sluicegate_sdk::clock::sleep_ms(poll_ms) {
                return Err(Failure::Shutdown);
            }
            return self.ask("NOOP").map(|_| ());
        }
        let tag = self.next_tag();
        self.connection.write(format!("{tag} IDLE\r\n").as_bytes())?;
        let begun = text(&self.connection.must_line(ANSWER_MS_MAX)?);
        if !begun.starts_with('+') && !begun.starts_with('*') {
            return Err(Failure::Broken(format!("the IMAP server takes no IDLE: {begun}")));
        }
        loop {
            match self.connection.line(idle_ms)? {
                Some(line) if text(&line).to_ascii_uppercase().ends_with(" EXISTS") => break,
                Some(line) if text(&line).starts_with("* BYE") => return Err(Failure::Broken(text(&line))),
                Some(_) => {}
                None => break,
            }
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
            answer.lines.push(line);
        }
        Err(Failure::Broken("the IMAP server's answer has no end".to_owned()))
    }
}

fn text(line: &[u8]) -> String {
    String::from_utf8_lossy(line).into_owned()
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
