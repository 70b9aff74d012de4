//! Compiling a component: one at a time, on a thread of its own that gives way to all others, and under a deadline.
//!
//! A compiler can't be told to stop. So whoever waits for one that takes too long is told so, and it goes on alone: what
//! comes of it is in the cache for the next try. A bound on such leftovers keeps strangers' files from taking the machine.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Semaphore, oneshot};
use wasmtime::Engine;
use wasmtime::component::Component;

use super::cache::CodeCache;
use super::{Error, lane, measure};
use crate::limit;

/// Compiles components. Cheap to clone; clones share their turn.
#[derive(Clone)]
pub(super) struct Compiler {
    engine: Engine,
    cache: Option<Arc<CodeCache>>,
    /// One at a time: it takes all cores for seconds.
    turn: Arc<Semaphore>,
    /// What is being compiled, by digest: one whose turn it is, and those that nobody waits for any more.
    running: Arc<Mutex<BTreeSet<String>>>,
    time_max: Duration,
}

impl Compiler {
    pub(super) fn new(engine: Engine, cache: Option<Arc<CodeCache>>) -> Self {
        Self {
            engine,
            cache,
            turn: Arc::new(Semaphore::new(1)),
            running: Arc::default(),
            time_max: limit::COMPILE_TIME_DEFAULT,
        }
    }

    /// Sets how long anyone waits for one compilation.
    pub(super) fn set_time_max(&mut self, time_max: Duration) {
        self.time_max = time_max;
    }

    /// Compiles a file, if its turn comes and it is done in time.
    ///
    /// # Errors
    /// What is wrong with it, in plain words; [`Error::CompileTime`] where it took too long.
    ///
    /// # Cancel safety
    /// A dropped future leaves the compilation running on its thread; its result goes to the cache.
    pub(super) async fn compile(&self, wasm: Arc<[u8]>, digest: &str) -> Result<Component, Error> {
        let shut_down = |_| Error::Engine("shut down".into());
        let _turn = self.turn.acquire().await.map_err(shut_down)?;
        let running = self.begin(digest)?;
        let (done_tx, done_rx) = oneshot::channel();
        let (engine, cache) = (self.engine.clone(), self.cache.clone());
        let work = move || {
            lane::give_way();
            let compiled = compile(&engine, cache.as_deref(), &wasm, &running.digest);
            drop(running);
            // Nobody hears it who has given up waiting.
            let _heard = done_tx.send(compiled);
        };
        let started = std::thread::Builder::new().name("compile".into()).spawn(work);
        started.map_err(|error| Error::Engine(error.to_string()))?;
        match tokio::time::timeout(self.time_max, done_rx).await {
            Ok(Ok(compiled)) => compiled,
            Ok(Err(_)) => Err(Error::Engine("the compiler stopped".into())),
            Err(_) => Err(Error::CompileTime(self.time_max)),
        }
    }

    /// Notes what is being compiled, until the returned value is dropped.
    fn begin(&self, digest: &str) -> Result<Running, Error> {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        if running.contains(digest) {
            return Err(Error::CompileTime(self.time_max));
        }
        if running.len() >= limit::COMPILES_LEFT_MAX {
            return Err(Error::CompilerBusy(running.len()));
        }
        running.insert(digest.to_owned());
        Ok(Running {
            all: Arc::clone(&self.running),
            digest: digest.to_owned(),
        })
    }
}

/// Something that is being compiled.
struct Running {
    all: Arc<Mutex<BTreeSet<String>>>,
    digest: String,
}

impl Drop for Running {
    fn drop(&mut self) {
        let mut running = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        running.remove(&self.digest);
    }
}

fn compile(engine: &Engine, cache: Option<&CodeCache>, wasm: &[u8], digest: &str) -> Result<Component, Error> {
    const CORE_MODULE: &[u8] = b"\0asm\x01\0\0\0";
    if wasm.starts_with(CORE_MODULE) {
        return Err(Error::NotAComponent(
            "it is a core WebAssembly module; build it for wasm32-wasip2".into(),
        ));
    }
    if !wasm.starts_with(b"\0asm") {
        return Err(Error::NotAComponent("it is not WebAssembly".into()));
    }
    measure::refuse_the_unbounded(wasm)?;
    let component = Component::from_binary(engine, wasm);
    let component = component.map_err(|error| Error::NotAComponent(super::engine::plain(&error)))?;
    if let Some(cache) = cache {
        cache.put(engine, digest, &component);
    }
    Ok(component)
}
