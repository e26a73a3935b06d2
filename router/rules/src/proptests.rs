//! Properties of all valid `warmq.toml` files and submissions.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use serde_json::{Value, json};
use warmq_config::{Apps, Settings};
use warmq_types::ids::{AppId, JobId};

use crate::expression::ExtraVariables;
use crate::{
    AppLoadEstimate, Draw, Error, Expression, MAX_HOPS, Resolved, RouteRequest, Routes,
    apps_in_conditions, excerpt, reachable,
};

const APPS: [&str; 3] = ["app/one", "app/two", "app/three"];

const APP_LOAD: AppLoadEstimate = AppLoadEstimate {
    cost: 0.5,
    wait_s: 1.0,
    run_s: 2.0,
    runners: 1,
    idle: 0,
    queued: 1,
};

fn read(text: &str) -> Result<Routes, String> {
    read_all(text).map(|(routes, _)| routes)
}

fn read_all(text: &str) -> Result<(Routes, Apps), String> {
    let mut settings = Settings::from_toml(text, "warmq.toml");
    let apps = Apps::read(&mut settings);
    let routes = Routes::read(&mut settings, &apps);
    settings
        .finish(Some((routes, apps)))
        .map_err(|problems| problems.to_string())
}

fn apps() -> String {
    APPS.map(|app| format!("[apps.'{app}']\n")).concat()
}

fn name(text: &str) -> AppId {
    AppId::parse(text).unwrap()
}

fn resolve(routes: &Routes, to: &str, input: &Value, job: &str) -> Result<Resolved, Error> {
    let headers = BTreeMap::from([("x-plan".to_owned(), "pro".to_owned())]);
    let to = name(to);
    // Only what may be looked at is known.
    let apps = apps_in_conditions(routes, &to).into_iter();
    let request = RouteRequest {
        input,
        headers: &headers,
        key: "",
        apps: &apps.map(|app| (app.clone(), APP_LOAD)).collect(),
        steps: &BTreeMap::new(),
        draw: Draw::Job(job),
    };
    crate::resolve(routes, &to, &request)
}

/// A target: one of the apps, or one of six routes.
fn target() -> impl Strategy<Value = String> {
    prop_oneof![
        prop::sample::select(APPS.to_vec()).prop_map(str::to_owned),
        (0..6_u8).prop_map(|n| format!("route/{n}")),
    ]
}

fn condition() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("input.width <= 512".to_owned()),
        Just("headers['x-plan'] == 'pro'".to_owned()),
        Just("has(input.model) && input.model == 'a'".to_owned()),
        Just("input.tags.exists(tag, tag == 'x')".to_owned()),
        Just("apps['app/two'].idle > 0".to_owned()),
        Just("apps[input.model].wait_s > 0".to_owned()),
        Just("true".to_owned()),
    ]
}

/// What a step is given.
fn template() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("'input'".to_owned()),
        Just("{ width = 8, model = 'input.?model', tags = ['key', 'input.width'] }".to_owned()),
        Just("{ inner.quoted = \"'a\\\\nb'\", half = 0.5, all = true }".to_owned()),
    ]
}

/// The settings of a step behind its app, in braces.
fn step() -> impl Strategy<Value = String> {
    let input = prop::option::of(template());
    let timeout = prop::option::of(prop::sample::select(vec!["30", "'2m'", "0.5"]));
    (input, timeout).prop_map(|(input, timeout)| {
        let input = input.map(|input| format!(", input = {input}"));
        let timeout = timeout.map(|timeout| format!(", timeout = {timeout}"));
        input.unwrap_or_default() + &timeout.unwrap_or_default()
    })
}

fn flow() -> impl Strategy<Value = String> {
    let steps = prop::collection::vec((target(), step()), 1..4);
    let sequence = (steps, any::<bool>()).prop_map(|(steps, has_output)| {
        let steps: Vec<String> = steps
            .iter()
            .enumerate()
            .map(|(n, (app, step))| format!("{{ name = 's{n}', app = '{app}'{step} }}"))
            .collect();
        let output = match has_output {
            true => "output = { first = 'steps.s0.output' }\n",
            false => "",
        };
        format!(
            "kind = 'sequence'\nsteps = [{}]\n{output}",
            steps.join(", ")
        )
    });
    let to = prop::collection::btree_map(target(), step(), 1..4);
    let fallback = to.prop_map(|to| {
        let to: Vec<String> = to
            .iter()
            .map(|(app, step)| format!("{{ app = '{app}'{step} }}"))
            .collect();
        format!("kind = 'fallback'\nto = [{}]\n", to.join(", "))
    });
    prop_oneof![sequence, fallback]
}

