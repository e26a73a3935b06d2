// The phases of a job as parts of a bar, and in words.

import { h } from "../dom.js";
import { duration } from "../format.js";

const LABELS = { queue: "in the queue", held: "held for a warm runner", sent: "sent to the runner", load: "loading the model", run: "running" };

/** Returns the phases of a job: `[[phase, ms], …]`. Pure. */
export function phases(job, now) {
  const { created_ms: created, dispatched_ms: sent, started_ms: started, finished_ms: finished, hold, decision, timings } = job;
  const end = finished ?? now;
  const placed = sent ?? started ?? end;
  const held = decision?.held_ms ?? (hold && !sent ? end - hold.since_ms : 0);
  const found = [["queue", placed - created - held], ["held", held]];
  if (sent) found.push(["sent", (started ?? end) - sent]);
  if (started) {
    const load = timings?.load_ms ?? 0;
    found.push(["load", load], ["run", end - started - load]);
  }
  return found.filter(([, ms]) => ms > 0);
}

export function timeline(job) {
  if (job.flow) return null;
  const found = phases(job, Date.now());
  const bar = h("div", { class: "timeline", role: "img", "aria-label": found.map(([phase, ms]) => `${LABELS[phase]} ${duration(ms)}`).join(", ") });
  for (const [phase, ms] of found) {
    const part = h("i", { "data-phase": phase });
    part.style.flexGrow = Math.max(1, ms);
    bar.append(part);
  }
  const words = found.map(([phase, ms]) => h("span", {}, h("span", { class: "swatch", "data-phase": phase }), `${LABELS[phase]} ${duration(ms)}`));
  return h("div", {}, bar, h("div", { class: "phases small" }, words));
}
