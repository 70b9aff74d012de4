//! That no attack is forgotten.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

fn tests() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Returns the Rust files of a folder, by the names before `.rs`, with their texts.
fn files(folder: &str) -> Vec<(String, String)> {
    let entries = fs::read_dir(tests().join(folder)).expect("the folder is there");
    let paths = entries.map(|entry| entry.expect("an entry").path());
    let rust = paths.filter(|path| path.extension().is_some_and(|extension| extension == "rs"));
    rust.map(|path| {
        let name = path.file_stem().expect("a name").to_string_lossy().into_owned();
        (name, fs::read_to_string(path).expect("a text"))
    })
    .collect()
}

#[test]
fn every_attack_is_offered_by_the_guest_and_ordered_by_a_test() {
    let attacks = files("programs/hostile/src/behaviours");
    assert!(attacks.len() > 20, "the folder of the attacks is found");
    let offered = fs::read_to_string(tests().join("programs/hostile/src/behaviours.rs")).expect("the list");
    let suite: String = files("suites/adversarial").into_iter().map(|(_, text)| text).collect();
    let mut forgotten = BTreeSet::new();
    for (attack, _) in &attacks {
        // As a test orders it: alone, or with something after it.
        let ordered = [format!("\"{attack}\""), format!("\"{attack} "), format!("/{attack}")];
        if !offered.contains(&format!("\"{attack}\" =>")) || !ordered.iter().any(|order| suite.contains(order.as_str()))
        {
            forgotten.insert(attack.as_str());
        }
    }
    assert!(forgotten.is_empty(), "attacks without a test: {forgotten:?}");
}

#[test]
fn every_lie_of_the_guest_is_told_in_a_test() {
    let guest = fs::read_to_string(tests().join("programs/hostile/src/lie.rs")).expect("the guest's lies");
    let suite = fs::read_to_string(tests().join("suites/adversarial/descriptions.rs")).expect("the tests of lies");
    let lies: Vec<&str> = guest
        .lines()
        .filter_map(|line| line.trim().strip_prefix('"')?.split_once("\" => ").map(|(lie, _)| lie))
        .filter(|lie| !lie.is_empty())
        .collect();
    assert!(lies.len() > 20, "the lies are found");
    let untold: Vec<_> = lies
        .iter()
        .filter(|lie| !suite.contains(&format!("\"{lie}\"")) && !suite.contains(&format!("recipe {lie}\"")))
        .collect();
    assert!(untold.is_empty(), "lies that no test tells: {untold:?}");
}

#[test]
fn every_test_that_security_md_names_is_there() {
    let promises = fs::read_to_string(tests().join("../SECURITY.md")).expect("SECURITY.md at the root");
    let named: BTreeSet<&str> = promises
        .split('`')
        .skip(1)
        .step_by(2)
        .filter(|word| word.matches('_').count() >= 3 && word.chars().all(|c| c.is_ascii_lowercase() || c == '_'))
        .collect();
    assert!(named.len() > 20, "SECURITY.md names its tests");
    for row in promises
        .lines()
        .filter(|line| line.starts_with("| ") && !line.starts_with("| promise") && !line.starts_with("| ---"))
    {
        assert!(
            named.iter().any(|test| row.contains(*test)),
            "a promise without a test: {row}"
        );
    }
    let sources = sources();
    let missing: Vec<_> = named
        .iter()
        .filter(|name| !sources.contains(&format!("fn {name}(")))
        .collect();
    assert!(
        missing.is_empty(),
        "SECURITY.md names tests that are not there: {missing:?}"
    );
}

