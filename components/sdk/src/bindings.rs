//! What `wit-bindgen` makes of the contract: the imports once, and one tiny world for each interface that a channel exports.
//!
//! Each world's macro adds its own `component-type` section to the crate that calls it, and the linker merges them. So a
//! component exports exactly the interfaces that it names in [`export!`](crate::export), and imports only what it calls.

/// What the gateway offers.
pub mod imports {
    wit_bindgen::generate!({
        world: "sluicegate:channel/imports",
        path: "../../wit/since_v0.1.0",
        additional_derives: [PartialEq, Eq],
        generate_all,
    });
}

/// `descriptor` and `delivery`.
pub mod channel {
    wit_bindgen::generate!({
        inline: "package sluicegate:sdk;
            world only-channel {
                export sluicegate:channel/descriptor@0.1.0;
                export sluicegate:channel/delivery@0.1.0;
            }",
        path: "../../wit/since_v0.1.0",
        additional_derives: [PartialEq, Eq],
        with: { "sluicegate:channel/types@0.1.0": super::imports::sluicegate::channel::types },
        pub_export_macro: true,
        export_macro_name: "export",
        default_bindings_module: "$crate::bindings::channel",
    });
}

/// `listener`.
pub mod listener {
    wit_bindgen::generate!({
        inline: "package sluicegate:sdk; world only-listener { export sluicegate:channel/listener@0.1.0; }",
        path: "../../wit/since_v0.1.0",
        additional_derives: [PartialEq, Eq],
        pub_export_macro: true,
        export_macro_name: "export",
        default_bindings_module: "$crate::bindings::listener",
    });
}

/// `webhook`.
pub mod webhook {
    wit_bindgen::generate!({
        inline: "package sluicegate:sdk; world only-webhook { export sluicegate:channel/webhook@0.1.0; }",
        path: "../../wit/since_v0.1.0",
        additional_derives: [PartialEq, Eq],
        pub_export_macro: true,
        export_macro_name: "export",
        default_bindings_module: "$crate::bindings::webhook",
    });
}

/// `connections`.
pub mod connections {
    wit_bindgen::generate!({
        inline: "package sluicegate:sdk; world only-connections { export sluicegate:channel/connections@0.1.0; }",
        path: "../../wit/since_v0.1.0",
        additional_derives: [PartialEq, Eq],
        with: { "sluicegate:channel/types@0.1.0": super::imports::sluicegate::channel::types },
        pub_export_macro: true,
        export_macro_name: "export",
        default_bindings_module: "$crate::bindings::connections",
    });
}

/// `presence`.
pub mod presence {
    wit_bindgen::generate!({
        inline: "package sluicegate:sdk; world only-presence { export sluicegate:channel/presence@0.1.0; }",
        path: "../../wit/since_v0.1.0",
        with: { "sluicegate:channel/types@0.1.0": super::imports::sluicegate::channel::types },
        pub_export_macro: true,
        export_macro_name: "export",
        default_bindings_module: "$crate::bindings::presence",
    });
}

/// `reconciliation`.
pub mod reconciliation {
    wit_bindgen::generate!({
        inline: "package sluicegate:sdk; world only-reconciliation { export sluicegate:channel/reconciliation@0.1.0; }",
        path: "../../wit/since_v0.1.0",
        additional_derives: [PartialEq, Eq],
        with: { "sluicegate:channel/types@0.1.0": super::imports::sluicegate::channel::types },
        pub_export_macro: true,
        export_macro_name: "export",
        default_bindings_module: "$crate::bindings::reconciliation",
    });
}

/// `lifecycle`.
pub mod lifecycle {
    wit_bindgen::generate!({
        inline: "package sluicegate:sdk; world only-lifecycle { export sluicegate:channel/lifecycle@0.1.0; }",
        path: "../../wit/since_v0.1.0",
        pub_export_macro: true,
        export_macro_name: "export",
        default_bindings_module: "$crate::bindings::lifecycle",
    });
}

/// `health`.
pub mod health {
    wit_bindgen::generate!({
        inline: "package sluicegate:sdk; world only-health { export sluicegate:channel/health@0.1.0; }",
        path: "../../wit/since_v0.1.0",
        with: { "sluicegate:channel/types@0.1.0": super::imports::sluicegate::channel::types },
        pub_export_macro: true,
        export_macro_name: "export",
        default_bindings_module: "$crate::bindings::health",
    });
}
