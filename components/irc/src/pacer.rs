//! The pace of lines: a burst, then one at a time, as servers that kill floods allow it.

/// How many lines may go out at once. Chosen below the five that RFC 1459 (section 8.10) allows, since a barrier goes
/// with each line.
const BURST: u64 = 4;

/// Lets lines out.
#[derive(Debug)]
pub struct Pacer {
    interval_ms: u64,
    /// When the pace would be free again had no burst been allowed: it never lies far behind the present.
    free_at_ms: u64,
}

impl Pacer {
    /// Makes a pacer whose burst is unused.
    pub fn new(interval_ms: u64, now_ms: u64) -> Self {
        Self {
            interval_ms,
            free_at_ms: now_ms,
        }
    }

    /// Says how long the next line must wait, milliseconds.
    pub fn wait_ms(&self, now_ms: u64) -> u64 {
        let ahead = self.free_at_ms.saturating_sub(now_ms);
        ahead.saturating_sub(self.interval_ms * (BURST - 1))
    }

    /// Notes that a line goes out.
    pub fn take(&mut self, now_ms: u64) {
        self.free_at_ms = self.free_at_ms.max(now_ms) + self.interval_ms;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_a_burst_lines_go_out_one_at_a_time() {
        let mut pacer = Pacer::new(2_000, 10_000);
        for _ in 0..BURST {
            assert_eq!(pacer.wait_ms(10_000), 0);
            pacer.take(10_000);
        }
        assert_eq!(pacer.wait_ms(10_000), 2_000);
        assert_eq!(pacer.wait_ms(12_000), 0);
        pacer.take(12_000);
        assert_eq!(pacer.wait_ms(12_000), 2_000);
        assert_eq!(pacer.wait_ms(60_000), 0);
        for _ in 0..BURST {
            pacer.take(60_000);
        }
        assert_eq!(
            pacer.wait_ms(60_000),
            2_000,
            "a long silence saves up no more than one burst"
        );
    }
}
