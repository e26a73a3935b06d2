// Apps and routes, as declared and as they are.

import { get } from "../api.js";
import { h, put } from "../dom.js";
import { count, duration } from "../format.js";
import { badge, cell, chip, empty, failure, loading, panel } from "../parts.js";

export function appsView({ rest, session }) {
  const body = h("div", {}, loading());
  const single = rest.length === 2;
  const refresh = () => (single ? showApp(body, rest.join("/"), session) : showAll(body, session)).catch((error) => put(body, failure(error, refresh)));
  refresh();
  const title = single ? h("h1", {}, rest.join("/")) : h("h1", {}, "Apps and routes");
  return { nodes: [h("div", { class: "heading" }, title, h("span", { class: "spring" }), single ? h("a", { class: "button", href: "#/apps" }, "All apps") : null), body] };
}

async function showAll(body, session) {
  const { apps, routes } = await get("v1/apps");
  const number = (label, value) => h("td", { "data-label": label, class: "number" }, h("div", {}, value));
  const heads = (names, numbers = []) => h("thead", {}, h("tr", {}, names.map((name) => h("th", { scope: "col", class: numbers.includes(name) ? "number" : null }, name))));
  const appRows = apps.map((app) => h("tr", {}, cell("App", h("a", { href: `#/apps/${app.app}` }, app.app)), cell("Policy", badge(app.policy, "calm")),
    number("Runners", count(app.runners)), number("Waiting", count(app.queued)), number("Expected wait", app.wait_s === null ? "no runner" : duration(app.wait_s * 1000)),
    number("Mean run", duration(app.run_s * 1000)), number("Cost", app.cost), cell("", session.may_submit ? h("a", { href: `#/submit/${app.app}` }, "Submit") : "")));
  const routeRows = routes.map((route) => h("tr", {}, cell("Route", route.route), cell("Kind", badge(route.kind, "calm")),
    cell("Leads to", h("span", { class: "chips" }, route.to.map((target, n) => [n && route.kind === "sequence" ? "then " : null, chip(target)]))),
    cell("", session.may_submit ? h("a", { href: `#/submit/${route.route}` }, "Submit") : "")));
  const numbers = ["Runners", "Waiting", "Expected wait", "Mean run", "Cost"];
  put(body, h("div", { class: "queues" },
    panel("Apps", apps.length ? h("div", { class: "scroll" }, h("table", { class: "stack" }, heads(["App", "Policy", ...numbers, ""], numbers), h("tbody", {}, appRows))) : empty("No apps yet.", "An app exists once the settings name it or a worker has registered it.")),
    panel("Routes", routes.length ? h("div", { class: "scroll" }, h("table", { class: "stack" }, heads(["Route", "Kind", "Leads to", ""]), h("tbody", {}, routeRows))) : empty("No routes are declared.", "A route forwards by rules, shares or steps; see the settings [routes]."))));
}

async function showApp(body, name, session) {
  const app = await get(`v1/apps/${name}`);
  const ms = (value, otherwise) => (value === null ? otherwise : duration(value));
  const facts = [["Policy", app.policy], ["Declared", app.declared ? "in the settings" : "by its workers"], ["Held at most", ms(app.max_warm_wait_ms, "as the policy decides")],
    ["Run timeout", ms(app.run_timeout_ms, "none")], ["Attempts", app.max_attempts], ["Longest queue", app.max_queue_length ?? "unbounded"], ["Records kept", duration(app.retention_ms)],
    ["Hint from", app.hint_field ?? "the header X-Fal-Runner-Hint"]];
  put(body, h("div", { class: "columns" },
    panel("Settings", h("div", { class: "body" }, h("dl", { class: "facts" }, facts.map(([label, value]) => [h("dt", {}, label), h("dd", {}, value)])),
      session.may_submit ? h("a", { class: "button primary", href: `#/submit/${name}` }, "Submit a job") : null)),
    panel("Models", h("div", { class: "body" }, app.models === null ? h("p", { class: "soft" }, "Its runners may load any model.") : h("div", { class: "chips" }, app.models.map((model) => chip(model))))),
    h("details", { class: "panel" }, h("summary", {}, "JSON Schema of its input"), h("div", { class: "body" }, h("pre", { tabindex: "0" }, JSON.stringify(app.input_schema, null, 2))))));
}
