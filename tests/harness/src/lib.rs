//! What the suites share.
//!
//! [`TestGateway`] runs the real binary in a folder of its own. Around it stand what a gateway lives between:
//! [`FakePlatform`] takes what the generic webhook delivers, [`MockModel`] answers as a model server would,
//! [`WsClient`] and [`http`] talk to the gateway from outside. All of them listen on port 0 and write down what
//! happened; tests wait for what is written ([`Record::wait_for`]), never for time to pass.
//!
//! Everything here panics where it can't go on: the caller is a test, and a panic is its failure.

mod binary;
mod client;
mod dice;
#[cfg(target_os = "linux")]
mod disk;
mod folder;
mod gateway;
pub mod http;
mod link;
mod model;
mod platform;
mod program;
mod record;
mod setup;
mod toll;
#[cfg(target_os = "linux")]
mod wall_clock;

use std::time::{Duration, Instant};

pub use binary::sluicegate_binary;
pub use client::WsClient;
pub use dice::Dice;
#[cfg(target_os = "linux")]
pub use disk::{Fault, History, Remains, TestDisk, Unsynced};
pub use folder::TempFolder;
pub use gateway::TestGateway;
pub use link::Link;
pub use model::{MockModel, Saying};
pub use platform::{Act, Delivery, FakePlatform};
pub use program::{Program, Signal};
pub use record::Record;
pub use setup::Setup;
pub use toll::{Stop, Toll};
#[cfg(target_os = "linux")]
pub use wall_clock::WallClock;

/// How long a test waits for what must happen before it fails. Chosen far above what a loaded machine of two cores needs.
pub const PATIENCE: Duration = Duration::from_secs(40);

/// How often [`eventually`] looks.
const LOOK_PERIOD: Duration = Duration::from_millis(20);

/// Looks at something outside the test's own process until `look` finds it, and returns what it found.
///
/// For what rings no bell, such as a file or a status page; everything else has a [`Record`].
///
/// # Panics
/// When [`PATIENCE`] ends first; `what` says in the failure what was expected.
pub async fn eventually<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(started.elapsed() < PATIENCE, "expected within {PATIENCE:?}: {what}");
        tokio::time::sleep(LOOK_PERIOD).await;
    }
}

/// Returns the HMAC-SHA-256 of `body` under `key` as the generic webhook writes it: `sha256=` and lower-case hexadecimal.
pub fn signature(key: &str, body: &[u8]) -> String {
    use std::fmt::Write as _;
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, key.as_bytes());
    let tag = ring::hmac::sign(&key, body);
    tag.as_ref().iter().fold("sha256=".to_owned(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a string takes text");
        text
    })
}
