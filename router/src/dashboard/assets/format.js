// Formats numbers, durations and times. Pure.

const number = new Intl.NumberFormat("en-US");
const compact = new Intl.NumberFormat("en-US", { notation: "compact", maximumFractionDigits: 1 });

export const count = (value) => (value < 100_000 ? number.format(value) : compact.format(value));

export const plural = (value, one, many = `${one}s`) => `${count(value)} ${value === 1 ? one : many}`;

export const percent = (part, whole) => (whole > 0 ? `${Math.round((100 * part) / whole)} %` : "–");

/** `40 ms`, `2.5 s`, `3 min 20 s`, `5 h 10 min`, `3 d 4 h`. */
export function duration(ms) {
  if (ms === null || ms === undefined || Number.isNaN(ms)) return "–";
  const rounded = Math.max(0, Math.round(ms));
  if (rounded < 1000) return `${rounded} ms`;
  if (rounded < 60_000) return `${(Math.floor(rounded / 100) / 10).toFixed(1)} s`;
  const [big, small, names] =
    rounded < 3_600_000 ? [60_000, 1000, ["min", "s"]] : rounded < 86_400_000 ? [3_600_000, 60_000, ["h", "min"]] : [86_400_000, 3_600_000, ["d", "h"]];
  const rest = Math.floor((rounded % big) / small);
  return `${Math.floor(rounded / big)} ${names[0]}${rest ? ` ${rest} ${names[1]}` : ""}`;
}

/** A duration at the axis of a chart: one number, one unit. */
export function roughly(ms) {
  const [unit, name] = ms < 1000 ? [1, "ms"] : ms < 120_000 ? [1000, "s"] : ms < 7_200_000 ? [60_000, "min"] : [3_600_000, "h"];
  return ms === 0 ? "0" : `${Number((ms / unit).toPrecision(3))} ${name}`;
}

/** A duration as a coarse age: `12 s`, `3 min`. */
export function age(ms) {
  const s = Math.max(0, Math.floor(ms / 1000));
  if (s < 60) return `${s} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min`;
  if (s < 86_400) return `${Math.floor(s / 3600)} h`;
  return `${Math.floor(s / 86_400)} d`;
}

export function bytes(value) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let [size, unit] = [value, 0];
  while (size >= 1024 && unit < units.length - 1) [size, unit] = [size / 1024, unit + 1];
  return `${size < 10 && unit > 0 ? size.toFixed(1) : Math.round(size)} ${units[unit]}`;
}

const two = (value) => String(value).padStart(2, "0");

/** `14:03:27` today, `11-30 14:03` before. */
export function clock(ms) {
  const [at, now] = [new Date(ms), new Date()];
  const time = `${two(at.getHours())}:${two(at.getMinutes())}`;
  return at.toDateString() === now.toDateString() ? `${time}:${two(at.getSeconds())}` : `${two(at.getMonth() + 1)}-${two(at.getDate())} ${time}`;
}

export const timestamp = (ms) => new Date(ms).toISOString().replace("T", " ").replace("Z", " UTC");

/** The end of a job's id, which differs between jobs of one moment. */
export const shortId = (id) => `…${id.slice(-8)}`;

/** The tone of a state's badge. */
export const toneOf = (state) =>
  ({ queued: "calm", dispatched: "calm", running: "busy", succeeded: "good", failed: "bad", cancelled: "warn", expired: "warn" })[state] ?? "calm";
