//! A channel: one configured messaging integration, run by one component in the sandbox.
//!
//! [`Channel`] is the only way in. Every call runs in an instance of its own, made for it and dropped with it, under
//! bounds on memory, CPU and time; only `listener.run` has one that lives long, supervised by [`Channel::listen`].
//!
//! * Takes: a loaded component, the operator's grants and settings; deliveries, webhooks and clients' frames.
//! * Gives: inbound events to the store (through [`crate::capability`]), receipts and replies.
//! * Durable when: `publish` returned to the guest.
//! * On failure: a trapped or late instance is discarded; what the host saw leave tells whether its outcome is known.

mod cache;
mod call;
mod compiler;
mod convert;
mod engine;
mod gap;
mod inspect;
mod lane;
mod listener;
mod loaded;
mod measure;
mod status;

pub use cache::CodeCache;
pub use call::{CallError, Channel, ChannelBounds};
pub use compiler::Compilation;
pub use compiler::child::{COMPILE, run as compile_as_child};
pub use engine::ComponentEngine;
pub use inspect::{CONTRACT, powerless_words};
pub use listener::Ended;
pub use loaded::LoadedComponent;
pub use status::Status;

use crate::limit;
use crate::shown::{printable, printable_within};

/// Why a component can't be used. The texts are for the operator.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The engine can't run here.
    #[error("WebAssembly can't run here: {0}")]
    Engine(String),
    /// The file is larger than any component may be.
    #[error("it has more than the {} MiB that a component may have", limit::COMPONENT_BYTES_MAX / (1024 * 1024))]
    TooLarge,
    /// More of something is in it than any component may have.
    #[error("it has {found} {what}; a component may have {max}")]
    TooComplex {
        /// What there is too much of.
        what: &'static str,
        /// How much there is, or was counted so far.
        found: usize,
        /// How much there may be.
        max: usize,
    },
    /// It was not compiled in time.
    #[error("compiling it takes more than {} s", .0.as_secs())]
    CompileTime(std::time::Duration),
    /// Its compiler needs more memory than it may have.
    #[error("compiling it takes more than {} MiB of memory", .0 / (1024 * 1024))]
    CompileMemory(u64),
    /// Its compiler ended without a word of what is wrong with the component, or can't be run.
    #[error("its compiler failed: {0}")]
    Compiler(String),
    /// The file is no component.
    #[error("not a WebAssembly component: {0}")]
    NotAComponent(String),
    /// It is a component, but not a channel.
    #[error(
        "a WebAssembly component, but not a channel: it exports nothing of `sluicegate:channel`{}{}",
        purpose.map(|purpose| format!("; it is {purpose}")).unwrap_or_default(),
        and_imports(powerless_imports)
    )]
    NotAChannel {
        /// What it is made for, where its exports tell.
        purpose: Option<&'static str>,
        /// What it imports that leads nowhere here.
        powerless_imports: Vec<String>,
    },
    /// It was built for another version of the contract.
    #[error(
        "it was built for {} of the channel contract; this gateway speaks {}",
        version_words(version),
        inspect::CONTRACT
    )]
    OtherContract {
        /// Its version; empty where it names none.
        version: String,
    },
    /// It lacks an export that every component must have.
    #[error("it does not export `{interface}`, which every channel must")]
    MissingExport {
        /// The interface.
        interface: &'static str,
    },
    /// It imports what channels can't have.
    #[error(
        "it wants {}, which channels can't have; outgoing HTTP, WebSocket and TCP are in `sluicegate:channel`{}",
        quoted(imports),
        and_imports(powerless_imports)
    )]
    ForeignImports {
        /// The imports.
        imports: Vec<String>,
        /// What it imports besides that leads nowhere here.
        powerless_imports: Vec<String>,
    },
    /// Its imports have other types than the gateway's.
    #[error("it does not fit this gateway: {0}")]
    Unlinkable(String),
    /// It failed when it was asked what it is.
    #[error("it failed when asked what it is: {0}")]
    Describe(String),
    /// What it says of itself is out of bounds.
    #[error("its description is refused: {0}")]
    Description(String),
}

impl Error {
    /// Returns what the operator can do, where another component is not the only way.
    pub fn remedy(&self) -> Option<&'static str> {
        match self {
            Self::CompileTime(_) => Some("raise `compile_s` in [gateway], if you trust it"),
            Self::CompileMemory(_) => Some("raise `compile_memory_mib` in [gateway], if you trust it"),
            Self::Compiler(_) => Some(
                "it need not be wrong: see that the gateway may start processes, on Linux with /proc, and has room for one",
            ),
            _ => None,
        }
    }

    fn engine(error: impl Into<wasmtime::Error>) -> Self {
        Self::Engine(engine::plain(&error.into()))
    }
}

/// Names what a stranger's component imports: the first of it, because it may import more than anyone reads.
fn quoted(names: &[String]) -> String {
    let mut shown: Vec<_> = names
        .iter()
        .take(limit::IMPORTS_SHOWN_MAX)
        .map(|name| format!("`{}`", printable_within(name, limit::IMPORT_SHOWN_BYTES_MAX)))
        .collect();
    if names.len() > shown.len() {
        shown.push(format!("and {} more", names.len() - shown.len()));
    }
    shown.join(", ")
}

fn and_imports(powerless: &[String]) -> String {
    inspect::powerless_words(powerless)
        .map(|words| format!("; it imports {words}"))
        .unwrap_or_default()
}

fn version_words(version: &str) -> String {
    if version.is_empty() {
        "no version".to_owned()
    } else {
        let shown = printable_within(version, limit::IMPORT_SHOWN_BYTES_MAX);
        format!("version {shown}")
    }
}

/// Says what a component is and asks for, without giving it anything. With a cache, its code is compiled for the gateway
/// too that has the same one.
///
/// # Errors
/// What is wrong with it, in plain words.
pub async fn inspect(
    wasm: &[u8],
    compilation: Compilation,
    cache: Option<CodeCache>,
) -> Result<crate::component::Inspection, Error> {
    let engine = ComponentEngine::new(compilation, cache)?;
    Ok(LoadedComponent::load(&engine, wasm).await?.inspection().clone())
}
