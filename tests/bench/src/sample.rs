//! Times of many repetitions, and what is said of them; and the floor of everything durable, one flush.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context as _;

/// The times of one measurement, in the order taken.
#[derive(Debug, Default)]
pub(crate) struct Sample(Vec<Duration>);

impl Sample {
    pub(crate) fn add(&mut self, time: Duration) {
        self.0.push(time);
    }

    pub(crate) fn append(&mut self, mut other: Self) {
        self.0.append(&mut other.0);
    }

    pub(crate) fn first(&self, count: usize) -> Self {
        Self(self.0.iter().take(count).copied().collect())
    }

    pub(crate) fn last(&self, count: usize) -> Self {
        Self(self.0.iter().rev().take(count).copied().collect())
    }

    /// Returns the smallest time that `share` (0 to 1) of all do not exceed, milliseconds; 0 of an empty sample.
    pub(crate) fn quantile_ms(&self, share: f64) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort();
        let rank = (share * sorted.len() as f64).ceil() as usize;
        sorted
            .get(rank.saturating_sub(1))
            .map_or(0.0, |time| time.as_secs_f64() * 1000.0)
    }

    pub(crate) fn median_ms(&self) -> f64 {
        self.quantile_ms(0.5)
    }
}

/// Returns the median of plain numbers; 0 of none.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}

/// Returns the median time of appending 4 KiB to a file in `folder` and flushing it, milliseconds.
///
/// The file grows, as a write-ahead log does until its first checkpoint.
pub(crate) fn flush_ms(folder: &Path) -> anyhow::Result<f64> {
    const FLUSHES: usize = 100;
    let path = folder.join("flush");
    let mut file = OpenOptions::new()
        .create(true)
        .append(true)
        .open(&path)
        .context("a file for the floor")?;
    let mut sample = Sample::default();
    for _ in 0..FLUSHES {
        let began = Instant::now();
        file.write_all(&[7; 4096])?;
        file.sync_data()?;
        sample.add(began.elapsed());
    }
    std::fs::remove_file(&path)?;
    Ok(sample.median_ms())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(times_ms: impl IntoIterator<Item = u64>) -> Sample {
        Sample(times_ms.into_iter().map(Duration::from_millis).collect())
    }

    #[test]
    fn quantiles_are_times_that_were_taken() {
        let hundred = sample((1..=100).rev());
        assert_eq!(
            (hundred.median_ms(), hundred.quantile_ms(0.99), hundred.quantile_ms(1.0)),
            (50.0, 99.0, 100.0)
        );
        assert_eq!((sample([7]).median_ms(), sample([]).median_ms()), (7.0, 0.0));
    }

    #[test]
    fn the_ends_of_a_sample_are_in_the_order_taken() {
        let rising = sample(1..=10);
        assert_eq!(
            (rising.first(3).quantile_ms(1.0), rising.last(3).quantile_ms(0.01)),
            (3.0, 8.0)
        );
    }
}
