//! Lines from standard input, read by a thread of its own because a read of a terminal can't be called off.

use std::io::BufRead;

use tokio::sync::mpsc;

/// Bytes of one line, as the WebSocket channel takes them; what is longer is said and left out.
pub(super) const LINE_BYTES_MAX: usize = 64 * 1024;
/// Lines that are read ahead. Above it the reader waits, and so does whoever writes to its pipe.
const LINES_WAITING_MAX: usize = 16;

/// A line, or why there is none.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Line {
    /// What was written, without the line break; never empty.
    Text(String),
    /// The line had more than [`LINE_BYTES_MAX`].
    TooLong,
}

/// Starts to read standard input. The channel closes at the end of input.
pub(super) fn lines() -> mpsc::Receiver<Line> {
    let (line_tx, line_rx) = mpsc::channel(LINES_WAITING_MAX);
    std::thread::spawn(move || {
        let mut input = std::io::stdin().lock();
        while let Some(line) = next_line(&mut input) {
            if line_tx.blocking_send(line).is_err() {
                break;
            }
        }
    });
    line_rx
}

/// Reads the next line that says something; none at the end of input, also where it can't be read any more.
fn next_line(input: &mut impl BufRead) -> Option<Line> {
    loop {
        let mut bytes = Vec::new();
        let mut is_too_long = false;
        loop {
            let part = input.fill_buf().ok()?;
            if part.is_empty() && bytes.is_empty() && !is_too_long {
                return None;
            }
            let line_end = part.iter().position(|byte| *byte == b'\n');
            let taken = line_end.unwrap_or(part.len());
            is_too_long |= bytes.len() + taken > LINE_BYTES_MAX;
            if !is_too_long {
                bytes.extend_from_slice(&part[..taken]);
            }
            let is_last = line_end.is_some() || part.is_empty();
            input.consume(taken + usize::from(line_end.is_some()));
            if is_last {
                break;
            }
        }
        if is_too_long {
            return Some(Line::TooLong);
        }
        let text = String::from_utf8_lossy(&bytes);
        if !text.trim().is_empty() {
            return Some(Line::Text(text.trim_end_matches('\r').to_owned()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(text: &[u8]) -> Vec<Line> {
        let mut input = std::io::BufReader::with_capacity(7, text);
        std::iter::from_fn(|| next_line(&mut input)).collect()
    }

    #[test]
    fn lines_are_read_whole_and_empty_ones_are_left_out() {
        let line = |text: &str| Line::Text(text.to_owned());
        assert_eq!(
            all(b"a longer line\r\n\n  \nb\nlast"),
            [line("a longer line"), line("b"), line("last")]
        );
        assert_eq!(all(b""), []);
        assert_eq!(all(b"\xff\n"), [line("\u{fffd}")]);
    }

    #[test]
    fn a_line_that_is_too_long_does_not_take_the_next_one_along() {
        let mut text = vec![b'x'; LINE_BYTES_MAX + 1];
        text.extend_from_slice(b"\nnext\n");
        assert_eq!(all(&text), [Line::TooLong, Line::Text("next".to_owned())]);
        assert_eq!(all(&vec![b'x'; LINE_BYTES_MAX]).len(), 1);
    }
}
