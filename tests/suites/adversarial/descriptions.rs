//! Components that lie when they are asked what they are: refused in plain words, before anyone depends on it.

use std::sync::Arc;

use sluicegate::channel::{Error, LoadedComponent};
use sluicegate::limit;

use crate::support::{HOSTILE, Rig, engine};

/// Returns the hostile component with a lie written into it.
fn lying(lie: &str) -> Vec<u8> {
    const ROOM: &[u8] = b"the lie that this guest tells:..................";
    let mut wasm = HOSTILE.to_vec();
    let starts: Vec<usize> = wasm
        .windows(ROOM.len())
        .enumerate()
        .filter(|(_, it)| *it == ROOM)
        .map(|(at, _)| at)
        .collect();
    assert_eq!(starts.len(), 1, "there is one place for a lie");
    let end = starts[0] + ROOM.len();
    let start = end - ROOM.iter().rev().take_while(|byte| **byte == b'.').count();
    assert!(lie.len() <= end - start, "{lie} is too long");
    wasm[start..start + lie.len()].copy_from_slice(lie.as_bytes());
    wasm
}

async fn load(lie: &str) -> Result<Arc<LoadedComponent>, Error> {
    LoadedComponent::load(&engine(), &lying(lie)).await
}

/// Returns the words with which a lie is refused.
async fn refused(lie: &str) -> String {
    match load(lie).await {
        Ok(loaded) => panic!("{lie} is believed: {:?}", loaded.inspection()),
        Err(error @ (Error::Description(_) | Error::Describe(_))) => {
            let words = error.to_string();
            assert!(
                !words.contains(|c: char| c.is_control() || c == '\u{202e}'),
                "{lie}: {words:?}"
            );
            assert!(
                words.len() < limit::LOG_LINE_BYTES_DEFAULT + 200,
                "{lie}: {} bytes",
                words.len()
            );
            words
        }
        Err(other) => panic!("{lie}: {other}"),
    }
}

#[tokio::test]
async fn descriptions_that_are_too_long_are_refused() {
    for (lie, named) in [
        ("settings", "10000 settings"),
        ("secrets", "10000 secrets"),
        ("endpoints", "10000 endpoints"),
        ("secret hosts", "10000 secret hosts"),
        ("default", "5000000 bytes"),
        ("summary", "5000000 bytes"),
    ] {
        let words = refused(lie).await;
        assert!(words.contains(named), "{lie}: {words}");
    }
}

#[tokio::test]
async fn descriptions_that_drive_a_terminal_or_a_file_are_refused() {
    for lie in ["controls", "bidi", "folder", "name", "empty name", "version", "key"] {
        refused(lie).await;
    }
}

#[tokio::test]
async fn descriptions_that_say_a_thing_twice_are_refused() {
    assert!(refused("duplicate setting").await.contains("`listener` twice"));
    assert!(refused("duplicate secret").await.contains("`token` twice"));
}

#[tokio::test]
async fn host_patterns_that_are_none_are_refused() {
    for host in [
        "*",
        "*.",
        "a b",
        "h/p",
        "e.com#@x",
        "*.*.com",
        "http://x",
        "{}",
        "\n",
        "x\u{e9}.com",
    ] {
        assert!(
            refused(&format!("host {host}")).await.contains("is no host"),
            "{host:?}"
        );
    }
}

#[tokio::test]
async fn webhook_recipes_that_check_nothing_are_refused() {
    for lie in ["unknown", "none", "header", "no header", "unsigned"] {
        refused(&format!("recipe {lie}")).await;
    }
    let huge = load("recipe size").await.expect("a size is only cut");
    let recipe = huge.inspection().webhook.as_ref().expect("a recipe");
    assert_eq!(recipe.body_bytes_max as usize, limit::WEBHOOK_BODY_BYTES_MAX);
}

#[tokio::test]
async fn a_component_that_does_not_say_what_it_is_is_refused() {
    for (lie, named) in [
        ("spin", "CPU time"),
        ("sleep", "no answer within"),
        ("panic", "panicked"),
        ("print", "it failed when asked what it is"),
    ] {
        let words = refused(lie).await;
        assert!(words.contains(named), "{lie}: {words}");
    }
}

#[tokio::test]
async fn a_component_has_no_power_while_it_is_asked_what_it_is() {
    let truthful = load("powers").await.expect("it only tries");
    assert_eq!(truthful.inspection().summary, "worked: ");
    // Memory is bounded then too; the guest hears that there is no more, and goes on.
    let greedy = load("allocate").await.expect("it only tries");
    assert_eq!(greedy.inspection().name, "hostile");
    Rig::new().component(greedy).up().await.survived().await;
}
