//! What a channel costs by the language it is written in: the examples of `components/examples`, beside a bundled one.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context as _, ensure};
use sluicegate::channel::LoadedComponent;
use sluicegate::delivery::Failure;
use sluicegate::egress::Evidence;
use sluicegate::event::DeliveryError;
use sluicegate::store::EventStore as _;
use sluicegate::store::sqlite::SqliteStore;

use crate::host::{channel, engine, request};
use crate::report::Report;
use crate::sample::Sample;

/// A channel that does the same in each language: it takes a message, and asks to send it over HTTP.
struct Language {
    name: &'static str,
    /// What makes its component, and where that is then; none where it is bundled.
    built: Option<(&'static str, &'static str)>,
    settings: &'static [(&'static str, &'static str)],
}

const LANGUAGES: [Language; 3] = [
    Language {
        name: "rust",
        built: None,
        settings: &[("server", "https://ntfy.invalid"), ("topic", "bench")],
    },
    Language {
        name: "javascript",
        built: Some(("javascript/build.sh", "javascript/ntfy-chat.wasm")),
        settings: &[("server", "https://ntfy.invalid"), ("topic", "bench")],
    },
    Language {
        name: "python",
        built: Some(("python/build.sh", "python/mattermost.wasm")),
        settings: &[("server", "https://chat.invalid"), ("channels", "bench")],
    },
];

/// The bundled component that is measured for Rust: it does what the example in JavaScript does.
const BUNDLED: &str = "ntfy";

/// Measures `languages.*`: size, first compilation and start from the cache, both with the question what it is, and one
/// delivery in a fresh instance, which ends at its first request because nothing is granted.
pub(crate) async fn run(report: &mut Report) -> anyhow::Result<()> {
    for language in &LANGUAGES {
        match wasm(language)? {
            Ok(wasm) => measure(report, language, &wasm).await?,
            Err(why) => report.progress(&format!("languages.{}_* is left out: {why}", language.name)),
        }
    }
    Ok(())
}

/// Returns a language's component, or why there is none.
fn wasm(language: &Language) -> anyhow::Result<Result<Vec<u8>, String>> {
    let Some((script, file)) = language.built else {
        let bundled = sluicegate_bundle::find(BUNDLED).context("the bundle has it")?;
        return Ok(Ok(bundled.wasm.to_vec()));
    };
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../components/examples");
    match std::fs::read(examples.join(file)) {
        Ok(wasm) => Ok(Ok(wasm)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            Ok(Err(format!("components/examples/{script} makes what is not there")))
        }
        Err(error) => Err(error).with_context(|| format!("{file} can't be read")),
    }
}

async fn measure(report: &mut Report, language: &Language, wasm: &[u8]) -> anyhow::Result<()> {
    let starts = if report.quick { 3 } else { 20 };
    let calls = if report.quick { 50 } else { 500 };
    let folder = tempfile::tempdir_in(".")?;
    let began = Instant::now();
    drop(load(folder.path(), wasm).await?);
    let compiled = began.elapsed();
    let mut cached = Sample::default();
    for _ in 0..starts {
        let began = Instant::now();
        drop(load(folder.path(), wasm).await?);
        cached.add(began.elapsed());
    }
    let component = load(folder.path(), wasm).await?;
    let call = delivered(folder.path(), component, language.settings, calls).await?;
    let mut figure = |what: &str, value: f64, unit: &str| {
        report.figure(&format!("languages.{}_{what}", language.name), value, unit);
    };
    figure("kib", wasm.len() as f64 / 1024.0, "KiB");
    figure("compile_ms", compiled.as_secs_f64() * 1000.0, "ms");
    figure("cached_ms", cached.median_ms(), "ms");
    figure("call_us", call.median_ms() * 1000.0, "us");
    Ok(())
}

/// Loads a component as a start of the gateway does: with an engine of its own, and what was compiled before.
async fn load(folder: &Path, wasm: &[u8]) -> anyhow::Result<Arc<LoadedComponent>> {
    Ok(LoadedComponent::load(&engine(folder)?, wasm).await?)
}

async fn delivered(
    folder: &Path,
    component: Arc<LoadedComponent>,
    settings: &[(&str, &str)],
    calls: usize,
) -> anyhow::Result<Sample> {
    let store = Arc::new(SqliteStore::open(&folder.join("data"))?);
    let settings = settings
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
    let channel = channel(component, BTreeMap::from_iter(settings), Arc::clone(&store))?;
    // On a worker thread, where the gateway's deliveries run too.
    let sample = tokio::spawn(async move {
        let mut sample = Sample::default();
        // The first call is not counted.
        for number in 0..=calls {
            let began = Instant::now();
            let attempt = channel.deliver(request(number), Evidence::default()).await;
            let took = began.elapsed();
            let is_denied = matches!(
                attempt.result,
                Err(Failure::Reported(
                    DeliveryError::Unauthorized(_) | DeliveryError::Rejected(_) | DeliveryError::Unavailable(_)
                ))
            );
            ensure!(is_denied, "a delivery without a grant ended in {:?}", attempt.result);
            if number > 0 {
                sample.add(took);
            }
        }
        Ok(sample)
    });
    let sample = sample.await??;
    store.close().await?;
    Ok(sample)
}
