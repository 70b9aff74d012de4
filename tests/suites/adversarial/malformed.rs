//! Files that are no component, or one that no compiler makes: refused in plain words, or ended at the first call.

use std::path::Path;

use sluicegate::channel::{CallError, CodeCache, ComponentEngine, Error, LoadedComponent};
use sluicegate::delivery::Failure;
use sluicegate::limit;
use wit_component::{ComponentEncoder, StringEncoding};
use wit_parser::Resolve;

use crate::support::{HOSTILE, Hostile, Rig, compilation, engine};

/// What every written component has: memory, an honest description, and a receipt without ids. `{…}` are a test's own.
const TEMPLATE: &str = r#"(module
  {imports}
  {memory}
  (data (i32.const 1024) "x")
  (data (i32.const 2048) "\00\04\00\00\01\00\00\00\00\04\00\00\01\00\00\00\00\04\00\00\01\00\00\00")
  {more}
  (func (export "sluicegate:channel/descriptor@0.1.0#describe") (result i32) i32.const 2048)
  (func $"\1b[2J{a name\0aof its own}" (export "sluicegate:channel/delivery@0.1.0#deliver") (param i32) (result i32) {deliver})
  (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) {realloc}))"#;
const MEMORY: &str = r#"(memory (export "memory") 16)"#;
/// Far above what the template uses; never freed.
const REALLOC: &str = "i32.const 65536";
const DELIVER: &str = "i32.const 4096";

/// Fills in the template, with the usual for what is not given.
fn written(parts: &[(&str, &str)]) -> Vec<u8> {
    let usual = [
        ("imports", ""),
        ("memory", MEMORY),
        ("more", ""),
        ("deliver", DELIVER),
        ("realloc", REALLOC),
    ];
    let text = parts
        .iter()
        .chain(&usual)
        .fold(TEMPLATE.to_owned(), |text, (name, part)| {
            text.replace(&format!("{{{name}}}"), part)
        });
    let mut module = wat::parse_str(&text).expect("the text is a module");
    let mut resolve = Resolve::default();
    let contract = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../wit/since_v0.1.0");
    let (package, _) = resolve.push_dir(contract).expect("the contract");
    let world = resolve
        .select_world(&[package], Some("delivery-adapter"))
        .expect("a world");
    wit_component::embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8).expect("metadata");
    let encoder = ComponentEncoder::default().module(&module).expect("a module");
    encoder.validate(true).encode().expect("a component")
}

async fn load(wasm: &[u8]) -> Result<std::sync::Arc<LoadedComponent>, Error> {
    LoadedComponent::load(&engine(), wasm).await
}

async fn refused(wasm: &[u8]) -> Error {
    match load(wasm).await {
        Ok(loaded) => panic!("it is taken: {:?}", loaded.inspection()),
        Err(error) => {
            let words = error.to_string();
            assert!(
                words.len() < 5000 && !words.contains(|c: char| c.is_control()),
                "{words:?}"
            );
            error
        }
    }
}

async fn up(parts: &[(&str, &str)]) -> Hostile {
    let component = load(&written(parts)).await.expect("its description is in order");
    Rig::new().component(component).up().await
}

#[tokio::test]
async fn files_that_are_no_component_are_refused_in_plain_words() {
    let core = wat::parse_str("(module)").expect("a module");
    let garbage: Vec<u8> = (0..10_000_u32)
        .map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8)
        .collect();
    for (what, file) in [
        ("empty", &b""[..]),
        ("core", &core),
        ("garbage", &garbage),
        ("elf", b"\x7fELF"),
        ("magic", b"\0asm"),
    ] {
        let error = refused(file).await;
        assert!(matches!(error, Error::NotAComponent(_)), "{what}: {error}");
    }
    assert!(
        refused(&core).await.to_string().contains("wasm32-wasip2"),
        "it says what to do"
    );
    for length in [8, 100, HOSTILE.len() / 2, HOSTILE.len() - 1] {
        let error = refused(&HOSTILE[..length]).await;
        assert!(!matches!(error, Error::Engine(_)), "{length} bytes: {error}");
    }
}

#[tokio::test]
async fn a_file_that_is_too_large_is_refused_before_it_is_looked_at() {
    let mut large = HOSTILE.to_vec();
    large.resize(limit::COMPONENT_BYTES_MAX + 1, 0);
    assert!(matches!(refused(&large).await, Error::TooLarge));
}

