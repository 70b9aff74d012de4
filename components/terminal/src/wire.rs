//! What a terminal speaks: lines in, text with a prompt out.

use std::io::{self, BufRead};

/// What stands where a person may type.
pub(crate) const PROMPT: &str = "> ";

/// The longest line that is taken, bytes without its end. Chosen far above what a terminal's line editor lets through
/// (4096 on Linux), for texts that are piped in; above it one line could fill the instance's memory.
pub(crate) const LINE_BYTES_MAX: usize = 64 * 1024;

/// Back to the first column, then erase to the end of the line (ECMA-48, EL): what the prompt stood on.
const ERASE_LINE: &str = "\r\x1b[K";

/// One line of input.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Line {
    /// Without its line end, and with what is not UTF-8 replaced.
    Text(String),
    /// Longer than [`LINE_BYTES_MAX`]; all of it was skipped.
    TooLong,
    /// There is no more input.
    End,
}

/// Reads the next line; the last one may lack its line end.
pub(crate) fn next_line(input: &mut impl BufRead) -> io::Result<Line> {
    let mut line = Vec::new();
    let mut length = 0_usize;
    loop {
        let chunk = match input.fill_buf() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            chunk => chunk?,
        };
        if chunk.is_empty() {
            return Ok(if length == 0 { Line::End } else { finish(line, length) });
        }
        let end = chunk.iter().position(|byte| *byte == b'\n');
        let taken = &chunk[..end.unwrap_or(chunk.len())];
        length = length.saturating_add(taken.len());
        if length <= LINE_BYTES_MAX {
            line.extend_from_slice(taken);
        }
        let used = end.map_or(chunk.len(), |end| end + 1);
        input.consume(used);
        if end.is_some() {
            return Ok(finish(line, length));
        }
    }
}

fn finish(line: Vec<u8>, length: usize) -> Line {
    if length > LINE_BYTES_MAX {
        return Line::TooLong;
    }
    let text = String::from_utf8_lossy(&line);
    Line::Text(text.strip_suffix('\r').unwrap_or(&text).to_owned())
}

/// Returns what to write for an answer: in place of the prompt, and a new prompt after it, where a person sits there.
pub(crate) fn answer(text: &str, is_interactive: bool) -> String {
    if is_interactive {
        format!("{ERASE_LINE}{text}\n{PROMPT}")
    } else {
        format!("{text}\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads with a buffer of three bytes, so that lines cross its borders.
    fn lines(bytes: &[u8]) -> Vec<Line> {
        let mut input = io::BufReader::with_capacity(3, bytes);
        let mut lines = Vec::new();
        loop {
            match next_line(&mut input).expect("reading from memory can't fail") {
                Line::End => return lines,
                line => lines.push(line),
            }
        }
    }

    fn text(text: &str) -> Line {
        Line::Text(text.to_owned())
    }

    #[test]
    fn a_line_ends_at_a_line_feed_or_at_the_end_of_input() {
        assert_eq!(lines(b"hello\r\n\nlast"), [text("hello"), text(""), text("last")]);
        assert_eq!(lines(b""), []);
    }

    #[test]
    fn what_is_not_utf8_is_replaced() {
        assert_eq!(lines(b"a\xffb\n"), [text("a\u{fffd}b")]);
    }

    #[test]
    fn a_line_that_is_too_long_is_skipped_and_the_next_is_read() {
        let fits = "x".repeat(LINE_BYTES_MAX);
        let input = format!("{fits}x\nnext\n{fits}\n");
        assert_eq!(lines(input.as_bytes()), [Line::TooLong, text("next"), text(&fits)]);
    }

    #[test]
    fn an_answer_takes_the_place_of_the_prompt() {
        assert_eq!(answer("hi", true), "\r\u{1b}[Khi\n> ");
        assert_eq!(answer("hi", false), "hi\n");
    }
}
