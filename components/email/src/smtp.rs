//! Submitting a mail (RFC 6409, RFC 5321).

use sluicegate_sdk::DeliveryError;

use crate::wire::{Connection, Failure, Protection, Server};

/// How long an answer may take, milliseconds: less than the host's deadline for a delivery.
const ANSWER_MS_MAX: u64 = 25_000;
/// When a delivery is tried again that the server wants later, milliseconds: it does not say when.
const LATER_MS: u64 = 60_000;
/// The most lines of one answer.
const ANSWER_LINES_MAX: usize = 100;

/// Sends a mail.
///
/// # Errors
/// What the host is told.
pub fn submit(server: &Server, user: &str, from: &str, to: &str, mail: &[u8]) -> Result<(), DeliveryError> {
    let mut smtp = Smtp {
        connection: Connection::open(server).map_err(before)?,
    };
    smtp.greet(server, from).map_err(before)?;
    smtp.log_in(user)?;
    smtp.must(&format!("MAIL FROM:<{from}>"), "250")?;
    smtp.must(&format!("RCPT TO:<{to}>"), "25")?;
    smtp.must("DATA", "354")?;
    smtp.connection.write(&stuffed(mail)).map_err(unknown)?;
    let answer = smtp.answer().map_err(unknown)?;
    if !answer.starts_with("250") {
        return Err(refusal(&answer));
    }
    // Said for politeness: the mail is the server's already.
    smtp.connection.write(b"QUIT\r\n").ok();
    Ok(())
}

/// Logs in and leaves again.
///
/// # Errors
/// What the host is told.
pub fn check(server: &Server, user: &str, from: &str) -> Result<(), DeliveryError> {
    let mut smtp = Smtp {
        connection: Connection::open(server).map_err(before)?,
    };
    smtp.greet(server, from).map_err(before)?;
    smtp.log_in(user)
}

fn before(failure: Failure) -> DeliveryError {
    match failure {
        Failure::Shutdown => DeliveryError::Unavailable("shutting down".to_owned()),
        Failure::Broken(why) => DeliveryError::Unavailable(why),
        Failure::Refused(why) => DeliveryError::Unauthorized(why),
    }
}

/// After the mail was written, silence may mean that it was taken.
fn unknown(failure: Failure) -> DeliveryError {
    match before(failure) {
        DeliveryError::Unavailable(why) => DeliveryError::Ambiguous(why),
        other => other,
    }
}

struct Smtp {
    connection: Connection,
}

impl Smtp {
    fn greet(&mut self, server: &Server, from: &str) -> Result<(), Failure> {
        let greeting = self.answer()?;
        if !greeting.starts_with("220") {
            return Err(Failure::Broken(greeting));
        }
        let domain = from
            .rsplit_once('@')
            .map_or("localhost", |(_, domain)| domain)
            .to_owned();
        self.expect(&format!("EHLO {domain}"), "250")?;
        if server.protection == Protection::StartTls {
            self.expect("STARTTLS", "220")?;
            self.connection.start_tls()?;
            self.expect(&format!("EHLO {domain}"), "250")?;
        }
        Ok(())
    }

    fn log_in(&mut self, user: &str) -> Result<(), DeliveryError> {
        let line = format!("AUTH PLAIN {{{{base64:\0{user}\0{{{{password}}}}}}}}\r\n");
        self.connection.write_secret(&line).map_err(before)?;
        let answer = self.answer().map_err(before)?;
        match answer.as_bytes().first() {
            Some(b'2') => Ok(()),
            Some(b'4') => Err(DeliveryError::Unavailable(answer)),
            _ => Err(DeliveryError::Unauthorized(format!("SMTP: {answer}"))),
        }
    }

    fn expect(&mut self, command: &str, code: &str) -> Result<(), Failure> {
        self.connection.write(format!("{command}\r\n").as_bytes())?;
        let answer = self.answer()?;
        if answer.starts_with(code) {
            Ok(())
        } else {
            Err(Failure::Broken(answer))
        }
    }

