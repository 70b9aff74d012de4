//! Guests that have a folder, and want more than to put files into it.

use std::path::Path;

use sluicegate::event::Receipt;
use sluicegate::limit;
use sluicegate::policy::Grants;
use sluicegate::store::{EventStore as _, Quota};

use crate::support::{Hostile, Rig};

/// A channel with a granted folder in a folder that nobody granted.
async fn granted() -> (tempfile::TempDir, Hostile) {
    let around = tempfile::tempdir().expect("a temporary folder");
    let folder = around.path().join("granted");
    std::fs::create_dir(&folder).expect("the granted folder");
    let rig = Rig::new().folder(&folder).ample_cpu().up().await;
    (around, rig)
}

fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).expect("the folder is there");
    let mut names: Vec<_> = entries
        .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

#[tokio::test]
async fn a_guest_puts_no_file_without_a_grant_and_none_after_it_was_revoked() {
    let rig = Rig::new().up().await;
    assert_eq!(rig.report("folder name a").await, "denied");
    rig.survived().await;
    let (around, rig) = granted().await;
    assert_eq!(rig.report("folder name a").await, "put");
    rig.channel.services().egress.set_grants(Grants::default());
    assert_eq!(rig.report("folder name b").await, "denied");
    assert_eq!(names(&around.path().join("granted")), ["a"]);
    rig.survived().await;
}

#[tokio::test]
async fn no_name_leads_out_of_the_granted_folder_or_hides_in_it() {
    let (around, rig) = granted().await;
    assert_eq!(rig.report("folder names").await, "0 of 12 names");
    assert_eq!(names(around.path()), ["granted"]);
    assert_eq!(names(&around.path().join("granted")), Vec::<String>::new());
    rig.survived().await;
}

#[cfg(unix)]
#[tokio::test]
async fn a_file_in_the_granted_folder_is_neither_replaced_nor_followed() {
    let (around, rig) = granted().await;
    let (folder, outside) = (around.path().join("granted"), around.path().join("outside"));
    std::fs::write(folder.join("theirs"), b"theirs").expect("a file of somebody else's");
    std::os::unix::fs::symlink(&outside, folder.join("link")).expect("a link");
    for name in ["theirs", "link"] {
        assert_eq!(rig.report(&format!("folder name {name}")).await, "taken", "{name}");
    }
    assert_eq!(std::fs::read(folder.join("theirs")).expect("it is there"), b"theirs");
    assert!(!outside.exists(), "nothing was written through the link");
    rig.survived().await;
}

#[tokio::test]
async fn files_are_bounded_in_size_and_number_and_a_blob_of_another_channel_is_none() {
    let (around, rig) = granted().await;
    let folder = around.path().join("granted");
    for n in 3..limit::FOLDER_FILES_MAX {
        std::fs::File::create(folder.join(format!("theirs{n}"))).expect("a file of somebody else's");
    }
    assert_eq!(rig.report("folder flood").await, "3 files, then full");
    assert_eq!(names(&folder).len(), limit::FOLDER_FILES_MAX);
    for n in 3..6 {
        std::fs::remove_file(folder.join(format!("theirs{n}"))).expect("it is taken away");
    }
    // The largest that fits the guest's memory is written; what another channel stored is not to be had.
    assert_eq!(rig.report("folder huge").await, "put");
    let other = sluicegate::id::ChannelName::from_trusted("neighbour");
    let stored = rig
        .store
        .blob_put(&other, "text/plain", b"private".to_vec(), Quota::default(), 0);
    let handle = stored.await.expect("it is stored");
    assert_eq!(rig.report(&format!("folder blob {handle}")).await, "invalid");
    let own = sluicegate::id::ChannelName::from_trusted(rig.name());
    let stored = rig
        .store
        .blob_put(&own, "text/plain", vec![0; limit::BLOB_BYTES_MAX], Quota::default(), 0);
    let handle = stored.await.expect("the largest is stored");
    assert_eq!(rig.report(&format!("folder blob {handle}")).await, "put");
    rig.survived().await;
}

#[tokio::test]
async fn a_guest_that_has_put_a_file_and_dies_is_not_believed_to_have_sent_nothing() {
    let (_around, rig) = granted().await;
    let attempt = rig.deliver("folder name a").await;
    let receipt: Receipt = attempt.result.expect("a receipt");
    assert_eq!(receipt.message_ids, ["put"]);
    assert!(!attempt.bytes_left, "it was answered, and the guest said so");
    let attempt = rig.deliver("panic folder").await;
    assert!(!attempt.bytes_left, "nothing was put");
    let attempt = rig.deliver("folder panic").await;
    assert!(
        attempt.result.is_err() && attempt.bytes_left,
        "a file was put, and nobody said what of it"
    );
    rig.survived().await;
}
