//! Posts whose answer is lost: the conversation is searched for them before anything goes out again.

use harness::{Setup, Stop, TestGateway, Toll};
use serde_json::json;

use super::fake::{CHANNEL, Fault, SlackFake};

/// A gateway whose requests pass a toll on their way to the fake.
struct Scene {
    fake: SlackFake,
    toll: Toll,
    gateway: TestGateway,
}

async fn scene() -> Scene {
    scene_with("").await
}

/// As [`scene`], with a line more in the channel's table.
async fn scene_with(line: &str) -> Scene {
    let fake = SlackFake::start().await.expect("a free port");
    let toll = Toll::start(fake.address()).await;
    fake.stand_behind(&toll.base_url());
    let setup = super::configured_at(&toll.base_url(), &fake, Setup::new().echo(), "office");
    let gateway = setup.section(line).start().await;
    Scene { fake, toll, gateway }
}

impl Scene {
    /// Lets a person write in a place, and waits until what the gateway makes of it is over.
    async fn ask(&self, channel: &str, text: &str) {
        self.fake.message(channel, &json!({"text": text}));
        self.wait_for_end().await;
    }

    /// Lets the operator send a text with a file, and waits until what the gateway makes of it is over.
    async fn send_file(&self, channel: &str) {
        let file = json!({"name": "a.txt", "media_type": "text/plain", "base64": "aGVsbG8="});
        let message = json!({"channel": "office", "conversation": channel, "text": "see", "files": [file]});
        let sent = self
            .gateway
            .admin("POST", "messages", message.to_string().as_bytes())
            .await;
        assert!(sent["delivery_key"].is_string(), "{sent}");
        self.wait_for_end().await;
    }

    async fn wait_for_end(&self) {
        let stopped = |all: &[String]| (!all.is_empty()).then_some(());
        self.toll.stopped().wait_for("a call is stopped", stopped).await;
        self.gateway.wait_for_metric("sluicegate_outbox_waiting", 0.0).await;
    }

    /// Returns how many texts and files of the app stand in a place.
    fn parts(&self, channel: &str) -> (usize, usize) {
        let posts = self.fake.posts(channel);
        let files = posts.iter().filter(|post| !post.files.is_empty()).count();
        (posts.len() - files, files)
    }

    fn texts(&self, channel: &str) -> Vec<String> {
        let posts = self.fake.posts(channel).into_iter();
        posts.map(|post| post.text).collect()
    }

    fn count(&self, method: &str) -> usize {
        let calls = self.fake.calls();
        calls.iter().filter(|call| call.method == method).count()
    }
}

/// Three parts, of which the echo agent makes three posts.
fn three_parts() -> (String, [char; 3]) {
    let part = |letter: char| letter.to_string().repeat(3_000);
    (['a', 'b', 'c'].map(part).join("\n\n"), ['a', 'b', 'c'])
}

fn first_letters(texts: &[String]) -> Vec<char> {
    texts.iter().filter_map(|text| text.chars().next()).collect()
}

#[tokio::test]
async fn a_post_whose_answer_was_lost_is_found_and_not_sent_again() {
    let scene = scene().await;
    let channel = scene.fake.add_direct();
    scene.toll.stop_after("/chat.postMessage", 0, Stop::CutAfter);
    scene.ask(&channel, "hello").await;
    assert_eq!(scene.texts(&channel), ["hello"]);
    assert_eq!(
        (scene.count("chat.postMessage"), scene.count("conversations.history")),
        (1, 1)
    );
    assert_eq!(scene.fake.violations(), Vec::<String>::new());
}

#[tokio::test]
async fn a_post_that_never_arrived_is_sent_again_once_that_is_known() {
    let scene = scene().await;
    let channel = scene.fake.add_direct();
    scene.toll.stop_after("/chat.postMessage", 0, Stop::Cut);
    scene.ask(&channel, "hello").await;
    assert_eq!(scene.texts(&channel), ["hello"]);
    assert_eq!(
        (scene.count("chat.postMessage"), scene.count("conversations.history")),
        (1, 1)
    );
}

#[tokio::test]
async fn parts_that_are_found_are_not_sent_again_and_the_rest_is() {
    let scene = scene().await;
    let channel = scene.fake.add_direct();
    scene.toll.stop_after("/chat.postMessage", 1, Stop::CutAfter);
    let (text, letters) = three_parts();
    scene.ask(&channel, &text).await;
    assert_eq!(first_letters(&scene.texts(&channel)), letters);
    assert_eq!(scene.count("chat.postMessage"), 3);
}

#[tokio::test]
async fn a_post_in_a_thread_is_found_there() {
    let scene = scene().await;
    scene.toll.stop_after("/chat.postMessage", 0, Stop::CutAfter);
    scene.ask(CHANNEL, "<@U700> hello").await;
    assert_eq!(scene.texts(CHANNEL).len(), 1, "{:?}", scene.texts(CHANNEL));
    let posts = scene.fake.posts(CHANNEL);
    assert!(posts.iter().all(|post| post.thread.is_some()));
    assert_eq!(
        (
            scene.count("conversations.replies"),
            scene.count("conversations.history")
        ),
        (1, 0)
    );
}

#[tokio::test]
async fn a_post_is_found_behind_a_page_of_others() {
    let scene = scene().await;
    let channel = scene.fake.add_direct();
    // What a bot writes starts no turn.
    let noise = json!({"text": "noise", "user": "U999", "bot_id": "B999"});
    scene.toll.stop_after("/chat.postMessage", 0, Stop::HangAfter);
    scene.fake.message(&channel, &json!({"text": "hello"}));
    let stopped = |all: &[String]| (!all.is_empty()).then_some(());
    scene.toll.stopped().wait_for("the post is stopped", stopped).await;
    for _ in 0..250 {
        scene.fake.message(&channel, &noise);
    }
    scene.gateway.wait_for_metric("sluicegate_outbox_waiting", 0.0).await;
    assert_eq!(scene.texts(&channel), ["hello"]);
    assert_eq!(
        (scene.count("chat.postMessage"), scene.count("conversations.history")),
        (1, 2)
    );
}

#[tokio::test]
async fn a_file_whose_answer_was_lost_is_found_and_not_shared_again() {
    let scene = scene().await;
    let channel = scene.fake.add_direct();
    scene
        .toll
        .stop_after("/files.completeUploadExternal", 0, Stop::CutAfter);
    scene.send_file(&channel).await;
    assert_eq!(scene.parts(&channel), (1, 1));
    assert_eq!(
        (
            scene.count("files.completeUploadExternal"),
            scene.count("conversations.history")
        ),
        (1, 1)
    );
}

#[tokio::test]
async fn a_file_that_was_not_shared_yet_is_sent_again_and_risks_no_copy() {
    let scene = scene_with("ambiguous_resends = 0").await;
    let channel = scene.fake.add_direct();
    scene.toll.stop_after("/files.getUploadURLExternal", 0, Stop::Cut);
    scene.send_file(&channel).await;
    assert_eq!(scene.parts(&channel), (1, 1), "nothing was risked, and nothing is lost");
}

#[tokio::test]
async fn where_nobody_can_tell_one_copy_is_risked_and_no_more() {
    let scene = scene().await;
    let channel = scene.fake.add_direct();
    scene.toll.stop_after("/chat.postMessage", 0, Stop::CutAfter);
    scene
        .fake
        .fail_next("conversations.history", &channel, Fault::Page(503));
    scene.ask(&channel, "hello").await;
    assert_eq!(scene.texts(&channel), ["hello", "hello"]);
    assert_eq!(scene.count("conversations.history"), 1);
}
