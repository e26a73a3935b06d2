// The pictures of an output, and the preview and progress of a running job.

import { h, put, text } from "../dom.js";
import { count, plural } from "../format.js";
import { bar } from "../parts.js";

/** Values deeper in an output than this are not searched. */
const MAX_DEPTH = 5;

/** Returns the pictures in an output: fal's `{url, content_type}`, at any place. */
export function picturesIn(output) {
  const found = [];
  collect(output, 0, found);
  return found.map(({ url, width, height }, n) => {
    const image = h("img", { src: url, alt: `Picture ${n + 1} of the job`, width, height, loading: "lazy" });
    return h("a", { href: url, target: "_blank", rel: "noopener" }, image);
  });
}

function collect(value, depth, found) {
  if (typeof value !== "object" || value === null || depth > MAX_DEPTH) return;
  const { url, content_type: type } = value;
  const isPicture = typeof url === "string" && (/^data:image\//.test(url) || (/^https?:/.test(url) && String(type ?? "").startsWith("image/")));
  if (isPicture) found.push(value);
  else for (const inner of Object.values(value)) collect(inner, depth + 1, found);
}

/** The progress of a job: `update(progress, job)`. */
export function previewOf() {
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
  if (progress?.steps) return `${name(progress.phase)}: step ${count(progress.step)} of ${count(progress.steps)}`;
  if (progress) return name(progress.phase);
  if (job.queue_position !== null && job.queue_position !== undefined) return job.queue_position === 0 ? "First in the queue" : `${plural(job.queue_position, "job")} ahead in the queue`;
  return "Waiting for its runner";
}

const name = (phase) => ({ fetching: "Fetching the input's files", loading: "Loading the model", running: "Running", storing: "Storing the files" })[phase] ?? phase;
