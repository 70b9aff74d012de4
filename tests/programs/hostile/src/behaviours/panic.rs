//! Panics with the argument as its last words.

pub(crate) fn run(argument: &str) -> String {
    panic!("{argument}")
}
