// Builds and updates elements. Data becomes text nodes and attributes only, never markup.

const SVG = "http://www.w3.org/2000/svg";

/** Creates an element: `h("a", { href, class, onclick }, "text", child)`. */
export function h(tag, properties = {}, ...children) {
  return fill(document.createElement(tag), properties, children);
}

/** Creates an SVG element. */
export function svg(tag, properties = {}, ...children) {
  return fill(document.createElementNS(SVG, tag), properties, children);
}

function fill(element, properties, children) {
  for (const [name, value] of Object.entries(properties)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "value" || name === "checked" || name === "disabled") element[name] = value;
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

/** Replaces the children of an element. */
export function put(element, ...children) {
  element.replaceChildren(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

/** Sets an element's text, only if it differs, so that a selection survives. */
export function text(element, value) {
  const wanted = String(value ?? "");
  if (element.textContent !== wanted) element.textContent = wanted;
}

/** Sets or removes an attribute, only if it differs. */
export function attribute(element, name, value) {
  if (value === null || value === undefined || value === false) element.removeAttribute(name);
  else if (element.getAttribute(name) !== String(value)) element.setAttribute(name, String(value));
}

/**
 * Keeps the children of `parent` equal to `items`, in order, one element per key. `make(item)` returns
 * `{ element, update(item) }`. Elements of remaining items stay, so that focus and scroll position do.
 */
export class Keyed {
  #parent;
  #make;
  #known = new Map();

  constructor(parent, make) {
    this.#parent = parent;
    this.#make = make;
  }

  /** Shows `items`; `keyOf` returns the key of one. */
  show(items, keyOf) {
    const wanted = new Set();
    let next = this.#parent.firstElementChild;
    for (const item of items) {
      const key = keyOf(item);
      wanted.add(key);
      let row = this.#known.get(key);
      if (!row) this.#known.set(key, (row = this.#make(item)));
      if (row.item !== item) {
        row.item = item;
        row.update(item);
      }
      if (row.element === next) next = next.nextElementSibling;
      else this.#parent.insertBefore(row.element, next);
    }
    for (const [key, row] of this.#known) {
      if (wanted.has(key)) continue;
      row.element.remove();
      this.#known.delete(key);
    }
  }

  /** Returns the rows that are shown. */
  rows() {
    return this.#known.values();
  }
}
