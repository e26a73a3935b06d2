// Parts of views: badges, chips, bars, empty states, dialogs.

import { attribute, h, put } from "./dom.js";
import { shortId, toneOf } from "./format.js";

export const badge = (state, tone = toneOf(state)) => h("span", { class: "badge", "data-tone": tone }, state);

export const jobLink = (id, label = shortId(id)) => h("a", { class: "mono nowrap", href: `#/jobs/${id}`, title: id }, label);

/** A cell of a table, with its column's name for narrow windows, where rows become cards. */
export const cell = (label, ...children) => h("td", { "data-label": label }, h("div", {}, ...children));

/** A model, in the tier where it is: `device`, `ram`, or neither. */
export const chip = (name, { tier, pinned } = {}) =>
  h("span", { class: "chip", "data-tier": tier, "data-pinned": pinned ? "true" : null, title: chipTitle(name, tier, pinned) }, h("span", {}, name));

function chipTitle(name, tier, pinned) {
  const where = { device: ", loaded on the device", ram: ", in RAM" }[tier] ?? "";
  return `${name}${where}${pinned ? ", pinned: never evicted" : ""}`;
}

/** A bar with `set(part, whole)`. */
export function bar(tone, label) {
  const fill = h("i");
  const element = h("div", { class: "bar", "data-tone": tone, role: "progressbar", "aria-label": label, "aria-valuemin": 0, "aria-valuemax": 100 }, fill);
  return {
    element,
    set(part, whole, tone) {
      const percent = whole > 0 ? Math.min(100, Math.max(0, (100 * part) / whole)) : 0;
      fill.style.width = `${percent}%`;
      attribute(element, "aria-valuenow", Math.round(percent));
      if (tone !== undefined) attribute(element, "data-tone", tone);
    },
  };
}

/** A labelled input, with an optional help text. */
export const field = (label, input, help) =>
  h("div", { class: "field" }, h("label", { for: input.id }, label), input, help && h("p", { class: "help" }, help));

export const empty = (title, ...rest) => h("div", { class: "empty" }, h("strong", {}, title), ...rest);

export const notice = (message, { tone, action } = {}) => h("div", { class: "notice", "data-tone": tone, role: "status" }, h("span", {}, message), action);

/** The sentence of an error, with a button that tries again. */
export const failure = (error, again) =>
  notice(error.message, { tone: "bad", action: again && h("button", { onclick: again }, "Try again") });

export const loading = () => h("div", { class: "skeleton", role: "status", "aria-label": "Loading" });

export function panel(title, body, ...tools) {
  return h("section", { class: "panel" }, h("header", {}, h("h2", {}, title), tools.length ? [h("span", { class: "spring" }), ...tools] : null), body);
}

/** A row of buttons of which one is pressed; `options`: `[value, label]`. */
export function segments(label, options, chosen, choose) {
  const buttons = options.map(([value, name]) =>
    h("button", { type: "button", "aria-pressed": String(value === chosen), onclick: () => press(value) }, name));
  const element = h("div", { class: "segments", role: "group", "aria-label": label }, buttons);
  function press(value) {
    options.forEach(([option], n) => buttons[n].setAttribute("aria-pressed", String(option === value)));
    choose(value);
  }
  element.label = (value, name) => {
    const button = buttons[options.findIndex(([option]) => option === value)];
    if (button.textContent !== name) button.textContent = name;
  };
  return element;
}

/** Asks a question; resolves to whether it was confirmed. */
export function confirmed(title, message, verb, { danger = false } = {}) {
  return new Promise((resolve) => {
    const dialog = h("dialog", { "aria-labelledby": "question" },
      h("form", { method: "dialog" }, h("h2", { id: "question" }, title), h("p", { class: "soft" }, message),
        h("div", { class: "actions" }, h("button", { value: "no" }, "Keep"), h("button", { value: "yes", class: danger ? "danger" : "primary" }, verb))));
    dialog.addEventListener("close", () => {
      resolve(dialog.returnValue === "yes");
      dialog.remove();
    });
    document.body.append(dialog);
    dialog.showModal();
  });
}

let toasting;

/** Shows a message for a few seconds, and announces it to screen readers. */
export function toast(message) {
  document.querySelector(".toast")?.remove();
  clearTimeout(toasting);
  const element = h("div", { class: "toast", role: "status" });
  document.body.append(element);
  put(element, message);
  toasting = setTimeout(() => element.remove(), 6000);
}

/** Runs `action` with the button disabled; shows its error. */
export async function acting(button, action) {
  button.disabled = true;
  try {
    return await action();
  } catch (error) {
    toast(error.message);
    return undefined;
  } finally {
    button.disabled = false;
  }
}
