//! What nobody thought of: files of random shape, written by `tests/fuzz`, each loaded, asked what it is and called as a
//! channel's component is.
//!
//! A process of its own looks at them, so that its memory, its panics and its end are theirs alone. `SLUICEGATE_SEED`
//! chooses other files, and `SLUICEGATE_FUZZ_SECONDS` goes on with the seeds that follow; `just fuzz` sets both.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};
use std::{env, fs};

use sluicegate::channel::{CallError, ComponentEngine, Error, LoadedComponent};
use sluicegate::delivery::{Attempt, Failure};
use sluicegate::ingress::{ClientId, CloseReason};
use sluicegate::limit;

use crate::support::{DELIVER_TIMEOUT, Hostile, Rig, compilation, conversation, request};

/// The files of one round: some ten seconds of work.
const FILES: usize = 96;
/// One round, however busy the machine is.
const ROUND_MAX: Duration = Duration::from_secs(600);
/// What waiting for a turn on a busy machine adds to a limit of the host.
const SLACK: Duration = Duration::from_secs(10);
/// How long a listener is left alone: most of them end at once.
const LISTENED: Duration = Duration::from_millis(50);
/// Tells the process that looks at the files where they are.
const FOLDER: &str = "SLUICEGATE_SHAPES_FOLDER";
const TEST: &str = "shapes::a_file_of_any_shape_ends_in_a_way_that_is_known_and_the_host_serves_on";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_of_any_shape_ends_in_a_way_that_is_known_and_the_host_serves_on() {
    if let Some(folder) = env::var_os(FOLDER) {
        return look_at_all(Path::new(&folder)).await;
    }
    let began = Instant::now();
    let seconds = Duration::from_secs(number("SLUICEGATE_FUZZ_SECONDS", 0));
    for seed in number("SLUICEGATE_SEED", 7878).. {
        round(seed).await;
        if began.elapsed() >= seconds {
            break;
        }
    }
}

fn number(variable: &str, usual: u64) -> u64 {
    env::var(variable).map_or(usual, |text| {
        text.parse().unwrap_or_else(|_| panic!("{variable} must be a number"))
    })
}

/// Has the files of a seed written, and looked at by a process of its own.
async fn round(seed: u64) {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("shapes-{seed}"));
    drop(fs::remove_dir_all(&folder));
    fs::create_dir_all(&folder).expect("a folder for the files");
    let contract = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../wit/since_v0.1.0");
    let writer = tokio::process::Command::new(env!("SLUICEGATE_SHAPES"))
        .args([&contract, &folder])
        .args([seed.to_string(), FILES.to_string()])
        .status()
        .await;
    assert!(writer.expect("the writer starts").success(), "seed {seed}");
    let mut looking = tokio::process::Command::new(env::current_exe().expect("this program"));
    looking.args([TEST, "--exact", "--nocapture"]).env(FOLDER, &folder);
    looking.stdin(Stdio::null()).kill_on_drop(true);
    let looked = tokio::time::timeout(ROUND_MAX, looking.output()).await;
    let kept = format!(
        "the files are in {}; SLUICEGATE_SEED={seed} repeats it",
        folder.display()
    );
    let looked = looked.unwrap_or_else(|_| panic!("no end within {ROUND_MAX:?}; {kept}"));
    let looked = looked.expect("this program starts");
    let said = String::from_utf8_lossy(&looked.stdout).into_owned();
    assert!(
        looked.status.success() && said.contains("1 passed"),
        "{kept}; the last file that is named is the one:\n{said}\n{}",
        String::from_utf8_lossy(&looked.stderr)
    );
    say(said.lines().find(|line| line.contains("ended")).unwrap_or_default());
    fs::remove_dir_all(&folder).expect("the files can be removed");
}

fn say(line: &str) {
    // Not for the test harness to collect: a process that dies must have said it.
    writeln!(std::io::stdout(), "{line}").expect("somebody listens");
}

static PANICS: AtomicU32 = AtomicU32::new(0);

