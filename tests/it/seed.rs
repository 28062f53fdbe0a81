//! The 58 defects of the seed (research/seed.md, section 2), and the test that shows that we do
//! not have each of them.

mod config;
mod first;
mod names;
mod passthrough;
mod processes;
mod results;

use std::{path::Path, process::Command};

enum Shown {
    By(&'static str),
    /// By a file of another suite.
    Elsewhere(&'static str),
}

macro_rules! defects {
    ($($number:literal => $($file:literal)? $($test:path)?;)*) => {
        /// Number → test.
        fn table() -> Vec<(u32, Vec<Shown>)> {
            vec![$(($number, vec![
                $(Shown::Elsewhere($file),)?
                $(Shown::By(stringify!($test)),)?
            ]),)*]
        }
    };
}

defects! {
    // 2.1 Does not work at all, or kills itself.
    1 => first::every_command_works_with_nothing_but_the_binary;
    2 => first::a_placeholder_connects_over_stdio_and_the_session_goes_on;
    3 => first::over_sse_the_client_that_connects_a_backend_keeps_its_session;
    4 => first::serve_starts_and_tells_its_health;
    5 => first::nothing_tells_to_install_somebody_elses_package;
    6 => first::a_backend_that_speaks_first_or_asks_for_roots_blocks_nobody;
    7 => first::a_backend_that_crashes_dies_or_is_cancelled_leaves_the_gateway_well;
    8 => first::unknown_methods_and_malformed_messages_are_answered;
    9 => first::reaping_an_idle_backend_ends_no_session;
    10 => first::a_session_with_a_backend_ends_with_exit_code_0;
    // 2.2 Results are damaged.
    11 => results::tools_with_an_output_schema_are_usable;
    12 => results::images_audio_and_resources_arrive_whole;
    13 => results::a_backends_is_error_is_seen;
    14 => results::a_backends_json_rpc_error_is_passed_on_and_breaks_nothing;
    15 => results::nothing_is_added_to_a_result;
    16 => results::every_page_of_a_backends_tools_is_seen;
    // 2.3 Names, roles, security.
    17 => names::a_role_matches_server_and_tool_before_and_after_the_connect;
    18 => names::what_a_role_does_not_show_cannot_be_called;
    19 => names::an_unknown_role_is_refused;
    20 => names::a_role_that_is_no_list_is_a_config_error;
    21 => names::two_clients_have_two_roles;
    22 => names::the_same_name_in_two_backends_leads_to_two_tools;
    23 => names::placeholders_that_would_be_alike_are_two;
    24 => names::only_this_machine_is_served_and_no_web_page;
    25 => names::a_session_id_is_worth_nothing_elsewhere_and_no_secret_is_kept;
    // 2.4 Protocol passthrough.
    26 => passthrough::a_list_that_changes_is_announced_to_everyone_who_sees_it;
    27 => passthrough::a_backends_new_tools_are_announced_and_callable;
    28 => passthrough::progress_log_messages_and_meta_pass;
    29 => passthrough::a_cancelled_call_is_cancelled_at_the_backend;
    30 => passthrough::sampling_elicitation_and_roots_reach_the_client;
    31 => passthrough::resources_prompts_completion_and_subscriptions_pass;
    32 => crate::eras::probe::the_reference_backend_of_both_eras_serves_each_client_as_it_is;
    33 => passthrough::streamable_http_is_served;
    // 2.5 Processes and sessions.
    34 => processes::nothing_is_waited_for_without_a_limit;
    35 => processes::a_slow_call_delays_no_other;
    36 => processes::the_first_call_after_a_backends_death_works;
    37 => processes::errors_and_failed_starts_leave_no_process_behind;
    38 => processes::connects_at_once_start_one_process;
    39 => processes::a_running_call_is_never_idle;
    40 => processes::an_idle_timeout_is_checked_and_exact;
    41 => processes::no_signal_leaves_a_backend_behind;
    42 => processes::ctrl_c_ends_stdio;
    43 => processes::sigterm_ends_serve_with_an_open_sse_client;
    44 => processes::a_dead_backend_is_not_called_connected;
    45 => processes::the_caller_learns_why_a_backend_fails;
    46 => processes::clients_share_one_set_of_backends;
    47 => processes::sessions_can_have_backends_of_their_own;
    48 => processes::posts_share_a_connection_and_log_no_trouble;
    49 => processes::large_bodies_and_early_requests_are_answered;
    50 => processes::one_sees_what_runs_who_called_what_and_what_takes_long;
    // 2.6 Config, command line, plugins.
    51 => config::every_problem_is_told_at_once_with_its_place;
    52 => config::enabled_and_lazy_mean_what_they_say;
    53 => config::list_shows_tools_roles_and_disabled_servers;
    54 => crate::plugins::the_plugin_of_the_seeds_readme_is_a_tool_without_more_words;
    55 => crate::plugins::whatever_a_plugin_does_it_does_to_itself;
    56 => crate::plugins::what_cannot_be_loaded_is_told_with_file_and_line_and_the_rest_runs;
    57 => crate::plugins::the_plugin_of_the_seeds_readme_is_a_tool_without_more_words;
    58 => "python/tests/test_gateway.py";
}

#[test]
fn every_defect_of_the_seed_has_its_test() {
    let table = table();
    let numbers: Vec<u32> = table.iter().map(|(number, _)| *number).collect();
    assert_eq!(numbers, (1..=58).collect::<Vec<u32>>());
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--list", "--format", "terse"])
        .output()
        .unwrap();
    let known = String::from_utf8(output.stdout).unwrap();
    for (number, shown) in table {
        match shown.as_slice() {
            [Shown::By(test)] => {
                let test = test.replace(' ', "");
                let own = format!("seed::{test}");
                let line = format!("{}: test", test.strip_prefix("crate::").unwrap_or(&own));
                assert!(known.lines().any(|known| known == line), "{number}: no test {line}");
            }
            [Shown::Elsewhere(file)] => {
                let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
                assert!(file.is_file(), "{number}: no {}", file.display());
            }
            _ => panic!("{number}: either a test or a reason"),
        }
    }
}
