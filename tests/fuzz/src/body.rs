//! Bodies in place of random ones: without a description and a place for what the host hands over, no channel is ever
//! asked to deliver.

use std::collections::BTreeMap;
use std::convert::Infallible;

use fastrand::Rng;
use wasm_encoder::reencode::{Error, Reencode};
use wasm_encoder::{CodeSection, Function, Instruction, MemArg, MemoryType};
use wasmparser::{ExternalKind, Parser, Payload, TypeRef};

/// Where a description or a receipt stands.
const RESULT_AT: u32 = 2048;
/// The words of one: more than the longest has.
const RESULT_WORDS: u32 = 64;
/// Where a text stands that results point to.
const TEXT_AT: u32 = 1024;
/// Where the host is told to put what it hands over: above all results.
const HANDED_OVER_AT: i32 = 65_536;
/// Pages of memory that all this needs, with room for a message.
const PAGES_MIN: u64 = 16;

/// What a function does in place of its random code.
enum Body {
    /// Nothing.
    Nothing,
    /// It returns this number.
    Number(i32),
    /// It writes these words to [`RESULT_AT`], and returns that.
    Words(Vec<u32>),
}

/// Returns the module with some of its functions replaced, drawn at random, and enough memory for them.
pub(crate) fn put_in_order(rng: &mut Rng, module: &[u8]) -> anyhow::Result<Vec<u8>> {
    let mut order = Order {
        bodies: bodies(rng, module)?,
        next: 0,
    };
    let mut encoded = wasm_encoder::Module::new();
    order.parse_core_module(&mut encoded, Parser::new(0), module)?;
    Ok(encoded.finish())
}

/// Draws which functions are replaced, by their places in the code section.
fn bodies(rng: &mut Rng, module: &[u8]) -> anyhow::Result<BTreeMap<u32, Body>> {
    let (mut imported, mut bodies) = (0, BTreeMap::new());
    for payload in Parser::new(0).parse_all(module) {
        match payload? {
            Payload::ImportSection(imports) => {
                for import in imports.into_imports() {
                    imported += u32::from(matches!(import?.ty, TypeRef::Func(_) | TypeRef::FuncExact(_)));
                }
            }
            Payload::ExportSection(exports) => {
                for export in exports {
                    let export = export?;
                    let is_function = export.kind == ExternalKind::Func;
                    let own = export.index.checked_sub(imported).filter(|_| is_function);
                    if let (Some(own), Some(body)) = (own, body(rng, export.name)) {
                        bodies.insert(own, body);
                    }
                }
            }
            _ => {}
        }
    }
    Ok(bodies)
}

fn body(rng: &mut Rng, export: &str) -> Option<Body> {
    let chance = rng.u8(0..100);
    if export == "_initialize" {
        return (chance < 90).then_some(Body::Nothing);
    }
    if export == "cabi_realloc" {
        return (chance < 85).then_some(Body::Number(HANDED_OVER_AT));
    }
    // Its name ends as that of the function after which it is called.
    if export.starts_with("cabi_post_") {
        return None;
    }
    if export.ends_with("#describe") {
        return match chance {
            0..80 => Some(Body::Words(description())),
            80..92 => Some(Body::Words(scribbled(rng, description()))),
            _ => None,
        };
    }
    let is_result = export.ends_with("#deliver") || export.ends_with("#handle") || export.ends_with("#run");
    (is_result && chance < 40).then(|| Body::Words(scribbled(rng, Vec::new())))
}

/// An honest description: a name, a version and a summary of one letter, and nothing else.
fn description() -> Vec<u32> {
    [[TEXT_AT, 1]; 3].concat()
}

/// Writes into some of the words what a pointer, a length, a case or a flag might be, or must not.
fn scribbled(rng: &mut Rng, mut words: Vec<u32>) -> Vec<u32> {
    words.resize(RESULT_WORDS as usize, 0);
    for _ in 0..rng.usize(0..12) {
        let at = rng.usize(0..24);
        words[at] = match rng.u8(0..6) {
            0 => rng.u32(..),
            1 => u32::MAX - rng.u32(0..4),
            2 => rng.u32(0..PAGES_MIN as u32 * 65_536),
            3 => TEXT_AT,
            _ => rng.u32(0..5),
        };
    }
    words
}

/// Copies a module, with other bodies.
struct Order {
    bodies: BTreeMap<u32, Body>,
    /// The place of the function that comes next.
    next: u32,
}

impl Reencode for Order {
    type Error = Infallible;

    fn memory_type(&mut self, memory: wasmparser::MemoryType) -> Result<MemoryType, Error<Infallible>> {
        let mut memory = wasm_encoder::reencode::utils::memory_type(self, memory);
        memory.minimum = memory.minimum.max(PAGES_MIN);
        memory.maximum = memory.maximum.map(|maximum| maximum.max(PAGES_MIN));
        Ok(memory)
    }

    fn parse_function_body(
        &mut self,
        code: &mut CodeSection,
        body: wasmparser::FunctionBody<'_>,
    ) -> Result<(), Error<Infallible>> {
        let replaced = self.bodies.get(&self.next);
        self.next += 1;
        match replaced {
            Some(body) => {
                code.function(&function(body));
                Ok(())
            }
            None => wasm_encoder::reencode::utils::parse_function_body(self, code, body),
        }
    }
}

fn function(body: &Body) -> Function {
    let mut function = Function::new([]);
    match body {
        Body::Nothing => {}
        Body::Number(number) => {
            function.instruction(&Instruction::I32Const(*number));
        }
        Body::Words(words) => {
            store(&mut function, TEXT_AT, u32::from(b'x'));
            for at in 0..RESULT_WORDS {
                let word = words.get(at as usize).copied().unwrap_or(0);
                store(&mut function, RESULT_AT + 4 * at, word);
            }
            function.instruction(&Instruction::I32Const(RESULT_AT as i32));
        }
    }
    function.instruction(&Instruction::End);
    function
}

fn store(function: &mut Function, at: u32, word: u32) {
    let place = MemArg {
        offset: 0,
        align: 2,
        memory_index: 0,
    };
    function.instruction(&Instruction::I32Const(at as i32));
    function.instruction(&Instruction::I32Const(word as i32));
    function.instruction(&Instruction::I32Store(place));
}
