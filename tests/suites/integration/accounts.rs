//! Two channels where one was meant: one account, one name, one data directory, or the same ids on both sides.

use std::os::unix::fs::PermissionsExt as _;

use harness::{FakePlatform, PATIENCE, Program, Setup, TempFolder, TestGateway, sluicegate_binary};
use telegram_fake::TelegramFake;
use tokio::process::Command;

use crate::operator::{command, done, fails};

/// A folder with the fake's token in these files.
fn with_token(fake: &TelegramFake, names: &[&str]) -> TempFolder {
    let folder = TempFolder::new();
    for name in names {
        let file = folder.write(name, &fake.token());
        std::fs::set_permissions(file, std::fs::Permissions::from_mode(0o600)).expect("the owner's alone");
    }
    folder
}

/// A channel that polls a fake, with the token of a file.
fn polling(name: &str, fake: &TelegramFake, file: &str) -> String {
    let base = fake.base_url();
    format!(
        "[channels.{name}]\ncomponent = \"telegram\"\naccess = \"open\"\ngrant = [\"{base}\"]\n\
         settings = {{ api-base = \"{base}\", poll-seconds = 2 }}\n\
         secrets = {{ bot-token = {{ file = \"{file}\" }} }}\n"
    )
}

/// Returns what `config check` says where nothing is wrong.
async fn checked(folder: &TempFolder, setup: &Setup) -> String {
    folder.write("sluicegate.toml", &setup.toml());
    let output = command(folder.path(), &["config", "check"]).await;
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

const ONE_ACCOUNT: &str = "receive for one account";

#[tokio::test]
async fn two_receivers_of_one_account_are_told_to_the_operator_in_every_place() {
    let fake = TelegramFake::start().await.expect("a free port");
    let folder = with_token(&fake, &["token", "copy"]);
    let setup = Setup::new().echo().section(&polling("family", &fake, "token"));
    let mut gateway = TestGateway::start(setup, folder).await;
    let (base, grant) = (format!("api-base={}", fake.base_url()), fake.base_url());
    let add = |name: &'static str, secret: &'static str| {
        let words = ["channel", "add", "telegram", name, "--open", "--set", &base];
        [&words[..], &["--secret", secret, "--grant", &grant]].concat()
    };
    // From another place, it is the same token.
    let said = done(&gateway, &add("work", "bot-token=file:copy")).await;
    for word in [
        "note: ",
        "family",
        "work",
        ONE_ACCOUNT,
        "`bot-token`",
        "take each other's",
        "pause",
    ] {
        assert!(said.contains(word), "expected {word:?} in: {said}");
    }
    done(&gateway, &["channel", "pause", "work"]).await;
    assert!(!done(&gateway, &["config", "check"]).await.contains(ONE_ACCOUNT));
    let resumed = done(&gateway, &["channel", "resume", "work"]).await;
    assert!(resumed.contains(ONE_ACCOUNT), "{resumed}");
    let found = done(&gateway, &["config", "check"]).await;
    assert_eq!(found.matches(ONE_ACCOUNT).count(), 1, "{found}");
    assert!(gateway.terminate().await.success());
    gateway.restart().await;
    gateway.wait_for_log(&["family", "work", ONE_ACCOUNT]).await;
    assert!(gateway.terminate().await.success());
    // Without a gateway, the command says it itself; of a third one as well, once.
    let said = done(&gateway, &add("third", "bot-token=file:token")).await;
    assert!(said.contains("warning: ") && said.contains(ONE_ACCOUNT), "{said}");
    let found = done(&gateway, &["config", "check"]).await;
    assert_eq!(found.matches(ONE_ACCOUNT).count(), 2, "{found}");
}

#[tokio::test]
async fn what_can_be_meant_with_one_token_is_not_warned_of() {
    let (fake, platform) = (
        TelegramFake::start().await.expect("a free port"),
        FakePlatform::start().await,
    );
    let folder = with_token(&fake, &["token"]);
    std::fs::write(folder.path().join("other"), "123456:another-token-of-a-bot").expect("a file");
    let mode = std::fs::Permissions::from_mode(0o600);
    std::fs::set_permissions(folder.path().join("other"), mode).expect("the owner's alone");
    let sends = |name: &str| {
        format!(
            "[channels.{name}]\ncomponent = \"ntfy\"\nsecrets = {{ token = {{ file = \"token\" }} }}\n\
             grant = [\"https://ntfy.sh\"]\n"
        )
    };
    let irc = |name: &str, nick: &str| {
        format!(
            "[channels.{name}]\ncomponent = \"irc\"\naccess = \"open\"\n\
             settings = {{ server = \"tls://irc.example.org:6697\", nick = \"{nick}\" }}\n\
             secrets = {{ server-password = {{ file = \"token\" }} }}\ngrant = [\"tls://irc.example.org:6697\"]\n"
        )
    };
    // Sending twice, hooks of their own, other bots, and other people on one server.
    let setup = Setup::new()
        .echo()
        .section(&sends("one"))
        .section(&sends("two"))
        .webhook("hook", &platform)
        .webhook("other-hook", &platform)
        .section(&polling("family", &fake, "token"))
        .section(&polling("work", &fake, "other"))
        .section(&irc("ann", "ann"))
        .section(&irc("bob", "bob"));
    let said = checked(&folder, &setup).await;
    assert!(!said.contains(ONE_ACCOUNT), "{said}");
    // The same one on that server, which no secret tells.
    let said = checked(&folder, &setup.section(&irc("ann-too", "ann"))).await;
    assert!(
        said.contains("channels ann and ann-too receive for one account") && said.contains("`server`, `nick`"),
        "{said}"
    );
}

#[tokio::test]
async fn the_same_ids_on_two_listeners_are_two_messages() {
    let (one, two) = (
        TelegramFake::start().await.expect("a free port"),
        TelegramFake::start().await.expect("a free port"),
    );
    let folder = with_token(&one, &["token"]);
    let setup = Setup::new().echo().section(&polling("one", &one, "token"));
    let _gateway = TestGateway::start(setup.section(&polling("two", &two, "token")), folder).await;
    // Both number updates, messages and chats alike: whoever is second must not count as a copy of the first.
    assert_eq!(one.say(5001, 5001, "to one"), two.say(5001, 5001, "to two"));
    for (fake, text) in [(&one, "to one"), (&two, "to two")] {
        let calls = fake.await_calls("sendMessage", 1, PATIENCE).await;
        assert!(calls.is_ok(), "{text} is not answered: {calls:?}");
        let answers = fake.messages(5001);
        let texts: Vec<&str> = answers.iter().map(|message| message.text.as_str()).collect();
        assert!(texts.len() == 1 && texts[0].contains(text), "{texts:?}");
    }
}

#[tokio::test]
async fn a_name_is_given_once_and_in_small_letters() {
    let gateway = Setup::new().echo().websocket().start().await;
    let again = ["channel", "add", "webhook", "websocket", "--open", "--yes"];
    let said = fails(gateway.folder(), &again, 2).await;
    assert!(said.contains("there is a channel \"websocket\" already"), "{said}");
    let otherwise = ["channel", "add", "webhook", "WebSocket", "--open", "--yes"];
    let said = fails(gateway.folder(), &otherwise, 2).await;
    assert!(said.contains("\"WebSocket\" must start with a letter a-z"), "{said}");
    // By hand, in every way of writing it.
    let before = std::fs::read_to_string(gateway.folder().join("sluicegate.toml")).expect("the file");
    for (more, words) in [
        ("[channels.websocket]\ncomponent = \"webhook\"\n", "duplicate key"),
        ("[channels.\"websocket\"]\ncomponent = \"webhook\"\n", "duplicate key"),
        (
            "[channels.WebSocket]\ncomponent = \"webhook\"\n",
            "channels.WebSocket: a channel's name must start",
        ),
        (
            "[channels.webSocket]\ncomponent = \"webhook\"\n",
            "channels.webSocket: a channel's name may only contain",
        ),
    ] {
        std::fs::write(gateway.folder().join("sluicegate.toml"), format!("{before}\n{more}")).expect("written");
        let said = fails(gateway.folder(), &["config", "check"], 3).await;
        assert!(said.contains(words), "expected {words:?} in: {said}");
    }
    assert_eq!(gateway.get("/ready").await.status, 200);
}

#[tokio::test]
async fn a_data_directory_is_in_use_under_every_name_that_it_has() {
    let gateway = Setup::new().echo().websocket().start().await;
    let folder = TempFolder::new();
    let file = folder.write("sluicegate.toml", &Setup::new().echo().websocket().toml());
    let (data, link) = (gateway.data(), folder.path().join("link"));
    std::os::unix::fs::symlink(&data, &link).expect("a link");
    let around = data.join("../data/.");
    for name in [&data, &link, &around] {
        let mut command = Command::new(sluicegate_binary());
        let command_line = command.arg("run").arg("--config").arg(&file).arg("--data").arg(name);
        command_line.current_dir(folder.path());
        let (code, _, errors) = Program::spawn(command).outcome().await;
        assert_eq!(code, Some(4), "{}: {errors}", name.display());
        assert!(errors.contains("in use by process"), "{errors}");
    }
    let mut client = gateway.client().await;
    client.say("m1", "c1", "hi").await;
    client.until("reply").await;
}
