//! The contract's latest version as Rust types, generated from `wit/since_v0.1.0`.
//!
//! All optional exports stand in one world here; which of them a component has is found by looking (see `engine`).

#![expect(missing_docs, reason = "generated code; the WIT files are its documentation")]

wasmtime::component::bindgen!({
    path: "../wit/since_v0.1.0",
    inline: "
        package sluicegate:host;
        world host {
            include sluicegate:channel/full-channel@0.1.0;
            export sluicegate:channel/connections@0.1.0;
        }
    ",
    world: "sluicegate:host/host",
    imports: { default: async | trappable },
    exports: { default: async },
    with: {
        "sluicegate:channel/http.response-stream": crate::guest::StreamHandle,
        "sluicegate:channel/net.websocket": crate::guest::WebSocketHandle,
        "sluicegate:channel/net.tcp-stream": crate::guest::TcpHandle,
    },
});