/// Six routes: from each of them only those before can be reached, so they lead somewhere.
fn routes() -> impl Strategy<Value = String> {
    let route = prop_oneof![2 => route(), 1 => flow()];
    prop::collection::vec(route, 6).prop_map(|declared| {
        let routes = declared.iter().enumerate().map(|(n, route)| {
            let behind = (n..6).fold(route.clone(), |route, later| {
                route.replace(&format!("'route/{later}'"), &format!("'app/{later}'"))
            });
            format!("[routes.'route/{n}']\n{behind}")
        });
        let apps = (0..6).map(|n| format!("[apps.'app/{n}']\ncost = {n}\n"));
        apps.chain(routes).collect()
    })
}

fn route() -> impl Strategy<Value = String> {
    let rules = prop::collection::vec((condition(), target()), 1..4);
    let switch = (rules, target()).prop_map(|(rules, default)| {
        let rules: Vec<String> = rules
            .iter()
            .map(|(when, to)| format!("{{ when = \"{when}\", to = '{to}' }}"))
            .collect();
        format!(
            "kind = 'switch'\nrules = [{}]\ndefault = '{default}'\n",
            rules.join(", ")
        )
    });
    let to = prop::collection::btree_map(target(), 1..100_u8, 1..4);
    let split = (to, any::<bool>()).prop_map(|(to, sticky)| {
        let to: Vec<String> = to
            .iter()
            .map(|(app, weight)| format!("{{ app = '{app}', weight = {weight} }}"))
            .collect();
        let by = if sticky { "by = 'input.user'\n" } else { "" };
        format!("kind = 'split'\nto = [{}]\n{by}", to.join(", "))
    });
    prop_oneof![switch, split]
}

