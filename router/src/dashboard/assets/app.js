// The shell: session, navigation, and the view of the address.

import { get, remove } from "./api.js";
import { h, put, text } from "./dom.js";
import { live } from "./live.js";
import { failure, toast } from "./parts.js";
import { toggleTheme, useTheme } from "./theme.js";
import { appsView } from "./views/apps.js";
import { deadView } from "./views/dead.js";
import { fleetView } from "./views/fleet.js";
import { jobView } from "./views/job.js";
import { jobsView } from "./views/jobs.js";
import { keysView } from "./views/keys.js";
import { loginView } from "./views/login.js";
import { overviewView } from "./views/overview.js";
import { queuesView } from "./views/queues.js";
import { submitView } from "./views/submit.js";
import { usageView } from "./views/usage.js";

/** Each view: path, label, the right that it needs, and its function. */
const VIEWS = [
  { path: "overview", label: "Overview", right: "may_watch", view: overviewView },
  { path: "fleet", label: "Fleet", right: "may_watch", view: fleetView },
  { path: "queues", label: "Queues", right: "may_watch", view: queuesView },
  { path: "jobs", label: "Jobs", right: "may_read", view: jobsView, single: jobView },
  { path: "dead", label: "Dead letters", right: "may_administer", view: deadView },
  { path: "apps", label: "Apps and routes", view: appsView },
  { path: "submit", label: "Submit a job", right: "may_submit", view: submitView },
  { path: "usage", label: "Usage", right: "may_read", view: usageView },
  { path: "keys", label: "Keys", right: "may_administer", view: keysView },
];

let session;
let shown;
let links = new Map();
const page = h("main", { class: "page", id: "page", tabindex: "-1" });

const allowed = () => VIEWS.filter(({ right }) => !right || session[right]);

/** Splits `#/jobs/ID?a=b` into its view, the rest of its path, and its parameters. */
function address() {
  const [path, parameters] = location.hash.replace(/^#\/?/, "").split("?");
  const [name, ...rest] = path.split("/");
  return { name, rest: rest.map(decodeURIComponent), parameters: new URLSearchParams(parameters) };
}

function show() {
  const { name, rest, parameters } = address();
  const views = allowed();
  const found = views.find(({ path }) => path === name) ?? views[0];
  shown?.stop?.();
  for (const [path, link] of links) {
    if (path === found.path) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  // On a phone the navigation is wider than the window.
  links.get(found.path).scrollIntoView({ block: "nearest", inline: "center" });
  const view = rest.length && found.single ? found.single : found.view;
  const context = { session, rest, parameters, page };
  document.title = `${found.label} · warmq`;
  put(page);
  try {
    shown = view(context);
    put(page, shown.nodes);
  } catch (error) {
    put(page, failure(error));
  }
  scrollTo(0, 0);
}

async function logOut() {
  await remove("v1/session").catch((error) => toast(error.message));
  location.hash = "";
  start();
}

function rail() {
  links = new Map(allowed().map(({ path, label }) => [path, h("a", { href: `#/${path}` }, label)]));
  const connection = h("div", { class: "connection", role: "status" });
  // Kept open between views, so that each shows its data at once.
  if (session.may_watch) live.listen(() => {});
  live.watch((state) => {
    connection.dataset.state = state;
    text(connection, { live: "Live", connecting: "Connecting", reconnecting: "Reconnecting", paused: "Paused" }[state]);
  });
  const who = session.key ? h("div", { class: "who" }, "Key ", h("span", { class: "mono" }, session.key.id)) : h("div", { class: "who" }, "No keys exist: everyone may do everything");
  return h("div", { class: "rail" },
    h("a", { class: "brand", href: "#/" }, h("img", { src: "dashboard/icon.svg", alt: "" }), "warmq"),
    h("nav", { "aria-label": "Views" }, [...links.values()]),
    h("div", { class: "foot" }, session.may_watch ? connection : null, who,
      h("div", { class: "row" },
        h("button", { class: "quiet small", onclick: toggleTheme, "aria-label": "Switch between light and dark" }, "Theme"),
        session.key ? h("button", { class: "quiet small", id: "logout", onclick: logOut }, "Log out") : null)));
}

/** Shows the login, or the shell with the view of the address. */
async function start() {
  shown?.stop?.();
  shown = undefined;
  try {
    session = await get("v1/session");
  } catch (error) {
    put(document.body, h("div", { class: "login" }, failure(error, start)));
    return;
  }
  if (session.keys_required && !session.key) {
    document.title = "Log in · warmq";
    put(document.body, loginView(start));
    return;
  }
  put(document.body, h("a", { class: "skip", href: "#page", onclick: (event) => (event.preventDefault(), page.focus()) }, "Skip to the content"),
    h("div", { class: "shell" }, rail(), page));
  show();
}

useTheme();
addEventListener("hashchange", () => document.querySelector(".shell") && show());
document.addEventListener("loggedout", () => document.querySelector(".shell") && start());
start();
