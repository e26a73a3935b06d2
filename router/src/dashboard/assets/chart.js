// Charts over time as SVG: stacked bars, or a line.

import { h, svg } from "./dom.js";
import { clock } from "./format.js";

const [WIDTH, HEIGHT, LEFT, BOTTOM, TOP] = [640, 168, 46, 22, 8];

/** Returns the first of 1, 2, 5, 10, 20, … that is at least `value`. */
export function ceiling(value) {
  if (!(value > 0)) return 1;
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 5, 10].map((factor) => factor * power).find((candidate) => candidate >= value * 0.999);
}

/**
 * Draws a chart of `span.points` points. `series`: `[{ label, tone, values }]`, one value (or null) per
 * point. `kind`: `bars` (stacked) or `line`.
 */
export function chart({ title, summary, series, span, kind = "bars", format = String, most }) {
  const sums = span.times.map((_, n) => series.reduce((sum, { values }) => sum + (values[n] ?? 0), 0));
  const highest = most ?? ceiling(Math.max(...sums));
  const y = (value) => TOP + (HEIGHT - TOP - BOTTOM) * (1 - value / highest);
  const slot = (WIDTH - LEFT - 4) / span.times.length;
  const x = (n) => LEFT + n * slot;
  const lines = [0, 0.5, 1].map((part) => [
    svg("line", { class: "grid", x1: LEFT, x2: WIDTH - 4, y1: y(part * highest), y2: y(part * highest) }),
    svg("text", { class: "tick", x: LEFT - 6, y: y(part * highest) + 4, "text-anchor": "end" }, format(part * highest)),
  ]);
  const every = Math.ceil(span.times.length / 4);
  const ticks = span.times.flatMap((at, n) => (n % every === 0 ? [svg("text", { class: "tick", x: x(n), y: HEIGHT - 6 }, clock(at).slice(0, -3))] : []));
  const marks = kind === "bars" ? bars(series, x, y, slot) : line(series[0], x, y, slot);
  const names = series.length > 1 ? h("span", { class: "chart-legend small soft" }, series.map(({ label, tone }) => h("span", { class: "key", "data-tone": tone }, label))) : null;
  return h("section", { class: "panel" },
    h("header", {}, h("h2", {}, title), h("span", { class: "spring" }), names ?? h("span", { class: "small soft" }, summary)),
    h("div", { class: "body" }, svg("svg", { class: "chart", viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": `${title}: ${summary}` }, lines, ticks, marks)));
}

function bars(series, x, y, slot) {
  const below = [];
  return series.flatMap(({ tone, values }) => values.map((value, n) => {
    const from = below[n] ?? 0;
    below[n] = from + (value ?? 0);
    if (!value) return null;
    return svg("rect", { "data-tone": tone, x: x(n) + slot * 0.12, width: slot * 0.76, y: y(below[n]), height: Math.max(0.5, y(from) - y(below[n])), rx: Math.min(1.5, slot / 4) });
  }));
}

/** A line that ends where values are missing; a single value is a dot. */
function line({ tone, values }, x, y, slot) {
  const parts = [];
  values.forEach((value, n) => {
    if (value === null) return;
    const point = [x(n) + slot / 2, y(value)];
    if (n > 0 && values[n - 1] !== null) parts.at(-1).push(point);
    else parts.push([point]);
  });
  return parts.map((points) => (points.length === 1
    ? svg("circle", { class: "dot", "data-tone": tone, cx: points[0][0], cy: points[0][1], r: 2.5 })
    : svg("polyline", { class: "curve", "data-tone": tone, points: points.map((point) => point.map((value) => value.toFixed(1)).join(",")).join(" ") })));
}
