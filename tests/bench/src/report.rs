//! What a run says: figures on standard output, one a line; everything for people on standard error.

/// Where figures go.
pub(crate) struct Report {
    /// Whether everything is to be short, for a look and for continuous integration.
    pub(crate) quick: bool,
}

impl Report {
    /// Says a figure: `NAME VALUE UNIT`.
    #[expect(clippy::print_stdout, reason = "the figures are what this program is for")]
    pub(crate) fn figure(&mut self, name: &str, value: f64, unit: &str) {
        println!("{name} {value:.*} {unit}", decimals(value));
    }

    /// Says what is being done.
    #[expect(clippy::print_stderr, reason = "progress for the person who waits")]
    pub(crate) fn progress(&self, what: &str) {
        eprintln!("bench: {what}");
    }
}

/// Returns how many decimals a value is worth: about three digits in all.
fn decimals(value: f64) -> usize {
    match value {
        100.0.. => 0,
        10.0.. => 1,
        _ => 2,
    }
}
