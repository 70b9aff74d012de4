//! Changing a channel: through the gateway that runs on this configuration, where one does, so that the change holds at once;
//! else in the configuration file alone. Either way the file is changed whole or not at all.

use std::path::Path;

use serde_json::json;

use super::channel::unknown;
use super::failure::{Failure, Kind};
use super::running::Running;
use crate::admin::{ChannelChanged, Done};
use crate::config::{Editor, FILE_NAME, Put, Sources, again_where_outdated};

/// Opens the configuration file, which must have this channel.
///
/// # Errors
/// Where there is none, it can't be read, or has no such channel.
pub(super) fn open(sources: &Sources, name: &str) -> Result<Editor, Failure> {
    let editor = open_as_it_is(sources, name)?;
    if !editor.has_channel(name) {
        return Err(unknown(name, editor.channel_names()));
    }
    Ok(editor)
}

/// Opens the configuration file for a channel that stands in it or, taken out of it by hand, still runs in the gateway.
///
/// # Errors
/// As [`open`], and where neither has it.
pub(super) fn open_also_without(sources: &Sources, name: &str) -> Result<Editor, Failure> {
    let editor = open_as_it_is(sources, name)?;
    if !editor.has_channel(name) {
        let running = Running::find(sources)?.map(|running| running.channels()).transpose()?;
        let views = running.unwrap_or_default();
        if !views.iter().any(|view| view.name.as_str() == name) {
            let run = views.iter().map(|view| view.name.as_str());
            return Err(unknown(name, editor.channel_names().chain(run)));
        }
    }
    Ok(editor)
}

/// Opens the configuration file for something to do with this channel, which need not stand in it.
///
/// # Errors
/// Where there is none, or it can't be read.
fn open_as_it_is(sources: &Sources, name: &str) -> Result<Editor, Failure> {
    let Some(file) = sources.existing_file() else {
        let message = format!("there is no configuration file, so no channel {name:?} in it");
        let remedy = format!("name the file with --config, or make {FILE_NAME}");
        return Err(Failure::new(Kind::Usage, message, remedy));
    };
    Ok(Editor::open(&file)?)
}

/// Makes a change of one channel: `open` opens the file and changes it, again each time somebody else's change was faster.
/// Returns with what that returns what the gateway did; none where none runs, so that only the file was changed.
///
/// # Errors
/// Why not: neither the file nor the channel is changed then.
pub(super) fn put<T>(
    sources: &Sources,
    name: &str,
    mut open: impl FnMut() -> Result<(Editor, T), Failure>,
) -> Result<(T, Option<ChannelChanged>), Failure> {
    again_where_outdated(|| {
        let (editor, made) = open()?;
        Ok(match put_once(sources, &editor, name)? {
            Put::Done(changed) => Put::Done((made, changed)),
            Put::Outdated(file) => Put::Outdated(file),
        })
    })
}

fn put_once(sources: &Sources, editor: &Editor, name: &str) -> Result<Put<Option<ChannelChanged>>, Failure> {
    let Some(running) = Running::find(sources)? else {
        return Ok(match editor.put()? {
            Put::Done(()) => Put::Done(caught_up(sources, editor.path(), name)?),
            Put::Outdated(file) => Put::Outdated(file),
        });
    };
    order(&running, editor, name)
}

/// Has a gateway that took the data directory while the file was being changed take over what the file says of a channel: it
/// may have read the file before. Returns what it did; none where there is no such gateway.
///
/// # Errors
/// Why it did not: the file is changed then, and what runs may not be.
pub(super) fn caught_up(sources: &Sources, file: &Path, name: &str) -> Result<Option<ChannelChanged>, Failure> {
    let told = Running::find(sources).and_then(|running| {
        let taken_over = running.map(|running| take_over_what_is_written(&running, file, name));
        taken_over.transpose()
    });
    told.map_err(|failure| failure.after(&format!("{} is changed, and what runs may not be", file.display())))
}

fn take_over_what_is_written(running: &Running, file: &Path, name: &str) -> Result<ChannelChanged, Failure> {
    let is_running = running.channels()?.iter().any(|view| view.name.as_str() == name);
    again_where_outdated(|| {
        let editor = Editor::open(file)?;
        if !is_running && !editor.has_channel(name) {
            // It was removed before the gateway read the file.
            return Ok(Put::Done(ChannelChanged {
                done: Done::Unchanged,
                notes: Vec::new(),
                channel: None,
            }));
        }
        order(running, &editor, name)
    })
}

/// Has the gateway that runs make a change of a channel, in the file too.
fn order<T: From<ChannelChanged>>(running: &Running, editor: &Editor, name: &str) -> Result<Put<T>, Failure> {
    let file = std::path::absolute(editor.path()).map_err(|error| Failure::plain(error.to_string()))?;
    let staged = editor.stage()?;
    let edit = json!({
        "file": file,
        "base": staged.base(),
        "ticket": staged.ticket(),
    });
    let changed = running.take_over(&["channels", name], &edit)?;
    Ok(changed.map_or_else(
        || Put::Outdated(editor.path().to_owned()),
        |changed| Put::Done(changed.into()),
    ))
}

/// Says what a change came to, and what the operator should know of it.
pub(super) fn report(changed: Option<&ChannelChanged>) -> String {
    let Some(changed) = changed else {
        return "No gateway runs in this data directory: the next one has it so.\n".to_owned();
    };
    let mut text = format!("{}\n", words(changed.done));
    for note in &changed.notes {
        text.push_str(&format!("note: {}\n", crate::shown::printable(note)));
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
