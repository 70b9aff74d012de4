//! What stands behind the handles that a guest holds.

use crate::egress;

/// An open response stream of a guest.
pub struct StreamHandle(pub(crate) egress::ResponseStream);

/// A connected WebSocket of a guest.
pub struct WebSocketHandle(pub(crate) egress::WebSocket);

/// A connected byte stream of a guest.
pub struct TcpHandle(pub(crate) egress::TcpStream);
