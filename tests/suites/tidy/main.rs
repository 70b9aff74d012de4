//! What holds for the source as a whole, and no compiler checks: who may use whom, how long a file may be, that no test is
//! forgotten. The rules are those of `runtime/src/lib.rs`; a failure names the file and the line.

mod layers;
mod openapi;
mod source;
mod structure;
