//! What users rely on. One file per promise; every test has a namespace of its own on the real servers.

mod amqp_submissions;
mod architecture;
mod bad_input_gets_a_clear_answer;
mod chaos_leaves_every_job_with_one_end;
mod dead_letters_can_be_redriven;
mod deadlines_are_kept;
mod decisions_explain_themselves;
mod fal_routes_to_the_letter;
mod hints_are_any_text;
mod http_submissions;
mod jobs_can_be_cancelled;
mod jobs_go_on_without_redis;
mod lost_messages_are_found;
mod lua_obeys_the_state_machine;
mod missing_servers_are_named;
mod nothing_is_lost;
mod pictures_come_from_prompts;
mod poison_jobs_are_quarantined;
mod queues_are_bounded;
mod results_are_kept_as_long_as_asked;
mod results_can_be_waited_for;
mod servers_that_go_away;
mod submissions_are_idempotent;
mod warm_runners_are_waited_for;
mod workers_scale_alone;
