// The limits of a key: shown, entered when it is created, and changed.

import { patch } from "../api.js";
import { h } from "../dom.js";
import { acting, field } from "../parts.js";

/** Describes a key's limits. */
export function limitsOf({ limits: { rate, max_jobs: jobs, max_running: running, weight } }) {
  const texts = [
    rate && `${rate.per_second}/s, ${rate.burst} at once`,
    jobs !== undefined && `${jobs} jobs at a time`,
    running && `${running} running per app`,
    weight && `weight ${weight}`,
  ];
  return texts.filter(Boolean).join("; ") || "–";
}

/**
 * Returns the fields for the limits of a key, and a function that reads them. Limits that this page
 * does not know are kept.
 */
export function limitFields(prefix, limits = {}) {
  const number = (name, value, bounds, placeholder) => h("input", {
    id: `${prefix}-${name}`, type: "number", value: value ?? "", placeholder, ...bounds,
  });
  const whole = { min: "1", step: "1" };
  const rate = number("rate", limits.rate?.per_second, { min: "0.0001", step: "any" }, "unlimited");
  const burst = number("burst", limits.rate?.burst, whole, "those of a second");
  const jobs = number("jobs", limits.max_jobs, whole, "unlimited");
  const running = number("running", limits.max_running, whole, "unlimited");
  const weight = number("weight", limits.weight, { min: "0.01", max: "1000", step: "any" }, "1");
  const nodes = [
    field("Submissions per second", rate),
    field("Submissions at once", burst, "After a pause. Only with a rate."),
    field("Jobs at a time", jobs, "Waiting and running, over all apps."),
    field("Running jobs per app", running, "Others wait (policy warm)."),
    field("Weight", weight, "Share of runner time, relative to other keys with waiting jobs."),
  ];
  const read = () => {
    const { rate: _rate, max_jobs: _jobs, max_running: _running, weight: _weight, ...others } = limits;
    return {
      ...others,
      ...(rate.value && {
        rate: { per_second: Number(rate.value), ...(burst.value && { burst: Number(burst.value) }) },
      }),
      ...(jobs.value && { max_jobs: Number(jobs.value) }),
      ...(running.value && { max_running: Number(running.value) }),
      ...(weight.value && { weight: Number(weight.value) }),
    };
  };
  return { nodes, read };
}

/** Opens a dialog that changes a key's limits; calls `changed` after that. */
export function changeLimits(key, changed) {
  const { nodes, read } = limitFields("limit", key.limits);
  const save = h("button", { class: "primary", type: "submit" }, "Save limits");
  const cancel = h("button", { type: "button", onclick: () => dialog.close() }, "Cancel");
  const submit = () => acting(save, async () => {
    await patch(`v1/keys/${key.id}`, { limits: read() });
    dialog.close();
    await changed();
  });
  const form = h("form", { class: "form", onsubmit: (event) => (event.preventDefault(), submit()) },
    h("h2", { id: "limits-of" }, `Limits of ${key.id}`),
    h("p", { class: "soft" }, "An empty field is no limit. Every router applies a change within 2 s."),
    h("div", { class: "two" }, nodes), h("div", { class: "actions" }, cancel, save));
  const dialog = h("dialog", { "aria-labelledby": "limits-of" }, form);
  dialog.addEventListener("close", () => dialog.remove());
  document.body.append(dialog);
  dialog.showModal();
}
