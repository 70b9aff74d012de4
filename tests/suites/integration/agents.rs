//! Who answers: a model server, a program, and what happens when they fail.

use harness::{FakePlatform, MockModel, Saying, Setup, TempFolder, TestGateway, eventually};
use serde_json::{Value, json};

fn contents(request: &Value) -> Vec<&str> {
    let messages = request["messages"].as_array().map(Vec::as_slice).unwrap_or_default();
    messages
        .iter()
        .filter_map(|message| message["content"].as_str())
        .collect()
}

#[tokio::test]
async fn a_streamed_answer_arrives_whole_and_the_second_question_carries_the_first() {
    let (model, platform) = (MockModel::start().await, FakePlatform::start().await);
    let gateway = Setup::new().model(&model).webhook("hook", &platform).start().await;
    let long = "all of these words come one by one ".repeat(50);
    model.next([Saying::Answer(long.clone())]);
    gateway.tell("hook", "m1", "c1", "first").await;
    let taken = platform.wait_for_accepted("c1", 1).await;
    assert_eq!(taken[0].text.trim_end(), long.trim_end());
    gateway.tell("hook", "m2", "c1", "second").await;
    platform.wait_for_accepted("c1", 2).await;
    let asked = model.asked().all();
    assert_eq!(contents(&asked[0]), ["first"]);
    let second = contents(&asked[1]);
    assert_eq!(
        (second[0], second[1].trim_end(), second[2]),
        ("first", long.trim_end(), "second")
    );
    for request in &asked {
        assert_eq!((&request["model"], &request["stream"]), (&json!("mock"), &json!(true)));
    }
}

#[tokio::test]
async fn conversations_do_not_see_each_other() {
    let (model, platform) = (MockModel::start().await, FakePlatform::start().await);
    let gateway = Setup::new().model(&model).webhook("hook", &platform).start().await;
    gateway.tell("hook", "m1", "c1", "the word is swordfish").await;
    platform.wait_for_accepted("c1", 1).await;
    gateway.tell("hook", "m2", "c2", "what is the word?").await;
    platform.wait_for_accepted("c2", 1).await;
    assert_eq!(contents(&model.asked().all()[1]), ["what is the word?"]);
}

#[tokio::test]
async fn the_key_and_the_system_prompt_reach_the_model_and_the_key_no_log() {
    let (model, platform) = (MockModel::start().await, FakePlatform::start().await);
    let agent = format!(
        "[agents.main]\nkind = \"openai\"\nbase_url = \"{}\"\nmodel = \"mock\"\nsystem = \"You are brief.\"\n\
         api_key = {{ env = \"MODEL_KEY\" }}",
        model.base_url()
    );
    let mut gateway = Setup::new()
        .section(&agent)
        .env("MODEL_KEY", "sk-very-secret-indeed")
        .env("SLUICEGATE_LOG", "trace")
        .webhook("hook", &platform)
        .start()
        .await;
    gateway.tell("hook", "m1", "c1", "hi").await;
    platform.wait_for_accepted("c1", 1).await;
    assert_eq!(
        model.authorizations().all(),
        [Some("Bearer sk-very-secret-indeed".to_owned())]
    );
    assert_eq!(contents(&model.asked().all()[0]), ["You are brief.", "hi"]);
    gateway.terminate().await;
    let log = gateway.program().errors().all().join("\n");
    assert!(log.contains("channel=\"hook\""), "the log is written:\n{log}");
    assert!(!log.contains("sk-very-secret-indeed"), "the key is in the log:\n{log}");
}

const KEY: &str = "sk-very-secret-indeed";

/// Asserts that the key is neither in the log nor in any file of the data directory.
async fn keeps_the_key(mut gateway: TestGateway, log_says: &str) {
    gateway.wait_for_log(&[log_says]).await;
    gateway.kill().await;
    let log = gateway.program().errors().all().join("\n");
    assert!(!log.contains(KEY), "the key is in the log:\n{log}");
    for entry in std::fs::read_dir(gateway.data()).expect("the data directory") {
        let path = entry.expect("an entry").path();
        let bytes = std::fs::read(&path).unwrap_or_default();
        let found = bytes.windows(KEY.len()).any(|window| window == KEY.as_bytes());
        assert!(!found, "the key is in {}", path.display());
    }
}