/// Looks at all files, one after the other, in a process where nothing else runs.
async fn look_at_all(folder: &Path) {
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        PANICS.fetch_add(1, Ordering::Relaxed);
        usual(panic);
    }));
    let entries = fs::read_dir(folder).expect("the folder of the files");
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.expect("a file").path()).collect();
    files.sort();
    assert_eq!(files.len(), FILES);
    let (engine, neighbour) = (
        ComponentEngine::new(compilation(), None).expect("an engine"),
        Rig::new().up().await,
    );
    answers(&neighbour).await;
    let (at_first, mut ends) = (memory("VmRSS:"), BTreeMap::<_, u32>::new());
    for file in files {
        say(&file.display().to_string());
        let before = forget_the_peak();
        let end = look_at(&engine, &fs::read(&file).expect("a file")).await;
        *ends.entry(end).or_default() += 1;
        let taken = memory("VmHWM:").saturating_sub(before);
        let allowed = limit::GUEST_MEMORY_BYTES_DEFAULT + limit::GUEST_HOSTCALL_BYTES_MAX;
        assert!(taken < allowed as u64, "it took {} MiB", taken >> 20);
        answers(&neighbour).await;
        assert_eq!(PANICS.load(Ordering::Relaxed), 0, "the host panicked");
    }
    let left = memory("VmRSS:").saturating_sub(at_first);
    assert!(
        left < limit::GUEST_MEMORY_BYTES_DEFAULT as u64,
        "{} MiB are left",
        left >> 20
    );
    say(&format!("ended: {ends:?}, {} MiB more than at first", left >> 20));
    // Else a writer that writes nothing but rubbish would pass. How many of a round are channels is up to its seed.
    let delivered = ["a receipt", "an error", "a trap"]
        .iter()
        .filter_map(|end| ends.get(end))
        .sum::<u32>();
    assert!(
        delivered > 0 && ends.len() >= 5,
        "none is a channel, or all end alike: {ends:?}"
    );
    neighbour.survived().await;
}

/// Loads one file, and calls what it exports if it is taken. Returns how that ended.
async fn look_at(engine: &ComponentEngine, wasm: &[u8]) -> &'static str {
    let began = Instant::now();
    let loaded = LoadedComponent::load(engine, wasm).await;
    let allowed = limit::COMPILE_TIME_DEFAULT + limit::DESCRIBE_TIMEOUT + SLACK;
    assert!(began.elapsed() < allowed, "it was loaded for {:?}", began.elapsed());
    match loaded {
        Ok(component) => call(Rig::new().component(component).up().await).await,
        Err(error) => {
            let words = error.to_string();
            assert!(words.len() < 5000 && !words.contains(char::is_control), "{words:?}");
            refused(&error)
        }
    }
}

/// Names the reasons that a file may be refused for.
fn refused(error: &Error) -> &'static str {
    match error {
        Error::NotAComponent(_) => "not a component",
        Error::TooComplex { .. } => "too complex",
        Error::NotAChannel { .. } => "not a channel",
        Error::OtherContract { .. } => "another contract",
        Error::MissingExport { .. } => "an export is missing",
        Error::ForeignImports { .. } => "foreign imports",
        Error::Unlinkable(_) => "unlinkable",
        Error::Describe(_) => "no description",
        Error::Description(_) => "a wrong description",
        other => panic!("no file may lead to this: {other}"),
    }
}

/// Calls everything that a channel is called for, and returns how the delivery ended.
async fn call(rig: Hostile) -> &'static str {
    if let Err(words) = within(rig.channel.start(Some("http://127.0.0.1/hooks/shape".to_owned()))).await {
        assert!(words.len() < 5000 && !words.contains(char::is_control), "{words:?}");
    }
    listen(&rig).await;
    let end = within(rig.deliver("hello")).await;
    within(rig.channel.typing(conversation("c1"))).await;
    if let Some(draft) = within(rig.channel.draft(request(rig.name(), "hello"))).await {
        assert!(draft.len() <= limit::PLATFORM_ID_BYTES_MAX, "{} bytes", draft.len());
    }
    serve_a_client(&rig).await;
    match within(rig.webhook("hello")).await {
        Ok(_) | Err(CallError::NotOffered(_) | CallError::Trapped(_) | CallError::DeadlineExceeded(_)) => {}
        Err(error @ (CallError::Busy | CallError::NotUp)) => panic!("nobody else calls it, or stops it: {error}"),
    }
    within(rig.channel.reconcile(request(rig.name(), "hello"), 0)).await;
    within(rig.channel.stop()).await;
    rig.silent().await;
    delivered(end)
}

