// The fleet: a row per runner, updated in place.

import { Keyed, attribute, h, put, text } from "../dom.js";
import { age, bytes, count, duration } from "../format.js";
import { live } from "../live.js";
import { badge, bar, chip, empty, jobLink, loading, segments } from "../parts.js";

const STATES = [["all", "All"], ["busy", "Busy"], ["idle", "Idle"], ["draining", "Draining"], ["faulty", "Faulty"]];

const stateOf = (runner) => (runner.draining ? "draining" : runner.fault ? "faulty" : runner.job ? "busy" : runner.idle ? "idle" : "changing");

const TONES = { draining: "calm", faulty: "bad", busy: "busy", idle: "good", changing: "calm" };

export function fleetView({ parameters }) {
  let state = "all";
  let search = parameters.get("find") ?? "";
  const rows = h("div", { class: "fleet-rows", role: "rowgroup" });
  const table = h("div", { class: "fleet panel", role: "table", "aria-label": "Runners" },
    h("div", { class: "fleet-head", role: "row" }, ["Runner", "State", "Models", "Current job", "Memory"].map((name) => h("span", { role: "columnheader" }, name))), rows);
  const body = h("div", {}, loading());
  const filter = h("input", { class: "search", type: "search", placeholder: "Name, app, host or model", "aria-label": "Filter runners", value: search,
    oninput: (event) => { search = event.target.value; show(); } });
  const choice = segments("State", STATES, state, (value) => { state = value; show(); });
  const keyed = new Keyed(rows, runnerRow);

  function show() {
    const runners = [...live.runners.values()].sort((a, b) => a.app.localeCompare(b.app) || a.id.localeCompare(b.id, "en", { numeric: true }));
    const counts = { all: runners.length, busy: 0, idle: 0, draining: 0, faulty: 0 };
    for (const runner of runners) counts[stateOf(runner)] += 1;
    for (const [value, label] of STATES) choice.label(value, `${label} ${count(counts[value])}`);
    const words = search.toLowerCase().split(/\s+/).filter(Boolean);
    const matching = runners.filter((runner) => (state === "all" || stateOf(runner) === state) && words.every((word) => searchable(runner).includes(word)));
    keyed.show(matching, ({ app, id }) => `${app} ${id}`);
    const nothing = runners.length ? empty("No runner matches.", "Change the filter to see the others.")
      : empty("No runners are connected.", "Start one: ", h("code", {}, "warmq-worker --app warmq/diffusion"));
    const content = matching.length ? table : nothing;
    if (body.firstElementChild !== content) put(body, content);
  }

  const listening = live.listen(show);
  const ticking = setInterval(() => { for (const row of keyed.rows()) row.tick(); }, 1000);
  return {
    nodes: [h("div", { class: "heading" }, h("h1", {}, "Fleet"), h("span", { class: "spring" }), choice, filter), legend(), body],
    stop() {
      listening();
      clearInterval(ticking);
    },
  };
}

const searchable = (runner) =>
  (runner.searchable ??= [runner.id, runner.app, runner.host, runner.device, ...runner.hints, ...runner.ram_hints].join(" ").toLowerCase());

const legend = () => h("p", { class: "soft small legend" }, chip("model", { tier: "device" }), "loaded on the device: a run is warm", chip("model", { tier: "ram" }), "evicted to host memory");

function runnerRow() {
  const name = h("strong", { class: "clip" });
  const where = h("div", { class: "soft small clip" });
  const state = h("div");
  const models = h("div", { class: "chips" });
  const job = h("div", { class: "fleet-job" });
  const memory = bar("accent", "Memory of loaded models");
  const amount = h("div", { class: "small soft nowrap" });
  const element = h("div", { class: "fleet-row", role: "row" },
    h("div", { role: "cell" }, name, where), h("div", { role: "cell" }, state), h("div", { role: "cell" }, models),
    h("div", { role: "cell" }, job), h("div", { role: "cell", class: "fleet-memory" }, memory.element, amount));
  const running = runningJob();
  let shown = "";
  let fault = "";
  let runner;
  return {
    element,
    update(next) {
      runner = next;
      text(name, next.id);
      attribute(name, "title", next.id);
      text(where, `${next.app} · ${next.host} · ${next.device}`);
      attribute(where, "title", where.textContent);
      const kind = `${stateOf(next)} ${next.fault ?? ""}`;
      if (kind !== fault) {
        put(state, badge(stateOf(next), TONES[stateOf(next)]), next.fault ? h("p", { class: "fault small" }, next.fault) : null);
        fault = kind;
      }
      const loaded = JSON.stringify([next.hints, next.ram_hints, next.pinned]);
      if (loaded !== shown) {
        const pinned = new Set(next.pinned);
        // The most recently used first.
        const chips = [...next.hints].reverse().map((hint) => chip(hint, { tier: "device", pinned: pinned.has(hint) }));
        const evicted = [...next.ram_hints].reverse().map((hint) => chip(hint, { tier: "ram", pinned: pinned.has(hint) }));
        put(models, chips.length + evicted.length ? [chips, evicted] : h("span", { class: "soft small" }, "none loaded"));
        shown = loaded;
      }
      memory.set(next.memory_bytes, next.memory_budget_bytes);
      text(amount, `${bytes(next.memory_bytes)} of ${bytes(next.memory_budget_bytes)}`);
      if (next.job) {
        running.update(next);
        if (job.firstElementChild !== running.element) put(job, running.element);
      } else if (job.firstElementChild === running.element || !job.firstElementChild) {
        put(job, h("span", { class: "soft small" }, ""));
      }
      this.tick();
    },
    tick() {
      if (runner.job) running.tick();
      else text(job.firstElementChild, runner.fault ? `for ${age(live.now() - (runner.fault_since_ms ?? live.now()))}` : "–");
    },
  };
}

/** The job of a runner: model, phase, progress, preview. */
function runningJob() {
  const preview = h("img", { class: "thumb", alt: "Preview of the picture", width: 36, height: 36, hidden: true });
  const hint = h("span", { class: "clip" });
  const link = h("span");
  const phase = h("span", { class: "small soft nowrap" });
  const progress = bar("busy", "Progress of the job");
  const element = h("div", { class: "running" }, preview,
    h("div", { class: "running-text" }, h("div", { class: "running-line" }, hint, link), progress.element, phase));
  let shown;
  let runner;
  return {
    element,
    update(next) {
      runner = next;
      if (next.job !== shown) {
        put(link, jobLink(next.job));
        preview.hidden = true;
        shown = next.job;
      }
      const picture = next.running?.progress?.preview;
      if (picture?.startsWith("data:image/") && picture !== preview.src) preview.src = picture;
      preview.hidden = !picture;
      text(hint, next.running?.hint ?? "no hint");
      const { step = 0, steps = 0 } = next.running?.progress ?? {};
      progress.set(step, steps);
    },
    tick() {
      const { state, started_ms: started, progress: at } = runner.running ?? {};
      const since = started ? duration(Math.floor((live.now() - started) / 1000) * 1000) : "";
      const steps = at?.steps ? ` ${at.step}/${at.steps}` : "";
      text(phase, state === "running" ? `${at?.phase ?? "running"}${steps}${since ? ` · ${since}` : ""}` : "claimed");
    },
  };
}