/// The attacks that the suites must show, by group, each with tests of it. Group 5 asks for a bomb inside an interpreter:
/// to the host that is a guest that spins. What stands in no suite is a unit test of the host.
const GROUPS: [(&str, &[&str]); 34] = [
    (
        "endless code in start, describe, deliver, realloc and post-return",
        &[
            "a_start_function_that_spins_is_ended_before_anything_is_asked",
            "a_component_that_does_not_say_what_it_is_is_refused",
            "a_guest_that_spins_is_ended_at_its_cpu_time_in_every_export",
            "guest_code_that_runs_around_a_call_is_bounded_with_it",
        ],
    ),
    (
        "endless recursion",
        &["the_stack_of_a_guest_ends_long_before_the_hosts_own"],
    ),
    (
        "memory, memories, tables and instances without end",
        &[
            "a_guest_that_allocates_for_ever_is_refused_at_its_bound",
            "memories_and_tables_are_bounded_for_the_whole_store",
            "core_instances_are_bounded_for_the_whole_component",
            "the_instances_of_one_channel_have_a_bound_together",
        ],
    ),
    ("giant copies", &["huge_copies_without_end_are_ended_at_the_cpu_time"]),
    (
        "a bomb inside an interpreter",
        &["a_guest_that_spins_is_ended_at_its_cpu_time_in_every_export"],
    ),
    (
        "files that are no channel, or cost much to compile",
        &[
            "files_that_are_no_component_are_refused_in_plain_words",
            "a_file_that_is_too_large_is_refused_before_it_is_looked_at",
            "a_compilation_ends_at_its_deadline_and_holds_up_nobody",
            "a_compilation_that_needs_too_much_memory_is_refused_and_the_gateway_stays_small",
            "components_that_are_no_channel_of_this_contract_are_refused",
            "imports_that_channels_can_not_have_are_refused_by_name",
            "a_file_of_any_shape_ends_in_a_way_that_is_known_and_the_host_serves_on",
        ],
    ),
    (
        "log floods, huge lines, control characters in logs and names",
        &[
            "a_flood_of_log_lines_is_cut_counted_and_stopped",
            "a_line_of_ten_megabytes_is_cut_without_working_through_it",
            "what_drives_a_terminal_or_forges_a_line_is_shown_and_not_obeyed",
            "descriptions_that_drive_a_terminal_or_a_file_are_refused",
        ],
    ),
    (
        "state: quota, huge keys, hot loops",
        &[
            "the_state_of_a_channel_ends_at_its_quota_and_goes_on_after_a_deletion",
            "keys_and_values_that_are_too_large_are_refused",
            "a_million_small_calls_of_the_host_are_paid_from_the_guests_cpu_time",
        ],
    ),
    (
        "inbox floods, duplicates, huge messages, thousands of parts",
        &[
            "a_flood_of_the_same_messages_is_stored_once",
            "messages_out_of_bounds_are_refused_whole_and_nothing_of_them_is_stored",
            "a_part_beyond_all_parts_ends_the_guest",
        ],
    ),
    (
        "handles leaked, dropped twice, made up",
        &[
            "a_flood_of_streams_and_sockets_ends_at_the_channels_bound",
            "a_handle_that_was_never_given_ends_the_guest",
        ],
    ),
    (
        "values that no compiler makes",
        &["results_that_no_compiler_makes_end_the_guest_and_no_more"],
    ),
    (
        "a million tiny calls",
        &["a_million_small_calls_of_the_host_are_paid_from_the_guests_cpu_time"],
    ),
    (
        "blocking for ever in the host",
        &[
            "a_guest_that_sleeps_for_ever_is_ended_at_its_deadline_and_uses_no_cpu",
            "a_server_that_never_answers_holds_a_call_until_its_deadline_and_no_longer",
        ],
    ),
    (
        "answers after the deadline",
        &[
            "a_guest_that_sleeps_for_ever_is_ended_at_its_deadline_and_uses_no_cpu",
            "a_deadline_or_a_trap_in_flight_keeps_the_request_open",
            "what_a_guest_would_do_after_its_deadline_is_not_done",
        ],
    ),
    (
        "calls of the host from realloc and post-return",
        &["calling_the_host_while_a_message_is_handed_over_ends_the_guest"],
    ),
    (
        "a webhook during a delivery",
        &["a_webhook_is_handled_while_a_delivery_of_the_same_channel_hangs"],
    ),
    (
        "other hosts in every spelling",
        &[
            "another_host_port_or_scheme_is_denied",
            "an_address_is_the_same_in_every_spelling",
            "what_nobody_may_send_is_refused_before_anything_leaves",
        ],
    ),
    (
        "names that change their address",
        &[
            "the_checked_address_is_the_one_connected_to",
            "a_public_name_that_leads_to_a_private_address_is_denied_on_every_path",
        ],
    ),
    (
        "redirects",
        &[
            "a_redirect_is_handed_back_and_never_followed",
            "headers_are_redacted_and_so_is_where_a_redirect_leads",
        ],
    ),
    (
        "line breaks, forbidden and repeated headers",
        &["what_nobody_may_send_is_refused_before_anything_leaves"],
    ),
    (
        "secrets elsewhere, echoed, split, encoded",
        &[
            "a_secret_goes_only_to_its_hosts_and_places",
            "an_echo_is_redacted_in_every_encoding",
            "a_secret_that_comes_in_two_pieces_is_redacted",
            "a_secret_that_a_server_echoes_comes_back_redacted_and_stays_nowhere",
        ],
    ),
    (
        "servers that drip, never end, lie about length, or bomb",
        &[
            "a_peer_that_drips_or_stalls_is_given_up_in_time",
            "a_body_beyond_its_limit_is_cut_off",
            "headers_without_end_are_cut_off",
            "a_compressed_answer_that_was_not_asked_for_is_not_passed_on",
        ],
    ),
    ("absurd time limits", &["a_timeout_beyond_the_limit_is_clamped"]),
    (
        "thousands of requests at once",
        &["requests_beyond_the_limit_in_flight_wait_and_are_refused_in_time"],
    ),
    (
        "frame floods, huge frames, half-open sockets, reconnect storms",
        &[
            "a_message_beyond_its_limit_is_refused_either_way",
            "sockets_beyond_the_limit_are_refused_until_one_is_dropped",
            "a_flood_of_frames_that_a_guest_does_not_read_waits_at_the_peer",
            "a_storm_of_connections_leaves_none_behind",
            "a_peer_that_drips_or_stalls_is_given_up_in_time",
        ],
    ),
    (
        "traps in every place",
        &[
            "a_panic_in_any_export_costs_that_call_only",
            "a_listener_that_traps_or_returns_is_restarted_with_backoff",
        ],
    ),
    (
        "a start that hangs",
        &["a_guest_that_spins_is_ended_at_its_cpu_time_in_every_export"],
    ),
    (
        "crash loops",
        &[
            "a_listener_that_crashes_again_and_again_is_paused_and_one_that_says_why_is_not",
            "a_listener_that_is_refused_pauses_its_channel_and_is_not_started_again",
        ],
    ),
    (
        "components, grants and compiled code changed under way",
        &[
            "a_changed_component_waits_for_its_review_and_the_reviewed_one_goes_on",
            "a_revoked_grant_ends_an_open_stream",
            "compiled_code_that_was_changed_cut_or_renamed_is_made_again",
        ],
    ),
    (
        "sent, and no receipt",
        &[
            "at_most_once_leaves_what_may_have_arrived_to_the_operator",
            "an_unknown_outcome_makes_at_most_the_copies_that_are_allowed",
        ],
    ),
    (
        "lies about itself and others",
        &[
            "a_guest_can_neither_confirm_nor_refuse_a_delivery_of_another_channel",
            "descriptions_that_are_too_long_are_refused",
            "the_host_stamps_channel_and_session_whatever_the_conversation_is_called",
        ],
    ),
    (
        "random bytes and clocks misused",
        &[
            "a_guest_can_ask_for_no_more_random_bytes_than_the_host_gives_at_once",
            "moments_that_never_come_end_at_the_deadline_and_a_flood_of_them_at_the_bound_of_handles",
        ],
    ),
    (
        "floods on standard output",
        &["a_flood_of_log_lines_is_cut_counted_and_stopped"],
    ),
    (
        "two channels of one account or name",
        &[
            "two_receivers_of_one_account_are_told_to_the_operator_in_every_place",
            "the_same_ids_on_two_listeners_are_two_messages",
            "a_name_is_given_once_and_in_small_letters",
            "a_name_that_is_taken_is_said_before_anything_is_asked",
            "a_data_directory_in_use_is_named_and_its_gateway_goes_on",
            "a_data_directory_is_in_use_under_every_name_that_it_has",
        ],
    ),
];

#[test]
fn every_group_of_attacks_has_tests_and_they_are_there() {
    let sources = sources();
    for (number, (group, tests)) in (1..).zip(GROUPS) {
        for test in tests {
            assert!(
                sources.contains(&format!("fn {test}(")),
                "group {number}, {group}: there is no test {test}"
            );
        }
    }
}

/// Everything that the suites say.
fn sources() -> String {
    let suites = ["adversarial", "egress", "store", "integration", "workers", "cli"];
    let suites = suites.iter().flat_map(|suite| files(&format!("suites/{suite}")));
    // Shares are tested where they are, on a clock of their own.
    suites
        .chain(files("../runtime/src/guest"))
        .map(|(_, text)| text)
        .collect()
}
