//! A person (or a pipe) at the terminal that the gateway was started in.

use std::time::{Duration, Instant};

use harness::{MockModel, Program, Setup, Signal, TempFolder, eventually, http, sluicegate_binary};
use tokio::process::Command;

const TERMINAL: &str = "[channels.terminal]\ncomponent = \"terminal\"\naccess = \"open\"\ngrant = [\"terminal\"]";

/// Starts the gateway without a command, as a person does.
fn chat(folder: &TempFolder, setup: &Setup) -> Program {
    let file = folder.write("sluicegate.toml", &setup.toml());
    let mut command = Command::new(sluicegate_binary());
    command.arg("--config").arg(file).current_dir(folder.path());
    Program::spawn(command)
}

fn echoing() -> Setup {
    Setup::new().echo().section(TERMINAL)
}

#[tokio::test]
async fn a_piped_line_is_answered_on_standard_output_and_the_end_of_input_exits_0() {
    let folder = TempFolder::new();
    let mut program = chat(&folder, &echoing());
    program.write("hi\n").await;
    program.close_input();
    let (code, output, errors) = program.outcome().await;
    // Nothing but the answer: no prompt, no banner.
    assert_eq!((code, output.as_str()), (Some(0), "hi"), "{errors}");
}

#[tokio::test]
async fn with_nothing_configured_a_line_is_answered() {
    let folder = TempFolder::new();
    let mut command = Command::new(sluicegate_binary());
    command.args(["--listen", "127.0.0.1:0"]).current_dir(folder.path());
    let mut program = Program::spawn(command);
    program.write("hi\n").await;
    program.close_input();
    let (code, output, errors) = program.outcome().await;
    assert_eq!(code, Some(0), "{errors}");
    // Which agent answers depends on whether a model server runs on this machine.
    assert!(!output.trim().is_empty(), "no answer\n{errors}");
    for said in [
        "agent main: ",
        "channel terminal: ",
        "channel websocket: ",
        "http://127.0.0.1:",
    ] {
        assert!(errors.contains(said), "the start must say {said:?}:\n{errors}");
    }
    assert!(
        folder.path().join("data").is_dir(),
        "the data directory is made where it was started"
    );
}

#[tokio::test]
async fn lines_are_answered_in_the_order_in_which_they_were_typed() {
    let folder = TempFolder::new();
    let mut program = chat(&folder, &echoing());
    program.write("one\ntwo\n\nthree\n").await;
    program.close_input();
    let (code, output, errors) = program.outcome().await;
    assert_eq!((code, output.as_str()), (Some(0), "one\ntwo\nthree"), "{errors}");
}

#[tokio::test]
async fn what_could_drive_a_terminal_is_left_out_of_an_answer() {
    let folder = TempFolder::new();
    let mut program = chat(&folder, &echoing());
    program.write("a\u{1b}[2Jb\u{7}\n").await;
    program.close_input();
    let (code, output, errors) = program.outcome().await;
    assert_eq!((code, output.as_str()), (Some(0), "a[2Jb"), "{errors}");
}

#[tokio::test]
async fn the_end_of_input_waits_for_an_agent_that_takes_its_time() {
    let (folder, model) = (TempFolder::new(), MockModel::start().await);
    model.hold();
    let mut program = chat(&folder, &Setup::new().model(&model).section(TERMINAL));
    program.write("hi\n").await;
    program.close_input();
    model.asked().wait_for_len("the model is asked", 1).await;
    assert_eq!(program.exit_status(), None, "it left before the answer");
    model.release();
    let (code, output, errors) = program.outcome().await;
    assert_eq!((code, output.as_str()), (Some(0), "re: hi"), "{errors}");
}

#[tokio::test]
async fn the_end_of_input_does_not_stop_a_service() {
    let mut gateway = echoing().websocket().start().await;
    gateway.program().write("hi\n").await;
    gateway.program().close_input();
    gateway.wait_for_log(&["terminal", "status=\"ended\""]).await;
    let mut client = gateway.client().await;
    client.say("m1", "c1", "are you there").await;
    client.until("reply").await;
    assert_eq!(gateway.program().output().all(), ["hi"]);
    assert!(gateway.terminate().await.success());
}

#[tokio::test]
async fn ctrl_c_finishes_what_was_asked_and_exits_0() {
    let (folder, model) = (TempFolder::new(), MockModel::start().await);
    model.hold();
    let mut program = chat(&folder, &Setup::new().model(&model).section(TERMINAL));
    program.write("hi\n").await;
    model.asked().wait_for_len("the model is asked", 1).await;
    program.signal(Signal::Interrupt);
    no_longer_ready(&program).await;
    model.release();
    let (code, output, errors) = program.outcome().await;
    assert_eq!((code, output.as_str()), (Some(0), "re: hi"), "{errors}");
}

