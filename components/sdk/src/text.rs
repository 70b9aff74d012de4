//! Splitting a long text into the parts that a platform takes.
//!
//! The parts are a pure function of text, limit and unit, so that a delivery resumes after the last part that was sent.

mod fence;

use unicode_segmentation::UnicodeSegmentation;

use crate::message::Choice;
use fence::{Fence, Line};

/// The smallest limit that is honoured. Below it not even one code point and a fence around it would fit.
pub const LIMIT_MIN: usize = 16;

/// What a platform counts when it limits the length of a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Bytes of UTF-8.
    Bytes,
    /// UTF-16 code units, as Telegram counts: an emoji is two or more.
    Utf16,
    /// Unicode code points, as Discord and Slack count.
    CodePoints,
}

impl Unit {
    /// Returns the length of `text` in this unit.
    pub fn measure(self, text: &str) -> usize {
        match self {
            Self::Bytes => text.len(),
            Self::Utf16 => text.encode_utf16().count(),
            Self::CodePoints => text.chars().count(),
        }
    }
}

/// Splits `text` into parts of at most `limit` units each; none for an empty text.
///
/// It prefers to end a part at a paragraph, then at a line, a sentence, a space, and never ends one inside a character.
/// A part that ends inside a fenced code block gets a closing fence, and the next part opens it again with the same
/// info string; both count. Nothing else is added or lost: without those fences the parts in a row are the text.
/// A limit below [`LIMIT_MIN`] is taken as [`LIMIT_MIN`].
pub fn split(text: &str, limit: usize, unit: Unit) -> Vec<String> {
    parts(text, limit, unit).into_iter().map(Part::into_string).collect()
}

/// Returns `text` with the choices below it as numbered lines, for platforms without buttons; without choices, `text`.
pub fn with_numbered(text: &str, choices: &[Choice]) -> String {
    if choices.is_empty() {
        return text.to_owned();
    }
    let lines = (1..)
        .zip(choices)
        .map(|(number, choice)| format!("\n{number}. {}", choice.label));
    format!("{text}\n{}", lines.collect::<String>())
}

/// One part: a piece of the text between the fences that it needs.
#[derive(Debug, PartialEq, Eq)]
struct Part<'a> {
    open: String,
    body: &'a str,
    close: String,
}

impl Part<'_> {
    fn into_string(self) -> String {
        self.open + self.body + &self.close
    }
}

/// How good a place is to end a part, worst first. A good place is taken only where it leaves the part full enough:
/// otherwise a heading would go out alone before each long paragraph.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Border {
    /// Between any two characters as a person sees them.
    Character,
    /// After a space.
    Space,
    /// After a sentence and its space.
    Sentence,
    /// At a line of code.
    CodeLine,
    /// At a line of text.
    Line,
    /// After a blank line.
    Paragraph,
}

impl Border {
    const BEST_FIRST: [Self; 6] = [
        Self::Paragraph,
        Self::Line,
        Self::CodeLine,
        Self::Sentence,
        Self::Space,
        Self::Character,
    ];

    /// The least filling for which this border is taken, as a divisor of the room in the part.
    fn least_filling_divisor(self) -> usize {
        match self {
            Self::Paragraph => 2,
            Self::Line | Self::CodeLine | Self::Sentence => 3,
            Self::Space => 8,
            Self::Character => usize::MAX,
        }
    }
}

fn parts(text: &str, limit: usize, unit: Unit) -> Vec<Part<'_>> {
    let limit = limit.max(LIMIT_MIN);
    let lines = fence::lines(text, limit, unit);
    let mut parts = Vec::new();
    let mut start = 0;
    while start < text.len() {
        let open = fence::around(&lines, start).map(Fence::opening).unwrap_or_default();
        let room = limit - unit.measure(&open);
        let cut = Cut {
            text,
            lines: &lines,
            start,
            room,
            unit,
        };
        let end = cut.end();
        let close = if end == text.len() {
            String::new()
        } else {
            cut.closing(end)
        };
        parts.push(Part {
            open,
            body: &text[start..end],
            close,
        });
        start = end;
    }
    parts
}

