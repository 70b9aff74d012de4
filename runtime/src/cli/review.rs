//! `sluicegate channel review`: what a changed component asks for against the one that was reviewed, and the question
//! whether it may take its place.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use super::add::{Asked, granted, wanted};
use super::apply;
use super::args::ReviewArgs;
use super::component::{ask, ask_for, bundled_names, card, load, plain, requests};
use super::console::Console;
use super::failure::{Failure, Kind};
use crate::component::{self, Inspection, Shelf};
use crate::config::{ChannelConfig, ComponentSource, Config, GatewayConfig, Sources};
use crate::id::ChannelName;
use crate::limit;
use crate::policy::GrantEntry;

/// Shows what changed, asks, and pins the grants to the component that is there now.
///
/// # Errors
/// Where there is nothing to review, or nobody says yes; nothing is changed then.
pub(super) fn review(args: &ReviewArgs, sources: &Sources, console: &mut Console) -> Result<String, Failure> {
    let name = args.name.as_str();
    apply::open(sources, name)?;
    let config = Config::read(sources, &bundled_names()).config;
    let channel = super::channel::find(&config, name)?;
    let ComponentSource::File(path) = &channel.component else {
        let message = format!("the component of {name} is bundled: it changes only with sluicegate itself");
        return Err(Failure::new(Kind::Usage, message, "there is nothing to review"));
    };
    let path = path.display().to_string();
    let wasm = load(&path)?;
    if channel.sha256.as_deref() == Some(component::digest(&wasm).as_str()) {
        return Ok(format!(
            "{path} is the component that was reviewed; there is nothing to review\n"
        ));
    }
    let now = ask_for(&config.gateway, &path, &wasm)?;
    let before = kept(name, channel, &config.gateway);
    console.say(&difference(channel, before.as_ref(), &now))?;
    let grants = accepted(args, channel, &now, console)?;
    let ((), changed) = apply::put(sources, name, || {
        let mut editor = apply::open(sources, name)?;
        editor.set_digest(name, &now.digest)?;
        editor.set_grants(name, &grants)?;
        Ok((editor, ()))
    })?;
    let digest = &now.digest[..limit::DIGEST_SHOWN_BYTES];
    Ok(format!(
        "{name}: reviewed {digest}…\n{}",
        apply::report(changed.as_ref())
    ))
}

/// Returns what the reviewed component was, if its bytes are still kept.
fn kept(name: &str, channel: &ChannelConfig, gateway: &GatewayConfig) -> Option<Inspection> {
    let shelf = Shelf::of(&gateway.data);
    let reviewed = shelf.reviewed(&ChannelName::from_trusted(name), channel.sha256.as_deref());
    let wasm = shelf.get(&reviewed?)?;
    ask(gateway, "the reviewed component", &wasm).ok()
}

/// Returns the grants that the new component is to have: what is granted already and still asked for, and what of the rest is
/// granted now.
fn accepted(
    args: &ReviewArgs,
    channel: &ChannelConfig,
    now: &Inspection,
    console: &mut Console,
) -> Result<Vec<GrantEntry>, Failure> {
    let by_flags = args.yes || !args.grants.is_empty();
    if !by_flags && !console.is_interactive() {
        let remedy = "look at the difference; then say --yes for all that it asks for, or --grant for a part of that";
        return Err(Failure::new(Kind::Usage, "nobody is there to be asked", remedy));
    }
    if !by_flags && !console.confirm("May it take the place of the reviewed one?")? {
        return Err(Failure::plain("it waits on; nothing was changed"));
    }
    let wanted = wanted(now, &channel.settings, &channel.secret_sources)?;
    let (kept, dropped): (Vec<_>, Vec<_>) = channel
        .grants
        .iter()
        .cloned()
        .partition(|grant| wanted.iter().any(|it| it.is_covered_by(grant)));
    for grant in dropped {
        console.say(&format!(
            "It does not ask for {grant} any more, so that is not granted any more.\n"
        ))?;
    }
    let asked = Asked {
        given: kept,
        flags: &args.grants,
        all: args.yes,
    };
    granted(asked, &wanted, console)
}

/// Writes the difference between two components, or the whole of the new one where the old one is not kept.
fn difference(channel: &ChannelConfig, before: Option<&Inspection>, now: &Inspection) -> String {
    let mut text = String::new();
    let Some(before) = before else {
        text.push_str(match channel.sha256 {
            None => "Nobody reviewed this component yet:\n\n",
            Some(_) => "The reviewed component is not kept, so this is the whole of the new one:\n\n",
        });
        text.push_str(&card(now));
        return text;
    };
    // Writing to a String can't fail.
    for (which, it) in [("reviewed", before), ("now", now)] {
        let (name, version) = (plain(&it.name), plain(&it.version));
        let _ = writeln!(
            text,
            "{which:<9} {name} {version}, {} KiB, sha256 {}",
            it.bytes.div_ceil(1024),
            it.digest
        );
    }
    let (old, new): (BTreeSet<String>, BTreeSet<String>) = (
        requests(before).into_iter().collect(),
        requests(now).into_iter().collect(),
    );
    for (title, lines) in [
        ("It asks, newly, for:", new.difference(&old)),
        ("It asks no longer for:", old.difference(&new)),
    ] {
        let lines: Vec<&String> = lines.collect();
        if !lines.is_empty() {
            let _ = writeln!(text, "{title}");
        }
        for line in lines {
            let _ = writeln!(text, "  {line}");
        }
    }
    if old == new {
        text.push_str("It asks for the same as before.\n");
    }
    text
}