    /// Says a command of a mail; nothing of the mail is the server's before its end.
    fn must(&mut self, command: &str, code: &str) -> Result<(), DeliveryError> {
        self.connection
            .write(format!("{command}\r\n").as_bytes())
            .map_err(before)?;
        let answer = self.answer().map_err(before)?;
        if answer.starts_with(code) {
            Ok(())
        } else {
            Err(refusal(&answer))
        }
    }

    /// Returns the last line of an answer: `250-a`, `250-b`, `250 c`.
    fn answer(&mut self) -> Result<String, Failure> {
        for _ in 0..ANSWER_LINES_MAX {
            let line = String::from_utf8_lossy(&self.connection.must_line(ANSWER_MS_MAX)?).into_owned();
            if line.as_bytes().get(3) != Some(&b'-') {
                return Ok(line);
            }
        }
        Err(Failure::Broken("the SMTP server's answer has no end".to_owned()))
    }
}

/// Reads a refusal by its codes (RFC 5321 section 4.2.3, RFC 3463).
fn refusal(answer: &str) -> DeliveryError {
    let words = format!("the SMTP server says {answer}");
    let enhanced = answer.get(4..).unwrap_or_default();
    match answer.get(..3).unwrap_or_default() {
        "421" => DeliveryError::Unavailable(words),
        code if code.starts_with('4') => DeliveryError::slow_conversation(LATER_MS),
        "530" | "535" | "538" => DeliveryError::Unauthorized(words),
        // No such mailbox, moved, or disabled: nobody will ever read there.
        "550" | "551" | "553" if ["5.1.", "5.2.1"].iter().any(|gone| enhanced.starts_with(gone)) => {
            DeliveryError::NoSuchConversation(words)
        }
        code if code.starts_with('5') => DeliveryError::Rejected(words),
        _ => DeliveryError::Unavailable(words),
    }
}

/// Ends a mail with its dot, and doubles the dots at the beginnings of lines (RFC 5321 section 4.5.2).
fn stuffed(mail: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(mail.len() + 64);
    let mut lines = mail.split(|byte| *byte == b'\n').peekable();
    while let Some(line) = lines.next() {
        // A lone carriage return would be a line's end for some servers (SMTP smuggling).
        let line: Vec<u8> = line.iter().copied().filter(|byte| *byte != b'\r').collect();
        if line.is_empty() && lines.peek().is_none() {
            break;
        }
        if line.starts_with(b".") {
            out.push(b'.');
        }
        out.extend(line);
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(b".\r\n");
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mail_ends_where_it_ends_and_nowhere_else() {
        assert_eq!(stuffed(b"a\r\n.\r\n..b\nc\rd"), b"a\r\n..\r\n...b\r\ncd\r\n.\r\n");
        assert_eq!(stuffed(b"a\n\r.\r\nx\r\n"), b"a\r\n..\r\nx\r\n.\r\n");
        assert_eq!(stuffed(b""), b".\r\n");
    }

    #[test]
    fn refusals_are_told_apart() {
        assert!(matches!(
            refusal("550 5.1.1 no such user"),
            DeliveryError::NoSuchConversation(_)
        ));
        assert!(matches!(refusal("550 5.7.1 blocked"), DeliveryError::Rejected(_)));
        assert!(matches!(refusal("552 5.3.4 too big"), DeliveryError::Rejected(_)));
        assert!(matches!(refusal("451 4.7.1 greylisted"), DeliveryError::RateLimited(_)));
        assert!(matches!(refusal("421 4.3.2 going down"), DeliveryError::Unavailable(_)));
        assert!(matches!(
            refusal("530 5.7.0 log in first"),
            DeliveryError::Unauthorized(_)
        ));
        assert!(matches!(refusal(""), DeliveryError::Unavailable(_)));
    }
}
