//! What a channel exports, as traits, and the macro that makes a component of them.

use crate::bindings;
use crate::connections::{Client, CloseReason};
use crate::description::Description;
use crate::message::{Conversation, DeliveryError, OutboundMessage, Receipt};
use crate::webhook;

/// What became of an ambiguous delivery.
pub use bindings::reconciliation::exports::sluicegate::channel::reconciliation::Finding;

/// Why a listener ended although nobody told it to.
pub use bindings::listener::exports::sluicegate::channel::listener::ListenerError;

impl From<String> for ListenerError {
    fn from(words: String) -> Self {
        Self::Unavailable(words)
    }
}

/// A channel, or an adapter that only sends: what every component is.
pub trait Channel {
    /// Says what the channel is and what it asks for. Called once, without any capability, when the channel is added.
    fn describe() -> Description;

    /// Sends one message, starting after the parts in `already_sent`.
    ///
    /// # Errors
    /// The case decides what the host does next: see [`DeliveryError`]. A failed HTTP call converts with `?`.
    fn deliver(message: OutboundMessage) -> Result<Receipt, DeliveryError>;
}

/// A channel that fetches: it polls, or holds a socket. It runs in an instance of its own, beside deliveries.
pub trait Listener {
    /// Receives until the host shuts the channel down, which every blocking call then says.
    ///
    /// # Errors
    /// The case decides what the host does next: see [`ListenerError`]. Bare words convert with `?`, to what may pass.
    fn run() -> Result<(), ListenerError>;
}

/// A channel that the platform calls. The host has checked size and signature before.
pub trait Webhook {
    /// Answers one call. Success may be said only after [`inbox::publish`](crate::inbox::publish) returned.
    fn handle(request: webhook::Request) -> webhook::Response;
}

/// A channel whose clients connect to the gateway. The host speaks the WebSocket framing.
pub trait Connections {
    /// Greets a client that connected; returns the frames to send it.
    ///
    /// # Errors
    /// The reason for closing the connection.
    fn opened(client: Client) -> Result<Vec<String>, CloseReason>;

    /// Takes one text frame of a client; returns the frames to send back, which go out before any other frame to it.
    ///
    /// # Errors
    /// The reason for closing the connection.
    fn received(client_id: String, frame: String) -> Result<Vec<String>, CloseReason>;

    /// Forgets a client that has gone. Its id never comes back.
    fn closed(client_id: String);
}

/// Showing that the agent is at work, and an answer while it grows.
pub trait Presence {
    /// Shows for a few seconds that an answer is being made.
    fn typing(conversation: Conversation);

    /// Creates or edits the message that will become the answer and returns its id, which comes back as `draft_id`.
    ///
    /// # Errors
    /// As in [`Channel::deliver`]; the answer itself does not depend on its drafts.
    fn draft(message: OutboundMessage) -> Result<String, DeliveryError>;
}

/// Finding out what became of an ambiguous delivery.
pub trait Reconciliation {
    /// Asks the platform whether it has the message. No attempt without a known outcome began before `since_ms`, Unix
    /// milliseconds by the host's clock.
    fn reconcile(message: OutboundMessage, since_ms: u64) -> Finding;
}

/// What must happen on the platform when the channel starts and stops, such as registering a webhook.
pub trait Lifecycle {
    /// Prepares the platform. `webhook_url` is the channel's public address, where the operator has configured one.
    ///
    /// # Errors
    /// Words for the operator; the channel does not start.
    fn start(webhook_url: Option<String>) -> Result<(), String>;

    /// Undoes what [`start`](Self::start) did, as far as that is possible.
    fn stop();
}

/// Whether the credentials work.
pub trait Health {
    /// Asks the platform who we are, and returns it in words for the operator.
    ///
    /// # Errors
    /// As in [`Channel::deliver`].
    fn check() -> Result<String, DeliveryError>;
}

impl<T: Channel> bindings::channel::exports::sluicegate::channel::descriptor::Guest for T {
    fn describe() -> Description {
        <T as Channel>::describe()
    }
}

impl<T: Channel> bindings::channel::exports::sluicegate::channel::delivery::Guest for T {
    fn deliver(message: OutboundMessage) -> Result<Receipt, DeliveryError> {
        <T as Channel>::deliver(message)
    }
}

impl<T: Listener> bindings::listener::exports::sluicegate::channel::listener::Guest for T {
    fn run() -> Result<(), ListenerError> {
        <T as Listener>::run()
    }
}

impl<T: Webhook> bindings::webhook::exports::sluicegate::channel::webhook::Guest for T {
    fn handle(request: webhook::Request) -> webhook::Response {
        <T as Webhook>::handle(request)
    }
}

impl<T: Connections> bindings::connections::exports::sluicegate::channel::connections::Guest for T {
    fn opened(client: Client) -> Result<Vec<String>, CloseReason> {
        <T as Connections>::opened(client)
    }

    fn received(client_id: String, frame: String) -> Result<Vec<String>, CloseReason> {
        <T as Connections>::received(client_id, frame)
    }

    fn closed(client_id: String) {
        <T as Connections>::closed(client_id);
    }
}

impl<T: Presence> bindings::presence::exports::sluicegate::channel::presence::Guest for T {
    fn typing(conversation: Conversation) {
        <T as Presence>::typing(conversation);
    }

    fn draft(message: OutboundMessage) -> Result<String, DeliveryError> {
        <T as Presence>::draft(message)
    }
}

impl<T: Reconciliation> bindings::reconciliation::exports::sluicegate::channel::reconciliation::Guest for T {
    fn reconcile(message: OutboundMessage, since_ms: u64) -> Finding {
        <T as Reconciliation>::reconcile(message, since_ms)
    }
}

impl<T: Lifecycle> bindings::lifecycle::exports::sluicegate::channel::lifecycle::Guest for T {
    fn start(webhook_url: Option<String>) -> Result<(), String> {
        <T as Lifecycle>::start(webhook_url)
    }

    fn stop() {
        <T as Lifecycle>::stop();
    }
}

impl<T: Health> bindings::health::exports::sluicegate::channel::health::Guest for T {
    fn check() -> Result<String, DeliveryError> {
        <T as Health>::check()
    }
}

/// Makes a component of a [`Channel`], exporting the named optional interfaces besides.
///
/// `export!(Telegram: listener, webhook, presence);` names modules of the contract: `listener`, `webhook`, `connections`,
/// `presence`, `reconciliation`, `lifecycle`, `health`. Call it once, in the crate that becomes the component. A native
/// build only checks that the traits are there.
#[macro_export]
macro_rules! export {
    ($channel:ident $(: $($interface:ident),+ $(,)?)?) => {
        #[cfg(target_arch = "wasm32")]
        const _: () = {
            $crate::bindings::channel::export!($channel with_types_in $crate::bindings::channel);
            $($($crate::bindings::$interface::export!($channel with_types_in $crate::bindings::$interface);)+)?
        };
        #[cfg(not(target_arch = "wasm32"))]
        const _: fn() = || {
            fn sends<T: $crate::Channel>() {}
            sends::<$channel>();
            $($({
                fn exports<T: $crate::bindings::$interface::exports::sluicegate::channel::$interface::Guest>() {}
                exports::<$channel>();
            })+)?
        };
    };
}
