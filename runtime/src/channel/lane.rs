//! On which threads guests run: brief work on those that serve everyone, and what takes longer on threads of its own, of
//! a low priority.
//!
//! Most calls use a fraction of a millisecond, and handing them to another thread would cost more than they do. A guest
//! that goes on is worth no neighbour's wait: it is moved, in the middle of its call, to where the operating system runs
//! it only when nobody else wants the core. So an idle machine serves a heavy guest at full speed, and a busy one serves
//! everyone else first.

use crate::guest::{Meter, Metered};
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::thread;

use tokio::runtime::{Builder, Handle, Runtime};
use tokio::task::JoinHandle;

/// The threads of long calls. One for each process; dropping it ends what still runs there.
pub(super) struct SlowLane {
    /// Always there but in `drop`.
    runtime: Option<Runtime>,
}

impl SlowLane {
    /// Starts the threads: one core is left for those who use little, where there are several. A core that runs nothing
    /// else answers at once; one that must first take a thread off does not.
    ///
    /// # Errors
    /// When the system gives no more threads.
    pub(super) fn start() -> io::Result<Self> {
        let cores = thread::available_parallelism().map_or(1, usize::from);
        let threads = (cores - 1).max(1);
        // Without drivers of its own: timers and sockets of guests stay with the host's runtime, see `Hosted`.
        let runtime = Builder::new_multi_thread()
            .worker_threads(threads)
            .thread_name("long-calls")
            .on_thread_start(give_way)
            .build()?;
        Ok(Self { runtime: Some(runtime) })
    }

    /// Runs a call under its meter: here, and in the slow lane from when the meter says that it is long. Returns its
    /// result, or none when `until` came first. Nothing of the call runs any more when this returns.
    ///
    /// # Cancel safety
    /// Dropping the future ends the call, at the latest with the next tick of the epoch.
    pub(super) async fn run<F>(&self, meter: Arc<Meter>, call: F, until: impl Future<Output = ()>) -> Option<F::Output>
    where
        F: Future<Output: Send + 'static> + Send + 'static,
    {
        let mut until = pin!(until);
        let brief = Brief {
            call: Some(Meter::run(Arc::clone(&meter), call)),
            meter,
        };
        let call = tokio::select! {
            biased;
            ended = brief => match ended {
                End::Of(output) => return Some(output),
                End::Long(call) => call,
            },
            () = &mut until => return None,
        };
        let mut task = self.spawn(call)?;
        tokio::select! {
            biased;
            ended = &mut task.0 => return ended.ok(),
            () = &mut until => task.0.abort(),
        }
        // Whoever asks what has left the host must not be answered while something still can.
        (&mut task.0).await.ok()
    }

    fn spawn<F>(&self, call: Metered<F>) -> Option<Task<F::Output>>
    where
        F: Future<Output: Send + 'static> + Send + 'static,
    {
        let host = Handle::current();
        let runtime = self.runtime.as_ref()?;
        Some(Task(runtime.spawn(Hosted { host, call })))
    }
}

impl Drop for SlowLane {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // Waiting for its threads is not allowed on an async thread, and nobody waits for what they still do.
            runtime.shutdown_background();
        }
    }
}

/// Gives the other threads of the machine the right of way.
fn give_way() {
    // On Linux a priority belongs to a thread; elsewhere it would slow down the whole process.
    #[cfg(target_os = "linux")]
    if let Err(error) = crate::process::give_way() {
        tracing::warn!(%error, "long calls of guests run with the priority of everything else");
    }
}

/// How the brief part of a call ended.
enum End<F: Future> {
    Of(F::Output),
    Long(Metered<F>),
}

/// A call that runs here as long as it is brief.
struct Brief<F> {
    /// None once it has ended or moved.
    call: Option<Metered<F>>,
    meter: Arc<Meter>,
}

impl<F: Future> Future for Brief<F> {
    type Output = End<F>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<End<F>> {
        let is_long = self.meter.is_long();
        let Some(call) = &mut self.call else {
            return Poll::Pending;
        };
        if !is_long && let Poll::Ready(output) = Pin::new(call).poll(context) {
            self.call = None;
            return Poll::Ready(End::Of(output));
        }
        match self.meter.is_long() {
            true => self
                .call
                .take()
                .map_or(Poll::Pending, |call| Poll::Ready(End::Long(call))),
            false => Poll::Pending,
        }
    }
}

/// A call on a thread of the slow lane. What it starts there, such as a connection that others will use after it,
/// belongs to the host's runtime and runs with the priority of that.
struct Hosted<F> {
    host: Handle,
    call: Metered<F>,
}

impl<F: Future> Future for Hosted<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let this = &mut *self;
        let _in_the_host = this.host.enter();
        Pin::new(&mut this.call).poll(context)
    }
}

/// A task that ends when nobody waits for it.
struct Task<T>(JoinHandle<T>);

impl<T> Drop for Task<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use super::*;

    fn lane() -> SlowLane {
        SlowLane::start().expect("threads")
    }

    /// Where a call ran: the thread's name, before and after it was found to be long.
    async fn threads_of(meter: Arc<Meter>) -> [String; 2] {
        let name = || thread::current().name().unwrap_or_default().to_owned();
        let before = name();
        meter.mark_long();
        tokio::task::yield_now().await;
        [before, name()]
    }

    #[tokio::test]
    async fn a_long_call_goes_on_where_nobody_waits_for_it() {
        let meter = Arc::new(Meter::default());
        let lane = lane();
        let call = threads_of(Arc::clone(&meter));
        let [before, after] = lane.run(meter, call, pending()).await.expect("it ends");
        assert_ne!(before, "long-calls");
        assert_eq!(after, "long-calls");
    }

    #[tokio::test]
    async fn a_brief_call_stays() {
        let call = async { thread::current().id() };
        let ran_on = lane().run(Arc::new(Meter::default()), call, pending()).await;
        assert_eq!(ran_on, Some(thread::current().id()));
    }

    #[tokio::test]
    async fn nothing_of_a_call_is_left_when_its_time_is_up() {
        let meter = Arc::new(Meter::default());
        meter.mark_long();
        let held = Arc::new(());
        let seen = Arc::downgrade(&held);
        let call = async move {
            let _held = held;
            pending::<()>().await;
        };
        let lane = lane();
        assert_eq!(lane.run(meter, call, tokio::task::yield_now()).await, None);
        assert!(seen.upgrade().is_none(), "the call is still held somewhere");
    }

    #[tokio::test]
    async fn timers_of_a_long_call_are_the_hosts() {
        let meter = Arc::new(Meter::default());
        meter.mark_long();
        let call = async {
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
            tokio::spawn(async { thread::current().name().unwrap_or_default().to_owned() }).await
        };
        let lane = lane();
        let ran_on = lane
            .run(meter, call, pending())
            .await
            .expect("it ends")
            .expect("no panic");
        assert_ne!(ran_on, "long-calls", "what a call starts runs on the host's threads");
    }
}