#[tokio::test]
async fn components_that_are_no_channel_of_this_contract_are_refused() {
    let nothing = wat::parse_str("(component)").expect("a component");
    assert!(matches!(refused(&nothing).await, Error::NotAChannel { .. }));
    let exporting = |name: &str| {
        let text = format!("(component (instance $i) (export \"sluicegate:channel/{name}\" (instance $i)))");
        wat::parse_str(text).expect("a component")
    };
    let other = refused(&exporting("descriptor@9.9.9")).await;
    assert!(
        matches!(&other, Error::OtherContract { version } if version == "9.9.9"),
        "{other}"
    );
    let hollow = refused(&exporting("descriptor@0.1.0")).await;
    assert!(
        matches!(
            hollow,
            Error::MissingExport {
                interface: "descriptor"
            }
        ),
        "{hollow}"
    );
}

#[tokio::test]
async fn imports_that_channels_can_not_have_are_refused_by_name() {
    for import in [
        "evil:corp/backdoor@1.0.0",
        "wasi:http/incoming-handler@0.2.0",
        "wasi:cli/environment@0.3.0",
        "wasi:nn/tensor@0.2.0",
    ] {
        let wasm = wat::parse_str(format!("(component (import \"{import}\" (instance)))")).expect("a component");
        let error = refused(&wasm).await;
        assert!(
            matches!(&error, Error::ForeignImports { imports, .. } if imports == &[import]),
            "{error}"
        );
        assert!(error.to_string().contains(import), "{error}");
    }
    let later =
        wat::parse_str("(component (import \"sluicegate:channel/inbox@0.9.0\" (instance)))").expect("a component");
    assert!(matches!(refused(&later).await, Error::OtherContract { .. }));
    let unknown = wat::parse_str(
        "(component (import \"sluicegate:channel/backdoor@0.1.0\" (instance (export \"open\" (func)))))",
    );
    refused(&unknown.expect("a component")).await;
}

#[tokio::test]
async fn what_a_foreign_component_is_and_wants_is_told_in_a_few_words() {
    let long = "a".repeat(50_000);
    let crowd: String = (0..5000).map(|n| format!("(import \"f{n}-x\" (func))")).collect();
    let import = |name: &str| format!("(import \"{name}\" (instance))");
    let export = |name: &str| format!("(instance $i) (export \"{name}\" (instance $i))");
    for (text, told) in [
        (crowd, "`f15-x`, and 4984 more, which channels can't have"),
        (import(&format!("evil:corp/{long}")), "aaa…`, which channels can't have"),
        (
            import(&format!("sluicegate:channel/state@0.1.0-{long}")),
            "aaa… of the channel contract",
        ),
        (
            import("sluicegate:channel/state"),
            "for no version of the channel contract",
        ),
        (
            export("sluicegate:channel/delivery"),
            "for no version of the channel contract",
        ),
        (
            import("wasi:sockets/tcp@0.2.0") + &import("evil:corp/backdoor"),
            "it imports network sockets (`wasi:sockets/tcp`), which lead nowhere here",
        ),
        (
            import("wasi:sockets/tcp@0.2.0") + &export("wasi:cli/run@0.2.0"),
            "it is a program for the command line (`wasi:cli/run`); it imports network sockets",
        ),
        (
            export("wasi:http/incoming-handler@0.2.0"),
            "it is an HTTP server (`wasi:http/incoming-handler`)",
        ),
    ] {
        let wasm = wat::parse_str(format!("(component {text})")).expect("a component");
        let words = refused(&wasm).await.to_string();
        assert!(words.contains(told) && words.len() < 1000, "{told}: {words}");
    }
}

#[tokio::test]
async fn a_start_function_that_spins_is_ended_before_anything_is_asked() {
    let error = refused(&written(&[("more", "(func $spin (loop br 0)) (start $spin)")])).await;
    // A busy machine may not give it that much time before the other bound is met.
    let is_bound = |reason: &str| reason.contains("CPU time") || reason.contains("within 10 s");
    assert!(matches!(&error, Error::Describe(reason) if is_bound(reason)), "{error}");
}

#[tokio::test]
async fn guest_code_that_runs_around_a_call_is_bounded_with_it() {
    let used_up = Failure::Trapped("it used up its CPU time".into());
    let rig = up(&[("realloc", "(loop br 0) i32.const 65536")]).await;
    assert_eq!(
        rig.failure("anything").await,
        used_up,
        "while the message is handed over"
    );
    rig.silent().await;
    let after = r#"(func (export "cabi_post_sluicegate:channel/delivery@0.1.0#deliver") (param i32) (loop br 0))"#;
    let rig = up(&[("more", after)]).await;
    assert_eq!(rig.failure("anything").await, used_up, "after it has answered");
    rig.silent().await;
}

