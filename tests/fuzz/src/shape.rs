//! The kinds of files, and how each is made.

use anyhow::Context as _;
use arbitrary::{Arbitrary as _, Unstructured};
use fastrand::Rng;
use wasm_smith::{Component, Config, Module};

use crate::channel::Contract;

/// What the generators draw from: more than the largest of them uses.
const ENTROPY_BYTES: usize = 64 * 1024;

/// How often a file is tried again that did not come out: many random choices fit nothing.
const TRIES_MAX: usize = 100;

/// Makes the file of this number: its kind, and its bytes.
pub(crate) fn make(contract: &Contract, seed: u64, number: u64) -> anyhow::Result<(&'static str, Vec<u8>)> {
    let mut rng = Rng::with_seed(seed ^ number.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    // Mostly channels: all else is refused before any of it runs.
    let kind = match number % 16 {
        0 => "module",
        1 | 2 => "component",
        3 => "cut",
        4..=6 => "mutated",
        _ => "channel",
    };
    for _ in 0..TRIES_MAX {
        let made = match kind {
            "module" => module(&mut rng),
            "component" => component(&mut rng),
            "cut" => contract.channel(&mut rng).map(|wasm| cut(&mut rng, wasm)),
            "mutated" => contract.channel(&mut rng).map(|wasm| mutated(&mut rng, wasm)),
            _ => contract.channel(&mut rng),
        };
        if let Ok(bytes) = made {
            return Ok((kind, bytes));
        }
    }
    anyhow::bail!("nothing came out for seed {seed}, number {number}, after {TRIES_MAX} tries")
}

/// Draws the bytes that a generator makes its choices by.
pub(crate) fn entropy(rng: &mut Rng) -> Vec<u8> {
    let mut bytes = vec![0; ENTROPY_BYTES];
    rng.fill(&mut bytes);
    bytes
}

/// Draws what a module may have. One in eight has proposals that no channel may use.
pub(crate) fn config(rng: &mut Rng, unstructured: &mut Unstructured<'_>) -> anyhow::Result<Config> {
    let mut config = Config::arbitrary(unstructured).context("too few bytes")?;
    config.max_funcs = config.max_funcs.min(40);
    config.max_instructions = config.max_instructions.min(120);
    if rng.u8(0..8) > 0 {
        config.custom_page_sizes_enabled = false;
        config.exceptions_enabled = false;
        config.gc_enabled = false;
        config.memory64_enabled = false;
        config.relaxed_simd_enabled = false;
        config.shared_everything_threads_enabled = false;
        config.threads_enabled = false;
        // Each of them may lie out of bounds, and then nothing of the module ever runs.
        config.max_data_segments = rng.usize(0..2);
        config.max_element_segments = rng.usize(0..2);
        // References to what is outside are collected by an engine that the host is built without.
        config.reference_types_enabled = false;
        // Every compiler uses these.
        config.bulk_memory_enabled = true;
        config.multi_value_enabled = true;
        config.max_memories = config.max_memories.min(2);
        config.max_tables = config.max_tables.min(1);
    }
    Ok(config)
}

fn module(rng: &mut Rng) -> anyhow::Result<Vec<u8>> {
    let bytes = entropy(rng);
    let mut unstructured = Unstructured::new(&bytes);
    let config = config(rng, &mut unstructured)?;
    Ok(Module::new(config, &mut unstructured)?.to_bytes())
}

fn component(rng: &mut Rng) -> anyhow::Result<Vec<u8>> {
    let bytes = entropy(rng);
    let mut unstructured = Unstructured::new(&bytes);
    let mut config = config(rng, &mut unstructured)?;
    (
        config.max_components,
        config.max_modules,
        config.max_instances,
        config.max_values,
    ) = (4, 4, 4, 4);
    Ok(Component::new(config, &mut unstructured)?.to_bytes())
}

/// What a broken download leaves.
fn cut(rng: &mut Rng, mut wasm: Vec<u8>) -> Vec<u8> {
    wasm.truncate(rng.usize(0..wasm.len()));
    wasm
}

/// Changes, doubles and drops a few bytes, anywhere.
fn mutated(rng: &mut Rng, mut wasm: Vec<u8>) -> Vec<u8> {
    for _ in 0..rng.usize(1..=8) {
        let at = rng.usize(8..wasm.len());
        let end = (at + rng.usize(1..=8)).min(wasm.len());
        match rng.u8(0..6) {
            0 => drop(wasm.drain(at..end)),
            1 => {
                let doubled = wasm[at..end].to_vec();
                wasm.splice(at..at, doubled);
            }
            2 => wasm[at] = rng.u8(..),
            3 => wasm[at] = wasm[at].wrapping_add(1),
            4 => wasm[at] = wasm[at].wrapping_sub(1),
            _ => wasm[at] ^= 1 << rng.u8(0..8),
        }
    }
    wasm
}
