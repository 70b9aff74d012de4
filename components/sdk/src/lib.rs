//! Write a Sluicegate channel in Rust: two functions, one macro, and the gateway's interfaces with ordinary types.
//!
//! A channel is a type that implements [`Channel`], and any of the optional traits [`Listener`], [`Webhook`],
//! [`Connections`], [`Presence`], [`Reconciliation`], [`Lifecycle`] and [`Health`]. [`export!`] turns it into a component.
//! All of them are functions without `self`: the host may run every call in a fresh instance, so what must last goes
//! into [`state`], never into a static.
//!
//! # The whole of a small channel
//! ```
//! use sluicegate_sdk::{http, Channel, DeliveryError, Description, Endpoint, OutboundMessage, Receipt, Scheme, Secret};
//!
//! struct Ntfy;
//!
//! impl Channel for Ntfy {
//!     fn describe() -> Description {
//!         Description::new("ntfy", env!("CARGO_PKG_VERSION"), "Sends answers to a phone through ntfy.sh")
//!             .endpoint(Endpoint::new(Scheme::Https, "ntfy.sh", "the service that passes messages on"))
//!             .secret(Secret::in_header("token", "An access token of ntfy.sh", ["ntfy.sh"]).required())
//!     }
//!
//!     fn deliver(message: OutboundMessage) -> Result<Receipt, DeliveryError> {
//!         let response = http::Request::post(format!("https://ntfy.sh/{}", message.conversation.id))
//!             .header("Authorization", "Bearer {{token}}")
//!             .bytes(message.text)
//!             .send()?;
//!         match response.status {
//!             200 => Ok(Receipt::complete([message.delivery_key])),
//!             401 | 403 => Err(DeliveryError::Unauthorized("ntfy.sh refuses the token".into())),
//!             status => Err(DeliveryError::Unavailable(format!("ntfy.sh answered {status}"))),
//!         }
//!     }
//! }
//!
//! // A component that also fetches names what else it exports: `export!(Ntfy: listener, health);`
//! sluicegate_sdk::export!(Ntfy);
//! ```
//!
//! # Testing
//! Everything that does not call the host (the map between the platform's types and ours, [`text`], the builders) runs
//! in ordinary native tests. Calls into the host exist only inside a component: elsewhere they panic.

#[doc(hidden)]
pub mod bindings;

pub mod clock;
pub mod connections;
mod contract;
mod description;
pub mod document;
pub mod files;
pub mod folder;
pub mod http;
pub mod inbox;
pub mod log;
pub mod markdown;
mod message;
pub mod parts;
pub mod recovery;
pub mod state;
pub mod text;
pub mod webhook;

pub use contract::{
    Channel, Connections, Finding, Health, Lifecycle, Listener, ListenerError, Presence, Reconciliation, Webhook,
};
pub use description::{
    Description, Endpoint, Features, Placement, Scheme, Secret, Setting, SettingKind, SignatureScheme, WebhookRecipe,
};
pub use message::{
    Action, Attachment, AttachmentSource, Choice, Confirmation, Conversation, ConversationKind, DeliveryError,
    EventKind, Extra, InboundMessage, OutboundMessage, RateLimit, Reaction, Receipt, Sender, SentPart, WaitScope,
};

pub use serde_json;

/// Progress of a delivery in several parts, its confirmation, and conversations that can be reached again.
pub use bindings::imports::sluicegate::channel::progress;

/// Pushing frames to the clients of a serving channel.
pub use bindings::imports::sluicegate::channel::clients;

/// Files, kept by the host under a handle.
pub use bindings::imports::sluicegate::channel::blobs;

/// From any instance to the listener, where one connection both receives and sends.
pub use bindings::imports::sluicegate::channel::relay;

/// The operator's settings, by key.
pub use bindings::imports::sluicegate::channel::settings;

/// Secrets: whether they are there, and signing with them. Their values stay in the host.
pub use bindings::imports::sluicegate::channel::secrets;

/// Byte streams and WebSockets to endpoints that the operator granted.
pub use bindings::imports::sluicegate::channel::net;

/// Compiles the examples of the guests' README.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;
