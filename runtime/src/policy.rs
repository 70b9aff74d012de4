//! What a component may reach: its own requests, cut down to what the operator granted.
//!
//! Pure rules, without sockets: hosts and endpoints in one spelling ([`host`], [`endpoint`]), URLs parsed once by one
//! parser ([`target`]), grants ([`grants`]), which addresses are public ([`address`]), and how a webhook proves that it
//! is genuine ([`webhook`]). The egress gate and the webhook route apply them; nothing else decides.

pub mod access;
pub mod address;
pub mod endpoint;
pub mod grants;
pub mod host;
pub mod target;
pub mod webhook;

pub use access::Access;
pub use address::{AddressClass, is_public};
pub use endpoint::{Endpoint, Grant, GrantEntry, Scheme};
pub use grants::{Grants, Permit, Request};
pub use host::{Host, HostPattern};
pub use target::{InvalidUrl, Target};