#[tokio::test]
async fn a_terminal_that_goes_away_stops_it_as_ctrl_c_does() {
    let (folder, model) = (TempFolder::new(), MockModel::start().await);
    model.hold();
    let mut program = chat(&folder, &Setup::new().model(&model).section(TERMINAL));
    program.write("hi\n").await;
    model.asked().wait_for_len("the model is asked", 1).await;
    program.signal(Signal::HangUp);
    no_longer_ready(&program).await;
    // The shell tells its jobs of it, and so does the system.
    program.signal(Signal::HangUp);
    model.release();
    let (code, output, errors) = program.outcome().await;
    assert_eq!((code, output.as_str()), (Some(0), "re: hi"), "{errors}");
}

#[tokio::test]
async fn started_to_outlive_its_terminal_it_does() {
    let folder = TempFolder::new();
    let file = folder.write("sluicegate.toml", &echoing().toml());
    let mut command = Command::new("sh");
    // As nohup does it.
    command.args(["-c", "trap '' HUP; exec \"$0\" --config \"$1\""]);
    command.arg(sluicegate_binary()).arg(file).current_dir(folder.path());
    let mut program = Program::spawn(command);
    for line in ["before", "after"] {
        program.write(&format!("{line}\n")).await;
        let is_there = |lines: &[String]| lines.iter().any(|said| said == line).then_some(());
        program.output().wait_for("the answer", is_there).await;
        program.signal(Signal::HangUp);
    }
    program.close_input();
    let (code, output, errors) = program.outcome().await;
    assert_eq!((code, output.as_str()), (Some(0), "before\nafter"), "{errors}");
}

/// As `timeout` sends it: to the process, and once more to its group.
#[tokio::test]
async fn a_signal_that_is_passed_on_twice_is_one() {
    let (folder, model) = (TempFolder::new(), MockModel::start().await);
    let setup = Setup::new().model(&model).section(TERMINAL);
    model.hold();
    let mut program = chat(&folder, &setup);
    program.write("hi\n").await;
    model.asked().wait_for_len("the model is asked", 1).await;
    program.signal(Signal::Terminate);
    program.signal(Signal::Interrupt);
    no_longer_ready(&program).await;
    model.release();
    let (code, output, errors) = program.outcome().await;
    assert_eq!((code, output.as_str()), (Some(0), "re: hi"), "{errors}");
}

#[tokio::test]
async fn a_second_ctrl_c_exits_at_once_and_the_answer_comes_at_the_next_start() {
    let (folder, model) = (TempFolder::new(), MockModel::start().await);
    let setup = Setup::new().model(&model).section(TERMINAL);
    model.hold();
    let mut program = chat(&folder, &setup);
    program.write("hi\n").await;
    model.asked().wait_for_len("the model is asked", 1).await;
    program.signal(Signal::Interrupt);
    no_longer_ready(&program).await;
    assert_eq!(program.exit_status(), None, "it left before the answer");
    let told = Instant::now();
    // One that comes right behind the first is taken for the same.
    eventually("it ends", async || {
        program.signal(Signal::Interrupt);
        program.exit_status()
    })
    .await;
    // The grace period is ten seconds: it was not waited for.
    assert!(told.elapsed() < Duration::from_secs(5), "it took {:?}", told.elapsed());

    model.release();
    let mut again = chat(&folder, &setup);
    again
        .output()
        .wait_for("the answer", |lines| lines.contains(&"re: hi".to_owned()).then_some(()))
        .await;
    again.close_input();
    let (code, output, errors) = again.outcome().await;
    assert_eq!((code, output.as_str()), (Some(0), "re: hi"), "{errors}");
}

/// Waits until a gateway that was told to stop takes no more requests.
async fn no_longer_ready(program: &Program) {
    let lines = program.errors().all();
    let port = lines.iter().find_map(|line| {
        let (_, rest) = line.split_once(" on http://127.0.0.1:")?;
        rest.split(',').next()?.parse::<u16>().ok()
    });
    let address = ([127, 0, 0, 1], port.expect("the start says where it listens")).into();
    eventually("the gateway is no longer ready", async || {
        let ready = http::request(address, "GET", "/ready", &[], b"")
            .await
            .is_ok_and(|answer| answer.status == 200);
        (!ready).then_some(())
    })
    .await;
}
