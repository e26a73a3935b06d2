// The list of jobs: filtered, newest first, a page at a time.

import { get, query } from "../api.js";
import { h, put } from "../dom.js";
import { clock, duration } from "../format.js";
import { badge, cell, chip, empty, failure, jobLink, loading } from "../parts.js";

const STATES = [["", "Any state"], ["queued,dispatched", "waiting"], ["running", "running"], ["succeeded", "succeeded"], ["failed", "failed"], ["cancelled", "cancelled"], ["expired", "expired"]];

const FILTERS = ["state", "app", "hint", "key", "until"];

const REFRESH_MS = 5000;

/** Pages that are asked for at once where filters leave few of many jobs. */
const MAX_PAGES = 5;

export function jobsView({ session, parameters }) {
  const filters = Object.fromEntries(FILTERS.map((name) => [name, parameters.get(name) ?? ""]));
  const rows = h("tbody");
  const table = h("div", { class: "panel scroll" }, h("table", { class: "stack" },
    h("thead", {}, h("tr", {}, ["Job", "State", "App", "Model", "Submitted", "Waited", "Ran", "Runner"].map((name) => h("th", { scope: "col" }, name)))), rows));
  const body = h("div", { class: "view" }, loading());
  const more = h("button", { hidden: true, onclick: () => load(next) }, "Show older jobs");
  let next = null;
  let pages = 0;

  /** Loads a page before the cursor; without one, the newest. */
  async function load(before) {
    try {
      const { until, ...wanted } = filters;
      let cursor = before ?? (until ? Date.parse(until) : undefined);
      let found = [];
      for (let n = 0; n < MAX_PAGES && !found.length; n += 1) {
        const page = await get(`v1/jobs${query({ ...wanted, before: cursor, limit: 50 })}`);
        found = page.jobs;
        next = page.next;
        cursor = page.next;
        if (!next) break;
      }
      if (before === undefined) put(rows);
      pages = before === undefined ? 1 : pages + 1;
      rows.append(...found.map(row));
      more.hidden = !next;
      const nothing = empty(next ? "No match among the newest jobs." : "No jobs.", next ? "Show older jobs to go on." : "Nothing was submitted that matches, or its record has expired.");
      put(body, rows.children.length ? table : h("div", { class: "panel" }, nothing), h("div", { class: "actions older" }, more));
    } catch (error) {
      put(body, failure(error, () => load(before)));
    }
  }

  function filter(name, value) {
    filters[name] = value.trim();
    history.replaceState(null, "", `#/jobs${query(filters)}`);
    load();
  }

  const input = (name, label, properties) =>
    h("div", { class: "field" }, h("label", { for: `filter-${name}` }, label),
      h("input", { id: `filter-${name}`, value: filters[name], onchange: (event) => filter(name, event.target.value), ...properties }));
  const states = h("select", { id: "filter-state", onchange: (event) => filter("state", event.target.value) }, STATES.map(([value, label]) => h("option", { value }, label)));
  states.value = filters.state;
  const search = h("form", { onsubmit: (event) => { event.preventDefault(); const id = search.elements.id.value.trim(); if (id) location.hash = `#/jobs/${encodeURIComponent(id)}`; } },
    h("input", { class: "search", name: "id", type: "search", placeholder: "Go to a job by its id", "aria-label": "Id of a job" }));
  const form = h("div", { class: "two" }, h("div", { class: "field" }, h("label", { for: "filter-state" }, "State"), states),
    input("app", "App or route", { placeholder: "owner/name" }), input("hint", "Model", {}),
    session.may_administer ? input("key", "Key", { placeholder: "all keys" }) : null, input("until", "Submitted before", { type: "datetime-local" }));
  load();
  const refreshing = setInterval(() => document.hidden || pages > 1 || rows.contains(document.activeElement) || load(), REFRESH_MS);
  return {
    nodes: [h("div", { class: "heading" }, h("h1", {}, "Jobs"), h("span", { class: "spring" }), search), form, body],
    stop: () => clearInterval(refreshing),
  };
}

function row(job) {
  const { created_ms: created, started_ms: started, finished_ms: finished, timings } = job;
  const ran = timings ? duration(timings.run_ms) : started && finished ? duration(finished - started) : "–";
  const state = job.flow && !finished ? `step ${job.flow.step} of ${job.flow.of}` : null;
  return h("tr", {},
    cell("Job", jobLink(job.id), job.step_of ? h("div", { class: "small soft" }, "step of ", jobLink(job.step_of.flow)) : null),
    cell("State", badge(job.state), state ? h("div", { class: "small soft" }, state) : null, job.error ? h("div", { class: "small fault" }, job.error.message) : null),
    cell("App", job.app, job.submitted_to ? h("div", { class: "small soft" }, `by ${job.submitted_to}`) : null),
    cell("Model", job.hint ? chip(job.hint) : "–"), cell("Submitted", h("span", { class: "nowrap" }, clock(created))),
    cell("Waited", started ? duration(started - created) : "–"),
    cell("Ran", ran, timings ? h("span", { class: "small soft" }, timings.warm ? " warm" : " cold") : null), cell("Runner", job.runner ?? "–"));
}