#[tokio::test]
async fn results_that_no_compiler_makes_end_the_guest_and_no_more() {
    let store = |at: u32, value: u32| format!("i32.const {at} i32.const {value} i32.store");
    let ids = |pointer, length| format!("{} {} {DELIVER}", store(4104, pointer), store(4108, length));
    for (what, deliver) in [
        ("a result beyond memory", "i32.const -16".to_owned()),
        ("a misaligned result", "i32.const 4097".to_owned()),
        (
            "a case that is none",
            format!("i32.const 4096 i32.const 7 i32.store8 {DELIVER}"),
        ),
        ("a list as long as memory", ids(8192, 0x1fff_ffff)),
        ("a list that overflows", ids(8192, u32::MAX)),
        ("a list beyond memory", ids(0xffff_0000, 16)),
        (
            "a text that is none",
            format!(
                "{} {} {} {}",
                store(8192, 9000),
                store(8196, 4),
                store(9000, 0xffff_ffff),
                ids(8192, 1)
            ),
        ),
        ("an unreachable end", "unreachable".to_owned()),
    ] {
        let rig = up(&[("deliver", &deliver)]).await;
        let failure = rig.failure("anything").await;
        let Failure::Trapped(reason) = &failure else {
            panic!("{what}: {failure:?}")
        };
        assert!(
            reason.len() < 500 && !reason.contains(|c: char| c.is_control()),
            "{what}: {reason:?}"
        );
        for line in rig.log_lines() {
            assert!(
                !line.contains("of its own"),
                "{what}: a guest's own names are in the log: {line}"
            );
        }
        assert_eq!(rig.usage().traps.get(), 1, "{what}");
        rig.silent().await;
    }
}

#[tokio::test]
async fn calling_the_host_while_a_message_is_handed_over_ends_the_guest() {
    let imports = r#"(import "sluicegate:channel/clock@0.1.0" "now-ms" (func $now (result i64)))"#;
    let rig = up(&[("imports", imports), ("realloc", "call $now drop i32.const 65536")]).await;
    assert!(matches!(rig.failure("anything").await, Failure::Trapped(_)));
    rig.silent().await;
}

#[tokio::test]
async fn a_handle_that_was_never_given_ends_the_guest() {
    let imports =
        r#"(import "sluicegate:channel/http@0.1.0" "[resource-drop]response-stream" (func $drop (param i32)))"#;
    for handle in ["0", "1", "99", "-1"] {
        let deliver = format!("i32.const {handle} call $drop {DELIVER}");
        let rig = up(&[("imports", imports), ("deliver", &deliver)]).await;
        assert!(
            matches!(rig.failure("anything").await, Failure::Trapped(_)),
            "handle {handle}"
        );
        rig.silent().await;
    }
}

