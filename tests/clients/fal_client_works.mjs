// Tests of fal's unmodified JavaScript client against a router with `timed` workers.
//
//     ROUTER=http://127.0.0.1:8080 node --test fal_client_works.mjs

import assert from "node:assert/strict";
import { createHash, createPublicKey, verify } from "node:crypto";
import { once } from "node:events";
import { createServer } from "node:http";
import { test } from "node:test";
import { createFalClient } from "@fal-ai/client";

const APP = "bench/timed";
const SHORT = "bench/short";
const ROUTER = process.env.ROUTER;
const QUICK = { run_ms: 600, load_ms: 10, output: { text: "schön 猫" } };
const RESULT = { text: "schön 猫" };
const WRONG = { run_ms: 10, load_ms: 10, fail: "no such colour" };
const LONG = { run_ms: 600_000, load_ms: 10 };

const here = (url) =>
  url
    .replace("https://queue.fal.run", `${ROUTER}/queue`)
    .replace("https://fal.run", `${ROUTER}/run`)
    .replace("https://rest.fal.ai", ROUTER);

const CLIENTS = {
  "by middleware": createFalClient({
    credentials: "any",
    requestMiddleware: async (request) => ({ ...request, url: here(request.url) }),
  }),
  "by a fetch of its own": createFalClient({
    credentials: "any",
    fetch: (url, options) => fetch(here(url.toString()), options),
  }),
  "by proxy": createFalClient({ proxyUrl: { url: `${ROUTER}/api/fal/proxy`, when: "always" } }),
};

async function subscribed(fal, mode) {
  const updates = [];
  const { data, requestId } = await fal.subscribe(APP, {
    input: QUICK,
    logs: true,
    mode,
    pollInterval: 50,
    hint: "m",
    // The client appends to the logs that it returned.
    onQueueUpdate: (update) => updates.push({ ...update, logs: [...(update.logs ?? [])] }),
  });
  assert.deepEqual(data, RESULT);
  assert.ok(updates.some((update) => update.status === "IN_PROGRESS"));
  const last = updates.at(-1);
  assert.equal(last.status, "COMPLETED");
  assert.equal(last.request_id, requestId);
  const messages = last.logs.map((entry) => entry.message);
  assert.equal(messages.filter((message) => message.startsWith("attempt 1 begins")).length, 1);
  assert.match(messages.at(-1), /^succeeded/);
}

/** The recipe of fal's documentation, with the router's keys. */
async function verified(headers, body) {
  const header = (name) => headers[`x-fal-webhook-${name}`];
  if (Math.abs(Date.now() / 1000 - Number(header("timestamp"))) > 300) return false;
  const hash = createHash("sha256").update(body).digest("hex");
  const message = [header("request-id"), header("user-id"), header("timestamp"), hash].join("\n");
  const signature = Buffer.from(header("signature"), "hex");
  const { keys } = await (await fetch(`${ROUTER}/.well-known/jwks.json`)).json();
  return keys.some(({ x }) => {
    const key = { kty: "OKP", crv: "Ed25519", x: Buffer.from(x, "base64url").toString("base64url") };
    return verify(null, Buffer.from(message), createPublicKey({ key, format: "jwk" }), signature);
  });
}

/** Submits with a webhook; what it is told. */
async function told(fal, input) {
  const server = createServer(async (request, response) => {
    const body = [];
    for await (const piece of request) body.push(piece);
    response.end();
    server.emit("told", request.headers, Buffer.concat(body));
  });
  await once(server.listen(0, "127.0.0.1"), "listening");
  try {
    const webhookUrl = `http://127.0.0.1:${server.address().port}/webhook?order=7`;
    const heard = once(server, "told", { signal: AbortSignal.timeout(30_000) });
    const { request_id: requestId } = await fal.queue.submit(APP, { input, webhookUrl });
    const [headers, body] = await heard;
    assert.ok(await verified(headers, body));
    assert.ok(!(await verified(headers, `${body} `)));
    const outcome = JSON.parse(body);
    assert.equal(outcome.request_id, requestId);
    return outcome;
  } finally {
    server.close();
  }
}

const CONTENT = Uint8Array.from({ length: 256_000 }, (_, at) => at % 256);

async function read(url) {
  const response = await fetch(url);
  assert.equal(response.status, 200, url);
  return { content: new Uint8Array(await response.arrayBuffer()), type: response.headers.get("content-type") };
}

// Large files begin like small ones; their parts go directly to the router.
test("a large file is uploaded in parts", async () => {
  const fal = CLIENTS["by middleware"];
  const pieces = Array.from({ length: 91 }, (_, at) => new Uint8Array(1 << 20).fill(at));
  const url = await fal.storage.upload(new File(pieces, "large.mp4", { type: "video/mp4" }));
  const { content } = await read(url);
  assert.equal(content.length, 91 << 20);
  assert.ok(pieces.every((piece, at) => content[at << 20] === piece[0] && content[((at + 1) << 20) - 1] === piece[0]));
});

