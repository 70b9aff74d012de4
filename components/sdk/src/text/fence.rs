//! The fenced code blocks of a text (CommonMark 0.31, section 4.5), as far as splitting needs them.
//!
//! Fences inside quotes and lists are not looked for: cutting there shows plain lines, and loses nothing.

use super::Unit;

/// The share of the limit that fences around a part may take; a longer fence is opened again without its info string,
/// and one whose marker alone is longer is taken as plain text.
const OVERHEAD_DIVISOR: usize = 2;

/// An open code block: how to close it, and how to open it again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fence {
    character: char,
    count: usize,
    /// Empty, or with the spaces before it.
    info: String,
}

impl Fence {
    /// Returns the line that opens the block again, with its line end.
    pub(super) fn opening(&self) -> String {
        format!("{}{}\n", self.closing(), self.info)
    }

    /// Returns the line that closes the block, without a line end.
    pub(super) fn closing(&self) -> String {
        self.character.to_string().repeat(self.count)
    }

    /// Takes a line without its end as the opening of a block, or none where it is no such line.
    fn parse(line: &str) -> Option<Self> {
        let (character, count, rest) = marker(line)?;
        let info = rest.trim_end();
        // An info string with a backtick would be inline code.
        (character != '`' || !info.contains('`')).then(|| Self {
            character,
            count,
            info: info.to_owned(),
        })
    }

    /// Returns the fence with as much of its info string as a part of `limit` units has room for.
    fn fit(mut self, limit: usize, unit: Unit) -> Option<Self> {
        let room = limit / OVERHEAD_DIVISOR;
        let overhead = |fence: &Self| unit.measure(&fence.opening()) + unit.measure(&fence.closing()) + 1;
        if overhead(&self) > room {
            self.info.clear();
        }
        (overhead(&self) <= room).then_some(self)
    }

    fn is_closed_by(&self, line: &str) -> bool {
        marker(line).is_some_and(|(character, count, rest)| {
            character == self.character && count >= self.count && rest.trim().is_empty()
        })
    }
}

/// One line of the text.
#[derive(Debug)]
pub(super) struct Line {
    /// Where it starts, a byte offset.
    pub(super) start: usize,
    /// Where the next one starts, a byte offset.
    pub(super) end: usize,
    /// The block that is open where it starts.
    pub(super) fence: Option<Fence>,
    /// Whether it opens or closes a block.
    pub(super) is_fence: bool,
}

/// Divides `text` into its lines, first to last; a line's end belongs to it.
pub(super) fn lines(text: &str, limit: usize, unit: Unit) -> Vec<Line> {
    let mut lines = Vec::new();
    let mut open: Option<Fence> = None;
    let mut start = 0;
    for line in text.split_inclusive('\n') {
        let end = start + line.len();
        let content = line.trim_end_matches(['\n', '\r']);
        let fence = open.clone();
        let is_fence = match &open {
            Some(fence) if fence.is_closed_by(content) => {
                open = None;
                true
            }
            Some(_) => false,
            None => {
                open = Fence::parse(content).and_then(|fence| fence.fit(limit, unit));
                open.is_some()
            }
        };
        lines.push(Line {
            start,
            end,
            fence,
            is_fence,
        });
        start = end;
    }
    lines
}

/// Returns the line that holds the byte offset `at`; none at the end of the text.
pub(super) fn line_of(lines: &[Line], at: usize) -> Option<&Line> {
    lines.get(lines.partition_point(|line| line.end <= at))
}

/// Returns the block that a cut at the byte offset `at` would leave open.
///
/// Cuts inside a line that opens or closes a block are never made, but where that line alone is too long: then the text
/// before the cut is taken as outside.
pub(super) fn around(lines: &[Line], at: usize) -> Option<&Fence> {
    let line = line_of(lines, at)?;
    if line.is_fence && at > line.start {
        None
    } else {
        line.fence.as_ref()
    }
}

/// Returns whether a line beginning with `text` would open or close a block.
pub(super) fn looks_like_fence(text: &str) -> bool {
    marker(text).is_some()
}

/// Reads up to three spaces and at least three backticks or tildes: the character, how many, and what follows.
fn marker(line: &str) -> Option<(char, usize, &str)> {
    let text = line.trim_start_matches(' ');
    if line.len() - text.len() > 3 {
        return None;
    }
    let character = text.chars().next().filter(|c| matches!(c, '`' | '~'))?;
    let rest = text.trim_start_matches(character);
    let count = text.len() - rest.len();
    (count >= 3).then_some((character, count, rest))
}
