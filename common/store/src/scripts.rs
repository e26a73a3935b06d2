//! The atomic changes, one Lua file each. The file's header lists keys, arguments and results.

use redis::Script;

use super::history::HISTORY_MINUTES;
use super::usage::USAGE_DAYS;

const PRELUDE: &str = include_str!("lua/prelude.lua");
const ENDING_PRELUDE: &str = include_str!("lua/ending_prelude.lua");
const API_KEYS_PRELUDE: &str = include_str!("lua/api_keys_prelude.lua");

pub(super) struct Scripts {
    pub(super) create: Script,
    pub(super) withdraw_submission: Script,
    pub(super) cancel: Script,
    pub(super) claim: Script,
    pub(super) hold: Script,
    pub(super) move_to_shared: Script,
    pub(super) set_reply_address: Script,
    pub(super) start: Script,
    pub(super) renew: Script,
    pub(super) progress: Script,
    pub(super) expire: Script,
    pub(super) finish: Script,
    pub(super) requeue: Script,
    pub(super) mark_lost: Script,
    pub(super) quarantine: Script,
    pub(super) redrive: Script,
    pub(super) register: Script,
    pub(super) register_faulty: Script,
    pub(super) heartbeat: Script,
    pub(super) queue_model_change: Script,
    pub(super) begin_model_change: Script,
    pub(super) end_model_change: Script,
    pub(super) drain: Script,
    pub(super) remove_runner: Script,
    pub(super) reconcile: Script,
    pub(super) take_leadership: Script,
    pub(super) check: Script,
    pub(super) forget_app: Script,
    pub(super) advance_flow: Script,
    pub(super) end_flow: Script,
    pub(super) schedule_flow: Script,
    pub(super) take_due_flows: Script,
    pub(super) create_api_key: Script,
    pub(super) replace_api_key: Script,
    pub(super) revoke_api_key: Script,
    pub(super) throttle: Script,
    pub(super) use_app: Script,
    pub(super) leave_apps: Script,
    pub(super) begin_webhook_attempt: Script,
    pub(super) end_webhook_attempt: Script,
    pub(super) append_log: Script,
    pub(super) report_models: Script,
    pub(super) emit: Script,
    pub(super) trim_job_list: Script,
    pub(super) unlist_stale: Script,
}

impl Scripts {
    pub(super) fn load() -> Self {
        let script = |code: &str| Script::new(&format!("{PRELUDE}\n{code}"));
        let ending_prelude = format!(
            "local HISTORY_MINUTES, USAGE_DAYS = {HISTORY_MINUTES}, {USAGE_DAYS}\n{ENDING_PRELUDE}"
        );
        let ending = |code: &str| script(&format!("{ending_prelude}\n{code}"));
        let about_api_keys = |code: &str| Script::new(&format!("{API_KEYS_PRELUDE}\n{code}"));
        Self {
            create: script(include_str!("lua/create.lua")),
            withdraw_submission: script(include_str!("lua/withdraw_submission.lua")),
            cancel: ending(include_str!("lua/cancel.lua")),
            claim: script(include_str!("lua/claim.lua")),
            hold: script(include_str!("lua/hold.lua")),
            move_to_shared: script(include_str!("lua/move_to_shared.lua")),
            set_reply_address: script(include_str!("lua/set_reply_address.lua")),
            start: ending(include_str!("lua/start.lua")),
            renew: script(include_str!("lua/renew.lua")),
            progress: script(include_str!("lua/progress.lua")),
            expire: ending(include_str!("lua/expire.lua")),
            finish: ending(include_str!("lua/finish.lua")),
            requeue: script(include_str!("lua/requeue.lua")),
            mark_lost: script(include_str!("lua/mark_lost.lua")),
            quarantine: ending(include_str!("lua/quarantine.lua")),
            redrive: script(include_str!("lua/redrive.lua")),
            register: script(include_str!("lua/register.lua")),
            register_faulty: script(include_str!("lua/register_faulty.lua")),
            heartbeat: script(include_str!("lua/heartbeat.lua")),
            queue_model_change: script(include_str!("lua/queue_model_change.lua")),
            begin_model_change: script(include_str!("lua/begin_model_change.lua")),
            end_model_change: script(include_str!("lua/end_model_change.lua")),
            drain: script(include_str!("lua/drain.lua")),
            remove_runner: script(include_str!("lua/remove_runner.lua")),
            reconcile: script(include_str!("lua/reconcile.lua")),
            take_leadership: script(include_str!("lua/take_leadership.lua")),
            check: script(include_str!("lua/check.lua")),
            forget_app: script(include_str!("lua/forget_app.lua")),
            advance_flow: script(include_str!("lua/advance_flow.lua")),
            end_flow: ending(include_str!("lua/end_flow.lua")),
            schedule_flow: script(include_str!("lua/schedule_flow.lua")),
            take_due_flows: script(include_str!("lua/take_due_flows.lua")),
            create_api_key: about_api_keys(include_str!("lua/create_api_key.lua")),
            replace_api_key: about_api_keys(include_str!("lua/replace_api_key.lua")),
            revoke_api_key: about_api_keys(include_str!("lua/revoke_api_key.lua")),
            throttle: script(include_str!("lua/throttle.lua")),
            use_app: script(include_str!("lua/use_app.lua")),
            leave_apps: script(include_str!("lua/leave_apps.lua")),
            begin_webhook_attempt: script(include_str!("lua/begin_webhook_attempt.lua")),
            end_webhook_attempt: script(include_str!("lua/end_webhook_attempt.lua")),
            append_log: script(include_str!("lua/append_log.lua")),
            report_models: script(include_str!("lua/report_models.lua")),
            emit: script(include_str!("lua/emit.lua")),
            trim_job_list: script(include_str!("lua/trim_job_list.lua")),
            unlist_stale: script(include_str!("lua/unlist_stale.lua")),
        }
    }
}
