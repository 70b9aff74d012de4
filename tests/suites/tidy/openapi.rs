//! The document of the operator's API says what the code does: each route with its methods, each field of what is answered.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::source::none;

fn read(path: &str) -> String {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../../");
    std::fs::read_to_string(format!("{root}{path}")).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn document() -> Value {
    serde_json::from_str(&read("runtime/src/http/openapi.json")).expect("the document is JSON")
}

/// The `method path` of each route that `routes` makes.
fn routes() -> BTreeSet<String> {
    let source = read("runtime/src/http/admin.rs");
    let calls = source.split(".route(\"").skip(1);
    let mut found = BTreeSet::new();
    for call in calls {
        let (path, rest) = call.split_once('"').expect("a path ends");
        // What follows up to the next call or the end of the chain.
        let end = rest.find("\n        .").unwrap_or(rest.len());
        for method in ["get", "post", "put", "delete", "patch"] {
            if rest[..end].contains(&format!("{method}(")) {
                found.insert(format!("{method} {path}"));
            }
        }
    }
    found
}

#[test]
fn every_route_of_the_operator_is_in_the_document_and_no_other() {
    let document = document();
    let paths = document["paths"].as_object().expect("paths");
    let described: BTreeSet<String> = paths
        .iter()
        .flat_map(|(path, methods)| {
            let methods = methods.as_object().into_iter().flat_map(serde_json::Map::keys);
            methods.map(move |method| format!("{method} {path}"))
        })
        .collect();
    let routes = routes();
    assert!(routes.len() > 10, "the routes are found: {routes:?}");
    let faults: Vec<String> = routes
        .symmetric_difference(&described)
        .map(|one| format!("{one} is in one of runtime/src/http/{{admin.rs,openapi.json}} only"))
        .collect();
    none("routes without their description", &faults);
}

#[test]
fn every_field_of_an_answer_is_in_the_document() {
    let (source, document) = (read("runtime/src/admin.rs"), document());
    let schemas = document["components"]["schemas"].as_object().expect("schemas");
    let mut faults = Vec::new();
    for item in source.split("\npub struct ").skip(1) {
        let name: String = item.chars().take_while(char::is_ascii_alphanumeric).collect();
        let is_answer = name.ends_with("View") || name == "Changed";
        let body = item.split_once("\n}").map_or(item, |(body, _)| body);
        let fields: BTreeSet<&str> = body
            .lines()
            .filter_map(|line| line.trim().strip_prefix("pub ")?.split_once(':'))
            .map(|(field, _)| field)
            .collect();
        if !is_answer {
            continue;
        }
        let described = schemas.get(&name).and_then(|schema| schema["properties"].as_object());
        let described: BTreeSet<&str> = described
            .into_iter()
            .flat_map(|all| all.keys().map(String::as_str))
            .collect();
        faults.extend(
            fields
                .symmetric_difference(&described)
                .map(|field| format!("{name}.{field} is in one of runtime/src/{{admin.rs,http/openapi.json}} only")),
        );
    }
    none("fields without their description", &faults);
}
