//! What a component takes before anything of it runs: a compiler has a process of its own, and ends at its bounds.
//!
//! Everything here is the real binary, watched through `/proc`.
#![cfg(target_os = "linux")]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Stdio;

use harness::{FakePlatform, Program, Setup, Signal, TempFolder, TestGateway, eventually, sluicegate_binary};
use sluicegate::channel::{CodeCache, Compilation, ComponentEngine, Error, LoadedComponent};
use sluicegate::component::CompileBounds;
use tokio::process::Command;

/// A component that is small, and of which a compiler makes much: each of these values could be another one in each of
/// these loops, so that a function costs their product.
fn demanding(functions: usize, values: usize, loops: usize) -> Vec<u8> {
    let used: String = (0..values).map(|value| format!("local.get {value} drop ")).collect();
    let function = format!(
        "(func (local{}) {} {used} {})",
        " i32".repeat(values),
        "loop ".repeat(loops),
        "local.get 0 br_if 0 end ".repeat(loops)
    );
    let module = format!("(component (core module {}))", function.repeat(functions));
    wat::parse_str(module).expect("the text is a component")
}

/// Takes a minute or more, in little memory.
fn slow() -> Vec<u8> {
    demanding(64, 1000, 500)
}

/// Takes more memory than any test of this suite allows, at once.
fn greedy() -> Vec<u8> {
    demanding(1, 20_000, 2000)
}

/// Starts the binary in a folder.
fn sluicegate(folder: &Path, arguments: &[&str]) -> Program {
    let mut command = Command::new(sluicegate_binary());
    command
        .args(arguments)
        .current_dir(folder)
        .env("HOSTILE_TOKEN", crate::support::SECRET);
    Program::spawn(command)
}

/// Waits until a program has started a compiler, and returns the id of its process.
async fn compiler_of(program: &Program) -> u32 {
    let parent = program.id().expect("it runs");
    eventually("a compiler is at work", async || {
        let all = fs::read_dir("/proc").expect("the list of processes");
        let ids = all.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
        ids.into_iter().find(|id| {
            let arguments = fs::read(format!("/proc/{id}/cmdline")).unwrap_or_default();
            stat(*id).is_some_and(|it| it.parent == parent)
                && arguments.split(|byte| *byte == 0).nth(1) == Some(b"compile")
        })
    })
    .await
}

/// What `/proc/ID/stat` says.
struct Stat {
    /// Z and X have ended.
    state: char,
    parent: u32,
    nice: i32,
}

fn stat(id: u32) -> Option<Stat> {
    let text = fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
    // The second field is a name in brackets, which may hold anything.
    let fields: Vec<&str> = text.rsplit_once(") ")?.1.split(' ').collect();
    Some(Stat {
        state: fields.first()?.chars().next()?,
        parent: fields.get(1)?.parse().ok()?,
        nice: fields.get(16)?.parse().ok()?,
    })
}

fn runs(id: u32) -> bool {
    stat(id).is_some_and(|it| !matches!(it.state, 'Z' | 'X'))
}

/// The most memory that a process ever had, MiB.
fn peak_mib(program: &Program) -> u64 {
    let id = program.id().expect("it runs");
    let status = fs::read_to_string(format!("/proc/{id}/status")).expect("its status");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let number = line.expect("its peak").trim().trim_end_matches(" kB");
    number.parse::<u64>().expect("a number") / 1024
}

/// A gateway with a peaceful channel and these bounds; `strange.wasm` stands beside its configuration.
async fn gateway(bounds: &str, strange: &[u8]) -> (Setup, TestGateway) {
    let folder = TempFolder::new();
    fs::write(folder.path().join("strange.wasm"), strange).expect("the component is written");
    let setup = Setup::new().gateway(bounds).echo().websocket();
    (setup.clone(), TestGateway::start(setup, folder).await)
}

