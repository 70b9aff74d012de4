//! `shapes CONTRACT FOLDER SEED COUNT` writes COUNT WebAssembly files of random shape into FOLDER, the same for the same
//! SEED. CONTRACT is the folder of the contract that some of them fit.
//!
//! Their names say what they were made as: `00012-channel.wasm`.

mod body;
mod channel;
mod shape;

use std::path::Path;

use anyhow::Context as _;

use crate::channel::Contract;

fn main() -> anyhow::Result<()> {
    const USAGE: &str = "usage: shapes CONTRACT FOLDER SEED COUNT";
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [contract, folder, seed, count] = words.as_slice() else {
        anyhow::bail!(USAGE);
    };
    let (seed, count): (u64, u64) = (seed.parse().context(USAGE)?, count.parse().context(USAGE)?);
    let contract = Contract::read(Path::new(contract))?;
    for number in 0..count {
        let (kind, bytes) = shape::make(&contract, seed, number)?;
        let path = Path::new(folder).join(format!("{number:05}-{kind}.wasm"));
        std::fs::write(&path, bytes).with_context(|| path.display().to_string())?;
    }
    Ok(())
}
