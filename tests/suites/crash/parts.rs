//! Between two parts of one message: what the platform took stays, the rest follows.

use harness::{MockModel, Saying, Setup, Stop, TestGateway, Toll, eventually};
use telegram_fake::TelegramFake;

const ADA: i64 = 5001;

struct Scene {
    fake: TelegramFake,
    toll: Toll,
    gateway: TestGateway,
}

/// Lets the agent answer in three parts, stops the call for the second one, and kills the gateway at that moment.
async fn killed_at_the_second_part(stop: Stop) -> Scene {
    let (fake, model) = (
        TelegramFake::start().await.expect("a free port"),
        MockModel::start().await,
    );
    let toll = Toll::start(fake.address()).await;
    let base = toll.base_url();
    let setup = Setup::new()
        .model(&model)
        .env("TELEGRAM_TOKEN", &fake.token())
        .section(&format!(
            "[channels.tg]\ncomponent = \"telegram\"\naccess = \"open\"\ngrant = [\"{base}\"]\n\
         settings = {{ mode = \"poll\", api-base = \"{base}\", poll-seconds = 2 }}\n\
         secrets = {{ bot-token = {{ env = \"TELEGRAM_TOKEN\" }} }}"
        ));
    let mut gateway = setup.start().await;
    let paragraph = |name: &str| format!("{name} {}", "words and more words ".repeat(170));
    model.next([Saying::Answer(
        [paragraph("one"), paragraph("two"), paragraph("three")].join("\n\n"),
    )]);
    toll.stop_after("/sendMessage", 1, stop);
    fake.say(ADA, ADA, "tell me much");
    toll.stopped().wait_for_len("the second part is on its way", 1).await;
    gateway.kill().await;
    assert_eq!(model.times_asked("tell me much"), 1);
    Scene { fake, toll, gateway }
}

impl Scene {
    /// Starts the gateway again and returns the first words of the messages in the chat once nothing is left to send.
    async fn after_the_restart(&mut self, count: usize) -> Vec<String> {
        self.gateway.restart().await;
        eventually("all parts are in the chat", async || {
            (self.fake.messages(ADA).len() >= count).then_some(())
        })
        .await;
        self.gateway.wait_for_metric("sluicegate_outbox_waiting", 0.0).await;
        assert_eq!(self.toll.stopped().len(), 1);
        assert_eq!(self.fake.violations(), Vec::<String>::new());
        let first_word = |text: &str| text.split(' ').next().unwrap_or_default().to_owned();
        self.fake
            .messages(ADA)
            .iter()
            .map(|message| first_word(&message.text))
            .collect()
    }
}

#[tokio::test]
async fn a_part_that_was_taken_is_not_sent_again() {
    let mut scene = killed_at_the_second_part(Stop::Hang).await;
    assert_eq!(scene.fake.messages(ADA).len(), 1, "the first part was taken");
    assert_eq!(scene.after_the_restart(3).await, ["one", "two", "three"]);
}

#[tokio::test]
async fn only_the_part_whose_answer_was_lost_is_copied() {
    let mut scene = killed_at_the_second_part(Stop::HangAfter).await;
    assert_eq!(
        scene.fake.messages(ADA).len(),
        2,
        "the second part was taken, and nobody knows"
    );
    assert_eq!(scene.after_the_restart(4).await, ["one", "two", "two", "three"]);
}