/// Has the running gateway itself take up a channel that stands in its file.
fn taken_up(gateway: &TestGateway, setup: &Setup, name: &str) -> Program {
    fs::write(gateway.folder().join("sluicegate.toml"), setup.toml()).expect("the configuration is written");
    sluicegate(gateway.folder(), &["channel", "reload", name])
}

const STRANGE: &str = "[channels.strange]\ncomponent = \"./strange.wasm\"\naccess = \"open\"";

#[track_caller]
fn says(errors: &str, words: &[&str]) {
    for word in words {
        assert!(errors.contains(word), "expected {word:?} in:\n{errors}");
    }
    assert!(!errors.contains("panicked"), "{errors}");
}

#[tokio::test]
async fn a_compilation_ends_at_its_deadline_and_holds_up_nobody() {
    let (setup, mut gateway) = gateway("compile_s = 3", &slow()).await;
    let mut reload = taken_up(&gateway, &setup.clone().section(STRANGE), "strange");
    let compiler = compiler_of(gateway.program()).await;
    let mut client = gateway.client().await;
    client.say("m1", "c1", "hello").await;
    client.until("reply").await;
    let (code, _, errors) = reload.outcome().await;
    assert_ne!(code, Some(0), "{errors}");
    says(&errors, &["takes more than 3 s", "compile_s"]);
    assert!(!runs(compiler), "the compiler goes on");
    // The next one has its turn.
    let platform = FakePlatform::start().await;
    let mut reload = taken_up(&gateway, &setup.webhook("hook", &platform), "hook");
    let (code, said, errors) = reload.outcome().await;
    assert_eq!(code, Some(0), "{said}{errors}");
}

#[tokio::test]
async fn other_channels_are_changed_while_a_component_is_compiled() {
    let (setup, mut gateway) = gateway("compile_s = 300", &slow()).await;
    let mut reload = taken_up(&gateway, &setup.section(STRANGE), "strange");
    let compiler = compiler_of(gateway.program()).await;
    for verb in ["pause", "resume"] {
        let mut change = sluicegate(gateway.folder(), &["channel", verb, "websocket"]);
        let (code, said, errors) = change.outcome().await;
        assert_eq!(code, Some(0), "{verb}: {said}{errors}");
        assert!(runs(compiler), "{verb} waited for the compiler");
    }
    // What its operator no longer waits for is compiled to its end or not at all, but keeps nobody from stopping.
    gateway.program().signal(Signal::Terminate);
    let (code, _, errors) = reload.outcome().await;
    assert_ne!(code, Some(0), "{errors}");
}

#[tokio::test]
async fn a_compilation_that_needs_too_much_memory_is_refused_and_the_gateway_stays_small() {
    let (setup, mut gateway) = gateway("compile_memory_mib = 128", &greedy()).await;
    let before = peak_mib(gateway.program());
    let mut reload = taken_up(&gateway, &setup.section(STRANGE), "strange");
    let (code, _, errors) = reload.outcome().await;
    assert_ne!(code, Some(0), "{errors}");
    says(&errors, &["takes more than 128 MiB of memory", "compile_memory_mib"]);
    let after = peak_mib(gateway.program());
    assert!(after < before + 32, "{before} MiB before, {after} MiB at most");
    let mut client = gateway.client().await;
    client.say("m1", "c1", "hello").await;
    client.until("reply").await;
}

#[tokio::test]
async fn no_compiler_outlives_whoever_started_it() {
    let folder = TempFolder::new();
    fs::write(folder.path().join("strange.wasm"), slow()).expect("the component is written");
    folder.write("sluicegate.toml", &Setup::new().echo().section(STRANGE).toml());
    let inspect = ["component", "inspect", "strange.wasm"];
    for (arguments, signal) in [
        (&["run"][..], Signal::Kill),
        (&["run"][..], Signal::Interrupt),
        (&["run"][..], Signal::Terminate),
        (&inspect[..], Signal::Kill),
        (&inspect[..], Signal::Interrupt),
    ] {
        let mut program = sluicegate(folder.path(), arguments);
        let compiler = compiler_of(&program).await;
        program.signal(signal);
        program.ended().await;
        let what = format!("the compiler of {arguments:?} has ended after {signal:?}");
        eventually(&what, async || (!runs(compiler)).then_some(())).await;
    }
}

