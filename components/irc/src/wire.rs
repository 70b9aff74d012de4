//! Lines of the IRC protocol (modern.ircdocs.horse, "Message Format"; ircv3.net, "Message Tags").

use std::collections::BTreeMap;

/// The longest line without tags, bytes, its end included: servers cut what is longer, or hang up.
pub const LINE_BYTES_MAX: usize = 512;
/// The longest line that is read, bytes: 8191 of tags (ircv3.net) and a line. What is longer is dropped.
pub const READ_LINE_BYTES_MAX: usize = 8191 + LINE_BYTES_MAX;

/// One line from the server.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Line {
    /// The tags by name, their escapes undone; without a value, an empty text.
    pub tags: BTreeMap<String, String>,
    /// `nick!user@host` or a server's name.
    pub source: Option<String>,
    /// A word in upper case, or three digits.
    pub command: String,
    /// The parameters, the last one without its colon.
    pub params: Vec<String>,
}

impl Line {
    /// Reads a line without its end; none where there is no command in it.
    pub fn parse(line: &str) -> Option<Self> {
        let mut rest = line.trim_start_matches(' ');
        let mut parsed = Self::default();
        if let Some(tagged) = rest.strip_prefix('@') {
            let (tags, after) = tagged.split_once(' ')?;
            parsed.tags = tags.split(';').filter(|tag| !tag.is_empty()).map(tag).collect();
            rest = after.trim_start_matches(' ');
        }
        if let Some(sourced) = rest.strip_prefix(':') {
            let (source, after) = sourced.split_once(' ')?;
            parsed.source = Some(source.to_owned());
            rest = after.trim_start_matches(' ');
        }
        let (command, mut rest) = rest.split_once(' ').unwrap_or((rest, ""));
        if command.is_empty() || !command.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
            return None;
        }
        parsed.command = command.to_ascii_uppercase();
        loop {
            rest = rest.trim_start_matches(' ');
            if let Some(last) = rest.strip_prefix(':') {
                parsed.params.push(last.to_owned());
                return Some(parsed);
            }
            if rest.is_empty() {
                return Some(parsed);
            }
            let (param, after) = rest.split_once(' ').unwrap_or((rest, ""));
            parsed.params.push(param.to_owned());
            rest = after;
        }
    }

    /// Returns a parameter, or an empty text where there is none.
    pub fn param(&self, index: usize) -> &str {
        self.params.get(index).map_or("", String::as_str)
    }

    /// Returns the last parameter: a reply's words, a message's text.
    pub fn last(&self) -> &str {
        self.params.last().map_or("", String::as_str)
    }

    /// Returns the nick in the source; a server's name where a server speaks.
    pub fn nick(&self) -> &str {
        let source = self.source.as_deref().unwrap_or_default();
        source.split(['!', '@']).next().unwrap_or_default()
    }
}

fn tag(text: &str) -> (String, String) {
    let (name, value) = text.split_once('=').unwrap_or((text, ""));
    (name.to_owned(), unescaped(value))
}

/// Undoes the escapes of a tag's value.
fn unescaped(value: &str) -> String {
    let mut out = String::with_capacity(value.len());
    let mut chars = value.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            out.push(c);
            continue;
        }
        match chars.next() {
            Some(':') => out.push(';'),
            Some('s') => out.push(' '),
            Some('r') => out.push('\r'),
            Some('n') => out.push('\n'),
            Some(other) => out.push(other),
            None => {}
        }
    }
    out
}

/// Puts the bytes of a stream together to lines.
#[derive(Debug, Default)]
pub struct Lines {
    bytes: Vec<u8>,
    /// The line that is being read is too long: the rest of it is dropped as well.
    is_dropping: bool,
}

impl Lines {
    /// Takes bytes and returns the lines that are complete now. What is no UTF-8 is read as Latin-1 (old clients).
    pub fn push(&mut self, bytes: &[u8]) -> Vec<String> {
        self.bytes.extend_from_slice(bytes);
        let mut lines = Vec::new();
        while let Some(end) = self.bytes.iter().position(|byte| *byte == b'\n') {
            let mut line: Vec<u8> = self.bytes.drain(..=end).collect();
            line.retain(|byte| !matches!(byte, b'\r' | b'\n' | 0));
            let is_rest = std::mem::take(&mut self.is_dropping);
            if !line.is_empty() && !is_rest && line.len() <= READ_LINE_BYTES_MAX {
                lines.push(decoded(line));
            }
        }
        if self.bytes.len() > READ_LINE_BYTES_MAX {
            self.bytes.clear();
            self.is_dropping = true;
        }
        lines
    }
}

fn decoded(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap_or_else(|error| error.into_bytes().into_iter().map(char::from).collect())
}

/// How a server compares nicks and channel names (`CASEMAPPING`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum CaseMapping {
    /// Only the letters A to Z.
    Ascii,
    /// Those, and `[]\~` as `{}|^`: what is meant where the server says nothing (RFC 1459 section 2.2).
    #[default]
    Rfc1459,
}

