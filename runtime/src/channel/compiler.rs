//! Compiling a component: one at a time, in a process of its own that has a deadline and a bound on its memory.
//!
//! A compiler can't be told to stop, and what it allocates can't be told from what the gateway needs. A process can be
//! killed, with all that it took. So the gateway starts its own executable once more, hands it the component, and takes
//! the compiled code from it: see [`child`]. The code is kept by the gateway, which alone has the key of the cache.

use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;

use rustix::process::Signal;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{ChildStdin, Command};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use wasmtime::Engine;
use wasmtime::component::Component;

use super::cache::{self, CodeCache};
use super::{Error, measure, printable};
use crate::component::CompileBounds;
use crate::{limit, process};

pub(super) mod child;

/// How components are compiled: by which program, and within what.
#[derive(Debug, Clone)]
pub struct Compilation {
    program: PathBuf,
    bounds: CompileBounds,
}

impl Compilation {
    /// Compiles with the executable of this process, which must be `sluicegate`, or one that does what
    /// [`compile_as_child`](super::compile_as_child) does where its first argument is [`COMPILE`](super::COMPILE).
    ///
    /// # Errors
    /// Where the system does not tell which executable that is.
    pub fn by_own_executable(bounds: CompileBounds) -> Result<Self, Error> {
        let program = process::own_executable();
        let program = program.map_err(|error| Error::Engine(format!("the gateway can't find itself: {error}")))?;
        Ok(Self { program, bounds })
    }

    /// Compiles with another executable: a `sluicegate` that was built from the same source as this process. The code that
    /// it makes is run as it is, so it is trusted as this process is.
    pub fn by(program: PathBuf, bounds: CompileBounds) -> Self {
        Self { program, bounds }
    }
}

/// Compiles components. Cheap to clone; clones share their turn.
#[derive(Clone)]
pub(super) struct Compiler {
    engine: Engine,
    cache: Option<Arc<CodeCache>>,
    compilation: Arc<Compilation>,
    /// One at a time: it takes all cores for seconds, and as much memory as it may have.
    turn: Arc<Semaphore>,
}

impl Compiler {
    pub(super) fn new(engine: Engine, cache: Option<Arc<CodeCache>>, compilation: Compilation) -> Self {
        Self {
            engine,
            cache,
            compilation: Arc::new(compilation),
            turn: Arc::new(Semaphore::new(1)),
        }
    }

    /// Returns a compiled file: from the cache, else compiled when its turn comes.
    ///
    /// # Errors
    /// What is wrong with it, in plain words; [`Error::CompileTime`] and [`Error::CompileMemory`] where it took too much.
    ///
    /// # Cancel safety
    /// A dropped future ends the compilation.
    pub(super) async fn component(&self, wasm: Arc<[u8]>, digest: &str) -> Result<Component, Error> {
        if let Some(component) = self.cached(digest).await {
            return Ok(component);
        }
        let _turn = self.turn.acquire().await.map_err(|_| shut_down())?;
        // Whoever had the turn before may have compiled the same file.
        match self.cached(digest).await {
            Some(component) => Ok(component),
            None => self.compile(wasm, digest).await,
        }
    }

    async fn cached(&self, digest: &str) -> Option<Component> {
        let cache = self.cache.clone()?;
        let (engine, digest) = (self.engine.clone(), digest.to_owned());
        tokio::task::spawn_blocking(move || cache.get(&engine, &digest))
            .await
            .ok()
            .flatten()
    }

    async fn compile(&self, wasm: Arc<[u8]>, digest: &str) -> Result<Component, Error> {
        let wasm = off_the_async_threads(move || {
            refuse_what_is_none(&wasm)?;
            measure::refuse_the_unbounded(&wasm)?;
            Ok(wasm)
        });
        let code = self.compilation.run(&wasm.await?).await?;
        let (engine, cache, digest) = (self.engine.clone(), self.cache.clone(), digest.to_owned());
        let taken = off_the_async_threads(move || {
            let component = cache::load(&engine, &code).map_err(Error::engine)?;
            if let Some(cache) = cache {
                cache.put(&engine, &digest, &code);
            }
            Ok(component)
        });
        taken.await
    }
}

