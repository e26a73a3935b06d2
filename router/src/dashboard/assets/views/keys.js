// API keys: list, create (the secret is shown once), change the limits, revoke.

import { get, post, remove } from "../api.js";
import { h, put } from "../dom.js";
import { timestamp } from "../format.js";
import { acting, cell, confirmed, empty, failure, field, loading, panel, toast } from "../parts.js";
import { changeLimits, limitFields, limitsOf } from "./key_limits.js";

const SCOPES = [["read", "read and cancel its own jobs"], ["watch", "see runners, queues and metrics"], ["admin", "everything"]];

export function keysView({ session }) {
  const body = h("div", {}, loading());
  const made = h("div", { "aria-live": "polite" });
  async function refresh() {
    try {
      const { keys } = await get("v1/keys");
      const head = h("thead", {}, h("tr", {}, ["Key", "Scopes", "Limits", "Created", "Actions"].map((name) => h("th", { scope: "col" }, name))));
      put(body, panel("Keys", keys.length ? h("div", { class: "scroll" }, h("table", { class: "stack" }, head, h("tbody", {}, keys.map((key) => row(key, session, refresh))))) : empty("No keys.", "Without keys everyone who reaches the router may do everything. The first key must have scope admin.")));
    } catch (error) {
      put(body, failure(error, refresh));
    }
  }
  refresh();
  return { nodes: [h("div", { class: "heading" }, h("h1", {}, "Keys")), made, body, panel("Create a key", h("div", { class: "body" }, form(made, refresh)))] };
}

function row(key, session, refresh) {
  const revoke = h("button", { class: "danger" }, "Revoke");
  revoke.addEventListener("click", async () => {
    const own = key.id === session.key?.id ? " It is the key of this session." : "";
    if (!(await confirmed(`Revoke ${key.id}?`, `Every router refuses it within 2 s, and its sessions end.${own}`, "Revoke", { danger: true }))) return;
    await acting(revoke, () => remove(`v1/keys/${key.id}`));
    refresh();
  });
  const limits = h("button", { onclick: () => changeLimits(key, refresh) }, "Limits");
  const actions = h("div", { class: "actions" }, limits, revoke);
  return h("tr", {}, cell("Key", h("span", { class: "mono" }, key.id)), cell("Scopes", key.scopes.join(", ")), cell("Limits", limitsOf(key)), cell("Created", timestamp(key.created_ms).slice(0, 10)), cell("Actions", actions));
}

function form(made, refresh) {
  const name = h("input", { id: "key-name", required: true, autocomplete: "off", placeholder: "alice" });
  const apps = h("input", { id: "key-apps", autocomplete: "off", placeholder: "warmq/*, or * for every app" });
  const limits = limitFields("key");
  const boxes = SCOPES.map(([scope, meaning]) => {
    const box = h("input", { type: "checkbox", id: `scope-${scope}`, value: scope });
    return { box, line: h("div", { class: "check" }, box, h("label", { for: `scope-${scope}` }, h("strong", {}, scope), h("span", { class: "soft" }, `: ${meaning}`))) };
  });
  const button = h("button", { class: "primary", type: "submit" }, "Create key");
  const create = () => acting(button, async () => {
    const submit = apps.value.split(/[,\s]+/).filter(Boolean).map((app) => `submit:${app}`);
    const scopes = [...submit, ...boxes.filter(({ box }) => box.checked).map(({ box }) => box.value)];
    const created = await post("v1/keys", { name: name.value.trim(), scopes, limits: limits.read() });
    put(made, secret(created.credentials));
    element.reset();
    made.scrollIntoView({ block: "nearest" });
    await refresh();
  });
  const element = h("form", { class: "form", onsubmit: (event) => (event.preventDefault(), create()) },
    h("div", { class: "two" },
      field("Name", name, "The key's id begins with it."),
      field("Apps that it may submit to", apps),
      limits.nodes),
    boxes.map(({ line }) => line), h("div", { class: "actions" }, button));
  return element;
}

function secret(credentials) {
  const shown = h("input", { readonly: true, value: credentials, "aria-label": "The new key", onfocus: (event) => event.target.select() });
  const copy = h("button", { onclick: () => navigator.clipboard?.writeText(credentials).then(() => toast("Copied."), () => shown.select()) }, "Copy");
  return h("section", { class: "panel" }, h("header", {}, h("h2", {}, "The new key: it is shown only now")), h("div", { class: "body" }, h("div", { class: "secret" }, shown, copy)));
}
