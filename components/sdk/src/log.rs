//! The channel's log. Never write a message's text or anything secret into it.
//!
//! [`info!`](crate::info) and its sisters take what `format!` takes.

pub use crate::bindings::imports::sluicegate::channel::log::{Level, write};

/// Writes a line for whoever debugs this channel.
#[macro_export]
macro_rules! debug {
    ($($arg:tt)+) => { $crate::log::write($crate::log::Level::Debug, &::std::format!($($arg)+)) };
}

/// Writes a line about the channel's life.
#[macro_export]
macro_rules! info {
    ($($arg:tt)+) => { $crate::log::write($crate::log::Level::Info, &::std::format!($($arg)+)) };
}

/// Writes a line about something that works worse than it should.
#[macro_export]
macro_rules! warn {
    ($($arg:tt)+) => { $crate::log::write($crate::log::Level::Warn, &::std::format!($($arg)+)) };
}

/// Writes a line about something that a person must act on.
#[macro_export]
macro_rules! error {
    ($($arg:tt)+) => { $crate::log::write($crate::log::Level::Error, &::std::format!($($arg)+)) };
}
