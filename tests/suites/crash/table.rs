//! The crash table: the process dies at each point of a message's path, on each kind of platform; what is lost, copied or
//! out of order. The table in README.md is this test's.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use harness::{Act, FakePlatform, MockModel, Setup, TempFolder, TestGateway, http};
use serde_json::json;

use crate::front::{Authority, Front};

/// What stands around the table in README.md.
const MARKS: [&str; 2] = ["<!-- crash table: begin -->\n", "<!-- crash table: end -->\n"];

/// A point of the path, and what a crash there may cost.
struct Row {
    number: u32,
    dies: &'static str,
    point: Point,
    /// How many copies the platform may see of a message where it neither deduplicates nor can be asked; none where the
    /// outcome depends on which of two things came first.
    copies: Option<usize>,
}

/// How the moment is found from outside.
#[derive(Clone, Copy)]
enum Point {
    /// The request is written, its answer not awaited.
    Posted,
    /// The request is answered.
    Confirmed,
    /// The model was asked and has not answered.
    Asked,
    /// The last byte of the model's answer is written.
    Answered,
    /// The delivery was claimed, and connects: nothing has left.
    Connecting,
    /// The delivery has arrived, and the platform does this with it.
    Arrived(Act),
}

const ROWS: [Row; 9] = [
    row(1, "receipt and inbox commit", Point::Posted, Some(0)),
    row(
        2,
        "inbox commit and the platform's next step",
        Point::Confirmed,
        Some(0),
    ),
    row(3, "claim and the model's answer", Point::Asked, Some(0)),
    row(
        4,
        "the model's answer, turn commit and first byte out",
        Point::Answered,
        None,
    ),
    row(
        5,
        "turn commit and a delivery that works",
        Point::Arrived(Act::Refuse(503)),
        Some(0),
    ),
    row(6, "claim and first byte, three times", Point::Connecting, Some(0)),
    row(7, "bytes out and their acceptance", Point::Arrived(Act::Hang), Some(0)),
    row(
        8,
        "acceptance and its answer",
        Point::Arrived(Act::AcceptThenHang),
        Some(1),
    ),
    row(9, "the answer and the ack commit", Point::Arrived(Act::Accept), None),
];

const fn row(number: u32, dies: &'static str, point: Point, copies: Option<usize>) -> Row {
    Row {
        number,
        dies,
        point,
        copies,
    }
}

/// A channel with its platform.
struct Side {
    channel: &'static str,
    platform: FakePlatform,
    front: Front,
    /// The path of its webhook: it stays the same over restarts.
    hook: String,
}

struct Scene {
    sides: [Side; 3],
    model: MockModel,
    gateway: TestGateway,
    /// Where the certificate is that the gateway believes.
    _roots: TempFolder,
}

/// What a side saw in one row.
struct Seen {
    copies: usize,
    inversions: usize,
}

fn component(file: &str) -> String {
    Path::new(env!("OUT_DIR")).join(file).display().to_string()
}

async fn scene() -> Scene {
    let model = MockModel::start().await;
    let folder = TempFolder::new();
    let roots = folder.path().join("roots.pem");
    let authority = Authority::written_to(&roots);
    let side = async |channel| {
        let platform = FakePlatform::start().await;
        let front = Front::start(&platform, &authority).await;
        front.open();
        Side {
            channel,
            platform,
            front,
            hook: String::new(),
        }
    };
    let mut sides = [side("keyed").await, side("asking").await, side("neither").await];
    sides[0].platform.deduplicate();
    let setup = Setup::new()
        .model(&model)
        .posting_to("keyed", &component("keyed.wasm"), &sides[0].front.endpoint(), "")
        .posting_to("asking", &component("asking.wasm"), &sides[1].front.endpoint(), "")
        .posting_to("neither", "webhook", &sides[2].front.endpoint(), "")
        .env("SSL_CERT_FILE", &roots.display().to_string());
    let gateway = setup.start().await;
    for side in &mut sides {
        side.hook = gateway.hook(side.channel).await;
    }
    Scene {
        sides,
        model,
        gateway,
        _roots: folder,
    }
}

fn text(row: &Row, side: &Side, message: &str) -> String {
    format!("{} {} {message}", row.number, side.channel)
}

fn body(row: &Row, side: &Side, message: &str) -> String {
    let text = text(row, side, message);
    json!({"id": text, "conversation": format!("c{}", row.number), "sender": "ada", "text": text}).to_string()
}

impl Scene {
    /// Posts a message and returns whether it was confirmed.
    async fn post(&self, row: &Row, side: &Side, message: &str) -> bool {
        let body = body(row, side, message);
        let posted = http::request(self.gateway.address(), "POST", &side.hook, &[], body.as_bytes());
        posted.await.is_ok_and(|answer| answer.status == 200)
    }

