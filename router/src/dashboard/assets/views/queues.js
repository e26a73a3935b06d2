// The queues: per app its lanes, what they wait for, and the held jobs with their patience.

import { Keyed, h, put, text } from "../dom.js";
import { age, count, duration, plural } from "../format.js";
import { live } from "../live.js";
import { badge, bar, cell, chip, empty, jobLink, loading } from "../parts.js";

/** Models shown per queue. */
const MODELS = 8;

export function queuesView() {
  const list = h("div", { class: "queues" });
  const body = h("div", {}, loading());
  const keyed = new Keyed(list, queueCard);
  function show() {
    const queues = [...live.queues.values()].sort((a, b) => b.waiting - a.waiting || a.app.localeCompare(b.app));
    keyed.show(queues, ({ app }) => app);
    const content = queues.length ? list : empty("No apps yet.", "An app exists once the settings name it or a worker has registered it.");
    if (body.firstElementChild !== content) put(body, content);
  }
  const listening = live.listen(show);
  const ticking = setInterval(() => { for (const card of keyed.rows()) card.tick(); }, 250);
  return {
    nodes: [h("div", { class: "heading" }, h("h1", {}, "Queues")),
      h("p", { class: "lead" }, "A job whose model is loaded on busy runners only is held for the first of them, until its patience ends. Then any idle runner takes it."), body],
    stop() {
      listening();
      clearInterval(ticking);
    },
  };
}

function queueCard(first) {
  const facts = h("span", { class: "soft small" });
  const lanes = { normal: lane("Normal lane"), low: lane("Low lane") };
  const oldest = h("span", { class: "soft small" });
  const models = h("div", { class: "backlog" });
  const heldTitle = h("h3", { class: "small" });
  const rows = h("tbody");
  const held = h("div", { class: "scroll" }, h("table", { class: "stack" },
    h("thead", {}, h("tr", {}, ["Job", "Model", "Held because", "Patience left"].map((name) => h("th", { scope: "col" }, name)))), rows));
  const keyed = new Keyed(rows, heldRow);
  const element = h("section", { class: "panel queue", "aria-label": `Queue of ${first.app}` },
    h("header", {}, h("h2", {}, first.app), badge(`policy ${first.policy}`, "calm"), h("span", { class: "spring" }), facts),
    h("div", { class: "body queue-body" },
      h("div", { class: "lanes" }, lanes.normal.element, lanes.low.element, oldest),
      h("div", {}, h("h3", { class: "small" }, "Waiting per model"), models)),
    h("div", { class: "held" }, heldTitle, held));
  let queue;
  return {
    element,
    update(next) {
      queue = next;
      text(facts, `${plural(next.runners, "runner")}, ${count(next.idle)} idle · ${next.wait_s === null ? "no runner takes a new job" : next.wait_s === 0 ? "a new job starts at once" : `a new job waits about ${duration(next.wait_s * 1000)}`}`);
      lanes.normal.set(next.normal, next.waiting);
      lanes.low.set(next.low, next.waiting);
      showModels(models, next);
      keyed.show(next.held, ({ id }) => id);
      held.hidden = next.held.length === 0;
      const more = next.held_count - next.held.length;
      text(heldTitle, next.held_count ? `${plural(next.held_count, "job")} held${more > 0 ? `, those whose patience ends first` : ""}` : "No job is held");
      this.tick();
    },
    tick() {
      const first = queue.oldest_ms;
      const unread = queue.waiting - queue.read;
      text(oldest, queue.waiting === 0 ? "Nothing waits." : `The first job has waited ${first ? age(live.now() - first) : "–"}.${unread > 0 ? ` ${count(unread)} more jobs behind those shown.` : ""}`);
      for (const row of keyed.rows()) row.tick();
    },
  };
}

function lane(label) {
  const number = h("strong", { class: "lane-count" });
  const fill = bar("accent", label);
  return {
    element: h("div", { class: "lane" }, h("span", { class: "soft small" }, label), number, fill.element),
    set(waiting, all) {
      text(number, count(waiting));
      fill.set(waiting, all);
    },
  };
}

function showModels(element, queue) {
  const most = queue.models[0]?.waiting ?? 0;
  const rows = queue.models.slice(0, MODELS).map(({ hint, waiting }) => {
    const fill = bar("calm", `Jobs that wait for ${hint ?? "no model"}`);
    fill.set(waiting, most);
    return h("div", { class: "backlog-row" }, hint === null ? h("span", { class: "soft small" }, "no hint") : chip(hint), fill.element, h("span", { class: "small" }, count(waiting)));
  });
  const others = queue.models.length - MODELS;
  put(element, rows.length ? rows : h("span", { class: "soft small" }, "–"), others > 0 ? h("span", { class: "soft small" }, `and ${plural(others, "other model")}`) : null);
}

function heldRow(first) {
  const left = h("span", { class: "small nowrap" });
  const fill = bar("warn", "Patience left");
  const reason = h("span", { class: "small" });
  const element = h("tr", {}, cell("Job", jobLink(first.id)), cell("Model", first.hint === null ? "–" : chip(first.hint), first.priority === "low" ? h("div", { class: "small soft" }, "low lane") : null), cell("Held because", reason),
    cell("Patience", h("div", { class: "patience" }, fill.element, left)));
  let held;
  return {
    element,
    update(next) {
      held = next;
      text(reason, next.reason);
      this.tick();
    },
    tick() {
      const remaining = held.until_ms - live.now();
      fill.set(remaining, held.until_ms - held.since_ms);
      text(left, remaining > 0 ? duration(remaining) : "over: any runner");
    },
  };
}