for (const [way, fal] of Object.entries(CLIENTS)) {
  test(`${way}, a file is uploaded and its URL used in a job`, async () => {
    const url = await fal.storage.upload(new File([CONTENT], "my cat.png", { type: "image/png" }));
    assert.match(url, /\/my_cat\.png$/);
    assert.deepEqual(await read(url), { content: CONTENT, type: "image/png" });
    const { data } = await fal.subscribe(APP, { input: { ...QUICK, output: { images: [{ url }] } }, pollInterval: 50 });
    assert.deepEqual((await read(data.images[0].url)).content, CONTENT);
  });

  test(`${way}, a blob in an input is uploaded`, async () => {
    const blob = new Blob([CONTENT], { type: "image/webp" });
    const { data } = await fal.run(APP, { input: { ...QUICK, output: { image_url: blob } } });
    assert.deepEqual(await read(data.image_url), { content: CONTENT, type: "image/webp" });
  });

  test(`${way}, a link expires when its uploader wished`, async () => {
    const url = await fal.storage.upload(new Blob(["x"]), { lifecycle: { expiresIn: 1 } });
    let response;
    do response = await fetch(url);
    while (response.ok);
    assert.equal(response.status, 403);
  });

  test(`${way}, subscribing by polling tells each update and gives the result`, () => subscribed(fal, "polling"));

  test(`${way}, subscribing by streaming tells each update and gives the result`, () => subscribed(fal, "streaming"));

  test(`${way}, a job is submitted and its result fetched by its id`, async () => {
    const { request_id: requestId } = await fal.queue.submit(`${APP}/turbo`, { input: QUICK, priority: "low" });
    await fal.queue.subscribeToStatus(APP, { requestId, mode: "polling", pollInterval: 50 });
    const { data } = await fal.queue.result(APP, { requestId });
    assert.deepEqual(data, RESULT);
  });

  test(`${way}, an endpoint of three parts is asked for by all of them`, async () => {
    const { data } = await fal.subscribe("workflows/me/pipeline", { input: QUICK, pollInterval: 50 });
    assert.deepEqual(data, RESULT);
  });

  test(`${way}, a cancelled job ends`, async () => {
    const { request_id: requestId } = await fal.queue.submit(APP, { input: LONG });
    await fal.queue.cancel(APP, { requestId });
    const status = await fal.queue.status(APP, { requestId });
    assert.equal(status.status, "COMPLETED");
    assert.equal(status.error_type, "client_cancelled");
    await assert.rejects(fal.queue.result(APP, { requestId }), { status: 499 });
  });

  test(`${way}, a failed job rejects with its error`, async () => {
    await assert.rejects(fal.subscribe(APP, { input: WRONG, pollInterval: 50 }), (error) => {
      assert.equal(error.status, 422);
      assert.equal(error.body.detail[0].msg, "no such colour");
      return true;
    });
  });

  test(`${way}, a job that took too long rejects at once`, async () => {
    let completed;
    const onQueueUpdate = ({ status }) => {
      if (status === "COMPLETED") completed ??= performance.now();
    };
    const subscribing = fal.subscribe(SHORT, { input: LONG, pollInterval: 50, onQueueUpdate });
    await assert.rejects(subscribing, (error) => {
      assert.equal(error.status, 504);
      assert.equal(error.body.error_type, "request_timeout");
      return true;
    });
    assert.ok(performance.now() - completed < 1000);
  });

  test(`${way}, a webhook is told and its signature verified`, async () => {
    const done = await told(fal, QUICK);
    assert.equal(done.status, "OK");
    assert.deepEqual(done.payload, RESULT);
    const failed = await told(fal, WRONG);
    assert.equal(failed.status, "ERROR");
    assert.equal(failed.error, "no such colour");
  });

  test(`${way}, running gives the result or rejects`, async () => {
    const { data, requestId } = await fal.run(APP, { input: QUICK });
    assert.deepEqual(data, RESULT);
    assert.ok(requestId);
    await assert.rejects(fal.run(APP, { input: WRONG }), { status: 422 });
  });

  test(`${way}, streaming gives progress and at last the result`, async () => {
    const stream = await fal.stream(APP, { input: QUICK });
    const events = [];
    for await (const event of stream) events.push(event);
    assert.deepEqual(await stream.done(), RESULT);
    assert.deepEqual(events.at(-1), RESULT);
    assert.ok(events.some((event) => event.progress?.phase === "running"));
  });
}
