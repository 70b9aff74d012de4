//! Guests that write: bounded in rate and length, and nothing they write drives a terminal or forges a line.

use std::time::{Duration, Instant};

use sluicegate::limit;
use sluicegate::policy::Access;

use crate::support::{Hostile, Rig, SECRET};

/// Lines that a channel may have written by now.
fn lines_allowed(since: Instant) -> usize {
    let earned = f64::from(limit::LOG_LINES_PER_SECOND_DEFAULT) * (since.elapsed().as_secs_f64() + 1.0);
    limit::LOG_LINES_BURST as usize + earned as usize
}

/// Lines of this channel that are about `what`.
fn lines_with(rig: &Hostile, what: &str) -> Vec<String> {
    rig.log_lines()
        .into_iter()
        .filter(|line| line.contains(what) && line.contains(rig.name()))
        .collect()
}

#[tokio::test]
async fn a_flood_of_log_lines_is_cut_counted_and_stopped() {
    for attack in ["log_flood", "print_flood"] {
        let (rig, began) = (Rig::new().up().await, Instant::now());
        assert_eq!(rig.trap(attack).await, "it used up its CPU time");
        let lines = lines_with(&rig, "");
        assert!(lines.len() <= lines_allowed(began), "{attack}: {} lines", lines.len());
        assert!(
            lines.len() >= 10,
            "{attack}: an honest amount is kept, not {} lines",
            lines.len()
        );
        assert!(rig.usage().log_lines_dropped.get() > 100, "{attack}");
        let longest = lines.iter().map(String::len).max().unwrap_or(0);
        assert!(
            longest < limit::LOG_LINE_BYTES_DEFAULT + 500,
            "{attack}: {longest} bytes"
        );
        rig.survived().await;
    }
}

#[tokio::test]
async fn a_line_of_ten_megabytes_is_cut_without_working_through_it() {
    let rig = Rig::new().ample_cpu().up().await;
    let began = Instant::now();
    assert_eq!(rig.report("log_line 10").await, "10 lines");
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    let lines = lines_with(&rig, "long long");
    assert_eq!(lines.len(), 10);
    assert!(
        lines
            .iter()
            .all(|line| line.len() < limit::LOG_LINE_BYTES_DEFAULT + 500)
    );
    rig.survived().await;
}

#[tokio::test]
async fn a_flood_of_refused_requests_is_cut_and_leaves_the_channel_its_own_lines() {
    let (rig, began) = (Rig::new().up().await, Instant::now());
    for _ in 0..10_000 {
        rig.channel.services().log_refusal(&format!("refused {SECRET}"));
    }
    let lines = lines_with(&rig, "refused [redacted]");
    assert!(
        (10..=lines_allowed(began)).contains(&lines.len()),
        "{} lines",
        lines.len()
    );
    assert!(rig.usage().log_lines_dropped.get() > 100);
    assert_eq!(rig.report("log_line 10").await, "10 lines");
    assert_eq!(
        lines_with(&rig, "long long").len(),
        10,
        "the channel's own are all there"
    );
    rig.survived().await;
}

#[tokio::test]
async fn what_drives_a_terminal_or_forges_a_line_is_shown_and_not_obeyed() {
    let rig = Rig::new().up().await;
    assert_eq!(rig.report("log_controls").await, "logged");
    let forged = rig
        .log_lines()
        .into_iter()
        .filter(|line| line.starts_with("2099"))
        .count();
    assert_eq!(forged, 0, "no line begins where the guest wants one to");
    let mine = lines_with(&rig, "");
    assert!(mine.iter().any(|line| line.contains("screen")) && mine.iter().any(|line| line.contains("detrever")));
    for line in &mine {
        let unsafe_to_print = |c: char| c.is_control() || "\u{202e}\u{2066}\u{200f}\u{61c}".contains(c);
        assert!(!line.chars().any(unsafe_to_print), "{line:?}");
    }
    rig.survived().await;
}

#[tokio::test]
async fn made_up_strangers_are_refused_without_flooding_the_hosts_log() {
    let began = Instant::now();
    let rig = Rig::new()
        .ample_cpu()
        .access(Access::Allow(["ada".to_owned()].into()))
        .up()
        .await;
    assert_eq!(rig.report("publish_refused").await, "10000 answered");
    assert_eq!(rig.usage().inbound_refused.get(), 10_000);
    let lines = lines_with(&rig, "may not talk");
    assert!(
        (1..=lines_allowed(began)).contains(&lines.len()),
        "{} lines",
        lines.len()
    );
    assert!(lines.iter().all(|line| !line.contains('\u{1b}')));
    rig.survived().await;
}

#[tokio::test]
async fn a_loop_of_traps_does_not_flood_the_log_either() {
    let (rig, began) = (Rig::new().up().await, Instant::now());
    for _ in 0..400 {
        assert!(rig.webhook("panic on purpose").await.is_err());
    }
    assert_eq!(rig.usage().traps.get(), 400);
    let lines = lines_with(&rig, "");
    assert!(lines.len() <= lines_allowed(began), "{} lines", lines.len());
    assert!(lines_with(&rig, "a call failed").len() > 10);
    rig.survived().await;
}

#[tokio::test]
async fn the_last_words_of_a_panic_are_redacted() {
    let rig = Rig::new().up().await;
    let reason = rig.trap(&format!("panic the token is {SECRET}")).await;
    assert_eq!(reason, "it panicked (unreachable code)");
    assert!(
        !lines_with(&rig, "the token is [redacted]").is_empty(),
        "{:?}",
        lines_with(&rig, "")
    );
    rig.survived().await;
}
