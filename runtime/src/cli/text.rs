//! Tables and times, for people.

use std::fmt::Write as _;

use crate::clock::UnixMillis;
use crate::shown::printable;

/// Characters of a cell; longer texts are cut.
const CELL_CHARS_MAX: usize = 48;

/// Writes rows in columns, two blanks apart.
pub(super) fn table<const N: usize>(rows: impl Iterator<Item = [String; N]>) -> String {
    let rows: Vec<[String; N]> = rows.collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..N).map(width).collect();
    rows.iter().fold(String::new(), |mut text, row| {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}  "));
        // Writing to a String can't fail.
        let _ = writeln!(text, "{}", cells.collect::<String>().trim_end());
        text
    })
}

/// Makes a cell of what someone else wrote: one line, nothing that moves the cursor, not too long.
pub(super) fn cell(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let line = printable(&line);
    let mut cut: String = line.chars().take(CELL_CHARS_MAX).collect();
    if cut.len() < line.len() {
        cut.push('…');
    }
    cut
}

/// As [`cell`], for what may be missing.
pub(super) fn cell_or_dash(text: Option<&str>) -> String {
    text.map_or_else(|| "-".to_owned(), cell)
}

/// Says when something is, seen from now: `in 12 s`, `3 min ago`.
pub(super) fn from_now(at: UnixMillis, now: UnixMillis) -> String {
    let seconds = at.saturating_sub(now).unsigned_abs() / 1000;
    let amount = match seconds {
        0 => return "now".to_owned(),
        1..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", seconds / 60),
        7_200..172_800 => format!("{} h", seconds / 3_600),
        _ => format!("{} d", seconds / 86_400),
    };
    if at > now {
        format!("in {amount}")
    } else {
        format!("{amount} ago")
    }
}

/// Writes a time in UTC: `2026-11-22 11:46:11.123`.
pub(super) fn utc(at: UnixMillis) -> String {
    const DAY_MS: i64 = 86_400_000;
    let (mut days, time) = (at.div_euclid(DAY_MS), at.rem_euclid(DAY_MS));
    // Times are of this gateway's life; what is not is a damaged row or a broken clock.
    if !(0..3_000_000).contains(&days) {
        return format!("{at} ms");
    }
    let mut year = 1970;
    while days >= days_of(year) {
        days -= days_of(year);
        year += 1;
    }
    let february = days_of(year) - 337;
    let mut month = 1;
    for length in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31] {
        if days < length {
            break;
        }
        days -= length;
        month += 1;
    }
    let (seconds, ms) = (time / 1000, time % 1000);
    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    format!(
        "{year}-{month:02}-{:02} {hour:02}:{minute:02}:{second:02}.{ms:03}",
        days + 1
    )
}

/// Returns how many days a year has.
fn days_of(year: i64) -> i64 {
    let is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    365 + i64::from(is_leap)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_in_utc() {
        assert_eq!(utc(0), "1970-01-01 00:00:00.000");
        assert_eq!(utc(951_782_400_000), "2000-02-29 00:00:00.000");
        assert_eq!(utc(4_107_542_399_999), "2100-02-28 23:59:59.999");
        assert_eq!(utc(4_107_542_400_000), "2100-03-01 00:00:00.000");
        assert_eq!(utc(1_798_761_599_001), "2026-12-31 23:59:59.001");
        assert_eq!(utc(i64::MIN), format!("{} ms", i64::MIN));
    }

    #[test]
    fn times_are_told_from_now() {
        let cases = [
            (0, "now"),
            (999, "now"),
            (1_000, "in 1 s"),
            (-119_000, "119 s ago"),
            (120_000, "in 2 min"),
        ];
        for (from, expected) in cases {
            assert_eq!(from_now(50_000_000 + from, 50_000_000), expected);
        }
        assert_eq!(from_now(0, 7_200_000), "2 h ago");
        assert_eq!(from_now(i64::MAX, 0), "in 106751991167 d");
    }

    #[test]
    fn a_cell_is_one_short_line_without_controls() {
        assert_eq!(cell("a\n b\tc"), "a b c");
        assert!(!cell("\u{1b}[2Jx").contains('\u{1b}'));
        assert_eq!(cell(&"é".repeat(60)).chars().count(), CELL_CHARS_MAX + 1);
        assert_eq!(cell_or_dash(None), "-");
    }

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = [["A", "B"], ["long", "x"]].map(|row| row.map(str::to_owned));
        assert_eq!(table(rows.into_iter()), "A     B\nlong  x\n");
    }
}
