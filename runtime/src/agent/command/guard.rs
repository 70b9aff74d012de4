//! The guard: a process between the gateway and an agent's program, which ends the program when the gateway is gone.
//!
//! A gateway that is killed can't kill what it started. So it starts its own executable once more, as the leader of a
//! new process group; that one starts the program in the group, waits for it, and passes its exit code on. Its standard
//! output is the pipe that the gateway reads the answer from: when nobody reads it, the whole group is killed, see
//! [`process::end_without_reader`].

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Command, ExitStatus};

use crate::process;

/// The first argument of an executable that is to be the guard; the program and its arguments follow.
pub const SUBCOMMAND: &str = "guard";

/// The exit code where the program could not be started for a reason that only the operator can end; shells use it for a
/// program that they don't find.
pub const NOT_STARTED: u8 = 127;

/// Runs a program until it ends or nobody reads the standard output any more. Returns its exit code, or 128 and the
/// number of the signal that ended it.
///
/// # Errors
/// When it can't be started, or this process does not lead its group: then killing the group would reach strangers.
pub fn run(program: &OsStr, args: impl Iterator<Item = OsString>) -> io::Result<u8> {
    process::end_without_reader()?;
    Command::new(program).args(args).spawn()?.wait().map(exit_code)
}

fn exit_code(status: ExitStatus) -> u8 {
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal));
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(1)
}

/// Returns whether starting a program failed for a reason that only the operator can end.
pub(super) fn is_misconfiguration(fault: &io::Error) -> bool {
    use io::ErrorKind::{InvalidInput, NotADirectory, NotFound, PermissionDenied};
    matches!(fault.kind(), NotFound | PermissionDenied | InvalidInput | NotADirectory)
}

/// Returns the exit code that says why a program could not be started.
pub fn failed_to_start(fault: &io::Error) -> u8 {
    if is_misconfiguration(fault) { NOT_STARTED } else { 1 }
}
