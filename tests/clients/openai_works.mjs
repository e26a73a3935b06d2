// OpenAI's client, as published, draws pictures with the router in ROUTER.
import assert from "node:assert";
import { test } from "node:test";
import OpenAI from "openai";

const client = new OpenAI({ baseURL: `${process.env.ROUTER}/v1`, apiKey: "any:key" });
const request = { model: "shapes", prompt: "a red circle", size: "64x64", steps: 2, seed: 7 };

test("pictures are URLs, or base64", async () => {
  const { data } = await client.images.generate({ ...request, n: 2 });
  assert.equal(data.length, 2);
  const picture = Buffer.from(await (await fetch(data[0].url)).arrayBuffer());
  assert.equal(picture.subarray(1, 4).toString(), "PNG");
  const inBase64 = await client.images.generate({ ...request, response_format: "b64_json" });
  assert.deepEqual(Buffer.from(inBase64.data[0].b64_json, "base64"), picture);
});

test("errors are the client's own", async () => {
  const refused = (change) => client.images.generate({ ...request, ...change });
  await assert.rejects(refused({ model: "none/such" }), OpenAI.NotFoundError);
  await assert.rejects(refused({ size: "huge" }), (error) => error.param === "size");
  await assert.rejects(refused({ steps: -1 }), OpenAI.UnprocessableEntityError);
});
