//! The gateway's figures, each beside its floor, measured in the same run.
//!
//! `cargo build --release && cargo run --release -p bench -- all` says one figure a line on standard output:
//! `NAME VALUE UNIT`. Everything that is measured is the release build; `path`, `start` and the model benches start the
//! real binary, and everything beside it in processes of their own.

mod adding;
mod backlog;
mod client;
mod delivery;
mod gateway;
mod host;
mod languages;
mod model;
mod neighbour;
mod path;
mod peer;
mod report;
mod sample;
mod sandbox;
mod start;
mod store;

use std::process::ExitCode;

use anyhow::Context as _;
use clap::Parser;
use futures_util::FutureExt as _;
use futures_util::future::LocalBoxFuture;

use crate::report::Report;

/// Measures the gateway, and says one figure a line: NAME VALUE UNIT.
#[derive(Debug, Parser)]
#[command(name = "bench", after_help = listing(), arg_required_else_help = true)]
struct Args {
    /// Figures to measure, or the beginnings of their names; `all` for all
    #[arg(value_name = "NAME", required_unless_present_any = ["serve", "attack", "busy"])]
    names: Vec<String>,
    /// Takes under a minute for everything, and less care
    #[arg(long)]
    quick: bool,
    /// Is what stands beside the gateway: this program starts itself for it
    #[arg(long, hide = true)]
    serve: Option<peer::Kind>,
    /// Is the callers of hostile channels of the gateway here: this program starts itself for them
    #[arg(long, hide = true)]
    attack: Option<std::net::SocketAddr>,
    /// Is a program that keeps one core busy: this program starts itself for it
    #[arg(long, hide = true)]
    busy: bool,
}

/// What measures some figures together.
struct Bench {
    about: &'static str,
    figures: &'static [&'static str],
    run: Run,
}

enum Run {
    /// Makes the runtime that it needs itself.
    Blocking(fn(&mut Report) -> anyhow::Result<()>),
    Async(for<'a> fn(&'a mut Report) -> LocalBoxFuture<'a, anyhow::Result<()>>),
}

