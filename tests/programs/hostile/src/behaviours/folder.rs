//! Puts files into the granted folder under names that lead out of it or hide in it, in place of other files, too large, or
//! without end. The argument says which.

use sluicegate_sdk::folder::{Content, FolderError, put};

fn named(error: &FolderError) -> &'static str {
    match error {
        FolderError::Denied(_) => "denied",
        FolderError::Invalid(_) => "invalid",
        FolderError::TooLarge => "too large",
        FolderError::Taken => "taken",
        FolderError::Full(_) => "full",
        FolderError::Failed(_) => "failed",
        FolderError::Interrupted(_) => "interrupted",
        FolderError::ShuttingDown => "shutting down",
    }
}

fn outcome(name: &str, content: Content) -> &'static str {
    put(name, &content).map_or_else(|error| named(&error), |()| "put")
}

pub(crate) fn run(argument: &str) -> String {
    let small = || Content::Bytes(b"hostile".to_vec());
    match argument.split_once(' ').unwrap_or((argument, "")) {
        ("name", name) => outcome(name, small()).to_owned(),
        ("names", _) => {
            let names = [
                "../escaped",
                "/tmp/escaped",
                "a/b",
                "..",
                ".",
                "",
                ".hidden",
                ".sluicegate-1",
                "a\0b",
                "a\nb",
                "-rf",
                "C:x",
            ];
            let put = names.iter().filter(|name| outcome(name, small()) != "invalid").count();
            format!("{put} of {} names", names.len())
        }
        ("panic", _) => panic!("after a file was {}", outcome("before", small())),
        ("huge", _) => outcome("huge", Content::Bytes(vec![b'x'; 16 * 1024 * 1024])).to_owned(),
        ("blob", handle) => outcome("blob", Content::Blob(handle.to_owned())).to_owned(),
        ("flood", _) => {
            let mut files = 0;
            loop {
                match outcome(&format!("f{files}"), Content::Bytes(Vec::new())) {
                    "put" => files += 1,
                    other => return format!("{files} files, then {other}"),
                }
            }
        }
        _ => format!("no such attack: {argument}"),
    }
}