async fn off_the_async_threads<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    tokio::task::spawn_blocking(work).await.map_err(|_| shut_down())?
}

fn shut_down() -> Error {
    Error::Engine("shut down".into())
}

fn refuse_what_is_none(wasm: &[u8]) -> Result<(), Error> {
    const CORE_MODULE: &[u8] = b"\0asm\x01\0\0\0";
    if wasm.starts_with(CORE_MODULE) {
        return Err(Error::NotAComponent(
            "it is a core WebAssembly module; build it for wasm32-wasip2".into(),
        ));
    }
    if !wasm.starts_with(b"\0asm") {
        return Err(Error::NotAComponent("it is not WebAssembly".into()));
    }
    Ok(())
}

impl Compilation {
    /// Has a component compiled, and returns its code. The process is gone when this returns.
    async fn run(&self, wasm: &[u8]) -> Result<Vec<u8>, Error> {
        let lost = |error: std::io::Error| Error::Compiler(format!("it can't be run: {error}"));
        let mut child = self.command().spawn().map_err(lost)?;
        let (input, output, errors) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let ended = timeout(self.bounds.time_max, async {
            let ((), output, errors) = tokio::join!(
                hand_over(input, wasm),
                // What it compiles is in its memory first.
                read(output, self.bounds.memory_bytes_max),
                read(errors, limit::REASON_BYTES_MAX as u64)
            );
            Ok((child.wait().await?, output?, errors?))
        });
        match ended.await {
            Ok(ended) => {
                let (status, output, errors) = ended.map_err(lost)?;
                self.outcome(status, output, &errors)
            }
            Err(_) => {
                // It fails only where the process has ended already.
                let _gone = child.kill().await;
                Err(Error::CompileTime(self.bounds.time_max))
            }
        }
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command
            .args(child::arguments(self.bounds))
            .env_clear()
            .env(child::THREADS, limit::COMPILE_THREADS_MAX.min(cores()).to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true);
        command
    }

    /// Tells from how it ended what came of it.
    fn outcome(&self, status: ExitStatus, output: Vec<u8>, errors: &[u8]) -> Result<Vec<u8>, Error> {
        let (signal, errors) = (status.signal().and_then(Signal::from_named_raw), one_line(errors));
        match status.code() {
            Some(child::COMPILED) => Ok(output),
            Some(child::REFUSED) => Err(Error::NotAComponent(one_line(&output))),
            Some(child::OUT_OF_MEMORY) => Err(Error::CompileMemory(self.bounds.memory_bytes_max)),
            _ if errors.contains(child::ALLOCATION_FAILED) => Err(Error::CompileMemory(self.bounds.memory_bytes_max)),
            _ if signal == Some(Signal::XCPU) => Err(Error::CompileTime(self.bounds.time_max)),
            _ if signal == Some(Signal::KILL) => Err(Error::Compiler(
                "it was killed, perhaps because this machine has too little memory".to_owned(),
            )),
            _ => Err(Error::Compiler(format!("{status}: {errors}"))),
        }
    }
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Writes a component to its compiler. One that ends before it has read all of it says why in its own way.
async fn hand_over(input: Option<ChildStdin>, wasm: &[u8]) {
    if let Some(mut input) = input
        && input.write_all(wasm).await.is_ok()
    {
        let _read = input.shutdown().await;
    }
}

/// Reads what a compiler writes, up to so many bytes.
async fn read(pipe: Option<impl AsyncRead + Unpin>, bytes_max: u64) -> std::io::Result<Vec<u8>> {
    let mut written = Vec::new();
    if let Some(pipe) = pipe {
        pipe.take(bytes_max).read_to_end(&mut written).await?;
    }
    Ok(written)
}

/// What a compiler says, on one line that can be shown.
fn one_line(written: &[u8]) -> String {
    let words = String::from_utf8_lossy(written);
    printable(&words.split_whitespace().collect::<Vec<_>>().join(" "))
}
