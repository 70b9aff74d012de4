//! A granted folder that is out of order: messages wait for it, and none is lost or doubled.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use harness::{Setup, TestGateway, eventually};

use crate::operator::{done, fails, json_of};

fn section(folder: &Path) -> String {
    format!(
        "[channels.outbox]\ncomponent = \"file-drop\"\nsettings = {{ format = \"markdown\" }}\ngrant = [\"folder:{}\"]",
        folder.display()
    )
}

async fn send(gateway: &TestGateway, conversation: &str, text: &str) {
    done(gateway, &["send", "outbox", conversation, text]).await;
}

/// Returns the texts of the messages in a folder, sorted.
fn texts(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).expect("the folder is there");
    let paths = entries.map(|entry| entry.expect("an entry").path());
    let pages = paths.filter(|path| path.extension().is_some_and(|extension| extension == "md"));
    let mut texts: Vec<_> = pages
        .map(|path| std::fs::read_to_string(path).expect("a page").trim_end().to_owned())
        .collect();
    texts.sort();
    texts
}

async fn wait_for_texts(folder: &Path, expected: &[&str]) {
    eventually("the files are there", async || {
        (texts(folder) == expected).then_some(())
    })
    .await;
}

async fn failures(gateway: &TestGateway) -> f64 {
    gateway.metric("sluicegate_delivery_failed_total", "").await
}

/// Waits until another attempt failed for certain.
async fn wait_for_failure(gateway: &TestGateway, before: f64) {
    eventually("an attempt fails", async || {
        (failures(gateway).await > before + 0.5).then_some(())
    })
    .await;
}

fn place() -> (tempfile::TempDir, PathBuf) {
    let around = tempfile::tempdir().expect("a temporary folder");
    let folder = around.path().join("outbox");
    std::fs::create_dir(&folder).expect("the granted folder");
    (around, folder)
}

#[tokio::test]
async fn a_folder_that_is_away_is_waited_for_over_a_crash() {
    let (around, folder) = place();
    let mut gateway = Setup::new().echo().section(&section(&folder)).start().await;
    send(&gateway, "a", "one").await;
    wait_for_texts(&folder, &["one"]).await;
    let away = around.path().join("away");
    std::fs::rename(&folder, &away).expect("the folder is taken away");
    send(&gateway, "a", "two").await;
    wait_for_failure(&gateway, 0.0).await;
    gateway.crash().await;
    std::fs::rename(&away, &folder).expect("the folder is back");
    wait_for_texts(&folder, &["one", "two"]).await;
    gateway.wait_for_metric("sluicegate_outbox_waiting", 0.0).await;
    assert_eq!(texts(&folder), ["one", "two"]);
}

#[tokio::test]
async fn a_full_folder_is_waited_for_and_a_revoked_one_is_not_written_to() {
    let (_around, folder) = place();
    let gateway = Setup::new().echo().section(&section(&folder)).start().await;
    let large = std::fs::File::create(folder.join("large")).expect("a file of somebody else's");
    // As the gateway's own bound says: a sparse file counts with its length.
    large.set_len(1024 * 1024 * 1024).expect("its length");
    send(&gateway, "a", "one").await;
    wait_for_failure(&gateway, 0.0).await;
    assert_eq!(texts(&folder), Vec::<String>::new());
    std::fs::remove_file(folder.join("large")).expect("it is taken away");
    wait_for_texts(&folder, &["one"]).await;
    let grant = format!("folder:{}", folder.display());
    done(&gateway, &["channel", "grant", "outbox", "--revoke", &grant]).await;
    let before = failures(&gateway).await;
    send(&gateway, "b", "two").await;
    wait_for_failure(&gateway, before).await;
    assert_eq!(texts(&folder), ["one"]);
    done(&gateway, &["channel", "grant", "outbox", &grant]).await;
    wait_for_texts(&folder, &["one", "two"]).await;
}

/// A file system of its own with little room, which goes with it.
pub(crate) struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    /// Mounts one, which takes the right to mount (root's); elsewhere the test says that it was skipped.
    #[expect(clippy::print_stdout, reason = "says why nothing is proved on this machine")]
    pub(crate) fn mount() -> Option<Self> {
        let place = tempfile::tempdir().expect("a temporary folder");
        let mut command = Command::new("mount");
        command.args(["-t", "tmpfs", "-o", "size=256k", "sluicegate-small-disk"]);
        match command.arg(place.path()).output() {
            Ok(output) if output.status.success() => Some(Self(place)),
            other => {
                println!("skipped: a small disk can't be mounted here: {other:?}");
                None
            }
        }
    }

    /// Writes until all but `free_bytes` is taken, and returns the file that takes it.
    pub(crate) fn fill(&self, free_bytes: u64) -> PathBuf {
        let path = self.0.path().join("filler");
        let mut filler = std::fs::File::create(&path).expect("a file on the disk");
        while filler.write_all(&[7; 4096]).is_ok() {}
        let taken = filler.metadata().expect("its length").len();
        filler.set_len(taken - free_bytes).expect("some of it is given back");
        path
    }
}

impl SmallDisk {
    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily, so that a process which a failed test left behind can't hold it.
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

pub(crate) fn names(folder: &Path) -> Vec<std::ffi::OsString> {
    let entries = std::fs::read_dir(folder).expect("the folder is there");
    entries.map(|entry| entry.expect("an entry").file_name()).collect()
}

#[tokio::test]
async fn a_full_disk_is_waited_for_and_nothing_half_written_stays_on_it() {
    let Some(disk) = SmallDisk::mount() else { return };
    let folder = disk.0.path().join("outbox");
    std::fs::create_dir(&folder).expect("the granted folder");
    let gateway = Setup::new().echo().section(&section(&folder)).start().await;
    // Of the long one the beginning still finds room.
    let filler = disk.fill(8 * 1024);
    let long = "long ".repeat(8 * 1024);
    send(&gateway, "a", &long).await;
    wait_for_failure(&gateway, 0.0).await;
    assert_eq!(names(&folder), Vec::<std::ffi::OsString>::new(), "nothing half written");
    let waiting = json_of(&gateway, &["outbox", "list"]).await;
    let reason = waiting[0]["reason"].as_str().unwrap_or_default();
    assert!(reason.contains("its disk is full"), "{waiting}");
    std::fs::remove_file(filler).expect("room is made");
    wait_for_texts(&folder, &[long.trim_end()]).await;
    gateway.wait_for_metric("sluicegate_outbox_waiting", 0.0).await;
    assert_eq!(names(&folder).len(), 1);
}

#[tokio::test]
async fn the_folder_is_named_by_the_operator_and_never_the_gateways_own() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let here = folder.path();
    let add = |words: &[&str]| [&["channel", "add", "file-drop", "outbox"], words].concat().join(" ");
    let run = async |words: &[&str], code| {
        let line = add(words);
        fails(here, &line.split(' ').collect::<Vec<_>>(), code).await
    };
    assert!(run(&[], 2).await.contains("--grant folder:/PATH"));
    assert!(run(&["--yes"], 2).await.contains("--yes names none"));
    assert!(run(&["--grant", "folder:outbox"], 2).await.contains("absolute path"));
    assert!(
        run(&["--grant", "folder:/srv/../etc"], 2)
            .await
            .contains("without `..`")
    );
    std::fs::create_dir(here.join("data")).expect("the data directory");
    std::fs::write(here.join("sluicegate.toml"), section(&here.join("data/inside"))).expect("the configuration");
    let said = fails(here, &["config", "check"], 3).await;
    assert!(said.contains("data directory"), "{said}");
}
