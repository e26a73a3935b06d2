//! The atomic changes, one Lua file each. The file's header lists keys, arguments and results.

use redis::Script;

const PRELUDE: &str = include_str!("lua/prelude.lua");
const API_KEYS_PRELUDE: &str = include_str!("lua/api_keys_prelude.lua");

pub(super) struct Scripts {
    pub(super) create: Script,
    pub(super) withdraw_submission: Script,
    pub(super) cancel: Script,
    pub(super) claim: Script,
    pub(super) hold: Script,
    pub(super) move_to_shared: Script,
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
    pub(super) leave: Script,
    pub(super) reconcile: Script,
    pub(super) lead: Script,
    pub(super) check: Script,
    pub(super) forget_app: Script,
    pub(super) advance_flow: Script,
    pub(super) end_flow: Script,
    pub(super) schedule_flow: Script,
    pub(super) take_due_flows: Script,
    pub(super) create_api_key: Script,
    pub(super) revoke_api_key: Script,
    pub(super) throttle: Script,
    pub(super) use_app: Script,
    pub(super) leave_apps: Script,
    pub(super) begin_webhook_attempt: Script,
    pub(super) end_webhook_attempt: Script,
    pub(super) append_log: Script,
}

impl Scripts {
    pub(super) fn load() -> Self {
        let script = |code: &str| Script::new(&format!("{PRELUDE}\n{code}"));
        let about_api_keys = |code: &str| Script::new(&format!("{API_KEYS_PRELUDE}\n{code}"));
        Self {
            create: script(include_str!("lua/create.lua")),
            withdraw_submission: script(include_str!("lua/withdraw_submission.lua")),
            cancel: script(include_str!("lua/cancel.lua")),
            claim: script(include_str!("lua/claim.lua")),
            hold: script(include_str!("lua/hold.lua")),
            move_to_shared: script(include_str!("lua/move_to_shared.lua")),
            start: script(include_str!("lua/start.lua")),
            renew: script(include_str!("lua/renew.lua")),
            progress: script(include_str!("lua/progress.lua")),
            expire: script(include_str!("lua/expire.lua")),
            finish: script(include_str!("lua/finish.lua")),
            requeue: script(include_str!("lua/requeue.lua")),
            mark_lost: script(include_str!("lua/mark_lost.lua")),
            quarantine: script(include_str!("lua/quarantine.lua")),
            redrive: script(include_str!("lua/redrive.lua")),
            register: script(include_str!("lua/register.lua")),
            register_faulty: script(include_str!("lua/register_faulty.lua")),
            heartbeat: script(include_str!("lua/heartbeat.lua")),
            queue_model_change: script(include_str!("lua/queue_model_change.lua")),
            begin_model_change: script(include_str!("lua/begin_model_change.lua")),
            end_model_change: script(include_str!("lua/end_model_change.lua")),
            leave: script(include_str!("lua/leave.lua")),
            reconcile: script(include_str!("lua/reconcile.lua")),
            lead: script(include_str!("lua/lead.lua")),
            check: script(include_str!("lua/check.lua")),
            forget_app: script(include_str!("lua/forget_app.lua")),
            advance_flow: script(include_str!("lua/advance_flow.lua")),
            end_flow: script(include_str!("lua/end_flow.lua")),
            schedule_flow: script(include_str!("lua/schedule_flow.lua")),
            take_due_flows: script(include_str!("lua/take_due_flows.lua")),
            create_api_key: about_api_keys(include_str!("lua/create_api_key.lua")),
            revoke_api_key: about_api_keys(include_str!("lua/revoke_api_key.lua")),
            throttle: script(include_str!("lua/throttle.lua")),
            use_app: script(include_str!("lua/use_app.lua")),
            leave_apps: script(include_str!("lua/leave_apps.lua")),
            begin_webhook_attempt: script(include_str!("lua/begin_webhook_attempt.lua")),
            end_webhook_attempt: script(include_str!("lua/end_webhook_attempt.lua")),
            append_log: script(include_str!("lua/append_log.lua")),
        }
    }
}
