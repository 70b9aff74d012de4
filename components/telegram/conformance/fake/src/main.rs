//! Starts the fake by hand: `telegram-fake [PORT]` prints its address and runs until it is stopped.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command that talks to its terminal"
)]

use std::net::SocketAddr;
use std::process::ExitCode;

use telegram_fake::{Options, TelegramFake};

#[tokio::main]
async fn main() -> ExitCode {
    let port = match std::env::args().nth(1).as_deref().map(str::parse::<u16>) {
        None => 0,
        Some(Ok(port)) => port,
        Some(Err(_)) => {
            eprintln!("usage: telegram-fake [PORT]");
            return ExitCode::from(2);
        }
    };
    let options = Options {
        listen: SocketAddr::from(([127, 0, 0, 1], port)),
        ..Options::default()
    };
    match TelegramFake::start_with(options).await {
        Ok(fake) => {
            println!("{} {}", fake.base_url(), fake.token());
            // Runs until the process is told to end; a failure to listen for that is an end as well.
            let _ = tokio::signal::ctrl_c().await;
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("telegram-fake can't listen on port {port}: {error}");
            ExitCode::FAILURE
        }
    }
}