impl CaseMapping {
    /// Reads the server's word for it. What is unknown is taken as ASCII, which never joins two names that differ.
    pub fn parse(word: &str) -> Self {
        match word {
            "rfc1459" | "rfc1459-strict" => Self::Rfc1459,
            _ => Self::Ascii,
        }
    }

    /// Returns the name in lower case, as this server sees it.
    pub fn lower(self, name: &str) -> String {
        let lower = |c: char| match c {
            '[' if self == Self::Rfc1459 => '{',
            ']' if self == Self::Rfc1459 => '}',
            '\\' if self == Self::Rfc1459 => '|',
            '~' if self == Self::Rfc1459 => '^',
            c => c.to_ascii_lowercase(),
        };
        name.chars().map(lower).collect()
    }
}

/// Whether a text can stand as a parameter in the middle of a line: a nick, a channel, an account.
pub fn is_word(text: &str) -> bool {
    !text.is_empty() && !text.starts_with(':') && !text.contains(|c: char| c.is_control() || c == ' ')
}

/// Reads a time as the tag `time` has it (`2011-10-19T16:40:51.620Z`), as Unix milliseconds.
pub fn parse_time(text: &str) -> Option<u64> {
    let (date, time) = text.strip_suffix('Z')?.split_once('T')?;
    let mut date = date.splitn(3, '-').map(str::parse::<u64>);
    let (year, month, day) = (date.next()?.ok()?, date.next()?.ok()?, date.next()?.ok()?);
    let (clock, fraction) = time.split_once('.').unwrap_or((time, "0"));
    let mut clock = clock.splitn(3, ':').map(str::parse::<u64>);
    let (hour, minute, second) = (clock.next()?.ok()?, clock.next()?.ok()?, clock.next()?.ok()?);
    let is_date = (1970..=9999).contains(&year) && (1..=12).contains(&month) && (1..=31).contains(&day);
    if !is_date || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let millis: u64 = format!("{fraction:0<3}").get(..3)?.parse().ok()?;
    let seconds = ((days_since_1970(year, month, day) * 24 + hour) * 60 + minute) * 60 + second;
    Some(seconds * 1000 + millis)
}

/// Counts the days from 1970-01-01 in the Gregorian calendar, for years from 1970 on.
fn days_since_1970(year: u64, month: u64, day: u64) -> u64 {
    let is_leap = |year: u64| year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let leaps = |until: u64| until / 4 - until / 100 + until / 400;
    let before: [u64; 12] = [0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334];
    let years = (year - 1970) * 365 + leaps(year - 1) - leaps(1969);
    let leap_day = u64::from(month > 2 && is_leap(year));
    years + before[usize::try_from(month - 1).unwrap_or(0)] + leap_day + day - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_taken_apart() {
        let line = Line::parse("@time=2023-01-02T03:04:05.678Z;msgid=a\\sb\\:c;+x :al!u@h PRIVMSG #c  :hello : world")
            .unwrap();
        assert_eq!(line.nick(), "al");
        assert_eq!(line.command, "PRIVMSG");
        assert_eq!(line.params, ["#c", "hello : world"]);
        assert_eq!(line.tags["msgid"], "a b;c");
        assert_eq!(line.tags["+x"], "");
        assert_eq!(Line::parse("ping x").unwrap().command, "PING");
        assert_eq!(Line::parse(":srv 005 me A=b :are supported").unwrap().params.len(), 3);
        for none in ["", " ", ":only", "@tags", "@t ", ":a :b", "é x"] {
            assert_eq!(Line::parse(none), None, "{none:?}");
        }
    }

    #[test]
    fn lines_come_in_any_pieces_and_long_ones_are_dropped_whole() {
        let mut lines = Lines::default();
        assert!(lines.push(b"PING a\r").is_empty());
        assert_eq!(lines.push(b"\nPI\0NG b\n\r\nx"), ["PING a", "PING b"]);
        assert_eq!(lines.push(b"\xe9\n"), ["xé"]);
        assert!(lines.push(&[b'a'; READ_LINE_BYTES_MAX + 1]).is_empty());
        assert!(lines.push(b"the rest of it\n").is_empty());
        assert_eq!(lines.push(b"next\n"), ["next"]);
    }

    #[test]
    fn names_are_compared_as_the_server_does() {
        assert_eq!(CaseMapping::Rfc1459.lower("Al[x]\\~"), "al{x}|^");
        assert_eq!(CaseMapping::parse("ascii").lower("Al[x]\\~"), "al[x]\\~");
        assert_eq!(CaseMapping::parse("rfc1459"), CaseMapping::Rfc1459);
    }

    #[test]
    fn a_time_is_read() {
        assert_eq!(parse_time("1970-01-01T00:00:00.000Z"), Some(0));
        assert_eq!(parse_time("2000-02-29T12:30:45.5Z"), Some(951_827_445_500));
        assert_eq!(parse_time("2024-12-31T23:59:59Z"), Some(1_735_689_599_000));
        for wrong in [
            "",
            "2024-13-01T00:00:00Z",
            "2024-01-01 00:00:00",
            "2024-01-01T24:00:00Z",
            "x-y-zT0:0:0Z",
        ] {
            assert_eq!(parse_time(wrong), None, "{wrong}");
        }
    }
}