const BENCHES: &[Bench] = &[
    Bench {
        about: "durable enqueue + acknowledgement, beside a bare log and a file for each event",
        figures: &[
            "store.flush_ms",
            "store.pairs_c64",
            "store.floor_c64",
            "store.floor_lazy_c64",
            "store.pairs_c512",
            "store.floor_c512",
            "store.floor_lazy_c512",
            "store.file_per_event_c64",
        ],
        run: Run::Blocking(|report| {
            let quick = report.quick;
            store::run(
                &mut |name: &str, value, unit: &str| report.figure(name, value, unit),
                quick,
            );
            Ok(())
        }),
    },
    Bench {
        about: "one delivery in a fresh instance, beside a bare wasmtime (medians)",
        figures: &["host.deliver_fresh_us", "host.floor_us"],
        run: Run::Blocking(host::run),
    },
    Bench {
        about: "WebSocket in, echo, WebSocket out, one at a time, beside one flush",
        figures: &["path.ws_roundtrip_p50_ms", "path.ws_roundtrip_p99_ms", "path.flush_ms"],
        run: Run::Async(|report| path::ws(report).boxed_local()),
    },
    Bench {
        about: "durable messages over a webhook from 64 clients, beside the same route with nothing behind it",
        figures: &["path.webhook_rps", "path.floor_rps"],
        run: Run::Async(|report| path::webhook(report).boxed_local()),
    },
    Bench {
        about: "from the start to /ready with all bundled components, with and without compiled code; memory when idle",
        figures: &["start.ready_ms", "start.cold_ms", "start.rss_mib"],
        run: Run::Async(|report| start::run(report).boxed_local()),
    },
    Bench {
        about: "WebSocket in, a model that answers at once, WebSocket out; at the beginning and end of a conversation",
        figures: &[
            "path.model_roundtrip_p50_ms",
            "path.model_roundtrip_p99_ms",
            "path.model_roundtrip_first50_ms",
            "path.model_roundtrip_last50_ms",
            "path.model_mock_ms",
            "path.model_flush_ms",
        ],
        run: Run::Async(|report| model::roundtrip(report).boxed_local()),
    },
    Bench {
        about: "the same from 16 sessions at once",
        figures: &["path.sessions16_rps"],
        run: Run::Async(|report| model::sessions(report).boxed_local()),
    },
    Bench {
        about: "committed turns with their answers delivered, beside a bare log and a file for each event",
        figures: &[
            "delivery.pairs_c512",
            "delivery.floor_c512",
            "delivery.file_per_event_c64",
        ],
        run: Run::Async(|report| delivery::pairs(report).boxed_local()),
    },
    Bench {
        about: "what each of eight clients waits for a turn commit, beside a bare flush",
        figures: &[
            "delivery.commit_p50_over_flush",
            "delivery.commit_p50_ms",
            "delivery.commit_flush_ms",
            "delivery.commit_bytes",
            "delivery.commit_flush_same_bytes_ms",
            "delivery.commit_part_hops_ms",
            "delivery.commit_part_lazy_write_ms",
            "delivery.commit_part_alone_ms",
        ],
        run: Run::Async(|report| delivery::commit(report).boxed_local()),
    },
    Bench {
        about: "from the start to the first delivery with a backlog, memory and throughput then (quick: a tenth of it)",
        figures: &[
            "delivery.recovery_ms_100k",
            "delivery.recovery_ms_1m",
            "delivery.rss_mib_1m",
            "delivery.rate_at_1k",
            "delivery.rate_at_1m",
            "delivery.rate_at_1m_over_rate_at_1k",
        ],
        run: Run::Async(|report| backlog::run(report).boxed_local()),
    },
    Bench {
        about: "webhook in, echo, webhook out: healthy conversations beside a thousand stuck ones, over alone (p99)",
        figures: &[
            "delivery.lane_isolation_p99_ratio",
            "delivery.lane_p99_ms",
            "delivery.lane_p99_ms_beside_1k_stuck",
        ],
        run: Run::Async(|report| backlog::isolation(report).boxed_local()),
    },
    Bench {
        about: "a million messages in 50,000 lanes, drained to the last; takes long, so not part of `all`",
        figures: &[
            "soak.drained",
            "soak.drain_rate",
            "soak.rss_mib_first_half",
            "soak.rss_mib_second_half",
        ],
        run: Run::Async(|report| backlog::soak(report).boxed_local()),
    },
    Bench {
        about: "a WebSocket round trip beside eight hostile channels, while they are quiet and while all attack; and beside a \
                program of the lowest priority that keeps one core busy and has nothing to do with the gateway",
        figures: &[
            "sandbox.noisy_neighbour_p99_ratio",
            "sandbox.noisy_neighbour_p50_ratio",
            "sandbox.busy_machine_p99_ratio",
            "sandbox.busy_machine_p50_ratio",
            "sandbox.quiet_p99_ms",
            "sandbox.noisy_p99_ms",
            "sandbox.attacks",
        ],
        run: Run::Async(|report| neighbour::all_at_once(report).boxed_local()),
    },
    Bench {
        about: "the same with each attack alone, to find the one that costs: not part of `all`",
        figures: &["attacks.*_p99_ratio", "attacks.*_p50_ratio", "attacks.*_calls"],
        run: Run::Async(|report| neighbour::one_by_one(report).boxed_local()),
    },
    Bench {
        about: "a request through the gate, beside bare reqwest (medians)",
        figures: &[
            "sandbox.egress_overhead_us",
            "sandbox.egress_gated_us",
            "sandbox.egress_bare_us",
        ],
        run: Run::Async(|report| sandbox::egress(report).boxed_local()),
    },
    Bench {
        about: "resident memory for each channel with a listener that waits",
        figures: &["sandbox.idle_channel_kib"],
        run: Run::Async(|report| sandbox::idle_channels(report).boxed_local()),
    },
    Bench {
        about: "from `channel add` beside a running gateway to the first delivery: compiled before, and new; and the same \
                command with nothing to do",
        figures: &[
            "sandbox.hot_add_ms",
            "sandbox.hot_add_cold_ms",
            "sandbox.hot_add_floor_ms",
        ],
        run: Run::Async(|report| adding::hot(report).boxed_local()),
    },
    Bench {
        about: "a channel in each language: size, first compilation, start from the cache, one call; of \
                components/examples what is built",
        figures: &[
            "languages.*_kib",
            "languages.*_compile_ms",
            "languages.*_cached_ms",
            "languages.*_call_us",
        ],
        run: Run::Async(|report| languages::run(report).boxed_local()),
    },
];

