// Calls the router's public HTTP API: the same calls, keys and scopes as every other client.

/** An error response, with its sentence and the mistakes per field. */
export class ApiError extends Error {
  constructor(status, body) {
    const detail = body?.detail;
    const fields = Array.isArray(detail) ? detail : [];
    super(fields.length ? fields.map((field) => field.msg).join("; ") : (detail ?? `the router answered with status ${status}`));
    this.status = status;
    this.fields = fields.map(({ loc, msg }) => ({ path: loc.filter((part) => part !== "body").join("."), message: msg }));
  }
}

/** Resolves a path below the address of the dashboard, which a proxy may have moved. */
export const url = (path) => new URL(path, document.baseURI.split("#")[0]).href;

async function call(method, path, body, headers = {}) {
  const options = { method, headers: { ...headers }, credentials: "same-origin", cache: "no-store" };
  if (body !== undefined) {
    options.headers["content-type"] = "application/json";
    options.body = JSON.stringify(body);
  }
  let response;
  try {
    response = await fetch(url(path), options);
  } catch {
    throw new ApiError(0, { detail: "the router cannot be reached" });
  }
  const text = await response.text();
  let value = null;
  try {
    value = text ? JSON.parse(text) : null;
  } catch {
    // Not JSON: a proxy's page.
  }
  if (response.ok) return value;
  if (response.status === 401 && !path.startsWith("v1/session")) document.dispatchEvent(new Event("loggedout"));
  throw new ApiError(response.status, value);
}

export const get = (path) => call("GET", path);
export const post = (path, body, headers) => call("POST", path, body ?? {}, headers);
export const patch = (path, body) => call("PATCH", path, body);
export const remove = (path) => call("DELETE", path);

/** Joins query parameters, without empty ones. */
export function query(parameters) {
  const given = Object.entries(parameters).filter(([, value]) => value !== "" && value !== null && value !== undefined);
  return given.length ? `?${new URLSearchParams(given)}` : "";
}
