//! How long the real binary takes to be ready with every bundled component configured, and what it holds in memory then.

use std::fmt::Write as _;
use std::time::Duration;

use telegram_fake::TelegramFake;

use crate::gateway::Setup;
use crate::report::Report;
use crate::sample::median;

/// How long after it is ready a gateway counts as idle.
const SETTLING: Duration = Duration::from_secs(2);

/// Measures `start.*`, each the median of several starts.
pub(crate) async fn run(report: &mut Report) -> anyhow::Result<()> {
    let starts = if report.quick { 3 } else { 5 };
    let folder = tempfile::tempdir_in(".")?;
    let platform = TelegramFake::start().await?;
    let setup = Setup {
        environment: vec![("TELEGRAM_TOKEN", platform.token())],
        ..Setup::new(folder.path(), sections(&platform)?)
    };
    let cache = folder.path().join("data/cache");
    let (mut cold, mut warm, mut resident) = (Vec::new(), Vec::new(), Vec::new());
    // Makes the data directory: the other starts all find one.
    setup.start().await?.stop().await?;
    for _ in 0..starts {
        std::fs::remove_dir_all(&cache)?;
        let gateway = setup.start().await?;
        cold.push(gateway.ready_after().as_secs_f64() * 1000.0);
        gateway.stop().await?;
    }
    for _ in 0..starts {
        let gateway = setup.start().await?;
        warm.push(gateway.ready_after().as_secs_f64() * 1000.0);
        tokio::time::sleep(SETTLING).await;
        resident.push(gateway.resident_mib()?);
        gateway.stop().await?;
    }
    report.figure("start.ready_ms", median(warm), "ms");
    report.figure("start.cold_ms", median(cold), "ms");
    report.figure("start.rss_mib", median(resident), "MiB");
    Ok(())
}

/// Configures a channel of each bundled component, as an operator would.
fn sections(platform: &TelegramFake) -> anyhow::Result<String> {
    let mut sections = "[agents.main]\nkind = \"echo\"\n".to_owned();
    for component in sluicegate_bundle::all() {
        let name = component.name;
        write!(
            sections,
            "\n[channels.{name}]\ncomponent = \"{name}\"\naccess = \"open\"\n"
        )?;
        match name {
            "terminal" => sections.push_str("grant = [\"terminal\"]\n"),
            "telegram" => {
                let api = platform.base_url();
                sections.push_str("secrets = { bot-token = { env = \"TELEGRAM_TOKEN\" } }\n");
                write!(
                    sections,
                    "settings = {{ mode = \"poll\", api-base = \"{api}\" }}\ngrant = [\"{api}\"]\n"
                )?;
            }
            name => sections.push_str(elsewhere(name)),
        }
    }
    Ok(sections)
}

/// What a component needs to be started whose platform is not here: its listener finds nobody, and tries again.
fn elsewhere(component: &str) -> &'static str {
    match component {
        "discord" => "secrets = { bot-token = { env = \"TELEGRAM_TOKEN\" } }\n",
        "email" => {
            "secrets = { password = { env = \"TELEGRAM_TOKEN\" } }\n\
             settings = { address = \"bot@example.org\", imap = \"tls://127.0.0.1:9\", smtp = \"tls://127.0.0.1:9\" }\n"
        }
        "irc" => "settings = { server = \"tls://127.0.0.1:9\", nick = \"bot\" }\n",
        "matrix" => {
            "secrets = { access-token = { env = \"TELEGRAM_TOKEN\" } }\n\
             settings = { homeserver = \"http://127.0.0.1:9\" }\n"
        }
        "slack" => "secrets = { bot-token = { env = \"TELEGRAM_TOKEN\" }, app-token = { env = \"TELEGRAM_TOKEN\" } }\n",
        "webhook-out" => "settings = { url = \"http://127.0.0.1:9/\" }\n",
        _ => "",
    }
}
