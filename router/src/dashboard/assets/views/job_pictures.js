// The pictures of an output.

import { h } from "../dom.js";

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