    /// Brings the messages to the point, kills the gateway there, and starts it again.
    async fn die_at(&mut self, row: &Row) {
        match row.point {
            Point::Posted => {
                // Nothing gets to its delivery, however late the death comes.
                self.model.hold();
                let mut streams = Vec::new();
                for side in &self.sides {
                    let body = body(row, side, "one");
                    let sent = http::send(self.gateway.address(), "POST", &side.hook, &[], body.as_bytes());
                    streams.push(sent.await.expect("the request is written"));
                }
                self.gateway.kill().await;
                self.model.release();
                return self.gateway.restart().await;
            }
            Point::Confirmed | Point::Asked => self.model.hold(),
            Point::Arrived(act) => {
                for side in &self.sides {
                    side.platform.next(&format!("c{}", row.number), [act]);
                }
            }
            Point::Connecting => {
                // A new process has no connection that it keeps.
                self.gateway.crash().await;
                self.sides.iter().for_each(|side| side.front.close());
            }
            Point::Answered => {}
        }
        let connected = self.sides.each_ref().map(|side| side.front.connected.len());
        for side in &self.sides {
            assert!(self.post(row, side, "one").await, "{}", text(row, side, "one"));
        }
        if matches!(row.point, Point::Connecting) {
            self.die_connecting(connected).await;
        }
        self.wait_for(row).await;
        self.gateway.kill().await;
        self.sides.iter().for_each(|side| side.front.open());
        self.model.release();
        self.gateway.restart().await;
    }

    /// Kills the gateway twice while its deliveries connect, and waits until those of the third process do.
    async fn die_connecting(&mut self, connected: [usize; 3]) {
        for deaths in 0..3 {
            if deaths > 0 {
                self.gateway.crash().await;
            }
            for (side, before) in self.sides.iter().zip(connected) {
                let seen = &side.front.connected;
                seen.wait_for_len("the delivery connects", before + deaths + 1).await;
            }
        }
    }

    async fn wait_for(&self, row: &Row) {
        for side in &self.sides {
            let question = text(row, side, "one");
            match row.point {
                Point::Posted | Point::Confirmed | Point::Connecting => {}
                Point::Asked => {
                    let is_asked =
                        |all: &[serde_json::Value]| all.iter().any(|one| one.to_string().contains(&question));
                    let asked = |all: &[serde_json::Value]| is_asked(all).then_some(());
                    self.model.asked().wait_for("the model is asked", asked).await;
                }
                Point::Answered => {
                    let answer = format!("re: {question}");
                    let finished = |all: &[String]| all.contains(&answer).then_some(());
                    self.model.finished().wait_for("the model's answer", finished).await;
                }
                Point::Arrived(_) => {
                    let conversation = format!("c{}", row.number);
                    side.platform.wait_for_arrived(&conversation, 1).await;
                }
            }
        }
    }

    /// Repeats what was posted, as platforms do, says one thing more, and looks at what the platform took in all.
    async fn after(&self, row: &Row, side: &Side) -> Seen {
        for message in ["one", "two"] {
            assert!(self.post(row, side, message).await, "{}", text(row, side, message));
        }
        let conversation = format!("c{}", row.number);
        let expected = ["one", "two"].map(|message| format!("re: {}", text(row, side, message)));
        // Waiting for each of them is the proof that none is lost.
        for reply in &expected {
            let has =
                |all: &[harness::Delivery]| all.iter().any(|one| one.accepted && one.text == *reply).then_some(());
            side.platform.arrived().wait_for(reply, has).await;
        }
        self.gateway.wait_for_metric("sluicegate_inbox_waiting", 0.0).await;
        self.gateway.wait_for_metric("sluicegate_outbox_waiting", 0.0).await;
        let taken = side.platform.accepted(&conversation);
        let first = |reply: &String| taken.iter().position(|one| one.text == *reply);
        Seen {
            copies: taken.len() - expected.len(),
            inversions: usize::from(first(&expected[0]) > first(&expected[1])),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crash_at_any_point_costs_what_the_table_says() {
    let mut scene = scene().await;
    let mut table = String::from(
        "| dies between | key dropped by the platform | component can ask | neither |\n| --- | --- | --- | --- |\n",
    );
    for row in &ROWS {
        scene.die_at(row).await;
        let _ = write!(table, "| {} {} |", row.number, row.dies);
        for side in &scene.sides {
            let seen = scene.after(row, side).await;
            let what = format!("row {} on `{}`", row.number, side.channel);
            assert_eq!(seen.inversions, 0, "{what}");
            let cell = match row.copies {
                Some(copies) if side.channel == "neither" => {
                    assert_eq!(seen.copies, copies, "{what}");
                    format!("{copies} copies")
                }
                None if side.channel == "neither" => {
                    assert!(
                        seen.copies <= 1,
                        "{what}: {} copies of one ambiguous attempt",
                        seen.copies
                    );
                    "at most 1 copy".to_owned()
                }
                _ => {
                    assert_eq!(seen.copies, 0, "{what}");
                    "0 copies".to_owned()
                }
            };
            let cell = cell.replace("1 copies", "1 copy");
            let _ = write!(table, " lost 0, {cell}, order kept |");
        }
        table.push('\n');
    }
    assert!(scene.gateway.metric("sluicegate_dead_letters", "").await < 0.5);
    println!("{table}");
    compare(&table);
}

/// Compares the table with the one in README.md; `UPDATE_GOLDEN=1` writes it there.
fn compare(table: &str) {
    let readme = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../README.md");
    let page = std::fs::read_to_string(&readme).expect("the README is there");
    let (before, rest) = page.split_once(MARKS[0]).expect("the README has the table's begin");
    let (found, after) = rest.split_once(MARKS[1]).expect("the README has the table's end");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        let page = [before, MARKS[0], table, MARKS[1], after].concat();
        std::fs::write(&readme, page).expect("the README can be written");
    } else {
        assert_eq!(
            found, table,
            "the table in README.md is another one: UPDATE_GOLDEN=1 writes it"
        );
    }
}
