// The progress of a job with its preview, or its place in the queue.

import { h, text } from "../dom.js";
import { count, plural } from "../format.js";
import { bar } from "../parts.js";

/** The progress of a job: `update(progress, job)`. */
export function progressOf() {
  const picture = h("img", { alt: "Preview of the picture", hidden: true });
  const words = h("p");
  const steps = bar("busy", "Progress of the job");
  const element = h("div", { class: "preview" }, words, steps.element, h("div", {}, picture));
  return {
    element,
    update(progress, job) {
      if (progress?.preview?.startsWith("data:image/")) {
        if (picture.src !== progress.preview) picture.src = progress.preview;
        picture.hidden = false;
      }
      steps.set(progress?.step ?? 0, progress?.steps ?? 0);
      text(words, sentence(progress, job));
    },
  };
}

function sentence(progress, job) {
  if (progress?.steps && progress.phase === "loading") return `${name(progress.phase)}: ${Math.floor((100 * progress.step) / progress.steps)} %`;
  if (progress?.steps) return `${name(progress.phase)}: step ${count(progress.step)} of ${count(progress.steps)}`;
  if (progress) return name(progress.phase);
  if (job.queue_position !== null && job.queue_position !== undefined) return job.queue_position === 0 ? "First in the queue" : `${plural(job.queue_position, "job")} ahead in the queue`;
  return "Waiting for its runner";
}

const name = (phase) => ({ fetching: "Fetching the input's files", loading: "Loading the model", running: "Running", storing: "Storing the files" })[phase] ?? phase;
