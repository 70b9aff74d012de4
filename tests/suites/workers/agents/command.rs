//! The command agent against real programs.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use sluicegate::agent::command::{CommandAgent, Settings};
use sluicegate::agent::{Agent, AgentError, Disposition, Turn};

use super::{history, message};

fn settings(script: &str) -> Settings {
    Settings {
        guard: harness::sluicegate_binary(),
        program: "sh".to_owned(),
        args: vec!["-c".to_owned(), script.to_owned()],
        env: BTreeMap::from([("GREETING".to_owned(), "hello".to_owned())]),
        directory: None,
        timeout: Duration::from_secs(20),
    }
}

async fn ask(settings: Settings) -> (Result<String, AgentError>, Vec<String>) {
    let grown = Mutex::new(Vec::new());
    let event = message("it's \"me\"\nagain");
    let agent = CommandAgent::new(settings);
    let growing = |text: &str| grown.lock().unwrap().push(text.to_owned());
    let answer = agent
        .answer(
            Turn {
                event: &event,
                history: &history(),
            },
            &growing,
        )
        .await;
    (answer, grown.into_inner().unwrap())
}

async fn run(script: &str) -> Result<String, AgentError> {
    ask(settings(script)).await.0
}

#[tokio::test]
async fn a_program_gets_the_turn_as_one_line_and_then_the_end_of_its_input() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("question");
    let script = format!("cat > {}; echo '{{\"text\":\"done\"}}'", file.display());
    assert_eq!(run(&script).await.unwrap(), "done");
    let question = std::fs::read_to_string(&file).unwrap();
    assert_eq!(question.matches('\n').count(), 1, "{question:?}");
    let question: serde_json::Value = serde_json::from_str(&question).unwrap();
    assert_eq!(question["text"], "it's \"me\"\nagain");
    assert_eq!(question["channel"], "family");
    assert_eq!(question["session"], "family/c1");
    assert_eq!(question["conversation"], "c1");
    assert_eq!(question["sender"], "42");
    assert!(question["thread"].is_null() && question["event"].as_str().unwrap().starts_with("evt_"));
    assert_eq!(
        question["history"][1],
        serde_json::json!({"role": "assistant", "text": "hello Ada"})
    );
}

#[tokio::test]
async fn an_answer_grows_line_by_line() {
    let (answer, grown) = ask(settings(
        r#"cat >/dev/null; echo '{"delta":"hel"}'; echo; echo '{"delta":"lo"}'"#,
    ))
    .await;
    assert_eq!(answer.unwrap(), "hello");
    assert_eq!(grown, ["hel", "hello"]);
}

