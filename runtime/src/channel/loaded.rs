//! A component, compiled, linked and asked what it is: ready to make instances of.

use std::sync::Arc;

use wasmtime::Store;
use wasmtime::component::InstancePre;

use super::Error;
use super::engine::ComponentEngine;
use super::inspect;
use super::lane::SlowLane;
use crate::component::Inspection;
use crate::guest::bindings::exports::sluicegate::channel as exports;
use crate::guest::{self, Bounds, CallContext, Guest, Services};
use crate::limit;

/// The exports of a component, as far as it has them.
pub(super) struct Exports {
    pub(super) descriptor: exports::descriptor::GuestIndices,
    pub(super) delivery: exports::delivery::GuestIndices,
    pub(super) listener: Option<exports::listener::GuestIndices>,
    pub(super) webhook: Option<exports::webhook::GuestIndices>,
    pub(super) connections: Option<exports::connections::GuestIndices>,
    pub(super) presence: Option<exports::presence::GuestIndices>,
    pub(super) reconciliation: Option<exports::reconciliation::GuestIndices>,
    pub(super) lifecycle: Option<exports::lifecycle::GuestIndices>,
    pub(super) health: Option<exports::health::GuestIndices>,
}

impl Exports {
    fn find(pre: &InstancePre<Guest>) -> Result<Self, Error> {
        let missing = |interface: &'static str| move |_| Error::MissingExport { interface };
        Ok(Self {
            descriptor: exports::descriptor::GuestIndices::new(pre).map_err(missing("descriptor"))?,
            delivery: exports::delivery::GuestIndices::new(pre).map_err(missing("delivery"))?,
            listener: exports::listener::GuestIndices::new(pre).ok(),
            webhook: exports::webhook::GuestIndices::new(pre).ok(),
            connections: exports::connections::GuestIndices::new(pre).ok(),
            presence: exports::presence::GuestIndices::new(pre).ok(),
            reconciliation: exports::reconciliation::GuestIndices::new(pre).ok(),
            lifecycle: exports::lifecycle::GuestIndices::new(pre).ok(),
            health: exports::health::GuestIndices::new(pre).ok(),
        })
    }

    /// Returns the names of the optional interfaces that are there, sorted.
    fn optional_names(&self) -> Vec<String> {
        let offered = [
            ("connections", self.connections.is_some()),
            ("health", self.health.is_some()),
            ("lifecycle", self.lifecycle.is_some()),
            ("listener", self.listener.is_some()),
            ("presence", self.presence.is_some()),
            ("reconciliation", self.reconciliation.is_some()),
            ("webhook", self.webhook.is_some()),
        ];
        offered
            .iter()
            .filter(|(_, there)| *there)
            .map(|(name, _)| (*name).to_owned())
            .collect()
    }
}

/// A component that instances can be made of. Several channels may share one.
pub struct LoadedComponent {
    engine: ComponentEngine,
    pre: InstancePre<Guest>,
    pub(super) exports: Exports,
    inspection: Inspection,
}

impl LoadedComponent {
    /// Compiles (or takes from the cache) and links a component, and asks it what it is, in an instance that can do nothing.
    ///
    /// # Errors
    /// What is wrong with it, in plain words.
    pub async fn load(engine: &ComponentEngine, wasm: &[u8]) -> Result<Arc<Self>, Error> {
        let digest = crate::component::digest(wasm);
        let pre = engine.load(wasm.into(), &digest).await?;
        let exports = Exports::find(&pre)?;
        let description = describe(engine, &pre, &exports).await?;
        let powerless = inspect::powerless_imports(engine.engine(), pre.component());
        let inspection = inspect::validated(description, digest, wasm.len(), exports.optional_names(), powerless)?;
        Ok(Arc::new(Self {
            engine: engine.clone(),
            pre,
            exports,
            inspection,
        }))
    }

    /// Returns what the component is and asks for.
    pub fn inspection(&self) -> &Inspection {
        &self.inspection
    }

    /// Returns what instances are made of.
    pub(super) fn pre(&self) -> &InstancePre<Guest> {
        &self.pre
    }

    /// Returns where calls run.
    pub(super) fn lane(&self) -> &SlowLane {
        self.engine.lane()
    }

    /// Makes a store for one instance.
    pub(super) fn store(&self, services: Arc<Services>, context: CallContext, bounds: Bounds) -> Store<Guest> {
        guest::store(self.engine.engine(), Some(services), context, bounds)
    }
}

async fn describe(
    engine: &ComponentEngine,
    pre: &InstancePre<Guest>,
    exports: &Exports,
) -> Result<exports::descriptor::Description, Error> {
    let bounds = Bounds {
        memory_bytes_max: limit::GUEST_MEMORY_BYTES_DEFAULT,
        cpu_max: Some(limit::DESCRIBE_CPU_MAX),
    };
    let context = CallContext::default();
    let meter = context.meter.clone();
    let mut store = guest::store(engine.engine(), None, context, bounds);
    let (pre, descriptor) = (pre.clone(), exports.descriptor.clone());
    let describe = async move {
        let instance = pre.instantiate_async(&mut store).await?;
        let guest = descriptor.load(&mut store, &instance)?;
        guest.call_describe(&mut store).await
    };
    let until = tokio::time::sleep(limit::DESCRIBE_TIMEOUT);
    match engine.lane().run(meter, describe, until).await {
        Some(Ok(description)) => Ok(description),
        Some(Err(trap)) => Err(Error::Describe(super::call::trap_reason(&trap))),
        None => Err(Error::Describe(format!(
            "it gave no answer within {} s",
            limit::DESCRIBE_TIMEOUT.as_secs()
        ))),
    }
}
