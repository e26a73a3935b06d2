//! Files with mistakes, and one without.

use super::*;
use crate::flow::MAX_STEPS;

fn problems(text: &str) -> Vec<String> {
    let mut settings = Settings::from_toml(text, "warmq.toml");
    let apps = Apps::read(&mut settings);
    let routes = Routes::read(&mut settings, &apps);
    match settings.finish(Some(routes)) {
        Ok(_) => Vec::new(),
        Err(problems) => problems.sentences().to_vec(),
    }
}

const APPS: &str = "[apps.'a/one']\n[apps.'a/two']\n";

#[test]
fn a_file_without_mistakes_has_its_routes() {
    let text = r#"
        [apps."a/one"]
        [apps."a/two"]
        [routes."a/by-size"]
        kind = "switch"
        default = "a/two"
        [[routes."a/by-size".rules]]
        when = "input.width <= 512"
        to = "a/one"
        [routes."a/ab"]
        kind = "split"
        to = [{ app = "a/by-size", weight = 3 }, { app = "a/two", weight = 1.0 }]
        by = "input.user_id"
    "#;
    let mut settings = Settings::from_toml(text, "warmq.toml");
    let apps = Apps::read(&mut settings);
    let routes = Routes::read(&mut settings, &apps);
    settings.finish(Some(())).unwrap();
    let names: Vec<&str> = routes.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["a/ab", "a/by-size"]);
    let Some(Route::Split(split)) = routes.get(&AppId::parse("a/ab").unwrap()) else {
        panic!("it is a split");
    };
    let parts: Vec<f64> = split.to.iter().map(|share| share.part).collect();
    assert_eq!(parts, [0.75, 0.25]);
}

#[test]
fn every_mistake_in_every_route_is_reported_with_its_place() {
    let text = format!(
        "{APPS}\
         [routes.'Bad']\nkind = 'switch'\n\
         [routes.'r/switch']\nkind = 'switch'\nspeed = 9\nrules = [\n\
         \x20 {{ when = 'input.width <', to = 'a/one' }},\n\
         \x20 {{ when = 'inptu.width > 1', to = 'a/none' }},\n\
         \x20 {{ to = 7 }},\n]\n\
         [routes.'r/split']\nkind = 'split'\nby = 'input.('\n\
         to = [{{ app = 'a/one', weight = 0 }}, {{ app = 'a/two', weight = -1 }}, {{ app = 'a/one' }}]\n\
         [routes.'r/kind']\nkind = 'luck'\n[routes.'r/later']\nkind = 'sequence'\n[routes.'r/none']\n\
         [routes.'r/empty']\nkind = 'split'\nto = []\n"
    );
    let problems = problems(&text);
    let expect = |place: &str, what: &str| {
        let found = problems.iter().any(|problem| {
            problem.starts_with(&format!("warmq.toml, {place}: ")) && problem.contains(what)
        });
        assert!(found, "{place}: {what}\n{}", problems.join("\n"));
    };
    expect("line 3, column 9", "'Bad' is not an app name");
    expect("line 5, column 9", "'default' is missing");
    expect("line 7, column 9", "unknown setting");
    expect("line 9, column 26", "invalid CEL");
    expect("line 10, column 13", "unknown variable 'inptu'");
    expect(
        "line 10, column 36",
        "'a/none' is not declared in this file",
    );
    expect("line 11, column 3", "'when' is missing");
    expect("line 11, column 10", "expected text");
    expect("line 15, column 13", "invalid CEL");
    expect("line 16, column 33", "greater than 0");
    expect("line 16, column 64", "greater than 0");
    expect("line 16, column 70", "'weight' is missing");
    expect("line 18, column 8", "unknown kind 'luck'");
    expect("line 19, column 9", "'steps' is missing");
    expect("line 21, column 9", "'kind' is missing");
    expect("line 24, column 6", "a list of targets");
}

#[test]
fn routes_that_lead_nowhere_or_back_are_refused() {
    let cycle = format!(
        "{APPS}[routes.'r/a']\nkind = 'switch'\ndefault = 'r/b'\nrules = [{{ when = 'true', to = 'a/one' }}]\n\
         [routes.'r/b']\nkind = 'split'\nto = [{{ app = 'r/a', weight = 1 }}]\n\
         [routes.'a/two']\nkind = 'split'\nto = [{{ app = 'a/two', weight = 1 }}]\n"
    );
    let problems = problems(&cycle);
    assert_eq!(problems.len(), 3, "{problems:#?}");
    assert!(
        problems
            .iter()
            .any(|problem| problem.contains("r/a → r/b → r/a"))
    );
    assert!(
        problems
            .iter()
            .any(|problem| problem.contains("a/two → a/two"))
    );
    let same_name =
        "warmq.toml, line 10, column 9: routes.\"a/two\": an app of this file has the same name";
    assert!(
        problems
            .iter()
            .any(|problem| problem.starts_with(same_name))
    );
}