/// What `all` leaves out.
const APART: [&str; 2] = ["attacks", "soak"];

impl Bench {
    fn is_meant_by(&self, name: &str) -> bool {
        let is_apart = self
            .figures
            .iter()
            .any(|figure| APART.iter().any(|apart| figure.starts_with(apart)));
        (name == "all" && !is_apart) || self.figures.iter().any(|figure| figure.starts_with(name))
    }

    fn measure(&self, report: &mut Report) -> anyhow::Result<()> {
        report.progress(&format!("{} …", self.figures.join(", ")));
        let measured = match self.run {
            Run::Blocking(run) => run(report),
            Run::Async(run) => {
                let binary = gateway::binary()?;
                if gateway::is_outdated(&binary) {
                    report.progress(&format!(
                        "{} is older than its source: `cargo build --release` makes it anew",
                        binary.display()
                    ));
                }
                runtime()?.block_on(run(report))
            }
        };
        measured.with_context(|| format!("{} could not be measured", self.figures.join(", ")))
    }
}

fn listing() -> String {
    let lines = BENCHES
        .iter()
        .map(|bench| format!("  {}\n      {}", bench.figures.join(" "), bench.about));
    format!(
        "Figures, measured together with those beside them:\n{}",
        lines.collect::<Vec<_>>().join("\n")
    )
}

fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
}

#[expect(clippy::print_stderr, reason = "a failure is for the person who measures")]
fn main() -> ExitCode {
    let args = Args::parse();
    let done = match (args.serve, args.attack) {
        _ if args.busy => neighbour::give_way().and_then(|()| neighbour::be_busy()),
        (Some(kind), _) => beside(peer::serve(kind)),
        (None, Some(gateway)) => neighbour::give_way().and_then(|()| beside(neighbour::attack(gateway))),
        (None, None) => measure(&args),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Does what stands beside a gateway.
fn beside(part: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
    let runtime = runtime()?;
    let served = runtime.block_on(part);
    // A thread that still reads standard input can't be woken.
    runtime.shutdown_background();
    served
}

fn measure(args: &Args) -> anyhow::Result<()> {
    for name in &args.names {
        anyhow::ensure!(
            BENCHES.iter().any(|bench| bench.is_meant_by(name)),
            "there is no figure `{name}`\n{}",
            listing()
        );
    }
    // Beside the build, because that is on a disk, and what is below a temporary directory may be in memory.
    let program = std::env::current_exe()?;
    let target = program
        .ancestors()
        .nth(2)
        .context("this program is in a target folder")?;
    let folder = tempfile::Builder::new().prefix("bench-data-").tempdir_in(target)?;
    std::env::set_current_dir(folder.path())?;
    let mut report = Report { quick: args.quick };
    let mut meant = BENCHES
        .iter()
        .filter(|bench| args.names.iter().any(|name| bench.is_meant_by(name)));
    let measured = meant.try_for_each(|bench| bench.measure(&mut report));
    std::env::set_current_dir(target)?;
    folder.close().context("what was measured with could not be removed")?;
    measured
}
