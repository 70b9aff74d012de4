//! What is in a component's file, counted before a compiler sees it: what takes a compiler long or much memory is refused.

use wasmparser::{Encoding, Parser, Payload};

use super::Error;
use crate::limit;

/// Counts what is in a file, and refuses what is above its bounds. Reads it once, from its beginning to its end.
///
/// # Errors
/// [`Error::TooComplex`], and [`Error::NotAComponent`] where the file can't be read so far.
pub(super) fn refuse_the_unbounded(wasm: &[u8]) -> Result<(), Error> {
    let mut found = Found::default();
    for payload in Parser::new(0).parse_all(wasm) {
        let payload = payload.map_err(|error| Error::NotAComponent(super::printable(error.message())))?;
        found.count(&payload)?;
    }
    Ok(())
}

#[derive(Default)]
struct Found {
    parts: usize,
    functions: usize,
}

impl Found {
    fn count(&mut self, payload: &Payload<'_>) -> Result<(), Error> {
        match payload {
            Payload::Version { encoding, .. } => {
                self.parts += 1;
                let what = match encoding {
                    Encoding::Module => "modules",
                    Encoding::Component => "components inside it",
                };
                bounded(what, self.parts, limit::COMPONENT_PARTS_MAX)
            }
            Payload::CodeSectionStart { count, .. } => {
                self.functions = self.functions.saturating_add(*count as usize);
                bounded("functions", self.functions, limit::COMPONENT_FUNCTIONS_MAX)
            }
            Payload::CodeSectionEntry(body) => {
                let bytes = body.range().len();
                bounded("bytes in one function", bytes, limit::COMPONENT_FUNCTION_BYTES_MAX)
            }
            _ => Ok(()),
        }
    }
}

fn bounded(what: &'static str, found: usize, max: usize) -> Result<(), Error> {
    if found > max {
        return Err(Error::TooComplex { what, found, max });
    }
    Ok(())
}
