//! What every channel must do, run for each of them through the real binary: one list of cases, one row of a table a channel.
//!
//! A channel's proof stands in its own folder: `components/<name>/conformance/mod.rs` starts the platform (a real server,
//! or a fake that the platform's own client libraries run cleanly against) and plays the people on it. The build script
//! finds these folders and mounts them here, so that a new channel changes nothing outside its own.

mod cases;
mod languages;
mod platform;
mod table;

include!(concat!(env!("OUT_DIR"), "/conformance.rs"));
