//! How much CPU a guest uses: the time of the threads that run it, not the time that passes while it waits in the host.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// The CPU time of one call. Written only by the thread that runs it at that moment.
#[derive(Debug, Default)]
pub(crate) struct Meter {
    /// The thread's CPU time at the last reading, ns; 0 while no thread runs the call.
    read_at: AtomicU64,
    /// Used and not taken yet, ns.
    used: AtomicU64,
    /// Whether the call has used more than it may on the threads that serve everyone.
    is_long: AtomicBool,
}

impl Meter {
    /// Runs a call's future under this meter: only what is polled through here counts.
    pub(crate) fn run<F: Future>(self: Arc<Self>, future: F) -> Metered<F> {
        Metered {
            meter: self,
            future: Box::pin(future),
        }
    }

    /// Returns what was used since it was last asked, up to this moment. To be called from within the call, or when no
    /// thread runs it.
    pub(crate) fn take(&self) -> Duration {
        if self.read_at.load(Ordering::Relaxed) > 0 {
            self.read();
        }
        Duration::from_nanos(self.used.swap(0, Ordering::Relaxed))
    }

    /// Calls the call long, from now on.
    pub(crate) fn mark_long(&self) {
        self.is_long.store(true, Ordering::Relaxed);
    }

    /// Returns whether it was called long.
    pub(crate) fn is_long(&self) -> bool {
        self.is_long.load(Ordering::Relaxed)
    }

    fn begin(&self) {
        self.read_at.store(thread_cpu_ns(), Ordering::Relaxed);
    }

    fn read(&self) {
        let now = thread_cpu_ns();
        let before = self.read_at.swap(now, Ordering::Relaxed);
        self.used.fetch_add(now.saturating_sub(before), Ordering::Relaxed);
    }
}

/// A future whose polls a meter counts.
pub(crate) struct Metered<F> {
    meter: Arc<Meter>,
    future: Pin<Box<F>>,
}

impl<F: Future> Future for Metered<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        self.meter.begin();
        let polled = self.future.as_mut().poll(context);
        self.meter.read();
        self.meter.read_at.store(0, Ordering::Relaxed);
        polled
    }
}

fn thread_cpu_ns() -> u64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
    seconds * 1_000_000_000 + u64::try_from(time.tv_nsec).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn waiting_costs_nothing_and_working_does() {
        let meter = Arc::new(Meter::default());
        meter.clone().run(tokio::time::sleep(Duration::from_millis(50))).await;
        let waited = meter.take();
        assert!(waited < Duration::from_millis(20), "waiting cost {waited:?}");
        let working = async {
            let until = thread_cpu_ns() + 30_000_000;
            while thread_cpu_ns() < until {
                std::hint::spin_loop();
            }
        };
        meter.clone().run(working).await;
        let worked = meter.take();
        assert!(worked >= Duration::from_millis(30), "working cost {worked:?}");
    }
}