#[tokio::test]
async fn a_key_that_the_model_server_repeats_reaches_nobody() {
    let (model, platform) = (MockModel::start().await, FakePlatform::start().await);
    let agent = format!(
        "[agents.main]\nkind = \"openai\"\nbase_url = \"{}\"\nmodel = \"mock\"\napi_key = {{ env = \"MODEL_KEY\" }}",
        model.base_url()
    );
    let setup = Setup::new().section(&agent).env("MODEL_KEY", KEY);
    let gateway = setup.webhook("hook", &platform).start().await;
    // Cut off at the length that is kept, it must not be taken for something else.
    let words = format!("{} {KEY}", "wrong key ".repeat(28));
    model.next([
        Saying::Answer(format!("your key is {KEY}")),
        Saying::Failing(400, words),
        Saying::Failing(500, format!("no luck with {KEY}")),
    ]);
    gateway.tell("hook", "m1", "c1", "hi").await;
    let taken = platform.wait_for_accepted("c1", 1).await;
    assert_eq!(taken[0].text, "your key is [redacted]");
    gateway.tell("hook", "m2", "c1", "hi again").await;
    platform.wait_for_accepted("c1", 2).await;
    gateway.tell("hook", "m3", "c1", "and again").await;
    platform.wait_for_accepted("c1", 3).await;
    keeps_the_key(gateway, "no luck with [redacted]").await;
}

#[tokio::test]
async fn a_secret_that_a_program_repeats_to_the_operator_is_not_written_down() {
    let platform = FakePlatform::start().await;
    let folder = TempFolder::new();
    let script = "echo \"told $KEY\" >&2\nprintf '{\"error\":\"no use for %s\"}\\n' \"$KEY\"\n";
    let path = folder.write("agent.sh", script).display().to_string();
    let agent = format!(
        "[agents.main]\nkind = \"command\"\ncommand = [\"sh\", {path:?}]\nenv = {{ KEY = {{ env = \"PROGRAM_KEY\" }} }}"
    );
    let setup = Setup::new()
        .section(&agent)
        .env("PROGRAM_KEY", KEY)
        .env("SLUICEGATE_LOG", "debug");
    let gateway = TestGateway::start(setup.webhook("hook", &platform), folder).await;
    gateway.tell("hook", "m1", "c1", "hi").await;
    platform.wait_for_accepted("c1", 1).await;
    gateway.wait_for_log(&["told [redacted]"]).await;
    keeps_the_key(gateway, "no use for [redacted]").await;
}

#[tokio::test]
async fn a_model_that_calls_a_tool_that_it_was_not_offered_leaves_nobody_waiting() {
    let (model, platform) = (MockModel::start().await, FakePlatform::start().await);
    let gateway = Setup::new().model(&model).webhook("hook", &platform).start().await;
    model.next([Saying::Stopped("tool_calls".to_owned())]);
    gateway.tell("hook", "m1", "c1", "hi").await;
    let taken = platform.wait_for_accepted("c1", 1).await;
    assert!(
        taken[0].text.contains("could not take this message"),
        "{:?}",
        taken[0].text
    );
    assert_eq!(model.times_asked("hi"), 1);
}

#[tokio::test]
async fn a_model_that_chooses_to_say_nothing_sends_nothing_and_the_log_says_so() {
    let (model, platform) = (MockModel::start().await, FakePlatform::start().await);
    model.next([Saying::Stopped("stop".to_owned())]);
    let gateway = Setup::new().model(&model).webhook("hook", &platform).start().await;
    gateway.tell("hook", "m1", "c1", "no need to answer").await;
    let line = gateway.wait_for_log(&["the agent answered with nothing"]).await;
    assert!(line.contains("INFO") && line.contains("channel=hook"), "{line}");
    gateway.tell("hook", "m2", "c1", "hello").await;
    let taken = platform.wait_for_accepted("c1", 1).await;
    assert_eq!(taken[0].text, "re: hello");
    assert_eq!(model.times_asked("no need to answer"), 1);
}

/// Says one thing to a gateway whose model fails once, and returns how often the model was asked.
async fn asked_after(failure: Saying) -> usize {
    let (model, platform) = (MockModel::start().await, FakePlatform::start().await);
    let gateway = Setup::new().model(&model).webhook("hook", &platform).start().await;
    model.next([failure]);
    gateway.tell("hook", "m1", "c1", "hi").await;
    platform.wait_for_accepted("c1", 1).await;
    // A second answer to the first message would come before this one's.
    gateway.tell("hook", "m2", "c1", "there").await;
    let taken = platform.wait_for_accepted("c1", 2).await;
    let texts: Vec<&str> = taken.iter().map(|one| one.text.as_str()).collect();
    assert_eq!(texts, ["re: hi", "re: there"], "answered once each, and whole");
    model.times_asked("hi")
}

#[tokio::test]
async fn a_model_that_fails_once_is_asked_again_and_answers_once() {
    assert_eq!(asked_after(Saying::Status(500)).await, 2);
}

#[tokio::test]
async fn an_answer_that_was_cut_off_is_never_taken_for_whole() {
    assert_eq!(asked_after(Saying::Cut("only half of".to_owned())).await, 2);
}

#[tokio::test]
async fn a_busy_model_is_asked_again_when_it_said() {
    assert_eq!(asked_after(Saying::Busy(1)).await, 2);
}

