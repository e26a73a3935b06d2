// Dead letters: why each job failed for good; submit it again, or drop it.

import { get, post, remove } from "../api.js";
import { h, put } from "../dom.js";
import { clock } from "../format.js";
import { acting, cell, confirmed, empty, failure, jobLink, loading, notice, toast } from "../parts.js";

const REFRESH_MS = 10_000;

export function deadView() {
  const body = h("div", { class: "view" }, loading());
  async function refresh() {
    try {
      const { letters, truncated } = await get("v1/dead");
      const rows = [...letters].sort((a, b) => b.since_ms - a.since_ms).map((letter) => row(letter, refresh));
      const head = h("thead", {}, h("tr", {}, ["Job", "Queue", "Failed because", "Since", "Actions"].map((name) => h("th", { scope: "col" }, name))));
      put(body, truncated ? notice("A queue has more letters than are listed: at most 1000 of each.") : null,
        h("div", { class: "panel scroll" }, rows.length ? h("table", { class: "stack" }, head, h("tbody", {}, rows)) : empty("No dead letters.", "A job that fails for good leaves its message here, to be submitted again.")));
    } catch (error) {
      put(body, failure(error, refresh));
    }
  }
  refresh();
  // Browsing takes the letters out of the queue for a moment, so not while the page is not looked at.
  const refreshing = setInterval(() => document.hidden || document.querySelector("dialog") || body.contains(document.activeElement) || refresh(), REFRESH_MS);
  return {
    nodes: [h("div", { class: "heading" }, h("h1", {}, "Dead letters"), h("span", { class: "spring" }), h("button", { onclick: refresh }, "Refresh")), body],
    stop: () => clearInterval(refreshing),
  };
}

function row(letter, refresh) {
  const path = `v1/dead/${letter.place}/${letter.id}`;
  const redrive = h("button", { class: "primary" }, "Redrive");
  redrive.addEventListener("click", async () => {
    const done = await acting(redrive, () => post(`${path}/redrive`));
    if (!done) return;
    toast(["Submitted again: ", jobLink(done.job_id)]);
    refresh();
  });
  const drop = h("button", { class: "danger" }, "Drop");
  drop.addEventListener("click", async () => {
    if (!(await confirmed("Drop this dead letter?", "The job can no longer be submitted again from it.", "Drop", { danger: true }))) return;
    await acting(drop, () => remove(path));
    refresh();
  });
  const content = h("button", { class: "quiet" }, "Message");
  content.addEventListener("click", () => acting(content, async () => shown(await get(path))));
  return h("tr", { "data-id": letter.id }, cell("Job", letter.kind === "job" ? jobLink(letter.id) : h("span", { class: "soft" }, "not a job")), cell("Queue", letter.place), cell("Failed because", letter.reason),
    cell("Since", h("span", { class: "nowrap" }, clock(letter.since_ms))), cell("Actions", h("div", { class: "actions" }, redrive, content, drop)));
}

function shown({ id, body }) {
  const dialog = h("dialog", { "aria-label": `Message of ${id}` }, h("h2", {}, "Message"), h("pre", { tabindex: "0" }, typeof body === "string" ? body : JSON.stringify(body, null, 2)),
    h("form", { method: "dialog", class: "actions" }, h("button", {}, "Close")));
  dialog.addEventListener("close", () => dialog.remove());
  document.body.append(dialog);
  dialog.showModal();
}

