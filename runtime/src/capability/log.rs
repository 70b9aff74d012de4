//! `log`: lines for the operator.

use crate::guest::bindings::sluicegate::channel::log::{Host, Level as WitLevel};
use crate::guest::{Guest, Level};

impl Host for Guest {
    async fn write(&mut self, level: WitLevel, message: String) -> wasmtime::Result<()> {
        let Some(services) = &self.services else { return Ok(()) };
        let level = match level {
            WitLevel::Trace => Level::Trace,
            WitLevel::Debug => Level::Debug,
            WitLevel::Info => Level::Info,
            WitLevel::Warn => Level::Warn,
            WitLevel::Error => Level::Error,
        };
        services.log(level, &message);
        Ok(())
    }
}
