// The submit form of an app, built from the JSON Schema of its input.

import { get, post } from "../api.js";
import { h, put } from "../dom.js";
import { live } from "../live.js";
import { acting, empty, failure, field, loading, panel } from "../parts.js";
import { schemaForm } from "./schema_form.js";

export function submitView({ rest, parameters, session }) {
  const target = rest.join("/");
  const body = h("div", {}, loading());
  const chooser = h("select", { "aria-label": "App or route", onchange: (event) => { location.hash = `#/submit/${event.target.value}`; } });
  let stop = () => {};

  async function show() {
    const { apps, routes } = await get("v1/apps");
    const names = [...apps.map(({ app }) => app), ...routes.map(({ route }) => route)];
    const [owner, name, ...path] = rest;
    const chosen = owner && name ? `${owner}/${name}` : names[0];
    put(chooser, names.map((name) => h("option", { value: name }, name)));
    chooser.value = chosen ?? "";
    if (!chosen) return put(body, h("div", { class: "panel" }, empty("No apps yet.", "Start a worker, or declare an app in the settings.")));
    const isRoute = routes.some(({ route }) => route === chosen);
    const [app, before] = await Promise.all([isRoute ? null : get(`v1/apps/${chosen}`), parameters.get("from") ? get(`v1/jobs/${parameters.get("from")}`) : null]);
    const input = before?.input ?? {};
    const form = schemaForm(app?.input_schema ?? {}, input, { hintField: app?.hint_field, models: app?.models });
    if (session.may_watch) stop = live.listen(() => form.loaded(whereLoaded(chosen)));
    put(body, page(chosen, [before?.path || path.join("/"), before], form));
    return undefined;
  }

  show().catch((error) => put(body, failure(error, () => show())));
  return { nodes: [h("div", { class: "heading" }, h("h1", {}, "Submit a job"), h("span", { class: "spring" }), chooser), body], stop: () => stop(), target };
}

/** Returns how many runners of an app have each model on the device, and in RAM. */
function whereLoaded(app) {
  const counts = new Map();
  const note = (hint, tier) => {
    const known = counts.get(hint) ?? { device: 0, ram: 0 };
    known[tier] += 1;
    counts.set(hint, known);
  };
  for (const runner of live.runners.values()) {
    if (runner.app !== app) continue;
    runner.hints.forEach((hint) => note(hint, "device"));
    runner.ram_hints.forEach((hint) => note(hint, "ram"));
  }
  return counts;
}

function page(app, [path, before], form) {
  const priority = h("select", { id: "priority" }, [["normal", "normal"], ["low", "low: only where no normal job waits"]].map(([value, label]) => h("option", { value }, label)));
  priority.value = before?.priority ?? "normal";
  const hint = h("input", { id: "hint", autocomplete: "off", value: form.hasHint ? "" : (before?.hint ?? "") });
  const warm = h("input", { id: "warm", type: "number", min: "0", step: "any", placeholder: "as the app decides" });
  const button = h("button", { class: "primary", type: "submit" }, "Submit");
  const mistake = h("p", { class: "mistake", role: "alert" });
  const submit = () => acting(button, async () => {
    put(mistake);
    form.mistakes([]);
    const headers = { "x-fal-queue-priority": priority.value, ...(hint.value && { "x-fal-runner-hint": hint.value }), ...(warm.value && { "x-max-warm-wait": warm.value }) };
    try {
      const { request_id: id } = await post(`queue/${app}${path ? `/${path}` : ""}`, form.value(), headers);
      location.hash = `#/jobs/${id}`;
    } catch (error) {
      put(mistake, error.message);
      form.mistakes(error.fields ?? []);
    }
  });
  const element = h("form", { class: "submit", onsubmit: (event) => (event.preventDefault(), submit()) },
    panel(before ? `Input, as of job …${before.id.slice(-8)}` : "Input", h("div", { class: "body" }, form.element)),
    panel("Options", h("div", { class: "body form" }, path ? h("p", { class: "soft" }, "Path ", h("code", {}, path)) : null, field("Priority", priority),
      form.hasHint ? null : field("Hint", hint, "The model that the job needs; runners that have it loaded come first."),
      field("Held for a warm runner at most, s", warm, "0: the next idle runner takes it."), mistake, h("div", { class: "actions" }, button))));
  return element;
}