/// The search for the end of one part, which starts at `start` and has `room` units left after its opening fence.
struct Cut<'a> {
    text: &'a str,
    lines: &'a [Line],
    start: usize,
    room: usize,
    unit: Unit,
}

impl Cut<'_> {
    fn end(&self) -> usize {
        let rest = &self.text[self.start..];
        // No unit is smaller than a byte, so most texts need not be measured.
        if rest.len() <= self.room || self.unit.measure(rest) <= self.room {
            return self.text.len();
        }
        // For each border the last place that still fits, with how far the part is filled there.
        let mut last = [None::<(usize, usize)>; Border::BEST_FIRST.len()];
        // The last place between two characters, for a line that has no border at all: a fence of which already the
        // info string is too long.
        let mut last_character = None;
        let mut filled = 0;
        for (offset, character) in rest.grapheme_indices(true) {
            let at = self.start + offset;
            if offset > 0 && filled + self.unit.measure(&self.closing(at)) <= self.room {
                last_character = Some(at);
                if let Some(border) = self.border(at) {
                    last[border as usize] = Some((at, filled));
                }
            }
            filled += self.unit.measure(character);
            if filled > self.room {
                break;
            }
        }
        Border::BEST_FIRST
            .into_iter()
            .find_map(|border| {
                let (at, filled) = last[border as usize]?;
                (filled >= self.room / border.least_filling_divisor()).then_some(at)
            })
            .or(last_character)
            .unwrap_or_else(|| self.inside_a_character())
    }

    /// Returns the last place between two code points: for a character of so many that it alone is too long.
    fn inside_a_character(&self) -> usize {
        let mut filled = 0;
        let mut end = self.start;
        for character in self.text[self.start..].chars() {
            let next = end + character.len_utf8();
            filled += self.unit.measure(character.encode_utf8(&mut [0; 4]));
            if end > self.start && filled + self.unit.measure(&self.closing(next)) > self.room {
                break;
            }
            end = next;
        }
        end
    }

    /// Returns what closes the code block that a part ending at `end` leaves open; empty outside one.
    fn closing(&self, end: usize) -> String {
        match fence::around(self.lines, end) {
            Some(fence) if self.text[..end].ends_with('\n') => fence.closing(),
            Some(fence) => format!("\n{}", fence.closing()),
            None => String::new(),
        }
    }

    /// Says what kind of border lies at `at`; none where a cut would change what the text means.
    fn border(&self, at: usize) -> Option<Border> {
        let line = fence::line_of(self.lines, at)?;
        if at == line.start {
            return self.border_of_line(at);
        }
        // Cut inside its fence, a line of code would lose its fence; cut before something like a fence, the next part
        // would begin with one.
        if line.is_fence || fence::looks_like_fence(&self.text[at..]) {
            return None;
        }
        let before = &self.text[self.start..at];
        if !before.ends_with(char::is_whitespace) {
            return Some(Border::Character);
        }
        let ends_sentence = before.trim_end().ends_with(['.', '!', '?', '…', '。', '！', '？']);
        if ends_sentence && line.fence.is_none() {
            Some(Border::Sentence)
        } else {
            Some(Border::Space)
        }
    }

    fn border_of_line(&self, at: usize) -> Option<Border> {
        let line = fence::line_of(self.lines, at)?;
        let previous = fence::line_of(self.lines, at - 1)?;
        if line.fence.is_some() {
            // Neither right after the opening fence nor right before the closing one: a part would be an empty block.
            return if previous.is_fence || line.is_fence {
                Some(Border::Character)
            } else {
                Some(Border::CodeLine)
            };
        }
        let blank = self.text[previous.start..previous.end].trim().is_empty();
        if blank {
            Some(Border::Paragraph)
        } else {
            Some(Border::Line)
        }
    }
}

#[cfg(test)]
mod tests;
