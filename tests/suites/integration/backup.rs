//! `sluicegate db backup` of a gateway that runs, where something comes in between: a copy is whole, or it is not there.

use harness::{FakePlatform, Program, Setup, Signal, TestGateway, eventually, sluicegate_binary};
use tokio::process::Command;

use crate::folder::{SmallDisk, names};
use crate::operator::{done, fails};

/// A gateway with a file that waits to be delivered.
async fn with_a_file() -> TestGateway {
    let platform = FakePlatform::start_down();
    let gateway = Setup::new().echo().webhook("hook", &platform).start().await;
    std::fs::write(gateway.folder().join("note.txt"), "a file").expect("a file");
    done(&gateway, &["send", "hook", "c1", "look", "--file", "note.txt"]).await;
    gateway
}

#[tokio::test]
async fn a_copy_that_is_cut_short_leaves_nothing() {
    let gateway = with_a_file().await;
    let before = names(gateway.folder());
    let blobs = gateway.data().join("blobs");
    let blob = blobs.join(names(&blobs).pop().expect("a blob"));
    // Whoever reads it waits for ever.
    std::fs::remove_file(&blob).expect("the blob goes");
    let made = std::process::Command::new("mkfifo").arg(&blob).status();
    assert!(made.expect("mkfifo runs").success());
    for signal in [Signal::Interrupt, Signal::Terminate, Signal::HangUp] {
        let mut command = Command::new(sluicegate_binary());
        command.args(["db", "backup", "copy"]).current_dir(gateway.folder());
        let mut program = Program::spawn(command);
        eventually("the copy is under way", async || {
            assert_eq!(program.exit_status(), None, "{}", program.errors().shown());
            let found = names(gateway.folder())
                .into_iter()
                .find(|name| !before.contains(name))?;
            gateway.folder().join(found).join("blobs").is_dir().then_some(())
        })
        .await;
        program.signal(signal);
        let (code, _, errors) = program.outcome().await;
        assert_eq!(code, Some(130), "{errors}");
        assert!(errors.contains("cut short"), "{errors}");
        assert_eq!(names(gateway.folder()), before, "{signal:?}");
    }
}

#[tokio::test]
async fn a_copy_goes_where_there_is_room_and_nothing_else() {
    let gateway = with_a_file().await;
    done(&gateway, &["db", "backup", "copy/"]).await;
    assert!(gateway.folder().join("copy/sluicegate.db").is_file());
    let data = gateway.data().display().to_string();
    std::os::unix::fs::symlink("nowhere", gateway.folder().join("link")).expect("a link");
    for there in ["copy", "copy/", "data", &data, "link", "note.txt"] {
        let said = fails(gateway.folder(), &["db", "backup", there], 1).await;
        assert!(said.contains("is there already"), "{there}: {said}");
    }
    let below_a_file = fails(gateway.folder(), &["db", "backup", "note.txt/copy"], 1).await;
    assert!(!below_a_file.contains("WARN"), "{below_a_file}");
    let Some(disk) = SmallDisk::mount() else { return };
    disk.fill(40 * 1024);
    let before = names(disk.path());
    let copy = disk.path().join("copy").display().to_string();
    let full = fails(gateway.folder(), &["db", "backup", &copy], 1).await;
    assert!(
        full.contains("storage space") && full.contains("name a place with room"),
        "{full}"
    );
    assert_eq!(names(disk.path()), before);
}