#[tokio::test]
async fn a_start_that_is_told_to_stop_while_it_compiles_stops_in_order_and_leaves_no_new_data() {
    for (signal, had_data) in [
        (Signal::Interrupt, false),
        (Signal::Terminate, false),
        (Signal::Terminate, true),
    ] {
        let folder = TempFolder::new();
        fs::write(folder.path().join("strange.wasm"), slow()).expect("the component is written");
        let setup = Setup::new().echo().section(STRANGE);
        folder.write("sluicegate.toml", &setup.toml());
        let data = folder.path().join("data");
        if had_data {
            fs::create_dir(&data).expect("a data directory");
        }
        let mut program = sluicegate(folder.path(), &["run"]);
        compiler_of(&program).await;
        assert!(data.is_dir(), "it has taken its data directory");
        program.signal(signal);
        let (code, output, errors) = program.outcome().await;
        assert_eq!((code, output.as_str()), (Some(0), ""), "{signal:?}: {errors}");
        says(&errors, &["stopping", "Told"]);
        assert_eq!(data.exists(), had_data, "{signal:?}: {errors}");
    }
}

#[tokio::test]
async fn a_compiler_has_nothing_of_the_gateways_and_gives_way_to_all() {
    let folder = TempFolder::new();
    fs::write(folder.path().join("strange.wasm"), slow()).expect("the component is written");
    let setup = Setup::new().gateway("compile_s = 60\ncompile_memory_mib = 300").echo();
    folder.write("sluicegate.toml", &setup.section(STRANGE).toml());
    let program = sluicegate(folder.path(), &["run"]);
    let compiler = compiler_of(&program).await;
    let about = |what: &str| Path::new("/proc").join(compiler.to_string()).join(what);
    eventually("the compiler has set its bounds", async || {
        let limits = fs::read_to_string(about("limits")).ok()?;
        let bounds = |name: &str| -> Option<Vec<&str>> {
            let line = limits.lines().find_map(|line| line.strip_prefix(name))?;
            Some(line.split_whitespace().take(2).collect())
        };
        let memory = (300 << 20).to_string();
        let bounded = bounds("Max data size")? == [memory.as_str(); 2]
            && bounds("Max core file size")? == ["0", "0"]
            && bounds("Max cpu time")?.iter().all(|seconds| *seconds != "unlimited");
        bounded.then_some(())
    })
    .await;
    assert!(
        stat(compiler).is_some_and(|it| it.nice >= 10),
        "it has the priority of others"
    );
    let first_to_go = fs::read_to_string(about("oom_score_adj")).expect("its place in the order");
    assert_eq!(first_to_go.trim(), "1000");
    let environment = fs::read_to_string(about("environ")).expect("its environment");
    let names: Vec<_> = environment
        .split_terminator('\0')
        .filter_map(|entry| entry.split_once('='))
        .map(|(name, _)| name)
        .collect();
    assert_eq!(names, ["RAYON_NUM_THREADS"]);
    let mut open = numbers(&about("fd"));
    // What whoever runs this test left open for everyone is not the gateway's.
    let of_everyone = numbers(Path::new("/proc/self/fd")).into_iter().filter(is_for_everyone);
    for number in of_everyone.filter(|number| *number > 2) {
        open.remove(&number);
    }
    assert_eq!(open, BTreeSet::from([0, 1, 2]));
}

