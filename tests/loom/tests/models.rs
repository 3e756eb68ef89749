//! Runs every model. Empty without `--cfg chassis_loom`.
#![cfg(chassis_loom)]

macro_rules! models {
    ($($(#[$attribute:meta])* $module:ident::$model:ident)*) => {
        $(#[test]
        $(#[$attribute])*
        fn $model() {
            tower_chassis_loom::$module::$model();
        })*
    };
}

models! {
    adaptive::a_sample_is_taken_once
    adaptive::a_failure_is_not_missed
    adaptive::the_last_limit_is_in_force
    adaptive::a_window_is_seen_once

    breaker::failures_of_two_threads_open_it_once
    breaker::one_of_two_is_the_probe
    breaker::nobody_slips_in_while_a_probe_fails
    breaker::a_probe_does_not_close_what_opened_meanwhile
    breaker::a_permit_that_is_given_back_is_given_once
    breaker::a_late_call_changes_nothing
    breaker::a_reset_forgets_the_row
    breaker::a_row_counts_every_failure
    breaker::a_row_does_not_hear_older_generations
    breaker::a_row_after_a_silence_is_a_new_one
    breaker::one_of_two_failures_in_a_bucket_sees_both
    breaker::one_of_two_failures_in_a_ring_sees_both
    breaker::a_bucket_counts_every_call
    breaker::a_bucket_does_not_hear_late_failures
    breaker::a_bucket_hears_a_late_success_once_at_the_most
    breaker::a_ring_counts_every_call
    breaker::a_ring_does_not_hear_late_failures
    breaker::a_ring_is_cold_after_a_silence
    breaker::a_ramp_admits_the_sum_of_the_shares
    breaker::a_ramp_begins_once
    breaker::forced_closed_stays_closed
    breaker::forced_open_stays_open

    bulkhead::stealing_makes_no_permit
    bulkhead::gathering_loses_no_permit
    bulkhead::the_last_permit_is_taken_once
    bulkhead::a_release_is_not_missed_by_one_who_joins_the_queue
    bulkhead::the_last_place_is_taken_once
    bulkhead::nobody_gets_past_one_who_waits
    bulkhead::a_permit_is_passed_on_by_one_who_leaves
    bulkhead::a_permit_that_nobody_waits_for_any_more_is_free
    bulkhead::a_higher_limit_refuses_nobody
    bulkhead::a_lower_limit_holds
    bulkhead::a_higher_limit_wakes_who_waits
    bulkhead::nobody_gets_past_while_a_higher_limit_is_handed_out
    bulkhead::a_shut_one_lets_nobody_in_and_loses_no_permit

    coalesce::who_waits_is_woken_to_take_over
    coalesce::an_heir_that_goes_passes_it_on
    coalesce::the_last_one_has_the_call
    coalesce::the_end_is_not_missed
    coalesce::who_comes_by_as_it_is_put_down_polls_it
    coalesce::nobody_waits_for_one_that_is_parked
    coalesce::one_that_goes_passes_on_what_it_was_woken_for
    coalesce::whoever_joins_at_the_end_is_told_of_it
    coalesce::whoever_joins_as_the_last_one_goes_is_not_left_alone

    events::a_waiting_reader_is_woken
    events::received_and_missed_is_all
    events::a_gap_is_told_in_its_place
    events::the_last_owner_ends_the_stream_after_its_last_word
    events::a_stream_that_leaves_takes_nothing_from_others
    events::two_who_come_at_once_are_both_in
    events::the_last_one_leaves_while_something_is_sent
    events::one_comes_while_the_last_one_leaves

    fault::what_is_over_does_not_disarm_what_came_since
    fault::a_kill_holds
    fault::no_more_places_than_the_most
    hedge::a_bucket_begins_anew_once
    hedge::a_late_writer_changes_nothing
    hedge::a_reader_sees_no_more_than_there_is
    hedge::one_looks_it_up

    live::two_writers_leave_one_value
    live::a_binding_misses_no_change
    live::no_change_in_place_is_lost
    live::a_change_that_returned_is_everywhere
    live::a_state_that_is_dropped_unbinds

    outlier::a_call_is_in_one_take
    outlier::a_row_is_told_once

    output::what_is_taken_is_written
    output::the_bound_holds
    output::one_begins
    output::a_line_wakes_the_writer
    output::a_flush_is_not_missed
    output::a_flush_that_leaves_takes_nobody_with_it

    rate_limit::two_threads_get_one_burst
    rate_limit::a_change_of_rule_frees_nobody
    rate_limit::a_change_of_rule_is_one_step
    rate_limit::what_is_in_a_cell_is_taken_once
    rate_limit::a_fetch_of_before_fills_nothing_later
    rate_limit::a_hot_bucket_never_gives_more_than_a_burst
    rate_limit::a_change_of_rule_empties_the_cells
    rate_limit::a_place_is_given_back_once

    registry::a_count_is_not_lost
    registry::a_total_is_the_least
    registry::a_snapshot_has_the_sum_of_its_counts
    registry::what_is_active_is_never_negative
    registry::a_gauge_that_is_set_is_not_half_of_both

    retry::a_token_is_spent_once
    retry::no_deposit_is_lost
    retry::the_reserve_is_spent_once
    retry::a_turn_of_the_window_makes_no_token
    retry::a_change_of_the_rate_makes_no_token
    retry::the_last_place_is_held_once

    shed::a_call_is_taken_once
    shed::a_wait_begins_once
    shed::who_was_ready_ends_the_wait
}
