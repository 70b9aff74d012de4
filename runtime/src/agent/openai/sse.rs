//! Server-sent events, as far as a model's answer needs them: the data of each event.
//!
//! Source: WHATWG HTML, "Server-sent events", section "Interpreting an event stream". Names, ids and retry times of
//! events are left out, since no chat-completions server gives them a meaning.

use crate::limit;

/// A line was longer than [`limit::MODEL_LINE_BYTES_MAX`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a line of the event stream has more than {} bytes", limit::MODEL_LINE_BYTES_MAX)]
pub(super) struct LineTooLong;

/// Takes the bytes of a stream as they come and gives the data of its events.
#[derive(Debug, Default)]
pub(super) struct Parser {
    /// What has come of the present line.
    line: Vec<u8>,
    /// The data lines of the present event, joined by line feeds; none before the first.
    data: Option<String>,
    /// Whether the last byte was a carriage return, which a line feed may follow.
    after_return: bool,
}

impl Parser {
    /// Takes more bytes; returns the data of the events that they complete, in order.
    ///
    /// # Errors
    /// When a line, or the data of one event, is too long. The parser is of no use afterwards.
    pub(super) fn push(&mut self, bytes: &[u8]) -> Result<Vec<String>, LineTooLong> {
        let mut events = Vec::new();
        for &byte in bytes {
            let follows_return = std::mem::replace(&mut self.after_return, byte == b'\r');
            match byte {
                b'\n' if follows_return => {}
                b'\n' | b'\r' => events.extend(self.end_line()),
                _ => self.line.push(byte),
            }
            if self.line.len() + self.data.as_ref().map_or(0, String::len) > limit::MODEL_LINE_BYTES_MAX {
                return Err(LineTooLong);
            }
        }
        Ok(events)
    }

    fn end_line(&mut self) -> Option<String> {
        let line = std::mem::take(&mut self.line);
        if line.is_empty() {
            return self.data.take();
        }
        let text = String::from_utf8_lossy(&line);
        // A byte order mark may stand before the first line; elsewhere it begins no field either.
        let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
        let value = text.strip_prefix("data:")?;
        let value = value.strip_prefix(' ').unwrap_or(value);
        match &mut self.data {
            Some(data) => {
                data.push('\n');
                data.push_str(value);
            }
            none => *none = Some(value.to_owned()),
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(chunks: &[&[u8]]) -> Vec<String> {
        let mut parser = Parser::default();
        chunks.iter().flat_map(|chunk| parser.push(chunk).unwrap()).collect()
    }

    #[test]
    fn events_are_the_same_however_the_bytes_are_cut() {
        let stream =
            "data: {\"a\":\"é\"}\r\n\r\n: a comment\nevent: x\ndata:two\ndata: lines\n\ndata: [DONE]\r\rdata: cut"
                .as_bytes();
        let expected = ["{\"a\":\"é\"}", "two\nlines", "[DONE]"];
        assert_eq!(parse(&[stream]), expected);
        let bytes: Vec<&[u8]> = stream.chunks(1).collect();
        assert_eq!(parse(&bytes), expected);
        for at in 0..stream.len() {
            assert_eq!(parse(&[&stream[..at], &stream[at..]]), expected, "cut at {at}");
        }
    }

    #[test]
    fn an_endless_line_and_an_endless_event_are_refused() {
        let mut parser = Parser::default();
        assert_eq!(
            parser.push(&vec![b'x'; limit::MODEL_LINE_BYTES_MAX + 1]),
            Err(LineTooLong)
        );
        let mut parser = Parser::default();
        let line = [b"data: ".as_slice(), &[b'x'; 1000], b"\n"].concat();
        let outcome = (0..limit::MODEL_LINE_BYTES_MAX / 1000 + 1).try_for_each(|_| parser.push(&line).map(drop));
        assert_eq!(outcome, Err(LineTooLong));
    }

    #[test]
    fn a_byte_order_mark_before_the_stream_is_no_part_of_it() {
        assert_eq!(parse(&["\u{feff}data: one\n\n".as_bytes()]), ["one"]);
    }

    #[test]
    fn bytes_that_are_no_text_do_no_harm() {
        assert_eq!(parse(&[b"data: \xff\xfe\n\n"]), ["\u{fffd}\u{fffd}"]);
        assert!(parse(&[b"\xff\x00\n\ndata\n\n"]).is_empty());
    }
}
