//! Changing a channel: through the gateway that runs on this configuration, where one does, so that the change holds at once;
//! else in the configuration file alone. Either way the file is changed whole or not at all.

use serde_json::json;

use super::failure::{Failure, Kind};
use super::running::Running;
use crate::admin::{ChannelChanged, Done};
use crate::component;
use crate::config::{Editor, FILE_NAME, Sources};

/// Opens the configuration file, which must exist.
///
/// # Errors
/// Where there is none, or it can't be read.
pub(super) fn open(sources: &Sources, name: &str) -> Result<Editor, Failure> {
    let Some(file) = sources.existing_file() else {
        let message = format!("there is no configuration file, so no channel {name:?} in it");
        let remedy = format!("name the file with --config, or make {FILE_NAME}");
        return Err(Failure::new(Kind::Usage, message, remedy));
    };
    Ok(Editor::open(&file)?)
}

/// Makes a change of one channel that stands in the editor. Returns what the gateway did; none where none runs, so that
/// only the file was changed.
///
/// # Errors
/// Why not: neither the file nor the channel is changed then.
pub(super) fn put(sources: &Sources, editor: &Editor, name: &str) -> Result<Option<ChannelChanged>, Failure> {
    let Some(running) = Running::find(sources)? else {
        editor.save()?;
        return Ok(None);
    };
    let file = std::path::absolute(editor.path()).map_err(|error| Failure::plain(error.to_string()))?;
    let staged = editor.stage()?;
    let edit = json!({
        "file": file,
        "base": component::digest(editor.before().as_bytes()),
        "ticket": staged.ticket(),
    });
    running.change(&["channels", name], Some(edit)).map(Some)
}

/// Says what a change came to, and what the operator should know of it.
pub(super) fn report(changed: Option<&ChannelChanged>) -> String {
    let Some(changed) = changed else {
        return "No gateway runs in this data directory: the next one has it so.\n".to_owned();
    };
    let mut text = format!("{}\n", words(changed.done));
    for note in &changed.notes {
        text.push_str(&format!("note: {}\n", crate::guest::printable(note)));
    }
    text
}

fn words(done: Done) -> &'static str {
    match done {
        Done::Added => "The running gateway has it now.",
        Done::Replaced => "The running gateway has put it in the place of the old one.",
        Done::Granted => "In the running gateway it holds from the next use on.",
        Done::Paused => "It is paused.",
        Done::Resumed => "It is back at work.",
        Done::Removed => "The running gateway has stopped it.",
        Done::Unchanged => "It was so already.",
    }
}
