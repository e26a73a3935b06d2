// The steps of a flow as a graph: those that began, and those that are still planned.

import { h, svg } from "../dom.js";
import { badge, jobLink } from "../parts.js";
import { duration } from "../format.js";

export function flowGraph(job) {
  const { kind, of, steps } = job.flow;
  const active = new Map((job.steps ?? []).map((step) => [step.request_id, step]));
  const boxes = steps.map((step) => {
    const state = step.end?.state ?? { IN_QUEUE: "queued", IN_PROGRESS: "running" }[active.get(step.job)?.status] ?? "queued";
    const took = step.end ? duration(step.end.at_ms - step.begun_ms) : null;
    return h("div", { class: "flow-step", "data-state": state }, h("strong", {}, step.name), h("span", { class: "small soft clip" }, step.to),
      h("span", {}, badge(state)), h("span", { class: "small" }, jobLink(step.job), took ? ` ${took}` : null),
      step.given_up ? h("span", { class: "small fault" }, step.given_up) : null);
  });
  const planned = Math.max(0, of - Math.max(0, ...steps.map(({ index }) => index + 1)));
  const rest = Array.from({ length: planned }, (_, n) => h("div", { class: "flow-step", "data-state": "planned" },
    h("strong", {}, kind === "fallback" ? "If it fails" : `Step ${of - planned + n + 1}`), h("span", { class: "small" }, "not begun")));
  return h("div", { class: "flow", role: "list", "aria-label": `${kind} of ${of}` },
    [...boxes, ...rest].flatMap((box, n) => [n ? arrow() : null, h("div", { role: "listitem" }, box)]));
}

const arrow = () => svg("svg", { class: "flow-arrow", viewBox: "0 0 34 12", "aria-hidden": "true" },
  svg("path", { d: "M4 6h22m-5-4 5 4-5 4", fill: "none", stroke: "currentColor", "stroke-width": 1.5, "stroke-linecap": "round", "stroke-linejoin": "round" }));