/// Lets its listener run for a moment, and stops it.
async fn listen(rig: &Hostile) {
    let listening = rig.channel.clone().listen();
    tokio::pin!(listening);
    if tokio::time::timeout(LISTENED, &mut listening).await.is_err() {
        rig.channel.services().listening.cancel();
        let stopped = tokio::time::timeout(limit::LISTENER_STOP_GRACE + SLACK, listening).await;
        stopped.expect("a listener that is told to stop ends in its time");
    }
}

/// Connects a client that says a word and goes.
async fn serve_a_client(rig: &Hostile) {
    let client = ClientId::generate();
    let opened = rig
        .channel
        .client_opened(&client, "/".to_owned(), Some("q".to_owned()), None);
    for frames in [
        within(opened).await,
        within(rig.channel.client_received(&client, "hello".to_owned())).await,
    ] {
        match frames {
            Ok(frames) => assert!(
                frames.len() <= limit::CLIENT_ANSWER_FRAMES_MAX,
                "{} frames",
                frames.len()
            ),
            Err(CloseReason::Policy(words)) => assert!(words.len() <= limit::REASON_BYTES_MAX, "{words}"),
            Err(_) => {}
        }
    }
    within(rig.channel.client_closed(&client)).await;
}

/// Waits for a call, for as long as the longest may take.
async fn within<T>(call: impl Future<Output = T>) -> T {
    let allowed = DELIVER_TIMEOUT
        .max(limit::WEBHOOK_TIMEOUT)
        .max(limit::LIFECYCLE_TIMEOUT)
        + SLACK;
    tokio::time::timeout(allowed, call)
        .await
        .expect("a call ends in its time")
}

fn delivered(attempt: Attempt) -> &'static str {
    match attempt.result {
        Ok(receipt) => {
            assert!(receipt.message_ids.len() <= limit::RECEIPT_IDS_MAX);
            let longest = receipt.message_ids.iter().map(String::len).max();
            assert!(longest.unwrap_or(0) <= limit::PLATFORM_ID_BYTES_MAX);
            "a receipt"
        }
        Err(Failure::Reported(_) | Failure::NoPlace) => "an error",
        Err(Failure::Trapped(reason)) => {
            assert!(!reason.contains("the host failed"), "{reason}");
            assert!(reason.len() < 5000 && !reason.contains(char::is_control), "{reason:?}");
            "a trap"
        }
        Err(Failure::DeadlineExceeded) => "its deadline",
        Err(Failure::NotUp) => panic!("the channel is up"),
    }
}

/// Checks that another channel of the same process is served.
async fn answers(neighbour: &Hostile) {
    let answered = tokio::time::timeout(SLACK, neighbour.deliver("log_line 0")).await;
    let receipt = answered.expect("the neighbour is served in time").result;
    assert_eq!(receipt.expect("the neighbour is served").message_ids, ["0 lines"]);
}

/// Makes the kernel count the highest use of memory from now on, and returns what is used now, bytes.
fn forget_the_peak() -> u64 {
    fs::write("/proc/self/clear_refs", "5").expect("proc(5)");
    memory("VmHWM:")
}

/// A line of this process's status in bytes.
fn memory(line: &str) -> u64 {
    let status = fs::read_to_string("/proc/self/status").expect("its status");
    let kib = status
        .lines()
        .find_map(|text| text.strip_prefix(line)?.trim().strip_suffix(" kB"));
    kib.and_then(|kib| kib.trim().parse::<u64>().ok()).expect("a size") * 1024
}
