// A form from a JSON Schema. What has no field of its own is written as JSON below.

import { h, put, text } from "../dom.js";
import { plural } from "../format.js";

const ALIAS = "x-warmq-alias-of";

const PROMPT = /prompt|text/;

/** Follows `$ref` and takes the one alternative that is not null. */
function resolved(root, schema) {
  if (schema.$ref?.startsWith("#/")) {
    const target = schema.$ref.slice(2).split("/").reduce((value, part) => value?.[part.replaceAll("~1", "/").replaceAll("~0", "~")], root);
    return resolved(root, { ...target, ...without(schema, "$ref") });
  }
  for (const word of ["anyOf", "oneOf", "allOf"]) {
    const choices = schema[word]?.filter(({ type }) => type !== "null");
    if (choices?.length === 1) return resolved(root, { ...choices[0], ...without(schema, word) });
  }
  return Array.isArray(schema.type) ? { ...schema, type: schema.type.find((type) => type !== "null") } : schema;
}

function without(schema, name) {
  const { [name]: _, ...rest } = schema;
  return rest;
}

/**
 * Returns `{ element, hasHint, value(), mistakes(fields), loaded(counts) }`. `input`: the initial values;
 * `hintField`: the path of the field that is the model; `models`: the known ones, or null for any.
 */
export function schemaForm(root, input, { hintField, models }) {
  const fields = new Map();
  const properties = Object.entries(root.properties ?? {}).filter(([, schema]) => !schema[ALIAS]);
  const required = new Set(root.required ?? []);
  const hintName = hintField?.replace(/^input\./, "");
  const rest = { ...input };
  for (const [name, given] of properties) {
    const schema = resolved(root, given);
    const make = name === hintName ? (...args) => modelField(...args, models) : maker(name, schema);
    if (!make) continue;
    fields.set(name, make(`input-${name}`, schema, input[name]));
    delete rest[name];
  }
  const more = h("textarea", { class: "code", id: "input-more", rows: Object.keys(rest).length ? 8 : 3, spellcheck: "false" });
  more.value = Object.keys(rest).length ? JSON.stringify(rest, null, 2) : fields.size ? "" : "{}";
  const rows = [...fields].map(([name, field]) => {
    const schema = resolved(root, root.properties[name]);
    const label = field.group ? h("span", { class: "label", id: `label-${name}` }, name) : h("label", { for: `input-${name}` }, name);
    field.mistake = h("p", { class: "mistake" });
    const help = schema.description ? h("p", { class: "help" }, schema.description) : null;
    if (required.has(name)) label.append(h("span", { class: "soft" }, " (required)"));
    const row = field.check ? h("div", { class: "field" }, h("div", { class: "check" }, field.element, label), help, field.mistake) : h("div", { class: "field" }, label, field.element, help, field.mistake);
    return { row, isRequired: required.has(name), isLarge: field.large || required.has(name) || name === hintName || PROMPT.test(name) };
  });
  // The required fields first, as far as they have one.
  rows.sort((a, b) => b.isRequired - a.isRequired);
  const main = rows.filter(({ isLarge }) => isLarge).map(({ row }) => row);
  const minor = rows.filter(({ isLarge }) => !isLarge).map(({ row }) => row);
  const other = h("div", { class: "field" }, h("label", { for: "input-more" }, fields.size ? "Further fields, as JSON" : "Input, as JSON"), more, h("p", { class: "mistake" }));
  return {
    element: h("div", { class: "form" }, main, minor.length ? h("div", { class: "two" }, minor) : null, other),
    hasHint: fields.has(hintName),
    value() {
      let value = {};
      try {
        value = more.value.trim() ? JSON.parse(more.value) : {};
      } catch (error) {
        throw new Error(`the further fields are not JSON: ${error.message}`);
      }
      for (const [name, field] of fields) {
        const given = field.value();
        if (given !== undefined) value[name] = given;
      }
      return value;
    },
    mistakes(found) {
      const of = (name) => found.find(({ path }) => path === name || path.startsWith(`${name}.`))?.message ?? "";
      for (const [name, field] of fields) {
        text(field.mistake, of(name));
        field.element.toggleAttribute?.("aria-invalid", false);
        if (of(name)) field.element.setAttribute("aria-invalid", "true");
      }
    },
    loaded(counts) {
      fields.get(hintName)?.loaded?.(counts);
    },
  };
}

/** Returns the function that makes the field of a property; undefined if it has none of its own. */
function maker(name, schema) {
  if (schema.enum) return choice;
  if (schema.type === "boolean") return check;
  if (schema.type === "integer" || schema.type === "number") return number;
  if (schema.type === "string") return PROMPT.test(name) ? long : short;
  return undefined;
}

const initial = (schema) => (schema.default === undefined || schema.default === null ? "" : String(schema.default));

function short(id, schema, value) {
  const element = h("input", { id, autocomplete: "off", placeholder: initial(schema), value: value ?? "" });
  return { element, value: () => element.value || undefined };
}

function long(id, schema, value) {
  const element = h("textarea", { id, rows: 3, placeholder: initial(schema), value: value ?? "" });
  return { element, large: true, value: () => element.value || undefined };
}

function number(id, schema, value) {
  const element = h("input", { id, type: "number", min: schema.minimum, max: schema.maximum, step: schema.type === "integer" ? "1" : "any", placeholder: initial(schema), value: value ?? "" });
  return { element, value: () => (element.value === "" ? undefined : Number(element.value)) };
}

function check(id, schema, value) {
  const element = h("input", { id, type: "checkbox", checked: value ?? schema.default ?? false });
  const before = element.checked;
  return { element, check: true, value: () => (element.checked === before && value === undefined ? undefined : element.checked) };
}

function choice(id, schema, value) {
  const none = h("option", { value: "" }, schema.default === undefined || schema.default === null ? "–" : `${schema.default} (default)`);
  const element = h("select", { id }, none, schema.enum.filter((option) => option !== null).map((option, n) => h("option", { value: String(n) }, String(option))));
  const options = schema.enum.filter((option) => option !== null);
  element.value = options.includes(value) ? String(options.indexOf(value)) : "";
  return { element, value: () => (element.value === "" ? undefined : options[Number(element.value)]) };
}

/** The model picker: the models that runners list, with where each is loaded; or any text. */
function modelField(id, schema, value, models) {
  if (!models?.length) return short(id, schema, value);
  const counts = new Map();
  const options = models.map((model, n) => {
    const radio = h("input", { type: "radio", name: id, value: model, id: n ? `${id}-${n}` : id, checked: model === value });
    const where = h("span", { class: "where small soft" });
    counts.set(model, where);
    return h("label", {}, radio, h("span", { class: "clip" }, model), where);
  });
  const element = h("div", { class: "models", role: "radiogroup", "aria-labelledby": `label-${id.replace("input-", "")}` }, options);
  return {
    element, large: true, group: true,
    value: () => element.querySelector("input:checked")?.value,
    loaded(known) {
      for (const [model, where] of counts) {
        const { device = 0, ram = 0 } = known.get(model) ?? {};
        put(where, device ? h("span", { class: "badge", "data-tone": "good" }, `warm on ${plural(device, "runner")}`) : ram ? `in RAM of ${plural(ram, "runner")}` : "on disk only");
      }
    },
  };
}
