// The stream of runners and queues: one connection for all views, closed while the tab is hidden.

import { get, url } from "./api.js";

/** Time without listeners until the connection closes, ms: a change of views is shorter. */
const LINGER_MS = 2000;

const key = (app, id) => `${app} ${id}`;

class Live {
  runners = new Map();
  queues = new Map();
  /** `paused`, `connecting`, `live` or `reconnecting`. */
  state = "paused";
  #listeners = new Set();
  #watchers = new Set();
  #source = null;
  #offset = 0;

  constructor() {
    document.addEventListener("visibilitychange", () => this.#adjust());
  }

  /** The servers' clock, Unix ms. */
  now() {
    return Date.now() + this.#offset;
  }

  /** Calls `listener(this)` at each change until the returned function is called. */
  listen(listener) {
    this.#listeners.add(listener);
    this.#adjust();
    if (this.state === "live") listener(this);
    return () => {
      this.#listeners.delete(listener);
      setTimeout(() => this.#adjust(), LINGER_MS);
    };
  }

  /** Calls `watcher(state)` when the connection changes. */
  watch(watcher) {
    this.#watchers.add(watcher);
    watcher(this.state);
  }

  #become(state) {
    this.state = state;
    this.#watchers.forEach((watcher) => watcher(state));
  }

  #adjust() {
    const wanted = this.#listeners.size > 0 && !document.hidden;
    if (wanted && !this.#source) this.#open();
    if (!wanted && this.#source) {
      this.#source.close();
      this.#source = null;
      this.#become("paused");
    }
  }

  #open() {
    this.#become("connecting");
    const source = new EventSource(url("v1/overview/stream"));
    this.#source = source;
    source.onmessage = (event) => this.#receive(JSON.parse(event.data));
    source.onerror = () => {
      this.#become("reconnecting");
      // A refusal ends a source for good: the session may have ended.
      if (source.readyState === EventSource.CLOSED) {
        this.#source = null;
        get("v1/session").then(({ keys_required: required, key }) => required && !key && document.dispatchEvent(new Event("loggedout")), () => {});
        setTimeout(() => this.#adjust(), 5000);
      }
    };
  }

  #receive(changes) {
    this.#offset = changes.at_ms - Date.now();
    if (changes.whole) {
      this.runners.clear();
      this.queues.clear();
    }
    for (const { app, id } of changes.gone) this.runners.delete(key(app, id));
    for (const app of changes.gone_apps) this.queues.delete(app);
    for (const runner of changes.runners) this.runners.set(key(runner.app, runner.id), runner);
    for (const queue of changes.queues) this.queues.set(queue.app, queue);
    if (this.state !== "live") this.#become("live");
    this.#listeners.forEach((listener) => listener(this));
  }
}

export const live = new Live();
