//! Runs every model. Empty without `--cfg chassis_loom`.
#![cfg(chassis_loom)]

macro_rules! models {
    ($($module:ident { $($model:ident)* })*) => {
        $(mod $module {
            $(#[test]
            fn $model() {
                tower_chassis_loom::$module::$model();
            })*
        })*
    };
}

models! {
    breaker {
        failures_of_two_threads_open_it_once
        one_of_two_is_the_probe
        nobody_slips_in_while_a_probe_fails
        a_permit_that_is_given_back_is_given_once
        a_late_call_changes_nothing
        a_reset_forgets_the_row
        a_row_counts_every_failure
        a_row_does_not_hear_older_generations
        a_bucket_counts_every_call
        a_bucket_does_not_hear_late_writers
    }
    live {
        two_writers_leave_one_value
        a_binding_misses_no_change
    }
    rate_limit {
        two_threads_get_one_burst
        a_change_of_rule_frees_nobody
        a_rule_is_read_whole
    }
    retry {
        a_token_is_spent_once
        the_reserve_is_spent_once
        a_turn_of_the_window_makes_no_token
    }
}
