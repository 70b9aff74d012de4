//! What every event store must do, run against each backend.
//!
//! A behaviour is a function that takes a way to open the store; opening again after the store was dropped is a restart
//! of the process. To add a backend: give `on_each_backend!` another opener. To add a behaviour: write the function
//! and name it in the list below; one that is not named does not compile without a warning.

mod archive;
mod claims;
mod files;
mod fixtures;
mod inbox;
mod keep;
mod model;
mod operator;
mod outbox;
mod sending;

use std::sync::Arc;

use sluicegate::store::EventStore;
use sluicegate::store::sqlite::SqliteStore;

/// Opens the store: each time the same data, which no other open store holds.
type Open<'a> = &'a dyn Fn() -> Arc<dyn EventStore>;

/// Gives a way to open SQLite in a new directory.
fn fresh_sqlite(use_it: &mut dyn FnMut(Open<'_>)) {
    let dir = tempfile::tempdir().expect("a directory");
    use_it(&|| Arc::new(SqliteStore::open(dir.path()).expect("the store opens")));
}

macro_rules! on_each_backend {
    ($($module:ident: $($behaviour:ident),+ $(,)?;)+) => {
        mod sqlite {
            $(mod $module {
                $(#[test]
                fn $behaviour() {
                    crate::fresh_sqlite(&mut |open| crate::fixtures::block_on(crate::$module::$behaviour(open)));
                })+
            })+

            #[test]
            fn the_store_does_what_the_model_does() {
                crate::model::the_store_does_what_the_model_does(crate::fresh_sqlite);
            }
        }
    };
}

on_each_backend! {
    inbox:
        a_repeated_event_changes_nothing,
        a_cursor_is_kept_with_its_events,
        an_event_that_starts_no_turn_is_only_remembered,
        a_session_runs_one_turn_at_a_time,
        the_longest_due_turn_comes_first,
        channels_take_turns_at_the_agent,
        a_turn_ends_in_one_transaction,
        a_turn_of_an_earlier_process_is_stale,
        a_recorded_answer_comes_back_after_a_restart,
        a_postponed_turn_waits_and_tells_once,
        a_postponed_turn_holds_up_its_session_and_no_other,
        a_new_message_brings_a_postponed_turn_forward,
        a_rate_limit_of_the_agent_is_a_floor,
        a_dead_turn_is_listed_and_runs_again_when_resubmitted,
        a_buried_turn_is_gone_but_known,
        a_released_turn_is_as_before,
        history_is_cut_from_the_old_end,
        each_session_has_its_own_history,
        the_next_due_turn_is_known;
    sending:
        an_attempt_cut_short_is_ambiguous,
        a_claim_of_which_nothing_left_never_was,
        a_mark_changes_only_the_attempt_that_it_is_of;
    claims:
        channels_take_turns,
        the_longest_due_lane_comes_first,
        only_the_named_channels_are_served,
        the_next_due_head_is_known,
        a_claim_stays_within_the_places_for_each_standing,
        a_lane_that_fails_is_no_longer_known_to_deliver;
    outbox:
        a_lane_is_sent_in_order_one_at_a_time,
        a_stuck_lane_delays_no_other,
        a_known_key_is_never_stored_again,
        an_old_claim_is_stale,
        attempts_count_as_they_ended,
        a_retry_waits_for_its_time_or_for_a_sign_of_life,
        a_rate_limit_is_a_floor,
        an_expired_head_is_buried_and_its_lane_goes_on,
        a_retry_is_never_put_past_the_expiry,
        an_awaited_confirmation_does_not_block_the_lane,
        an_unconfirmed_delivery_goes_before_later_ones,
        a_confirmation_settles_once_and_only_its_channel,
        a_confirmation_may_come_before_the_attempt_ends,
        a_refused_confirmation_makes_a_dead_letter,
        reachable_ends_every_wait_of_the_conversation,
        parts_survive_a_restart,
        a_part_of_nothing_in_flight_changes_nothing,
        a_dead_letter_can_be_redriven,
        a_dropped_dead_letter_stays_dropped,
        dead_letters_come_newest_first;
    operator:
        the_outbox_lists_what_waits_oldest_first,
        the_outbox_lists_one_channel,
        what_stands_behind_another_names_the_head_of_its_lane,
        a_delivery_tells_how_far_it_is,
        a_list_goes_on_where_it_stopped,
        a_held_delivery_holds_up_its_lane_until_it_is_released,
        a_held_delivery_expires_and_keeps_its_unknown_outcome,
        a_dropped_delivery_is_gone_and_its_lane_goes_on,
        dead_letters_are_chosen_by_their_reason,
        a_turn_that_was_given_up_can_be_dropped,
        changes_are_listed_with_their_counts,
        all_dead_letters_of_a_channel_are_redriven_in_their_order,
        a_message_is_traced_by_each_of_its_names,
        a_trace_outlives_the_texts,
        what_was_sent_is_found_by_the_platforms_id,
        the_same_platform_id_in_two_channels_is_two_traces;
    keep:
        state_is_kept_for_each_channel,
        a_swap_needs_the_expected_value,
        keys_are_listed_by_prefix,
        state_has_quotas,
        a_blob_is_read_by_its_channel_only,
        blobs_have_quotas,
        a_conversation_has_a_cap_of_its_own,
        it_is_known_until_when_a_channel_listened,
        what_is_used_is_measured,
        what_waits_moves_along_with_a_clock_that_is_set,
        a_clock_that_was_set_back_meanwhile_moves_what_waits_once,
        a_notice_expires_before_an_answer,
        what_is_past_its_retention_is_swept,
        what_is_waiting_is_never_swept,
        depth_survives_a_restart,
        a_closed_store_takes_nothing;
}