#[tokio::test]
async fn memories_and_tables_are_bounded_for_the_whole_store() {
    let many = format!("{MEMORY} {}", "(memory 400)".repeat(10));
    let crowd = format!("{MEMORY} {}", "(memory 1)".repeat(limit::GUEST_MEMORIES_MAX));
    let tables = "(table 1 funcref)".repeat(limit::GUEST_TABLES_MAX + 1);
    for (what, parts) in [
        (
            "one memory that is too large",
            ("memory", r#"(memory (export "memory") 4096)"#),
        ),
        ("many memories", ("memory", many.as_str())),
        ("a crowd of memories", ("memory", crowd.as_str())),
        ("a huge table", ("more", "(table 10000000 funcref)")),
        ("many tables", ("more", tables.as_str())),
    ] {
        let error = refused(&written(&[parts])).await;
        assert!(matches!(error, Error::Describe(_)), "{what}: {error}");
    }
    let growing = format!("(loop ref.null func i32.const 1000 table.grow 0 i32.const -1 i32.ne br_if 0) {DELIVER}");
    let rig = up(&[("more", "(table 1 funcref)"), ("deliver", &growing)]).await;
    rig.deliver("anything")
        .await
        .result
        .expect("growing ends, and the guest goes on");
    rig.silent().await;
}

#[tokio::test]
async fn a_component_without_an_optional_export_is_not_asked_for_it() {
    let rig = up(&[]).await;
    assert!(rig.deliver("anything").await.result.is_ok());
    assert_eq!(rig.webhook("spin").await.err(), Some(CallError::NotOffered("webhook")));
    rig.silent().await;
}

#[tokio::test]
async fn what_a_compiler_would_choke_on_is_refused_before_it_is_compiled() {
    let functions = "(func)".repeat(limit::COMPONENT_FUNCTIONS_MAX);
    let large = format!(
        "(func {})",
        "(drop (i32.const 7))".repeat(limit::COMPONENT_FUNCTION_BYTES_MAX / 3 + 1)
    );
    let modules = "(core module)".repeat(limit::COMPONENT_PARTS_MAX);
    let modules = wat::parse_str(format!("(component {modules})")).expect("the text is a component");
    for (wasm, what) in [
        (written(&[("more", &functions)]), "functions"),
        (written(&[("more", &large)]), "bytes in one function"),
        (modules, "modules"),
    ] {
        let began = std::time::Instant::now();
        match refused(&wasm).await {
            Error::TooComplex { what: told, found, max } => {
                assert!(told == what && found > max, "{told} {found} {max}");
            }
            other => panic!("{what}: {other}"),
        }
        let took = began.elapsed();
        assert!(
            took < std::time::Duration::from_secs(10),
            "nothing of it was compiled: {took:?}"
        );
    }
}

#[tokio::test]
async fn core_instances_are_bounded_for_the_whole_component() {
    const CORE_MODULES: u8 = 1;
    const CORE_INSTANCES: u8 = 2;
    let module = wat::parse_str("(module)").expect("a module");
    let count = u32::try_from(limit::GUEST_CORE_INSTANCES_MAX + 1).expect("a few hundred");
    // What follows the honest component: a second module, and as many instances of it as no compiler makes.
    let instances: Vec<u8> = (0..count).flat_map(|_| [0x00, 0x01, 0x00]).collect();
    let counted = [leb128(count), instances].concat();
    let mut wasm = written(&[]);
    for (id, content) in [(CORE_MODULES, module), (CORE_INSTANCES, counted)] {
        wasm.push(id);
        wasm.extend(leb128(u32::try_from(content.len()).expect("a small section")));
        wasm.extend(content);
    }
    let error = refused(&wasm).await;
    assert!(matches!(error, Error::Describe(_)), "{error}");
}

/// A number as WebAssembly writes it.
fn leb128(mut number: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    while number > 0x7f {
        bytes.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
    bytes
}

#[tokio::test]
async fn huge_copies_without_end_are_ended_at_the_cpu_time() {
    // One instruction moves a megabyte: the epoch is looked at between two of them.
    let copy = "(loop i32.const 0 i32.const 1 i32.const 1000000 memory.copy br 0) i32.const 4096";
    let rig = up(&[("deliver", copy)]).await;
    let used_up = Failure::Trapped("it used up its CPU time".into());
    assert_eq!(rig.failure("anything").await, used_up);
    rig.silent().await;
}

#[tokio::test]
async fn compiled_code_that_was_changed_cut_or_renamed_is_made_again() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let open = || CodeCache::open(folder.path()).expect("a folder for code");
    let load = |wasm: Vec<u8>| async move {
        let engine = ComponentEngine::new(compilation(), Some(open())).expect("an engine");
        LoadedComponent::load(&engine, &wasm).await.map(|_| ())
    };
    let codes = || {
        let files = std::fs::read_dir(folder.path()).expect("a folder");
        let paths = files.map(|file| file.expect("a file").path());
        let mut codes: Vec<_> = paths
            .filter(|path| path.extension().is_some_and(|extension| extension == "cwasm"))
            .collect();
        codes.sort();
        codes
    };
    let honest = written(&[]);
    let spinning = written(&[("more", "(func $spin (loop br 0)) (start $spin)")]);
    load(honest.clone()).await.expect("its description is in order");
    let honest_code = codes().pop().expect("its code is kept");
    let made = std::fs::read(&honest_code).expect("its code");
    load(spinning).await.expect_err("it says nothing");
    let other = codes()
        .into_iter()
        .find(|path| *path != honest_code)
        .expect("its code is kept");
    let mut changed = made.clone();
    *changed.last_mut().expect("some bytes") ^= 1;
    let renamed = std::fs::read(other).expect("the other's code");
    for (what, code) in [
        ("changed", changed),
        ("cut", made[..made.len() / 2].to_vec()),
        ("empty", Vec::new()),
        ("another's", renamed),
    ] {
        std::fs::write(&honest_code, code).expect("a file is written");
        load(honest.clone())
            .await
            .unwrap_or_else(|error| panic!("{what}: {error}"));
        assert!(
            std::fs::read(&honest_code).expect("its code") == made,
            "{what}: it is made again"
        );
    }
}