#[tokio::test]
async fn a_compiler_gives_way_no_less_than_who_started_it() {
    const NICE: i32 = 15;
    let folder = TempFolder::new();
    fs::write(folder.path().join("strange.wasm"), slow()).expect("the component is written");
    let mut command = Command::new("nice");
    command.args(["-n", &NICE.to_string()]).arg(sluicegate_binary());
    command
        .args(["component", "inspect", "strange.wasm"])
        .current_dir(folder.path());
    let program = Program::spawn(command);
    let compiler = compiler_of(&program).await;
    let bounded = Path::new("/proc").join(compiler.to_string()).join("limits");
    eventually("the compiler has set its bounds", async || {
        let limits = fs::read_to_string(&bounded).ok()?;
        let memory = limits.lines().find(|line| line.starts_with("Max data size"))?;
        (!memory.contains("unlimited")).then_some(())
    })
    .await;
    assert_eq!(stat(compiler).map(|it| it.nice), Some(NICE));
}

/// The descriptors that a folder of `/proc` lists.
fn numbers(folder: &Path) -> BTreeSet<u32> {
    let entries = fs::read_dir(folder).expect("the descriptors");
    let names = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    names.collect()
}

/// Whether every program that this process starts gets this descriptor of it.
fn is_for_everyone(number: &u32) -> bool {
    const CLOSED_AT_EXEC: u32 = 0o2_000_000;
    let info = fs::read_to_string(format!("/proc/self/fdinfo/{number}")).unwrap_or_default();
    let flags = info.lines().find_map(|line| line.strip_prefix("flags:"));
    flags
        .and_then(|flags| u32::from_str_radix(flags.trim(), 8).ok())
        .is_some_and(|flags| flags & CLOSED_AT_EXEC == 0)
}

#[tokio::test]
async fn a_compiler_that_dies_is_told_from_a_component_that_is_wrong() {
    let folder = TempFolder::new();
    fs::write(folder.path().join("strange.wasm"), slow()).expect("the component is written");
    for (signal, words) in [("-KILL", "too little memory"), ("-ABRT", "SIGABRT")] {
        let mut program = sluicegate(folder.path(), &["component", "inspect", "strange.wasm"]);
        let compiler = compiler_of(&program).await;
        let mut kill = Command::new("kill");
        kill.args([signal, &compiler.to_string()]).stdin(Stdio::null());
        assert!(kill.status().await.expect("a signal is sent").success());
        let (code, _, errors) = program.outcome().await;
        assert_eq!(code, Some(1), "{errors}");
        says(&errors, &["its compiler failed", words, "it need not be wrong"]);
    }
    // Programs that are no compiler.
    for (program, words) in [
        ("/bin/false", "exit status: 1"),
        ("/nowhere/sluicegate", "No such file"),
    ] {
        let compilation = Compilation::by(program.into(), CompileBounds::default());
        let engine = ComponentEngine::new(compilation, None).expect("an engine");
        let error = LoadedComponent::load(&engine, &slow())
            .await
            .err()
            .expect("nothing is compiled");
        assert!(matches!(&error, Error::Compiler(why) if why.contains(words)), "{error}");
    }
}

#[tokio::test]
async fn who_waits_for_the_compiler_takes_what_another_had_compiled_of_the_same_file() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = TempFolder::new();
    // The compiler, which notes each of its starts.
    let (starts, binary) = (folder.path().join("starts"), sluicegate_binary());
    let script = format!(
        "#!/bin/sh\necho started >> '{}'\nexec '{}' \"$@\"\n",
        starts.display(),
        binary.display()
    );
    let counting = folder.write("counting", &script);
    fs::set_permissions(&counting, fs::Permissions::from_mode(0o700)).expect("it may be run");
    let cache = CodeCache::open(&folder.path().join("code")).expect("a folder for code");
    let compilation = Compilation::by(counting, CompileBounds::default());
    let engine = ComponentEngine::new(compilation, Some(cache)).expect("an engine");
    let wasm = sluicegate_bundle::find("file-drop").expect("it is bundled").wasm;
    let load = || LoadedComponent::load(&engine, wasm);
    let loaded = tokio::join!(load(), load(), load());
    assert!(loaded.0.is_ok() && loaded.1.is_ok() && loaded.2.is_ok());
    let started = fs::read_to_string(&starts).expect("it was started");
    assert_eq!(started.lines().count(), 1);
}