#[tokio::test]
async fn what_the_model_refuses_for_good_is_told_to_the_person_and_not_asked_again() {
    let (model, platform) = (MockModel::start().await, FakePlatform::start().await);
    let gateway = Setup::new().model(&model).webhook("hook", &platform).start().await;
    model.next([Saying::Status(400)]);
    gateway.tell("hook", "m1", "c1", "hi").await;
    let taken = platform.wait_for_accepted("c1", 1).await;
    assert!(
        !taken[0].text.is_empty() && !taken[0].text.contains("400"),
        "words for a person: {:?}",
        taken[0].text
    );
    gateway.tell("hook", "m2", "c1", "and now?").await;
    let taken = platform.wait_for_accepted("c1", 2).await;
    assert_eq!(taken[1].text, "re: and now?");
    assert_eq!(model.times_asked("hi"), 1);
}

/// Starts a gateway whose agent is this shell script.
async fn scripted(platform: &FakePlatform, script: &str) -> TestGateway {
    let folder = TempFolder::new();
    let path = folder.write("agent.sh", script).display().to_string();
    TestGateway::start(Setup::new().command(&["sh", &path]).webhook("hook", platform), folder).await
}

#[tokio::test]
async fn a_program_reads_the_message_as_a_line_of_json_and_writes_its_answer() {
    let platform = FakePlatform::start().await;
    // The script answers with what it was given, written as a JSON text.
    let script = "read -r line\nprintf '%s' \"$line\" > seen.json\n\
                  printf '{\"delta\":\"gro\"}\\n{\"text\":\"from a program\"}\\n'\n";
    let gateway = scripted(&platform, script).await;
    gateway.tell("hook", "m1", "c1", "hi \"there\"").await;
    let taken = platform.wait_for_accepted("c1", 1).await;
    assert_eq!(taken[0].text, "from a program");
    let seen = std::fs::read(gateway.folder().join("seen.json")).expect("the program wrote what it read");
    let seen: Value = serde_json::from_slice(&seen).expect("it was JSON");
    assert_eq!(
        (&seen["text"], &seen["conversation"], &seen["channel"]),
        (&json!("hi \"there\""), &json!("c1"), &json!("hook"))
    );
}

#[tokio::test]
async fn a_program_that_fails_once_runs_again_and_its_words_reach_the_log_only() {
    let platform = FakePlatform::start().await;
    let script = "read -r line\nif [ ! -e ran ]; then touch ran; echo 'out of paper' >&2; exit 7; fi\n\
                  printf '{\"text\":\"at last\"}\\n'\n";
    let gateway = scripted(&platform, script).await;
    gateway.tell("hook", "m1", "c1", "hi").await;
    let taken = platform.wait_for_accepted("c1", 1).await;
    assert_eq!(taken[0].text, "at last");
    gateway.wait_for_log(&["out of paper"]).await;
}

#[tokio::test]
async fn a_program_that_outlasts_the_grace_ends_with_the_gateway() {
    let platform = FakePlatform::start().await;
    let folder = TempFolder::new();
    let path = folder
        .write("agent.sh", "echo $$ > pid.new\nmv pid.new pid\nexec sleep 600\n")
        .display()
        .to_string();
    let setup = Setup::new()
        .command(&["sh", &path])
        .webhook("hook", &platform)
        .grace_s(0);
    let mut gateway = TestGateway::start(setup, folder).await;
    gateway.tell("hook", "m1", "c1", "hi").await;
    let file = gateway.folder().join("pid");
    let program = eventually("the program has started", async || std::fs::read_to_string(&file).ok()).await;
    assert!(gateway.terminate().await.success(), "a stop in order");
    wait_gone(program.trim()).await;
}

/// Waits until a process has ended.
async fn wait_gone(id: &str) {
    let status = format!("/proc/{id}/stat");
    eventually(&format!("the process {id} has ended"), async || {
        // One that nobody has collected yet is a zombie: it runs no more.
        let found = std::fs::read_to_string(&status).unwrap_or_default();
        let state = found.rsplit(')').next().unwrap_or_default().trim_start();
        (state.is_empty() || state.starts_with('Z')).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_gateway_that_is_killed_takes_the_program_and_what_that_started_along() {
    let platform = FakePlatform::start().await;
    let folder = TempFolder::new();
    // Nothing here would notice by itself: neither reads nor writes, and their pipes are closed.
    let script = "sleep 600 <&- >&- 2>&- &\necho $$ $! > pids.new\nmv pids.new pids\nexec sleep 600 <&- >&- 2>&-\n";
    let path = folder.write("agent.sh", script).display().to_string();
    let setup = Setup::new().command(&["sh", &path]).webhook("hook", &platform);
    let mut gateway = TestGateway::start(setup, folder).await;
    gateway.tell("hook", "m1", "c1", "hi").await;
    let file = gateway.folder().join("pids");
    let pids = eventually("the program has started", async || std::fs::read_to_string(&file).ok()).await;
    gateway.kill().await;
    for pid in pids.split_whitespace() {
        wait_gone(pid).await;
    }
}
