//! Decisions and holds of the policy as a job's record describes them.

use warmq_policy::warm::{HoldCommand, SendCommand, Why};
use warmq_types::hint::Hint;
use warmq_types::ids::RunnerId;
use warmq_types::job::{Decision, Hold, Target};
use warmq_types::tier::Tier;

use super::clock::ms;

const POLICY: &str = "warm";

/// Describes a send to `runner`. `candidates`: the idle runners that had the model loaded.
pub(super) fn sent(
    send: &SendCommand,
    runner: &RunnerId,
    hint: Option<&Hint>,
    candidates: Vec<RunnerId>,
) -> Decision {
    let SendCommand { tier, why, .. } = *send;
    let warm = tier == Tier::Device;
    let model = quoted(hint);
    let has = match tier {
        Tier::Device => format!("with {model} loaded"),
        Tier::Ram => format!("with {model} in RAM"),
        Tier::Disk => format!("without {model} loaded"),
    };
    let reason = match why {
        Why::WarmAndIdle => format!("{runner} was idle and had {model} loaded"),
        Why::LateBinding => format!("{runner} came free, with {model} loaded"),
        Why::NoHolder if tier == Tier::Ram => {
            format!("no runner had {model} loaded, and {runner} had it in RAM")
        }
        Why::NoHolder => {
            format!("no runner had {model}, and {runner} had the lowest eviction cost")
        }
        Why::Replicated { wait_s, bar_s } if tier == Tier::Ram => format!(
            "a runner with {model} would have come free in {wait_s:.1} s; above {bar_s:.1} s \
             another copy pays, so {runner} loads it from RAM"
        ),
        Why::Replicated { wait_s, bar_s } => format!(
            "a runner with {model} would have come free in {wait_s:.1} s; above {bar_s:.1} s \
             another copy pays, so {runner} loads it"
        ),
        Why::PatienceOver if warm => {
            format!("its patience was over, and {runner} was idle, {has}")
        }
        Why::PatienceOver => {
            format!("its patience was over, so the idle {runner} took it {has}")
        }
        Why::BoundPassed if tier == Tier::Disk => {
            format!("its bound on holding had passed, so {runner} took it next, though {has}")
        }
        Why::BoundPassed => {
            format!("its bound on holding had passed, so {runner} took it next, {has}")
        }
        Why::Overdue => format!("it was overdue, so {runner} took it out of order"),
        Why::NoHint => {
            format!("it carries no hint, so every runner is equal to it; {runner} came free")
        }
        Why::NoHintAndIdle => {
            format!("it carries no hint, and {runner} was idle, with the lowest eviction cost")
        }
        Why::AnotherRunner => {
            format!("its last attempt failed on another runner, and {runner} was idle")
        }
        Why::BehindShare { behind_s } => format!(
            "its key was {behind_s:.0} s of runner time behind its share, so {runner} took it \
             {has}, before jobs of other keys"
        ),
    };
    Decision {
        policy: POLICY.to_owned(),
        target: Target::Runner {
            runner: runner.clone(),
        },
        warm,
        tier: Some(tier),
        warm_candidates: candidates,
        blank_candidates: Vec::new(),
        idle_runners: send.fleet_view.idle as u64,
        holders: Some(send.fleet_view.holders as u64),
        predicted_wait_ms: match why {
            Why::Replicated { wait_s, .. } => Some(ms(wait_s)),
            _ => None,
        },
        held_ms: 0,
        refused_claims: 0,
        reason,
    }
}

/// Describes a hold from `now_s` on.
pub(super) fn held(hold: &HoldCommand, hint: Option<&Hint>, now_s: f64) -> Hold {
    let model = quoted(hint);
    let fleet_view = hold.fleet_view;
    let busy = match fleet_view.holders {
        1 => format!("the one runner with {model} was busy"),
        2 => format!("both runners with {model} were busy"),
        holders => format!("all {holders} runners with {model} were busy"),
    };
    let in_ram = match fleet_view.ram_holders {
        1 => "one had it in RAM".to_owned(),
        count => format!("{count} had it in RAM"),
    };
    let reason = match (hint, fleet_view.holders, fleet_view.idle) {
        _ if hold.at_limit => "as many jobs of its key run as may (`max_running`)".to_owned(),
        _ if hold.is_kept => format!(
            "the idle runner that would load {model} was kept a moment for the key that used it \
             last, whose next job was likely to come before a load ends"
        ),
        (_, _, idle) if hold.for_another && idle > 0 => {
            "an attempt failed on each idle runner that could take it, and another runner is live"
                .to_owned()
        }
        _ if fleet_view.live == 0 => {
            "no runner of the app took jobs: start a worker, or see in `warmq runners` which ones \
             are faulty or draining"
                .to_owned()
        }
        (None, _, _) => "no runner was idle".to_owned(),
        (Some(_), _, _) if !fleet_view.served => format!(
            "no live runner can load {model}: start one that has it; a worker's log names the \
             models that it leaves out"
        ),
        (Some(_), 0, 0) if fleet_view.ram_holders > 0 => {
            format!("no runner was idle, and none had {model} loaded; {in_ram}")
        }
        (Some(_), 0, 0) => format!("no runner was idle, and none had {model}"),
        (Some(_), 0, _) if fleet_view.ram_holders > 0 => format!(
            "no runner had {model} loaded, {in_ram}, and one of those was expected sooner than \
             reading its files pays"
        ),
        (Some(_), 0, _) => {
            format!("no runner had {model}, and no idle one could take it")
        }
        (Some(_), _, 0) => format!("{busy}, and no other was idle"),
        (Some(_), _, _) => {
            format!("{busy}, and one was expected sooner than loading {model} once more pays")
        }
    };
    Hold {
        since_ms: ms(now_s),
        until_ms: ms(hold.until_s),
        bounded: hold.bounded,
        predicted_wait_ms: hold.wait_s.is_finite().then(|| ms(hold.wait_s)),
        holders: fleet_view.holders as u64,
        idle_runners: fleet_view.idle as u64,
        reason,
    }
}

fn quoted(hint: Option<&Hint>) -> String {
    hint.map_or_else(|| "any model".to_owned(), |hint| format!("'{hint}'"))
}
