//! What one live instance is given: its store's data, its bounds, and a WASI without power.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::OwnedSemaphorePermit;
use tokio_util::sync::CancellationToken;
use wasmtime::component::ResourceTable;
use wasmtime::{ResourceLimiter, Store, UpdateDeadline};
use wasmtime_wasi::{WasiCtx, WasiCtxBuilder, WasiCtxView, WasiView};
use wasmtime_wasi_http::{WasiHttpCtx, WasiHttpCtxView, WasiHttpView};

use super::meter::Meter;
use super::output::LogOutput;
use super::services::Services;
use super::share::{FileRoom, Used};
use super::terminal::TerminalOutput;
use super::wasi_http::{GateHooks, Lists};
use crate::egress::Evidence;
use crate::ingress::ClientId;
use crate::limit;

/// The data of one instance's store.
pub struct Guest {
    /// What the channel's guests may reach; none while a component is only asked what it is.
    pub(crate) services: Option<Arc<Services>>,
    /// What the host saw of this call's requests.
    pub(crate) evidence: Evidence,
    /// The client whose frame this call handles: frames to it need not wait for the end of the call.
    pub(crate) client: Option<ClientId>,
    /// Whether this is the channel's listener: it takes what the others hand to its relay.
    pub(crate) listens: bool,
    /// Set when the channel goes down: every blocking import then says so.
    pub(crate) shutdown: CancellationToken,
    /// What was handed to this instance last, which takes its bytes until it asks for the next: the code that a guest runs
    /// to receive it takes its time.
    pub(crate) in_hand: Option<FileRoom>,
    /// Handles to host resources, bounded.
    pub(crate) table: ResourceTable,
    wasi: WasiCtx,
    http: WasiHttpCtx,
    hooks: GateHooks,
    /// What lists of headers take.
    header_lists: Lists,
    budget: Budget,
    /// Kept as long as the instance lives, where it may hand much to the host at once.
    _large_hostcalls: Option<OwnedSemaphorePermit>,
}

impl WasiView for Guest {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView {
            ctx: &mut self.wasi,
            table: &mut self.table,
        }
    }
}

impl WasiHttpView for Guest {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        WasiHttpCtxView {
            hooks: &mut self.hooks,
            table: &mut self.table,
            ctx: &mut self.http,
        }
    }
}

impl Guest {
    /// Waits until the host may have so much of files in its hands for this instance, which has nothing else in them then.
    /// None where the channel goes down first.
    pub(crate) async fn room_for_file(&mut self, bytes_max: usize) -> Option<FileRoom> {
        self.in_hand = None;
        let services = self.services.as_ref()?;
        tokio::select! {
            room = services.share.room_for_file(bytes_max) => Some(room),
            () = self.shutdown.cancelled() => None,
        }
    }

    /// Waits until the channel may write into its state again, or goes down.
    pub(crate) async fn turn_to_write(&mut self) {
        // Others may write meanwhile.
        while let Some(rest) = self.services.as_ref().and_then(|services| services.share.write_owed()) {
            tokio::select! {
                () = tokio::time::sleep(rest) => {}
                () = self.shutdown.cancelled() => return,
            }
        }
    }

    /// Notes that lists of headers of `wasi:http` grow by so many bytes. Returns whether the channel may have as much.
    pub(super) fn grow_header_lists(&mut self, bytes: usize) -> bool {
        // While a component is asked what it is, there is one instance, with a table of handles that is bounded.
        let Some(services) = &self.services else { return true };
        self.header_lists.grow(bytes, &self.table, &services.share)
    }
}

/// The bounds of one instance.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    /// Linear memory of the whole store, bytes.
    pub memory_bytes_max: usize,
    /// Guest CPU time of one call; none where the call is long-lived: then only the channel's share limits it.
    pub cpu_max: Option<Duration>,
}

/// What differs from call to call.
#[derive(Default)]
pub(crate) struct CallContext {
    /// Filled in by the egress gate; the caller keeps a clone.
    pub evidence: Evidence,
    /// The client whose frame is being handled.
    pub client: Option<ClientId>,
    /// Whether it is the listener's.
    pub listens: bool,
    /// What ends the blocking imports of this call.
    pub shutdown: CancellationToken,
    /// Counts its CPU time; the caller runs the call under a clone.
    pub meter: Arc<Meter>,
}

/// Makes the store for one call (or one listener), with all bounds set.
pub(crate) fn store(
    engine: &wasmtime::Engine,
    services: Option<Arc<Services>>,
    context: CallContext,
    bounds: Bounds,
) -> Store<Guest> {
    let mut http = WasiHttpCtx::new();
    http.set_field_size_limit(limit::GUEST_HEADER_BYTES_MAX);
    let mut table = ResourceTable::new();
    table.set_max_capacity(limit::GUEST_HANDLES_MAX);
    let shared = services.as_ref().map(|services| services.share.take_hostcalls());
    let (hostcall_bytes_max, large_hostcalls) = shared.unwrap_or((limit::GUEST_HOSTCALL_BYTES_MAX, None));
    let guest = Guest {
        hooks: GateHooks::new(services.clone(), context.evidence.clone()),
        header_lists: Lists::default(),
        wasi: powerless_wasi(services.as_ref(), &context.evidence),
        budget: Budget::new(bounds, services.clone(), context.meter),
        services,
        evidence: context.evidence,
        client: context.client,
        listens: context.listens,
        shutdown: context.shutdown,
        in_hand: None,
        table,
        http,
        _large_hostcalls: large_hostcalls,
    };
    let mut store = Store::new(engine, guest);
    store.limiter(|guest| &mut guest.budget);
    store.set_hostcall_fuel(hostcall_bytes_max);
    store.set_max_component_handles(limit::GUEST_HANDLES_MAX);
    store.set_epoch_deadline(1);
    store.epoch_deadline_callback(|mut context| context.data_mut().budget.tick());
    store
}