fn input() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "[ax]{0,2}".prop_map(Value::from),
        prop::collection::vec("[ax]{0,2}", 0..3).prop_map(Value::from),
    ];
    let field = prop::sample::select(vec!["width", "model", "tags", "user"]);
    prop_oneof![
        1 => leaf.clone(),
        5 => prop::collection::btree_map(field, leaf, 0..4).prop_map(|fields| json!(fields)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn a_file_without_mistakes_leads_every_submission_to_one_of_its_apps_or_flows(
        declared in prop::collection::vec(prop_oneof![3 => route(), 1 => flow()], 6),
        input in input(),
    ) {
        let text: String = declared
            .iter()
            .enumerate()
            .map(|(n, route)| format!("[routes.'route/{n}']\n{route}"))
            .collect();
        // Most such files hold a cycle, or name a route too deep: then they say so.
        let Ok(routes) = read(&(apps() + &text)) else { return Ok(()) };
        let job = JobId::generate().to_string();
        for n in 0..6 {
            let to = format!("route/{n}");
            let Ok(resolved) = resolve(&routes, &to, &input, &job) else { continue };
            let is_app = APPS.contains(&resolved.app.as_str());
            prop_assert!(is_app != routes.flow(&resolved.app).is_some());
            if resolved.hops.is_empty() {
                // It is a flow itself.
                prop_assert_eq!(resolved.app.as_str(), to.as_str());
                continue;
            }
            prop_assert!(resolved.hops.len() <= MAX_HOPS);
            // The hops are a way: each begins where the one before ended.
            prop_assert_eq!(resolved.hops[0].route.as_str(), to.as_str());
            for pair in resolved.hops.windows(2) {
                prop_assert_eq!(&pair[0].to, &pair[1].route);
            }
            prop_assert_eq!(&resolved.hops.last().unwrap().to, &resolved.app);
            prop_assert_eq!(resolve(&routes, &to, &input, &job).unwrap(), resolved);
        }
    }

    #[test]
    fn no_input_breaks_a_condition(when in condition(), input in input()) {
        let text = format!(
            "{}[routes.'r/s']\nkind = 'switch'\ndefault = 'app/two'\nrules = [{{ when = \"{when}\", to = 'app/one' }}]",
            apps()
        );
        // It leads somewhere, or the error names the rule.
        if let Err(error) = resolve(&read(&text).unwrap(), "r/s", &input, "job") {
            prop_assert_eq!(error.place, "rule 1");
        }
    }

    #[test]
    fn any_text_is_an_expression_or_has_a_located_mistake(
        text in prop_oneof!["\\PC{0,60}", "(input|headers|key|\\.[a-z]|[-+*/<>!?:|&=]{1,2}|[0-9]|'a'|\\(|\\)|\\[|\\]| ){0,12}"],
    ) {
        for mistake in Expression::compile(&text, ExtraVariables::None).err().into_iter().flatten() {
            prop_assert!(mistake.offset <= text.len(), "{mistake:?}");
        }
    }

    #[test]
    fn a_key_stays_with_its_target_whatever_the_rest_of_the_submission(user in "\\PC{1,20}", job in "\\PC{1,20}") {
        let text = format!(
            "{}[routes.'r/ab']\nkind = 'split'\nby = 'input.user'\n\
             to = [{{ app = 'app/one', weight = 1 }}, {{ app = 'app/two', weight = 1 }}]",
            apps()
        );
        let routes = read(&text).unwrap();
        let to = |job: &str, size: u32| {
            let input = json!({"user": user, "size": size});
            resolve(&routes, "r/ab", &input, job).unwrap().app
        };
        prop_assert_eq!(to("1", 2), to(&job, 3));
    }

}

proptest! {
    // Each of them reads many files.
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn an_excerpt_declares_all_that_is_reachable_alike(text in routes()) {
        let (routes, all_apps) = read_all(&(apps() + &text)).unwrap();
        for (from, _) in routes.iter() {
            let text = excerpt(&routes, &all_apps, from);
            let (again, apps) = read_all(&text).unwrap();
            for reached in reachable(&routes, from) {
                prop_assert_eq!(again.get(reached), routes.get(reached), "{} in\n{}", reached, text);
                prop_assert_eq!(apps.get(reached), all_apps.get(reached));
            }
            prop_assert_eq!(reachable(&again, from), reachable(&routes, from));
            prop_assert_eq!(apps_in_conditions(&again, from), apps_in_conditions(&routes, from));
            prop_assert_eq!(excerpt(&again, &apps, from), text);
        }
    }
}

proptest! {
    // Each of them tries thousands.
    #![proptest_config(ProptestConfig::with_cases(8))]

    #[test]
    fn shares_are_as_large_as_their_weights(first in 1..99_u32, sticky: bool) {
        let by = if sticky { "by = 'input.user'" } else { "" };
        let text = format!(
            "{}[routes.'r/ab']\nkind = 'split'\n{by}\n\
             to = [{{ app = 'app/one', weight = {first} }}, {{ app = 'app/two', weight = {} }}]",
            apps(), 100 - first
        );
        let routes = read(&text).unwrap();
        let trials = 2_000;
        let at_first = (0..trials)
            .filter(|n| {
                let input = json!({"user": n});
                resolve(&routes, "r/ab", &input, &n.to_string()).unwrap().app == name("app/one")
            })
            .count();
        // Five standard deviations of a binomial distribution.
        let part = f64::from(first) / 100.0;
        let expected = f64::from(trials) * part;
        let bound = 5.0 * (expected * (1.0 - part)).sqrt();
        prop_assert!((at_first as f64 - expected).abs() <= bound, "{at_first} of {trials}, not {expected}");
    }
}

#[test]
fn the_first_rule_that_applies_wins() {
    let text = format!(
        "{}[routes.'r/s']\nkind = 'switch'\ndefault = 'app/three'\nrules = [\n\
         {{ when = 'input.width <= 100', to = 'app/one' }},\n\
         {{ when = 'input.width <= 200', to = 'app/two' }},\n\
         {{ when = 'input.width <= 50', to = 'app/three' }},\n]",
        apps()
    );
    let routes = read(&text).unwrap();
    let at = |input: Value| {
        let resolved = resolve(&routes, "r/s", &input, "job").unwrap();
        (resolved.app.to_string(), resolved.hops[0].reason.clone())
    };
    let (app, reason) = at(json!({"width": 40}));
    assert_eq!(
        (app.as_str(), reason.as_str()),
        ("app/one", "rule 1 of 3 applied: input.width <= 100")
    );
    assert_eq!(at(json!({"width": 150})).0, "app/two");
    assert_eq!(at(json!({"width": 300})).1, "none of its 3 rules applied");
    let (app, reason) = at(json!({}));
    assert_eq!(app, "app/three");
    assert!(reason.contains("rule 1: 'width' is absent"), "{reason}");
}

#[test]
fn one_submission_draws_anew_in_each_split() {
    let half = |to: [&str; 2]| {
        format!(
            "kind = 'split'\nto = [{{ app = '{}', weight = 1 }}, {{ app = '{}', weight = 1 }}]\n",
            to[0], to[1]
        )
    };
    let text = format!(
        "{}[routes.'r/outer']\n{}[routes.'r/inner']\n{}",
        apps(),
        half(["app/three", "r/inner"]),
        half(["app/one", "app/two"])
    );
    let routes = read(&text).unwrap();
    let reached: BTreeSet<String> = (0..200)
        .map(|n| {
            resolve(&routes, "r/outer", &json!({}), &n.to_string())
                .unwrap()
                .app
                .to_string()
        })
        .collect();
    assert_eq!(reached.len(), 3, "{reached:?}");
}

#[test]
fn errors_name_the_route_and_the_rule() {
    let text = format!(
        "{}[routes.'r/s']\nkind = 'switch'\ndefault = 'app/one'\nrules = [{{ when = 'input.width > 1', to = 'app/two' }}]",
        apps()
    );
    let error = resolve(
        &read(&text).unwrap(),
        "r/s",
        &json!({"width": "wide"}),
        "job",
    )
    .unwrap_err();
    let message = error.to_string();
    assert!(
        message.starts_with("route r/s, rule 1 (input.width > 1): "),
        "{message}"
    );
}

#[test]
fn an_app_leads_to_itself() {
    let routes = Routes::default();
    let resolved = resolve(&routes, "any/app", &json!({}), "job").unwrap();
    assert_eq!((resolved.app.as_str(), resolved.hops.len()), ("any/app", 0));
}
