// A model server in Node.js: node node.mjs PORT
// It keeps the two models that it used last, and streams its progress as events.
import { createServer } from "node:http";

const SLOTS = 2;
const models = new Map();

async function model(name) {
  const found = models.get(name) ?? { name, loadedAt: Date.now() }; // load the weights here
  models.delete(name);
  models.set(name, found);
  if (models.size > SLOTS) models.delete(models.keys().next().value);
  return found;
}

async function body(request) {
  const pieces = [];
  for await (const piece of request) pieces.push(piece);
  return JSON.parse(Buffer.concat(pieces).toString());
}

function respond(response, status, value) {
  response.setHeader("x-fal-runner-hints", [...models.keys()].join(","));
  response.writeHead(status, { "content-type": "application/json" });
  response.end(JSON.stringify(value));
}

async function generate(request, response) {
  const job = await body(request);
  if (typeof job.prompt !== "string") {
    const msg = "a string is required";
    return respond(response, 422, { detail: [{ loc: ["body", "prompt"], msg, type: "missing" }] });
  }
  const { name } = await model(job.model ?? "default");
  response.setHeader("x-fal-runner-hints", [...models.keys()].join(","));
  response.writeHead(200, { "content-type": "text/event-stream" });
  for (let step = 1; step <= 3; step++) response.write(`data: ${JSON.stringify({ step })}\n\n`);
  const text = [...job.prompt].reverse().join("");
  response.end(`data: ${JSON.stringify({ model: name, text })}\n\n`);
}

createServer((request, response) => {
  if (request.method === "GET" && request.url === "/health") return respond(response, 200, {});
  if (request.method === "POST" && request.url === "/") return generate(request, response);
  respond(response, 404, { detail: "not found" });
}).listen(Number(process.argv[2]), "127.0.0.1");
