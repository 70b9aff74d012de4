//! What the sandbox is worth: a neighbour's round trip under attack.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use sluicegate::id::ChannelName;
use sluicegate::policy::webhook::PathTokens;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::task::JoinSet;

use crate::client::{HttpClient, WsClient};
use crate::gateway::{Gateway, Setup};
use crate::peer::{Kind, Peer};
use crate::report::Report;
use crate::sample::Sample;
use crate::sandbox::written;

/// The guest with all the attacks.
const HOSTILE: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/hostile.wasm"));
/// What the eight hostile channels do, each without end: the attack, and whether its argument is the endless server.
const ATTACKS: [(&str, bool); 8] = [
    ("spin", false),
    ("allocate", false),
    ("log_flood", false),
    ("panic", false),
    ("clients_flood", false),
    ("reply", false),
    ("http", true),
    ("streams", true),
];
/// Callers of each hostile channel: more than the host runs at once for a channel would only wait.
const CALLERS: usize = 2;
/// Attack before the first round trip counts: longer than the burst that a channel may use before its share holds it.
const WARM_UP: Duration = Duration::from_secs(4);
/// How long after the attacks their last calls are over: longer than a call may take.
const COOL_DOWN: Duration = Duration::from_secs(12);
const TEXT: &str = "All work and no play makes a gateway dull.";

/// Measures `sandbox.noisy_neighbour_*`: the round trips of a peaceful channel beside eight hostile ones, while all of
/// them attack and while those are left alone.
pub(crate) async fn all_at_once(report: &mut Report) -> anyhow::Result<()> {
    // A hundredth of less than this is decided by what else the machine does for a moment.
    let messages = if report.quick { 1000 } else { 2000 };
    let attacks: Vec<usize> = (0..ATTACKS.len()).collect();
    let seen = beside(&attacks, messages).await?;
    report.figure("sandbox.quiet_p99_ms", seen.quiet.quantile_ms(0.99), "ms");
    report.figure("sandbox.noisy_p99_ms", seen.noisy.quantile_ms(0.99), "ms");
    report.figure("sandbox.noisy_neighbour_p99_ratio", seen.ratio(0.99), "ratio");
    report.figure("sandbox.noisy_neighbour_p50_ratio", seen.ratio(0.5), "ratio");
    let busy = |quantile| seen.busy.quantile_ms(quantile) / seen.quiet.quantile_ms(quantile);
    report.figure("sandbox.busy_machine_p99_ratio", busy(0.99), "ratio");
    report.figure("sandbox.busy_machine_p50_ratio", busy(0.5), "ratio");
    report.figure("sandbox.attacks", f64::from(seen.calls), "calls");
    Ok(())
}

/// Measures `attacks.*`: the same with each attack alone, to find the one that costs.
pub(crate) async fn one_by_one(report: &mut Report) -> anyhow::Result<()> {
    let messages = if report.quick { 400 } else { 1000 };
    let floor = beside(&[], messages).await?;
    report.figure("attacks.none_p99_ratio", floor.ratio(0.99), "ratio");
    for (number, (name, _)) in ATTACKS.into_iter().enumerate() {
        let seen = beside(&[number], messages).await?;
        report.figure(&format!("attacks.{name}_p99_ratio"), seen.ratio(0.99), "ratio");
        report.figure(&format!("attacks.{name}_p50_ratio"), seen.ratio(0.5), "ratio");
        report.figure(&format!("attacks.{name}_calls"), f64::from(seen.calls), "calls");
    }
    Ok(())
}

/// What a neighbour saw.
struct Seen {
    /// Before and after the attacks, as often as meanwhile.
    quiet: Sample,
    /// While another program, which has nothing to do with the gateway, kept one core busy with the lowest priority: what a
    /// machine costs that does anything else at all.
    busy: Sample,
    /// While they went on.
    noisy: Sample,
    /// Calls of the attackers that were answered.
    calls: u32,
}

impl Seen {
    fn ratio(&self, quantile: f64) -> f64 {
        self.noisy.quantile_ms(quantile) / self.quiet.quantile_ms(quantile)
    }
}

/// Measures a peaceful channel's round trips before and while the attacks of these numbers go on.
async fn beside(attacks: &[usize], messages: usize) -> anyhow::Result<Seen> {
    let folder = tempfile::tempdir_in(".")?;
    let endless = Peer::start(Kind::Endless).await?;
    let gateway = hostile_gateway(folder.path(), endless.address()).await?;
    let mut client = WsClient::connect(gateway.address(), "bench").await?;
    round_trips(&mut client, messages / 10).await?;
    let mut quiet = round_trips(&mut client, messages / 2).await?;
    // As the gateway makes them: what is not signed is reached by its token.
    let tokens = PathTokens::new(&std::fs::read_to_string(folder.path().join("data/webhook-key"))?);
    let busy = beside_a_busy_core(&mut client, messages / 2).await?;
    let attackers = Attackers::start(attacks, gateway.address(), endless.address(), &tokens).await?;
    tokio::time::sleep(WARM_UP).await;
    let noisy = round_trips(&mut client, messages).await?;
    let calls = attackers.stop().await?;
    tokio::time::sleep(COOL_DOWN).await;
    // The machine changes meanwhile, and the store grows: what is compared must lie on both sides.
    quiet.append(round_trips(&mut client, messages / 2).await?);
    gateway.stop().await?;
    Ok(Seen {
        quiet,
        busy,
        noisy,
        calls,
    })
}

