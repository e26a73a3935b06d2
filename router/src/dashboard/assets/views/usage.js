// What ended jobs used: by day, key and app.

import { get, query } from "../api.js";
import { h, put } from "../dom.js";
import { count, duration } from "../format.js";
import { cell, empty, failure, loading, panel, segments } from "../parts.js";

const GROUPS = [["day", "Days"], ["key", "Keys"], ["app", "Apps"], ["day,key,app", "All"]];

const NAMES = { day: "Day", key: "Key", app: "App" };

const SUMS = ["Succeeded", "Failed", "Cancelled", "Expired", "Pictures", "GPU time", "Loading"];

export function usageView({ session, parameters }) {
  const asked = { from: parameters.get("from") ?? "", to: parameters.get("to") ?? "", app: parameters.get("app") ?? "", key: parameters.get("key") ?? "", by: parameters.get("by") ?? "day" };
  const body = h("div", {}, loading());

  async function load() {
    try {
      const report = await get(`v1/usage${query(asked)}`);
      const span = `${report.from} to ${report.to}, UTC`;
      put(body, panel(span, report.usage.length ? table(report) : empty("No jobs ended.", "A job counts on the day on which it ends.")));
    } catch (error) {
      put(body, failure(error, load));
    }
  }

  function ask(name, value) {
    asked[name] = value.trim();
    history.replaceState(null, "", `#/usage${query(asked)}`);
    load();
  }

  const input = (name, label, properties) =>
    h("div", { class: "field" }, h("label", { for: `usage-${name}` }, label),
      h("input", { id: `usage-${name}`, value: asked[name], onchange: (event) => ask(name, event.target.value), ...properties }));
  const form = h("div", { class: "two" }, input("from", "From (UTC)", { type: "date" }), input("to", "To", { type: "date" }),
    input("app", "App or route", { placeholder: "owner/name" }), session.may_administer ? input("key", "Key", { placeholder: "all keys" }) : null);
  load();
  const groups = segments("One row per", GROUPS, asked.by, (by) => ask("by", by));
  return { nodes: [h("div", { class: "heading" }, h("h1", {}, "Usage"), h("span", { class: "spring" }), groups), form, body] };
}

function table({ by, usage, total }) {
  const head = h("tr", {}, [...by.map((group) => NAMES[group]), ...SUMS].map((name) => h("th", { scope: "col" }, name)));
  const rows = usage.map((line) => h("tr", {}, by.map((group) => cell(NAMES[group], line[group] || "–")), sums(line)));
  const last = h("tr", {}, by.map((group, n) => cell(NAMES[group], n === 0 ? h("strong", {}, "Total") : "")), sums(total));
  return h("div", { class: "scroll" }, h("table", { class: "stack" }, h("thead", {}, head), h("tbody", {}, rows), h("tfoot", {}, last)));
}

function sums(line) {
  const { succeeded, failed, cancelled, expired, pictures, gpu_ms: gpu, load_ms: load } = line;
  const counts = [succeeded, failed, cancelled, expired, pictures].map(count);
  return [...counts, duration(gpu), duration(load)].map((value, n) => cell(SUMS[n], value));
}
