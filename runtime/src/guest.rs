//! What a guest is given: its store's data and bounds, a WASI without power, and what the guests of one channel share.
//!
//! Below both sides of the sandbox's wall: `capability` answers a guest's imports with it, `channel` calls a guest's
//! exports in it. Nothing here calls into a guest.

mod allowance;
mod clients;
mod handles;
mod instance;
mod meter;
mod output;
mod relay;
mod services;
mod share;
mod terminal;
mod usage;
mod wasi_http;

pub mod bindings;

pub use allowance::Allowance;
pub use clients::{Clients, SendError};
pub use handles::{StreamHandle, TcpHandle, WebSocketHandle};
pub use instance::Guest;
pub(crate) use instance::{Bounds, CallContext, store};
pub(crate) use meter::{Meter, Metered};
pub use output::{ChannelLog, Level};
pub use relay::Relay;
pub(crate) use relay::RelayError;
pub use services::{Held, Services};
pub use share::{Crowd, Share};
pub(crate) use share::{Errand, FileRoom, Used};
pub use usage::{Counter, Usage};
pub(crate) use wasi_http::words::bound as bound_http_words;