async fn beside_a_busy_core(client: &mut WsClient, messages: usize) -> anyhow::Result<Sample> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("--busy").stdin(Stdio::piped()).kill_on_drop(true);
    let mut program = command.spawn().context("the busy program could not be started")?;
    let seen = round_trips(client, messages).await?;
    drop(program.stdin.take());
    program.wait().await?;
    Ok(seen)
}

/// Is the busy program: keeps one core busy until standard input ends.
pub(crate) fn be_busy() -> anyhow::Result<()> {
    let ended = std::thread::spawn(|| std::io::copy(&mut std::io::stdin(), &mut std::io::sink()));
    while !ended.is_finished() {
        std::hint::spin_loop();
    }
    Ok(())
}

async fn hostile_gateway(folder: &Path, endless: SocketAddr) -> anyhow::Result<Gateway> {
    let component = written(folder, "hostile.wasm", HOSTILE)?;
    let mut sections = "[agents.main]\nkind = \"echo\"\n\n\
         [channels.websocket]\ncomponent = \"websocket\"\naccess = \"open\"\n"
        .to_owned();
    for number in 0..ATTACKS.len() {
        write!(
            sections,
            "\n[channels.hostile-{number}]\ncomponent = \"{}\"\naccess = \"open\"\n\
             grant = [\"http://{endless}\"]\nsettings = {{ server = \"http://{endless}\" }}\nsecrets = {{ token = {{ env = \"HOSTILE_TOKEN\" }} }}\n",
            component.display()
        )?;
    }
    let setup = Setup {
        environment: vec![("HOSTILE_TOKEN", "a-token-that-is-no-one's".to_owned())],
        // An attack that is still running is not waited for.
        grace_s: 0,
        ..Setup::new(folder, sections)
    };
    setup.start().await
}

/// The callers of the hostile channels: a process of its own that gives way to everything else on the machine, because
/// what callers use of it is no guest's doing.
struct Attackers {
    child: Child,
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Attackers {
    /// Keeps the hostile channels of these numbers attacking.
    async fn start(
        attacks: &[usize],
        gateway: SocketAddr,
        endless: SocketAddr,
        tokens: &PathTokens,
    ) -> anyhow::Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["--attack", &gateway.to_string()]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().context("the attackers could not be started")?;
        let mut orders = child.stdin.take().context("the attackers have an input")?;
        let answers = child.stdout.take().context("the attackers have an output")?;
        for &number in attacks {
            let (name, takes_server) = ATTACKS[number];
            let argument = match (name, takes_server) {
                (_, true) => format!("http://{endless}/endless"),
                ("reply", _) => "body=900000".to_owned(),
                _ => String::new(),
            };
            let token = tokens.of(&ChannelName::from_trusted(format!("hostile-{number}")));
            let order = format!("/hooks/hostile-{number}/{}/{name}?{argument}\n", token.expose());
            for _ in 0..CALLERS {
                orders.write_all(order.as_bytes()).await?;
            }
        }
        let answers = BufReader::new(answers);
        Ok(Self { child, orders, answers })
    }

    /// Ends the attacks. Returns how many calls were answered.
    async fn stop(mut self) -> anyhow::Result<u32> {
        drop(self.orders);
        let mut line = String::new();
        self.answers.read_line(&mut line).await?;
        self.child.wait().await?;
        line.trim().parse().context("the attackers say how often they called")
    }
}

/// Gives every other process the right of way: to be called before there are other threads, which have it from this one.
pub(crate) fn give_way() -> anyhow::Result<()> {
    const LOWEST_PRIORITY: i32 = 19;
    Ok(rustix::process::setpriority_process(None, LOWEST_PRIORITY)?)
}

/// Is the attackers: calls what stands on each line of standard input again and again until that ends, and says how
/// many calls were answered.
#[expect(
    clippy::print_stdout,
    reason = "the process that started this one reads the count from it"
)]
pub(crate) async fn attack(gateway: SocketAddr) -> anyhow::Result<()> {
    let calls = Arc::new(AtomicU32::new(0));
    let mut orders = BufReader::new(tokio::io::stdin()).lines();
    let mut callers = JoinSet::new();
    while let Some(path) = orders.next_line().await? {
        callers.spawn(call_on_and_on(gateway, path, Arc::clone(&calls)));
    }
    println!("{}", calls.load(Ordering::Relaxed));
    Ok(())
}

async fn call_on_and_on(gateway: SocketAddr, path: String, calls: Arc<AtomicU32>) -> anyhow::Result<()> {
    let mut client = HttpClient::connect(gateway).await?;
    loop {
        match client.post(&path, "").await {
            Ok(_status) => calls.fetch_add(1, Ordering::Relaxed),
            // The gateway may close a connection after an answer; the attack goes on over another one.
            Err(_closed) => {
                client = HttpClient::connect(gateway).await?;
                continue;
            }
        };
    }
}

async fn round_trips(client: &mut WsClient, messages: usize) -> anyhow::Result<Sample> {
    let mut sample = Sample::default();
    for _ in 0..messages {
        sample.add(client.ask(TEXT).await?);
    }
    Ok(sample)
}
