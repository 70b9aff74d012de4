//! The command line as a person or a script meets it: the real binary, its texts, its exit codes, its files.
//!
//! `golden/` holds what `--help` says, `cases/` wrong and right configurations, each with the report on it. After a change
//! that is meant, `UPDATE_GOLDEN=1 cargo test --test cli` writes them anew; the difference shows in the commit.

mod binary;
mod channel;
mod chat;
mod check;
mod edits;
mod golden;
mod help;
