//! Who may use whom.

use crate::source::{Source, none, rust_below};

/// A module of the host and the modules of the host that it may use besides itself.
struct Layer(&'static str, &'static [&'static str]);

/// The stages name no other stage: what they need of one another stands in a trait that `gateway` fills. The one
/// exception is the plain data of a delivery attempt, which `channel` carries out.
const LAYERS: [Layer; 25] = [
    // Words: nothing below them.
    Layer("limit", &[]),
    Layer("clock", &["limit"]),
    Layer("id", &["limit"]),
    Layer("event", &["clock", "id", "limit"]),
    Layer("file", &[]),
    Layer("shown", &["limit"]),
    Layer("component", &["file", "id", "limit"]),
    // What connects and restrains.
    Layer("store", WORDS),
    Layer("retry", &["clock", "limit", "store"]),
    Layer("bus", WORDS),
    Layer("policy", &["clock", "component", "event", "id", "limit", "secret"]),
    Layer("secret", &["clock", "file", "id", "limit", "policy"]),
    Layer("egress", &["clock", "id", "limit", "policy", "secret"]),
    Layer("ingress", &["id", "limit"]),
    Layer("process", &[]),
    Layer("admin", &["clock", "id", "store"]),
    // The stages.
    Layer(
        "http",
        &[
            "admin", "bus", "clock", "event", "id", "ingress", "limit", "process", "secret",
        ],
    ),
    Layer(
        "agent",
        &[
            "bus", "clock", "event", "id", "limit", "process", "retry", "secret", "store",
        ],
    ),
    Layer(
        "delivery",
        &["bus", "clock", "egress", "event", "id", "limit", "retry", "store"],
    ),
    Layer("channel", CHANNEL),
    Layer("capability", CAPABILITY),
    Layer("guest", GUEST),
    // Putting it together, and the edges.
    Layer(
        "config",
        &[
            "clock",
            "component",
            "event",
            "id",
            "limit",
            "policy",
            "secret",
            "store",
        ],
    ),
    Layer("telemetry", &["clock", "limit"]),
    Layer(
        "cli",
        &[
            "admin",
            "bus",
            "channel",
            "clock",
            "component",
            "config",
            "gateway",
            "id",
            "limit",
            "policy",
            "process",
            "secret",
            "shown",
            "telemetry",
        ],
    ),
];

const WORDS: &[&str] = &["clock", "event", "id", "limit"];

const GUEST: &[&str] = &[
    "bus", "clock", "egress", "event", "id", "ingress", "limit", "policy", "shown", "store",
];

const CAPABILITY: &[&str] = &[
    "bus", "clock", "egress", "event", "guest", "id", "limit", "secret", "shown", "store",
];

const CHANNEL: &[&str] = &[
    "bus",
    "capability",
    "clock",
    "component",
    "delivery",
    "egress",
    "event",
    "file",
    "guest",
    "ingress",
    "limit",
    "policy",
    "process",
    "retry",
    "secret",
    "shown",
];

/// Modules that may know every other.
const ROOTS: [&str; 3] = ["gateway", "lib", "main"];

/// Returns the top-level module of the host that a file belongs to.
fn module(source: &Source) -> &str {
    let below = source.path.strip_prefix("runtime/src/").unwrap_or(&source.path);
    below.split('/').next().unwrap_or(below).trim_end_matches(".rs")
}

/// Returns the top-level modules that a line of code names.
fn used(line: &str) -> Vec<&str> {
    let ends_a_word = |c: char| !(c.is_ascii_alphanumeric() || c == '_');
    let mut found = Vec::new();
    for (at, prefix) in line.match_indices("crate::") {
        let rest = &line[at + prefix.len()..];
        match rest.strip_prefix('{') {
            // `use crate::{bus::Bus, id::EventId}`: the first word of each item; deeper braces repeat none of ours.
            Some(list) => found.extend(
                list.split([',', '}'])
                    .filter_map(|item| item.trim().split(ends_a_word).next()),
            ),
            None => found.extend(rest.split(ends_a_word).next()),
        }
    }
    found
}

#[test]
fn arrows_point_down_and_no_stage_names_another() {
    let sources = rust_below("runtime/src");
    let mut faults = Vec::new();
    for source in sources.iter().filter(|source| !ROOTS.contains(&module(source))) {
        let own = module(source);
        let Some(Layer(_, allowed)) = LAYERS.iter().find(|Layer(name, _)| *name == own) else {
            faults.push(format!(
                "{}: say in tests/suites/tidy/layers.rs what `{own}` may use",
                source.path
            ));
            continue;
        };
        for (number, line) in source.code() {
            for name in used(line) {
                let is_module = LAYERS.iter().any(|Layer(layer, _)| *layer == name) || ROOTS.contains(&name);
                if is_module && name != own && !allowed.contains(&name) {
                    faults.push(format!("{}:{number}: `{own}` may not use `{name}`", source.path));
                }
            }
        }
    }
    none("arrows point down (runtime/src/lib.rs, invariant 1)", &faults);
}

#[test]
fn every_layer_of_the_list_exists() {
    let sources = rust_below("runtime/src");
    let missing = LAYERS
        .iter()
        .filter(|Layer(name, _)| !sources.iter().any(|source| module(source) == *name));
    let missing: Vec<String> = missing.map(|Layer(name, _)| (*name).to_owned()).collect();
    none("layers without a module", &missing);
}

/// Fails where code outside these modules contains one of the words.
#[track_caller]
fn only_in(modules: &[&str], words: &[&str], rule: &str) {
    let sources = rust_below("runtime/src");
    let mut faults = Vec::new();
    let mut seen_inside = false;
    for source in &sources {
        let is_inside = modules.contains(&module(source));
        for (number, line) in source.code() {
            let named = words.iter().any(|word| line.contains(word));
            seen_inside |= named && is_inside;
            if named && !is_inside {
                faults.push(format!("{}:{number}: {}", source.path, line.trim()));
            }
        }
    }
    none(rule, &faults);
    assert!(
        seen_inside,
        "none of {words:?} occurs at all: the check looks for the wrong words"
    );
}

#[test]
fn only_the_host_of_components_names_wasmtime() {
    only_in(
        &["channel", "capability", "guest"],
        &["wasmtime"],
        "only `channel`, `capability` and `guest` name wasmtime (invariant 2)",
    );
}

#[test]
fn only_the_http_surface_names_axum() {
    only_in(
        &["http", "gateway"],
        &["axum::"],
        "only `http` and `gateway` name axum (invariant 2)",
    );
}

#[test]
fn only_the_store_speaks_sql() {
    let words = [
        "rusqlite",
        "\"SELECT ",
        "\"INSERT ",
        "\"UPDATE ",
        "\"DELETE FROM",
        "\"PRAGMA",
        "\"BEGIN ",
    ];
    only_in(&["store"], &words, "only `store` speaks SQL (invariant 2)");
}

#[test]
fn only_the_gate_opens_connections_to_the_outside() {
    // The agents' own model servers are named by the operator; `cli` talks to a gateway.
    let modules = ["egress", "capability", "agent", "cli"];
    only_in(
        &modules,
        &["reqwest::", "TcpStream::connect", "connect_async"],
        "guests reach the world through `egress`",
    );
}

#[test]
fn the_modules_that_a_line_uses_are_found() {
    assert_eq!(used("use crate::store::{Error, sqlite};"), ["store"]);
    assert_eq!(used("use crate::{bus::Bus, id::EventId};"), ["bus", "id", ""]);
    assert_eq!(
        used("    let x = crate::limit::A + crate::clock::millis(y);"),
        ["limit", "clock"]
    );
    assert_eq!(used("pub(crate) fn f() {}"), Vec::<&str>::new());
}
