// The overview: what runs now, what the hints saved, throughput and wait over time.

import { get, query } from "../api.js";
import { chart } from "../chart.js";
import { h, put, text } from "../dom.js";
import { count, duration, percent, plural, roughly } from "../format.js";
import { live } from "../live.js";
import { empty, failure, loading, segments } from "../parts.js";

const SPANS = [["60", "1 hour"], ["360", "6 hours"], ["1440", "24 hours"]];

/** Minutes per point, by the span's minutes. */
const STEPS = { 60: 1, 360: 5, 1440: 20 };

const REFRESH_MS = 10_000;

const COUNTS = ["succeeded", "failed", "cancelled", "expired", "warm", "cold", "load_ms", "started", "wait_ms", "swaps_avoided", "loading_saved_ms"];

export function overviewView({ session }) {
  let minutes = "60";
  let app = "";
  let histories = [];
  const now = tiles(["Runners", "Busy", "Faulty", "Waiting", "Held"]);
  const saved = tiles(["Hit rate", "Warm runs", "Loads", "Swaps avoided", "Loading saved"]);
  const charts = h("div", { class: "columns" });
  const body = h("div", {}, loading());
  const apps = h("select", { "aria-label": "App", onchange: (event) => { app = event.target.value; show(); } });
  const span = segments("Span", SPANS, minutes, (value) => { minutes = value; refresh(); });
  const content = h("div", { class: "overview" }, section("What the hints saved", saved.element,
    "A swap is avoided when a job was held and then found its model loaded; the loading saved is that number times the mean load of the span. Both are upper bounds: a plain queue would have found some of these models loaded, too."), charts);

  function show() {
    const names = histories.map(({ app }) => app);
    const options = [["", "All apps"], ...names.map((name) => [name, name])];
    if (apps.options.length !== options.length) put(apps, options.map(([value, label]) => h("option", { value }, label)));
    apps.value = app;
    const chosen = histories.filter((history) => !app || history.app === app);
    const total = sum(chosen.map((history) => history.total));
    saved.set([percent(total.warm, total.warm + total.cold), count(total.warm), `${count(total.cold)}`, count(total.swaps_avoided), duration(total.loading_saved_ms)]);
    put(charts, chosen.length ? drawn(chosen, total, Number(minutes)) : h("section", { class: "panel" }, empty("No job ended in this span.", session.may_submit ? [h("a", { href: "#/submit" }, "Submit one"), " to see throughput, waits and loads."] : "Throughput, waits and loads appear once jobs end.")));
    if (body.firstElementChild !== content) put(body, content);
  }

  async function refresh() {
    try {
      const history = await get(`v1/history${query({ minutes, step: STEPS[minutes] })}`);
      histories = history.apps;
      show();
    } catch (error) {
      put(body, failure(error, refresh));
    }
  }

  const listening = live.listen(() => {
    const [runners, queues] = [[...live.runners.values()], [...live.queues.values()]];
    const add = (name) => queues.reduce((total, queue) => total + queue[name], 0);
    now.set([count(runners.length), count(runners.filter(({ job }) => job).length), count(runners.filter(({ fault }) => fault).length), count(add("waiting")), count(add("held_count"))]);
    now.mark(2, runners.some(({ fault }) => fault));
  });
  refresh();
  const refreshing = setInterval(() => document.hidden || refresh(), REFRESH_MS);
  return {
    nodes: [h("div", { class: "heading" }, h("h1", {}, "Overview"), h("span", { class: "spring" }), apps, span), now.element, body],
    stop() {
      listening();
      clearInterval(refreshing);
    },
  };
}

const section = (title, element, explanation) => h("section", { class: "panel" }, h("header", {}, h("h2", {}, title)), element, h("p", { class: "note small soft" }, explanation));

function tiles(names) {
  const values = names.map(() => h("strong", {}, "–"));
  const all = names.map((name, n) => h("div", { class: "tile" }, h("span", { class: "small soft" }, name), values[n]));
  return {
    element: h("div", { class: "tiles" }, all),
    set: (given) => given.forEach((value, n) => text(values[n], value)),
    mark: (n, bad) => all[n].classList.toggle("bad", bad),
  };
}

function sum(points) {
  const total = Object.fromEntries(COUNTS.map((name) => [name, 0]));
  for (const point of points) for (const name of COUNTS) total[name] += point[name];
  return total;
}

/** Draws the charts of a span that ends now. */
function drawn(histories, total, minutes) {
  const step = STEPS[minutes] * 60_000;
  const last = Math.floor(live.now() / step) * step;
  const number = Math.ceil(minutes / STEPS[minutes]);
  const times = Array.from({ length: number }, (_, n) => last - (number - 1 - n) * step);
  const at = new Map(times.map((time) => [time, []]));
  for (const history of histories) for (const point of history.points) at.get(point.at_ms)?.push(point);
  const points = times.map((time) => sum(at.get(time)));
  const span = { times };
  const per = STEPS[minutes] === 1 ? "minute" : `${STEPS[minutes]} minutes`;
  const ended = total.succeeded + total.failed + total.cancelled + total.expired;
  const ratio = (part, whole) => (whole ? part / whole : null);
  return [
    chart({
      title: `Jobs ended per ${per}`, summary: `${plural(ended, "job")} in the span`, span, format: count,
      series: [{ label: "succeeded", tone: "good", values: points.map((point) => point.succeeded) }, { label: "failed or expired", tone: "bad", values: points.map((point) => point.failed + point.expired) },
        { label: "cancelled", tone: "calm", values: points.map((point) => point.cancelled) }],
    }),
    chart({
      title: "Mean wait to the start", summary: total.started ? `${duration(total.wait_ms / total.started)} over the span` : "no job started", span, kind: "line", format: roughly,
      series: [{ label: "wait", tone: "busy", values: points.map((point) => ratio(point.wait_ms, point.started)) }],
    }),
    chart({
      title: "Hit rate", summary: `${percent(total.warm, total.warm + total.cold)} of the runs found their model loaded`, span, kind: "line", most: 1, format: (value) => `${Math.round(value * 100)} %`,
      series: [{ label: "hit rate", tone: "accent", values: points.map((point) => ratio(point.warm, point.warm + point.cold)) }],
    }),
    chart({
      title: `Loading per ${per}`, summary: `${duration(total.load_ms)} of loading over the span`, span, format: roughly,
      series: [{ label: "loading", tone: "warn", values: points.map((point) => point.load_ms) }],
    }),
  ];
}
