// Logging in with an API key: the router keeps it in a session, the page forgets it at once.

import { post } from "../api.js";
import { h, put } from "../dom.js";
import { acting } from "../parts.js";

/** `done` is called once the session exists. */
export function loginView(done) {
  const key = h("input", { id: "key", type: "password", autocomplete: "current-password", spellcheck: "false", required: true, placeholder: "id:secret" });
  const mistake = h("div");
  const button = h("button", { class: "primary", type: "submit" }, "Log in");
  const logIn = () => acting(button, async () => {
    try {
      await post("v1/session", { key: key.value });
    } catch (error) {
      put(mistake, h("p", { class: "mistake", role: "alert" }, error.message));
      key.setAttribute("aria-invalid", "true");
      key.select();
      return;
    }
    key.value = "";
    await done();
  });
  const form = h("form", { class: "form", onsubmit: (event) => (event.preventDefault(), logIn()) },
    h("div", { class: "field" }, h("label", { for: "key" }, "API key"), key,
      h("p", { class: "help" }, "As ", h("code", {}, "warmq keys create"), " printed it. What you see depends on its scopes.")),
    mistake, h("div", { class: "actions" }, button));
  return h("main", { class: "login" }, h("div", { class: "brand" }, h("img", { src: "dashboard/icon.svg", alt: "" }), "warmq"),
    h("section", { class: "panel" }, h("div", { class: "body" }, form)));
}
