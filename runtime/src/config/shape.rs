//! What a configuration's text has around its content: the byte order mark and the line ends that some editors write. The
//! document that is changed keeps neither.

use std::borrow::Cow;

const BYTE_ORDER_MARK: char = '\u{feff}';

/// How a text begins, and how its lines end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Shape {
    has_mark: bool,
    /// Whether every line ends with CR LF. Where only some do, there is nothing to keep to.
    has_crlf: bool,
}

impl Shape {
    pub(super) fn of(text: &str) -> Self {
        let ends = text.matches('\n').count();
        Self {
            has_mark: text.starts_with(BYTE_ORDER_MARK),
            has_crlf: ends > 0 && text.matches("\r\n").count() == ends,
        }
    }

    /// Returns the text of this shape as it would be without.
    pub(super) fn taken_off(self, text: &str) -> Cow<'_, str> {
        let text = text.strip_prefix(BYTE_ORDER_MARK).unwrap_or(text);
        match self.has_crlf {
            true => text.replace("\r\n", "\n").into(),
            false => text.into(),
        }
    }

    /// Gives this shape to a text that has none.
    pub(super) fn put_on(self, text: String) -> String {
        let mut text = match self.has_crlf {
            true => text.replace('\n', "\r\n"),
            false => text,
        };
        if self.has_mark {
            text.insert(0, BYTE_ORDER_MARK);
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shape_that_is_taken_off_can_be_put_on_again() {
        for (text, plain) in [
            ("", ""),
            ("a = 1\nb = 2\n", "a = 1\nb = 2\n"),
            ("a = 1\r\nb = 2\r\n", "a = 1\nb = 2\n"),
            ("a = 1\r\nb = 2\n", "a = 1\r\nb = 2\n"),
            ("\u{feff}", ""),
            ("\u{feff}a = 1\r\nb = 2", "a = 1\nb = 2"),
        ] {
            let shape = Shape::of(text);
            assert_eq!(shape.taken_off(text), plain, "{text:?}");
            assert_eq!(shape.put_on(plain.to_owned()), text, "{text:?}");
        }
    }
}