#[tokio::test]
async fn a_program_need_not_read_its_input() {
    let mut large = message(&"x".repeat(1 << 20));
    large.message.id = "m1".to_owned();
    let agent = CommandAgent::new(settings(r#"exec <&-; echo '{"text":"deaf"}'"#));
    let answer = agent
        .answer(
            Turn {
                event: &large,
                history: &[],
            },
            &|_| {},
        )
        .await;
    assert_eq!(answer.unwrap(), "deaf");
}

#[tokio::test]
async fn a_program_gets_only_the_environment_meant_for_it() {
    let names = r#"names=$(env | cut -d= -f1 | tr '\n' ' '); printf '{"text":"%s%s"}' "$names" "$GREETING""#;
    let answer = run(names).await.unwrap();
    let mut names: Vec<&str> = answer.split(' ').collect();
    assert_eq!(names.pop(), Some("hello"));
    assert!(names.contains(&"GREETING") && names.contains(&"PATH"), "{names:?}");
    // The last four are the shell's own.
    let meant = ["GREETING", "PATH", "HOME", "LANG", "PWD", "OLDPWD", "SHLVL", "_"];
    let others: Vec<_> = names.iter().filter(|name| !meant.contains(name)).collect();
    assert!(others.is_empty(), "{others:?}");
    assert!(
        std::env::vars_os().any(|(name, _)| !meant.iter().any(|m| name == *m)),
        "the test has others itself"
    );
}

#[tokio::test]
async fn each_failure_has_its_kind_and_says_nothing_of_what_the_program_wrote() {
    let rows = [
        ("exit 3", Disposition::Retry),
        ("true", Disposition::Retry),
        ("echo '{\"delta\":\"half\"}'; exit 1", Disposition::Retry),
        ("echo '{\"delta\":\"half\"}'; kill -9 $$", Disposition::Retry),
        ("echo '{\"error\":\"busy\",\"retry\":true}'", Disposition::Retry),
        ("echo '{\"error\":\"no\"}'", Disposition::GiveUp),
        ("echo hello", Disposition::Misconfigured),
        ("head -c 3000000 /dev/zero | tr '\\0' x", Disposition::GiveUp),
    ];
    for (script, expected) in rows {
        let failed = run(&format!("echo very private >&2; {script}")).await.unwrap_err();
        assert_eq!(failed.disposition(), expected, "{script}: {failed}");
        assert!(!failed.to_string().contains("private"), "{script}: {failed}");
    }
    let missing = Settings {
        program: "/nowhere/at-all".to_owned(),
        ..settings("")
    };
    assert_eq!(
        ask(missing).await.0.unwrap_err().disposition(),
        Disposition::Misconfigured
    );
}

#[tokio::test]
async fn an_answer_holds_whatever_the_exit_status() {
    assert_eq!(run(r#"echo '{"text":"fine"}'; exit 1"#).await.unwrap(), "fine");
}

#[tokio::test]
async fn a_program_that_floods_its_standard_error_is_read() {
    assert_eq!(
        run(r#"head -c 3000000 /dev/zero >&2; echo '{"text":"fine"}'"#)
            .await
            .unwrap(),
        "fine"
    );
}

/// Waits until no process of this id is left.
fn gone(pid: &str) -> bool {
    // A killed process that nobody has collected yet is a zombie: it runs no more.
    let stat = std::fs::read_to_string(Path::new("/proc").join(pid).join("stat"));
    stat.map_or(true, |stat| {
        stat.rsplit(')')
            .next()
            .is_some_and(|rest| rest.trim_start().starts_with('Z'))
    })
}

async fn child_of(file: &Path) -> String {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        match std::fs::read_to_string(file) {
            Ok(pid) if pid.ends_with('\n') => return pid.trim().to_owned(),
            _ => assert!(Instant::now() < deadline, "the program did not start"),
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

async fn wait_gone(pid: &str) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !gone(pid) {
        assert!(Instant::now() < deadline, "process {pid} still runs");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn a_program_that_takes_too_long_is_killed_with_its_children() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("child");
    let script = format!("sleep 1000 & echo $! > {}; wait", file.display());
    let slow = Settings {
        timeout: Duration::from_secs(1),
        ..settings(&script)
    };
    let began = Instant::now();
    let failed = ask(slow).await.0.unwrap_err();
    assert!(matches!(failed, AgentError::TimedOut(_)), "{failed}");
    assert!(began.elapsed() < Duration::from_secs(15));
    wait_gone(&child_of(&file).await).await;
}

#[tokio::test]
async fn a_whole_answer_counts_although_its_program_does_not_end() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("child");
    let script = format!(
        "sleep 1000 & echo $! > {}; echo '{{\"text\":\"fine\"}}'; wait",
        file.display()
    );
    let slow = Settings {
        timeout: Duration::from_secs(1),
        ..settings(&script)
    };
    assert_eq!(ask(slow).await.0.unwrap(), "fine");
    wait_gone(&child_of(&file).await).await;
}

#[tokio::test]
async fn a_program_that_closes_its_output_and_does_not_end_is_killed_too() {
    let slow = Settings {
        timeout: Duration::from_secs(1),
        ..settings("exec sleep 1000 >&- 2>&-")
    };
    let failed = ask(slow).await.0.unwrap_err();
    assert!(matches!(failed, AgentError::TimedOut(_)), "{failed}");
}

#[tokio::test]
async fn a_turn_that_is_dropped_takes_its_program_along() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("child");
    let script = format!("sleep 1000 & echo $! > {}; wait", file.display());
    let turn = tokio::spawn(async move { run(&script).await });
    let child = child_of(&file).await;
    assert!(!gone(&child));
    turn.abort();
    assert!(turn.await.unwrap_err().is_cancelled());
    wait_gone(&child).await;
}

#[tokio::test]
async fn a_child_left_behind_holds_up_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("child");
    let script = format!(
        "sleep 1000 & echo $! > {}; echo '{{\"text\":\"fine\"}}'",
        file.display()
    );
    let began = Instant::now();
    assert_eq!(run(&script).await.unwrap(), "fine");
    assert!(began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());
    wait_gone(&child_of(&file).await).await;
}

#[test]
fn its_description_does_not_show_the_arguments() {
    let agent = CommandAgent::new(settings("--token=secret"));
    assert_eq!(agent.describe(), "command: sh");
}
