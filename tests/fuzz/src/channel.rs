//! Components that are channels of the contract, by their imports and exports, with code that nobody wrote.

use std::path::Path;

use anyhow::Context as _;
use arbitrary::Unstructured;
use fastrand::Rng;
use wasm_smith::Module;
use wit_component::{ComponentEncoder, StringEncoding};
use wit_parser::{LiftLowerAbi, ManglingAndAbi, Resolve, WorldId};

use crate::{body, shape};

/// The worlds of the contract that a channel may have.
const WORLDS: [&str; 5] = [
    "delivery-adapter",
    "polling-channel",
    "webhook-channel",
    "serving-channel",
    "full-channel",
];

/// The contract that the channels fit.
pub(crate) struct Contract {
    resolve: Resolve,
    worlds: Vec<World>,
}

/// What a channel may be of.
struct World {
    id: WorldId,
    /// A module with all its imports and exports.
    shape: Vec<u8>,
}

impl Contract {
    /// Reads it from its folder.
    pub(crate) fn read(folder: &Path) -> anyhow::Result<Self> {
        let mut resolve = Resolve::default();
        let (package, _) = resolve.push_dir(folder).context("the contract")?;
        let plain = ManglingAndAbi::Legacy(LiftLowerAbi::Sync);
        let world = |name| {
            let id = resolve.select_world(&[package], Some(name))?;
            let shape = wit_component::dummy_module(&resolve, id, plain);
            anyhow::Ok(World { id, shape })
        };
        let worlds = WORLDS.into_iter().map(world).collect::<Result<_, _>>()?;
        Ok(Self { resolve, worlds })
    }

    /// Makes a channel: what a world imports and exports, and random code between. Some of it is put in order, so that not
    /// every channel fails at its first step.
    ///
    /// # Errors
    /// When these random choices come to nothing.
    pub(crate) fn channel(&self, rng: &mut Rng) -> anyhow::Result<Vec<u8>> {
        let world = &self.worlds[rng.usize(0..self.worlds.len())];
        let bytes = shape::entropy(rng);
        let mut unstructured = Unstructured::new(&bytes);
        let mut config = shape::config(rng, &mut unstructured)?;
        config.exports = Some(world.shape.clone());
        config.available_imports = Some(world.shape.clone());
        config.allow_start_export = rng.u8(0..8) == 0;
        let module = Module::new(config, &mut unstructured)?.to_bytes();
        let mut module = body::put_in_order(rng, &module)?;
        let encodings = [
            StringEncoding::UTF8,
            StringEncoding::UTF16,
            StringEncoding::CompactUTF16,
        ];
        let encoding = encodings[rng.usize(0..encodings.len())];
        wit_component::embed_component_metadata(&mut module, &self.resolve, world.id, encoding)?;
        ComponentEncoder::default().module(&module)?.validate(false).encode()
    }
}
