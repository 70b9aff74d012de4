//! The gateway's own executable, started once more: what must not run in the gateway's process runs in one of its own,
//! which ends with the gateway, however that ends.
//!
//! A gateway that is killed can't kill what it started. So such a process leads a process group of its own, and watches
//! its standard output, which is a pipe to the gateway: when the other end is gone, so is the gateway, whatever happened to
//! it, and the whole group is killed. (`PR_SET_PDEATHSIG` knows Linux only, reaches no children of the process, and goes
//! by the death of the thread that started it.)

use std::io;
use std::path::PathBuf;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{
    Resource, Rlimit, Signal, getpgrp, getpid, getpriority_process, getrlimit, kill_current_process_group,
    setpriority_process, setrlimit,
};

/// Returns the gateway's own executable.
///
/// # Errors
/// Where the system does not tell.
pub fn own_executable() -> io::Result<PathBuf> {
    if cfg!(target_os = "linux") {
        // Also right where an upgrade has put another file in its place.
        return Ok(PathBuf::from("/proc/self/exe"));
    }
    std::env::current_exe()
}

/// Has this process, and all of its group, killed as soon as nobody reads its standard output any more.
///
/// # Errors
/// When it does not lead its group: then killing the group would reach strangers. And where there is no more thread.
pub fn end_without_reader() -> io::Result<()> {
    if getpgrp() != getpid() {
        return Err(io::Error::other(
            "only the gateway starts this, in a process group of its own",
        ));
    }
    std::thread::Builder::new()
        .name("reader-watch".to_owned())
        .spawn(watch)
        .map(drop)
}

/// Gives all others the right of way: on Linux this thread and those that it starts, elsewhere the whole process. Whoever
/// started the gateway may have given it less already; then it keeps that.
///
/// # Errors
/// Where the system does not do it.
pub fn give_way() -> io::Result<()> {
    if getpriority_process(None)? < LOW_PRIORITY {
        setpriority_process(None, LOW_PRIORITY)?;
    }
    Ok(())
}

/// Lets this process have as many files and connections open as its user may, up to `wanted`: many systems give a process
/// 1024 to begin with, and let it ask for more.
///
/// # Errors
/// Where the system does not do it.
pub fn allow_open_files(wanted: u64) -> io::Result<()> {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let wanted = maximum.map_or(wanted, |maximum| maximum.min(wanted));
    if current.is_some_and(|current| current < wanted) {
        let current = Some(wanted);
        setrlimit(Resource::Nofile, Rlimit { current, maximum })?;
    }
    Ok(())
}

/// Returns how many files and connections this process may have open.
pub fn open_files_max() -> usize {
    let current = getrlimit(Resource::Nofile).current;
    current.map_or(usize::MAX, |current| usize::try_from(current).unwrap_or(usize::MAX))
}

/// Has the system write no core file of this process, which would hold its secrets. On Linux other processes of its user
/// can't read its memory any more either. What it starts is not concerned (on Linux), or can't dump its core as well.
///
/// # Errors
/// Where the system does not do it.
pub fn leave_no_core() -> io::Result<()> {
    #[cfg(target_os = "linux")]
    rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable)?;
    #[cfg(not(target_os = "linux"))]
    rustix::process::setrlimit(rustix::process::Resource::Core, NO_CORE)?;
    Ok(())
}

#[cfg(not(target_os = "linux"))]
const NO_CORE: rustix::process::Rlimit = rustix::process::Rlimit {
    current: Some(0),
    maximum: Some(0),
};

/// A nice value, setpriority(2): a tenth of what others get where all want the core, and not less, because a guest may
/// hold a lock of the host for a moment that others then wait for.
const LOW_PRIORITY: i32 = 10;

/// Waits for the end of whoever reads the standard output, and kills the group, this process included.
fn watch() {
    let output = io::stdout();
    loop {
        // No event is asked for: that the other end is gone is told always.
        let mut watched = [PollFd::new(&output, PollFlags::empty())];
        match poll(&mut watched, None) {
            Ok(0) | Err(rustix::io::Errno::INTR | rustix::io::Errno::AGAIN) => {}
            Ok(_) | Err(_) => break,
        }
    }
    // It fails only where this process is gone already.
    let _gone = kill_current_process_group(Signal::KILL);
}
