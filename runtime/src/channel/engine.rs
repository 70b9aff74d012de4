//! The WebAssembly engine: one for each process, with its epoch ticker, its linker and the cache of compiled code.
//!
//! Architecture invariant: a component is compiled in a process of its own, one at a time, and only after what is in it was
//! counted; what it may import is decided here, once, before anything of it runs.

use std::sync::Arc;
use std::time::Duration;

use wasmtime::component::{InstancePre, Linker};
use wasmtime::{Config, Engine};

use super::Error;
use super::cache::CodeCache;
use super::compiler::{Compilation, Compiler};
use super::lane::SlowLane;
use crate::guest::Guest;
use crate::guest::bindings::Host_;
use crate::limit;

/// The engine with everything that components are linked against. Cheap to clone.
#[derive(Clone)]
pub struct ComponentEngine {
    engine: Engine,
    linker: Arc<Linker<Guest>>,
    lane: Arc<SlowLane>,
    compiler: Compiler,
}

impl ComponentEngine {
    /// Makes the engine and starts its ticker thread, which ends when the last clone is dropped.
    ///
    /// `cache` keeps compiled code between runs; without it each component is compiled again, as `compilation` says.
    ///
    /// # Errors
    /// [`Error::Engine`] where this machine can't run compiled WebAssembly.
    pub fn new(compilation: Compilation, cache: Option<CodeCache>) -> Result<Self, Error> {
        let engine = Engine::new(&config()).map_err(Error::engine)?;
        let linker = Arc::new(link(&engine).map_err(Error::engine)?);
        start_ticker(&engine).map_err(|error| Error::Engine(error.to_string()))?;
        let lane = SlowLane::start().map_err(|error| Error::Engine(error.to_string()))?;
        let compiler = Compiler::new(engine.clone(), cache.map(Arc::new), compilation);
        Ok(Self {
            engine,
            linker,
            lane: Arc::new(lane),
            compiler,
        })
    }

    /// Returns the engine itself, to make stores for.
    pub(super) fn engine(&self) -> &Engine {
        &self.engine
    }

    /// Returns where calls run.
    pub(super) fn lane(&self) -> &SlowLane {
        &self.lane
    }

    /// Compiles a component (or takes it from the cache) and links it.
    ///
    /// # Errors
    /// What is wrong with the component, in plain words: see [`Error`].
    ///
    /// # Cancel safety
    /// A dropped future ends the compilation.
    pub async fn load(&self, wasm: Arc<[u8]>, digest: &str) -> Result<InstancePre<Guest>, Error> {
        if wasm.len() > limit::COMPONENT_BYTES_MAX {
            return Err(Error::TooLarge);
        }
        let component = self.compiler.component(wasm, digest).await?;
        super::inspect::refuse_foreign_imports(&self.engine, &component)?;
        self.linker
            .instantiate_pre(&component)
            .map_err(|error| Error::Unlinkable(plain(&error)))
    }
}

/// What code is compiled for, and the bounds that hold for every store of the process. Proposals that channels never need
/// stay off: each is attack surface.
pub(super) fn config() -> Config {
    let mut config = Config::new();
    config
        .wasm_component_model(true)
        .wasm_memory64(false)
        .wasm_relaxed_simd(false)
        .epoch_interruption(true)
        .max_wasm_stack(limit::GUEST_STACK_BYTES_MAX)
        .memory_init_cow(true);
    config
}

fn link(engine: &Engine) -> wasmtime::Result<Linker<Guest>> {
    let mut linker = Linker::new(engine);
    wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
    wasmtime_wasi_http::p2::add_only_http_to_linker_async(&mut linker)?;
    crate::guest::bound_http_words(&mut linker)?;
    Host_::add_to_linker::<_, wasmtime::component::HasSelf<Guest>>(&mut linker, |guest| guest)?;
    Ok(linker)
}

/// Raises the epoch on a thread of its own: guest code runs inside `Future::poll`, so nothing on the async threads could.
fn start_ticker(engine: &Engine) -> std::io::Result<()> {
    let weak = engine.weak();
    std::thread::Builder::new().name("epoch".into()).spawn(move || {
        while let Some(engine) = weak.upgrade() {
            engine.increment_epoch();
            drop(engine);
            pause(limit::EPOCH_TICK);
        }
    })?;
    Ok(())
}

fn pause(duration: Duration) {
    std::thread::sleep(duration);
}

/// The outermost sentence of an error and its root, without the addresses and frames between.
pub(super) fn plain(error: &wasmtime::Error) -> String {
    let (first, root) = (error.to_string(), error.root_cause().to_string());
    // A component's own names are in it.
    crate::shown::printable(&if first == root {
        first
    } else {
        format!("{first}: {root}")
    })
}
