// One job: timeline, decision in sentences, pictures, log, cancel, run again; followed while it lives.

import { get, remove, url } from "../api.js";
import { h, put } from "../dom.js";
import { clock, timestamp } from "../format.js";
import { acting, badge, chip, confirmed, failure, jobLink, loading, notice, panel } from "../parts.js";
import { flowGraph } from "./job_flow.js";
import { picturesIn } from "./job_pictures.js";
import { progressOf } from "./job_progress.js";
import { timeline } from "./job_timeline.js";

const REFRESH_MS = 2000;

/** A job's id in a sentence. */
const ID = /([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})/;

const ENDED = new Set(["succeeded", "failed", "cancelled", "expired"]);

export function jobView({ session, rest, page }) {
  const id = rest[0];
  const body = h("div", { class: "view" }, loading());
  const parts = { heading: h("div", { class: "heading" }), left: h("div"), right: h("div"), log: h("div", { class: "log" }) };
  const preview = progressOf();
  let job;
  let stream;
  let stopped = false;
  let refreshing;

  async function refresh() {
    try {
      job = await get(`v1/jobs/${encodeURIComponent(id)}`);
      const { sentences } = await get(`v1/jobs/${encodeURIComponent(id)}/explanation`);
      if (stopped) return;
      show(sentences);
      follow();
    } catch (error) {
      if (!stopped) put(body, h("div", { class: "heading" }, h("h1", {}, "Job")), failure(error, refresh));
    }
  }

  function show(sentences) {
    const ended = ENDED.has(job.state);
    const focused = page.contains(document.activeElement) ? document.activeElement.dataset?.action : undefined;
    put(parts.heading, h("h1", {}, "Job ", h("span", { class: "mono" }, job.id)), badge(job.state), h("span", { class: "spring" }), actions(job, session, refresh));
    put(parts.left, job.flow ? panel("Steps", h("div", { class: "body" }, flowGraph(job))) : null,
      panel("What happened", h("div", { class: "body" }, timeline(job), h("ol", { class: "sentences" }, sentences.map(sentence)))),
      job.error ? notice(`${job.error.error_type}: ${job.error.message}`, { tone: "bad" }) : null,
      outputPanel(), panel("Log", h("div", { class: "body" }, parts.log)));
    put(parts.right, panel("Facts", h("div", { class: "body" }, facts(job))), json("Input", job.input), job.output === undefined ? null : json("Output", job.output));
    if (!body.contains(parts.heading)) put(body, parts.heading, h("div", { class: "job-columns" }, parts.left, parts.right));
    if (focused) parts.heading.querySelector(`[data-action="${focused}"]`)?.focus();
    clearTimeout(refreshing);
    if (!ended) refreshing = setTimeout(() => (document.hidden ? (refreshing = setTimeout(refresh, REFRESH_MS)) : refresh()), REFRESH_MS);
  }

  function outputPanel() {
    const pictures = picturesIn(job.output);
    if (pictures.length) return panel("Pictures", h("div", { class: "body" }, h("div", { class: "pictures" }, pictures)));
    if (ENDED.has(job.state)) return null;
    preview.update(job.progress, job);
    return panel("Progress", h("div", { class: "body" }, preview.element));
  }

  /** Follows progress and log until the job ends. */
  function follow() {
    if (stream || stopped) return;
    const path = `queue/${job.route?.[0]?.route ?? job.app}/requests/${id}/status/stream?logs=1`;
    stream = new EventSource(url(path));
    stream.onmessage = (event) => {
      const status = JSON.parse(event.data);
      preview.update(status.progress, { ...job, queue_position: status.queue_position, steps: status.steps });
      parts.log.append(...(status.logs ?? []).flatMap(logLine));
      if (!parts.log.childElementCount && ENDED.has(job.state)) put(parts.log, h("span", { class: "soft" }, "empty"));
      if (status.status === "COMPLETED") {
        stream.close();
        if (!ENDED.has(job.state)) refresh();
      }
    };
    stream.onerror = () => {
      stream.close();
      // After an interruption the log begins anew.
      if (stopped || ENDED.has(job.state)) return;
      setTimeout(() => { stream = undefined; put(parts.log); follow(); }, REFRESH_MS);
    };
  }

  refresh();
  return {
    nodes: [body],
    stop() {
      stopped = true;
      clearTimeout(refreshing);
      stream?.close();
    },
  };
}

function actions(job, session, refresh) {
  const cancel = h("button", { class: "danger", "data-action": "cancel" }, "Cancel job");
  cancel.addEventListener("click", async () => {
    if (!(await confirmed("Cancel this job?", "It ends at once, without a result. Its runner takes the next job.", "Cancel job", { danger: true }))) return;
    await acting(cancel, () => remove(`v1/jobs/${job.id}`));
    refresh();
  });
  const again = h("a", { class: "button", href: `#/submit/${job.route?.[0]?.route ?? job.app}?from=${job.id}` }, "Run again");
  const mayRepeat = session.may_submit && job.input !== null && !job.step_of;
  return ENDED.has(job.state) ? [mayRepeat ? again : null] : [cancel];
}

function sentence(text) {
  const depth = (text.length - text.trimStart().length) / 2;
  const line = h("li", {}, text.trim().split(ID).map((part) => (ID.test(part) && part.length === 36 ? jobLink(part, part) : part)));
  if (depth) line.style.setProperty("--depth", depth);
  return line;
}

const logLine = ({ timestamp: at, level, labels, message }) => [
  h("span", { class: "soft" }, clock(Date.parse(at))), h("span", { class: "soft" }, labels?.runner ?? ""), h("span", { "data-level": level }, message)];

const json = (title, value) => h("details", { class: "panel" }, h("summary", {}, title), h("div", { class: "body" }, h("pre", { tabindex: "0" }, JSON.stringify(value, null, 2))));

function facts(job) {
  const entries = [
    job.flow ? ["Route", job.app] : ["App", h("a", { href: `#/apps/${job.app}` }, job.app)],
    ["Submitted to", job.route?.length ? job.route[0].route : null],
    ["Model", job.hint ? chip(job.hint) : "no hint"],
    ["Priority", job.priority],
    ["Key", job.owner],
    ["Runner", job.runner ? h("a", { href: `#/fleet?find=${encodeURIComponent(job.runner)}` }, job.runner) : null],
    ["Attempt", job.attempt ? `${job.attempt} of at most ${job.max_attempts}` : null],
    ["Step of", job.step_of ? jobLink(job.step_of.flow, `${job.step_of.route}, step ${job.step_of.index + 1}`) : null],
    ["Submitted", timestamp(job.created_ms)],
    ["Ended", job.finished_ms ? timestamp(job.finished_ms) : null],
  ];
  return h("dl", { class: "facts" }, entries.filter(([, value]) => value).map(([name, value]) => [h("dt", {}, name), h("dd", {}, value)]));
}
