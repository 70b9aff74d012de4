//! The process that compiles: it takes a component from its standard input, and writes code to its standard output.
//!
//! It is the gateway's own executable, so what it makes fits the gateway's engine. It opens no file of the gateway's, and
//! has none of its environment; it begins by giving up what it does not need. It ends with the gateway, however that
//! ends, see [`process::end_without_reader`].

use std::ffi::OsString;
use std::io::{self, Read as _, Write as _};
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use wasmtime::{Engine, OutOfMemory};

use crate::channel::engine;
use crate::component::CompileBounds;
use crate::process;

/// The first argument of an executable that is to compile; its bounds follow.
pub const COMPILE: &str = "compile";

/// The exit code where the code is on standard output.
pub(super) const COMPILED: i32 = 0;
/// The exit code where standard output says what is wrong with the component.
pub(super) const REFUSED: i32 = 3;
/// The exit code where the compiler could have no more memory, and noticed.
pub(super) const OUT_OF_MEMORY: i32 = 4;
/// What Rust's library says on standard error before it aborts a process that can have no more memory.
pub(super) const ALLOCATION_FAILED: &str = "memory allocation of";

/// Tells the compiler, which uses rayon, how many threads it may have.
pub(super) const THREADS: &str = "RAYON_NUM_THREADS";

/// Writes bounds as [`run`] reads them.
pub(super) fn arguments(bounds: CompileBounds) -> [String; 3] {
    let seconds = bounds.time_max.as_secs().max(1);
    [
        COMPILE.to_owned(),
        bounds.memory_bytes_max.to_string(),
        seconds.to_string(),
    ]
}

/// Compiles what comes over the standard input within the bounds that these arguments name. Returns the exit code.
///
/// # Errors
/// Where no gateway started it, or a pipe to the gateway breaks.
pub fn run(arguments: impl Iterator<Item = OsString>) -> io::Result<u8> {
    let bounds = parsed(arguments).ok_or_else(|| io::Error::other("only the gateway starts this"))?;
    process::end_without_reader()?;
    confine(bounds)?;
    let mut wasm = Vec::new();
    io::stdin().lock().read_to_end(&mut wasm)?;
    let (code, output) = outcome(&wasm);
    let mut out = io::stdout().lock();
    out.write_all(&output).and_then(|()| out.flush())?;
    Ok(code as u8)
}

fn parsed(mut arguments: impl Iterator<Item = OsString>) -> Option<CompileBounds> {
    let mut number = || arguments.next()?.to_str()?.parse().ok();
    Some(CompileBounds {
        memory_bytes_max: number()?,
        time_max: Duration::from_secs(number()?),
    })
}

/// Gives up what compiling does not need. What is set here holds for all threads, which are started later.
fn confine(bounds: CompileBounds) -> io::Result<()> {
    process::give_way()?;
    // Where the machine has too little memory, this is to be ended, and not the gateway. Not every container lets it say so.
    #[cfg(target_os = "linux")]
    let _said = std::fs::write("/proc/self/oom_score_adj", "1000");
    lower(Resource::Core, 0)?;
    // Should the gateway be stopped, and end nobody at a deadline.
    let cores = std::thread::available_parallelism().map_or(1, usize::from) as u64;
    lower(Resource::Cpu, bounds.time_max.as_secs().saturating_mul(cores))?;
    // On Linux all memory that it alone can write to, and not the addresses that an allocator merely reserves.
    lower(Resource::Data, bounds.memory_bytes_max)
}

/// Lowers a limit of this process for good.
fn lower(resource: Resource, to: u64) -> io::Result<()> {
    let most = Some(getrlimit(resource).maximum.map_or(to, |most| most.min(to)));
    let lowered = Rlimit {
        current: most,
        maximum: most,
    };
    Ok(setrlimit(resource, lowered)?)
}

fn outcome(wasm: &[u8]) -> (i32, Vec<u8>) {
    let compiled = Engine::new(&engine::config()).and_then(|engine| engine.precompile_component(wasm));
    match compiled {
        Ok(code) => (COMPILED, code),
        Err(error) if error.is::<OutOfMemory>() => (OUT_OF_MEMORY, Vec::new()),
        Err(error) => (REFUSED, engine::plain(&error).into_bytes()),
    }
}