/// WASI 0.2 with nothing behind it: no arguments, environment, files or sockets; what is printed becomes the channel's
/// log. The process's terminal stands behind it only where the operator granted that.
fn powerless_wasi(services: Option<&Arc<Services>>, evidence: &Evidence) -> WasiCtx {
    let mut wasi = WasiCtxBuilder::new();
    wasi.max_random_size(limit::GUEST_RANDOM_BYTES_MAX);
    if let Some(services) = services {
        wasi.stderr(LogOutput::new(services.clone()));
        if services.terminal {
            wasi.inherit_stdin().stdout(TerminalOutput(evidence.clone()));
        } else {
            wasi.stdout(LogOutput::new(services.clone()));
        }
    }
    wasi.build()
}

/// Counts what a store uses, over all its memories and tables together: a bound for each memory alone would let a guest
/// have ten of them.
struct Budget {
    services: Option<Arc<Services>>,
    bounds: Bounds,
    memory_bytes: usize,
    table_elements: usize,
    meter: Arc<Meter>,
    cpu: Duration,
}

impl Budget {
    fn new(bounds: Bounds, services: Option<Arc<Services>>, meter: Arc<Meter>) -> Self {
        Self {
            services,
            bounds,
            memory_bytes: 0,
            table_elements: 0,
            meter,
            cpu: Duration::ZERO,
        }
    }

    /// Called when a tick of the epoch passed while the guest ran. Yields, so that deadlines and neighbours get their
    /// turn; stops a call that used up its CPU time; makes a guest rest whose channel used up its share.
    fn tick(&mut self) -> wasmtime::Result<UpdateDeadline> {
        let used = self.count();
        if self.bounds.cpu_max.is_some_and(|cpu_max| self.cpu > cpu_max) {
            return Ok(UpdateDeadline::Interrupt);
        }
        let Some(services) = &self.services else {
            return Ok(UpdateDeadline::Yield(1));
        };
        Ok(match services.use_cpu(used) {
            Some(rest) => UpdateDeadline::YieldCustom(1, Box::pin(tokio::time::sleep(rest))),
            None => UpdateDeadline::Yield(1),
        })
    }

    /// Counts what the call used since it was last asked, and calls it long from where it is.
    fn count(&mut self) -> Used {
        let cpu = self.meter.take();
        self.cpu += cpu;
        let is_long = self.cpu > limit::CALL_CPU_BRIEF_MAX;
        if is_long {
            self.meter.mark_long();
        }
        Used { cpu, is_long }
    }

    /// Takes memory for this store, and for the channel as a whole.
    fn take_memory(&mut self, bytes: usize) -> bool {
        let total = self.memory_bytes.saturating_add(bytes);
        let of_channel = self
            .bounds
            .memory_bytes_max
            .saturating_mul(limit::CHANNEL_MEMORY_INSTANCES_MAX);
        let fits = total <= self.bounds.memory_bytes_max
            && self
                .services
                .as_ref()
                .is_none_or(|services| services.share.take_memory(bytes, of_channel));
        if fits {
            self.memory_bytes = total;
        }
        fits
    }
}

impl Drop for Budget {
    fn drop(&mut self) {
        let used = self.count();
        if let Some(services) = &self.services {
            // Most calls end between two ticks: what they used counts for the next call of the channel.
            let _rest_of_nobody = services.use_cpu(used);
            services.usage.memory_bytes_high.raise(self.memory_bytes as u64);
            services.share.give_memory(self.memory_bytes);
        }
    }
}

impl ResourceLimiter for Budget {
    fn memory_growing(&mut self, current: usize, desired: usize, _maximum: Option<usize>) -> wasmtime::Result<bool> {
        Ok(self.take_memory(desired.saturating_sub(current)))
    }

    fn table_growing(&mut self, current: usize, desired: usize, _maximum: Option<usize>) -> wasmtime::Result<bool> {
        let total = self.table_elements.saturating_add(desired.saturating_sub(current));
        if total > limit::GUEST_TABLE_ELEMENTS_MAX {
            return Ok(false);
        }
        self.table_elements = total;
        Ok(true)
    }

    fn instances(&self) -> usize {
        limit::GUEST_CORE_INSTANCES_MAX
    }

    fn tables(&self) -> usize {
        limit::GUEST_TABLES_MAX
    }

    fn memories(&self) -> usize {
        limit::GUEST_MEMORIES_MAX
    }
}