#[test]
fn a_way_through_more_than_eight_routes_is_refused() {
    let chain = |routes: usize| {
        let mut text = APPS.to_owned();
        for n in 1..=routes {
            let to = match n {
                1 => "a/one".to_owned(),
                n => format!("r/{}", n - 1),
            };
            text += &format!(
                "[routes.'r/{n}']\nkind = 'split'\nto = [{{ app = '{to}', weight = 1 }}]\n"
            );
        }
        problems(&text)
    };
    assert_eq!(chain(route_graph::MAX_HOPS), Vec::<String>::new());
    let refused = chain(route_graph::MAX_HOPS + 1);
    assert_eq!(refused.len(), 1, "{refused:#?}");
    assert!(refused[0].contains("9 routes"), "{refused:#?}");
}

#[test]
fn a_target_that_is_named_twice_is_refused() {
    let text = format!(
        "{APPS}[routes.'r/a']\nkind = 'split'\nto = [{{ app = 'a/one', weight = 1 }}, {{ app = 'a/one', weight = 2 }}]\n"
    );
    assert!(problems(&text)[0].contains("duplicate target"));
}

#[test]
fn flows_have_their_steps() {
    let text = r#"
        [apps."a/one"]
        [apps."a/two"]
        [routes."r/cutout"]
        kind = "sequence"
        steps = [
          { name = "draw", app = "a/one" },
          { name = "cut", app = "r/safe", input = { url = "steps.draw.output.url" }, timeout = "2m" },
        ]
        output = { url = "steps.cut.output.url" }
        [routes."r/safe"]
        kind = "fallback"
        to = [{ app = "a/one", input = { width = 64 }, timeout = 30 }, "a/two"]
    "#;
    let mut settings = Settings::from_toml(text, "warmq.toml");
    let apps = Apps::read(&mut settings);
    let routes = Routes::read(&mut settings, &apps);
    let routes = settings.finish(Some(routes)).unwrap();
    let flow = |name: &str| routes.flow(&AppId::parse(name).unwrap());
    let steps_of = |name: &str| {
        let steps = flow(name).unwrap().steps.iter();
        let steps = steps.map(|step| {
            let app = step.app.to_string();
            let input = step.input.as_ref().map(|input| input.written().to_string());
            (
                step.name.clone(),
                app,
                input,
                step.timeout.map(|time| time.as_secs()),
            )
        });
        steps.collect::<Vec<_>>()
    };
    let (draw, cut, one, two) = (
        "draw".into(),
        "cut".into(),
        "a/one".to_owned(),
        "a/two".to_owned(),
    );
    let url = r#"{"url":"steps.draw.output.url"}"#.to_owned();
    assert_eq!(
        steps_of("r/cutout"),
        [
            (draw, one.clone(), None, None),
            (cut, "r/safe".to_owned(), Some(url), Some(120))
        ]
    );
    assert_eq!(
        steps_of("r/safe"),
        [
            (
                one.clone(),
                one,
                Some(r#"{"width":64}"#.to_owned()),
                Some(30)
            ),
            (two.clone(), two, None, None)
        ]
    );
    assert_eq!(flow("r/cutout").unwrap().kind, RouteKind::Sequence);
    assert!(flow("r/cutout").unwrap().output.is_some());
    assert_eq!(flow("r/safe").unwrap().kind, RouteKind::Fallback);
    assert!(flow("a/one").is_none());
}

#[test]
fn every_mistake_in_every_flow_is_reported_with_its_place() {
    let text = format!(
        "{APPS}\
         [routes.'r/one']\nkind = 'sequence'\nspeed = 9\nsteps = [\n\
         \x20 {{ name = 'draw', app = 'a/one', input = {{ a = 'steps.cut.output', b = [1, 'inptu.x'] }} }},\n\
         \x20 {{ name = 'for', app = 'a/none', timeout = 0 }},\n\
         \x20 {{ name = 'draw', app = 'a/two', timeout = 'soon', input = {{ at = 2024-01-01, far = inf }} }},\n\
         \x20 {{ app = 'a/two', size = 1, input = 'apps[\"a/one\"].idle' }},\n\
         \x20 {{ name = 'cut', input = {{ a = 'steps.draw.state', b.c = 'steps.draw.output' }} }},\n]\n\
         output = {{ x = 'steps.cut.output', y = 'steps.glue.output' }}\n\
         [routes.'r/two']\nkind = 'fallback'\nto = ['a/one', {{ app = 'a/one' }}, 7, 'Bad', {{ app = 'a/two', name = 'x', input = 'steps.a.output' }}]\n\
         [routes.'r/three']\nkind = 'fallback'\nto = []\n\
         [routes.'r/four']\nkind = 'switch'\ndefault = 'a/one'\n\
         rules = [{{ when = \"apps['a/three'].idle > 0\", to = 'a/one' }}, {{ when = \"apps['a/one'].speed > 0\", to = 'a/one' }}]\n\
         [routes.'R']\nkind = 'sequence'\nsteps = [{{ name = 'a', app = 'a/one', input = 'inptu' }}]\n"
    );
    let problems = problems(&text);
    let expect = |place: &str, what: &str| {
        let found = problems.iter().any(|problem| {
            problem.starts_with(&format!("warmq.toml, {place}: ")) && problem.contains(what)
        });
        assert!(found, "{place}: {what}\n{}", problems.join("\n"));
    };
    expect("line 5, column 9", "unknown setting");
    expect(
        "line 7, column 55",
        "unknown step 'cut'; no step precedes this one",
    );
    expect("line 7, column 78", "unknown variable 'inptu'");
    expect("line 8, column 12", "not a CEL keyword");
    expect("line 8, column 25", "'a/none' is not declared in this file");
    expect("line 8, column 45", "greater than 0");
    expect("line 9, column 12", "duplicate step name");
    expect("line 9, column 45", "not a valid duration");
    expect("line 9, column 68", "not a JSON value");
    expect("line 9, column 86", "not a JSON value");
    expect("line 10, column 3", "'name' is missing");
    expect("line 10, column 27", "unknown setting");
    expect("line 10, column 39", "unknown variable 'apps'");
    expect("line 11, column 3", "'app' is missing");
    expect("line 11, column 39", "steps.draw.output");
    expect(
        "line 13, column 46",
        "unknown step 'glue'; earlier steps: draw, cut",
    );
    expect("line 16, column 24", "duplicate target");
    expect("line 16, column 35", "expected a table, not a whole number");
    expect("line 16, column 38", "'Bad' is not an app name");
    expect("line 16, column 69", "unknown setting");
    expect("line 16, column 83", "unknown variable 'steps'");
    expect("line 19, column 6", "a list of apps");
    expect(
        "line 23, column 24",
        "app 'a/three' is not declared in this file",
    );
    expect("line 23, column 86", "unknown app field 'speed'");
    expect("line 24, column 9", "'R' is not an app name");
    expect("line 26, column 48", "unknown variable 'inptu'");
    assert_eq!(problems.len(), 26, "{}", problems.join("\n"));
}

#[test]
fn flows_that_lead_back_or_have_too_many_steps_are_refused() {
    let flow = |kind: &str| format!("{APPS}[routes.'r/a']\nkind = '{kind}'\n");
    let back = flow("sequence") + "steps = [{ name = 'again', app = 'r/a' }]";
    assert!(
        problems(&back)[0].contains("r/a → r/a"),
        "{:?}",
        problems(&back)
    );
    let steps = |n: usize| {
        let steps: String = (0..n)
            .map(|n| format!("{{ name = 's{n}', app = 'a/one' }},"))
            .collect();
        problems(&(flow("sequence") + &format!("steps = [{steps}]")))
    };
    assert_eq!(steps(MAX_STEPS), Vec::<String>::new());
    assert!(steps(MAX_STEPS + 1)[0].contains("33 steps, more than the limit of 32"));
    let deep = |n: usize| {
        let input = format!("{}'input'{}", "[".repeat(n), "]".repeat(n));
        problems(&(flow("fallback") + &format!("to = [{{ app = 'a/one', input = {input} }}]")))
    };
    assert_eq!(deep(19), Vec::<String>::new());
    assert!(deep(20)[0].contains("nested more than 20 levels"));
}
