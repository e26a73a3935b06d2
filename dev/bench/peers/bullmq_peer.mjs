// BullMQ: jobs and results in Redis.
//
// A worker: `node bullmq_peer.mjs worker SLOTS`. The driver: `node bullmq_peer.mjs`, which executes
// the loads that warmq-bench sends; the protocol is documented in
// dev/bench/src/peers/external/protocol.rs.

import { readFileSync } from "node:fs";
import { createConnection } from "node:net";
import { createInterface } from "node:readline";
import { Worker as Thread } from "node:worker_threads";
import { Queue, QueueEvents, Worker } from "bullmq";

const QUEUE = "bench";
// Jobs that are submitted at a time in a burst.
const SUBMITTERS = 32;
// Delay of an open-loop load's first job, ms.
const LEAD_MS = 100;
const TIMEOUT_MS = 120_000;

const { hostname: host, port } = new URL(process.env.BENCH_REDIS_URL);
const connection = { host, port: Number(port), maxRetriesPerRequest: null };

// Returns the Unix time, microseconds.
const nowUs = () => Math.round((performance.timeOrigin + performance.now()) * 1000);

// Waits until each offset in a thread of its own, since Node's timers have whole milliseconds.
const PACER = `
  const { parentPort } = require("node:worker_threads");
  const never = new Int32Array(new SharedArrayBuffer(4));
  const nowMs = () => performance.timeOrigin + performance.now();
  parentPort.on("message", ({ begunMs, atMs }) => {
    atMs.forEach((offsetMs, number) => {
      Atomics.wait(never, 0, 0, Math.max(0, begunMs + offsetMs - nowMs()));
      parentPort.postMessage(number);
    });
  });
`;

async function drive() {
  const queue = new Queue(QUEUE, { connection });
  const events = new QueueEvents(QUEUE, { connection });
  await Promise.all([queue.waitUntilReady(), events.waitUntilReady()]);
  const pacer = new Thread(PACER, { eval: true });
  const submit = () => queue.add("noop", {});
  const wait = async (job) => [await job.waitUntilFinished(events, TIMEOUT_MS), nowUs()];

  async function burst(jobs) {
    const begun_us = nowUs();
    const submitted = new Array(jobs);
    let next = 0;
    const submitMany = async () => {
      while (next < jobs) {
        const number = next++;
        submitted[number] = await submit();
      }
    };
    await Promise.all(Array.from({ length: SUBMITTERS }, submitMany));
    const submitted_us = nowUs();
    return { begun_us, submitted_us, jobs: await Promise.all(submitted.map(wait)) };
  }

  async function openLoop(atUs) {
    const begunMs = performance.timeOrigin + performance.now() + LEAD_MS;
    let submitted_us = 0;
    const run = async () => {
      const job = await submit();
      submitted_us = nowUs();
      return wait(job);
    };
    const running = [];
    await new Promise((resolve) => {
      pacer.removeAllListeners("message");
      pacer.on("message", () => {
        running.push(run());
        if (running.length === atUs.length) resolve();
      });
      pacer.postMessage({ begunMs, atMs: atUs.map((us) => us / 1000) });
    });
    const jobs = await Promise.all(running);
    return { begun_us: Math.round(begunMs * 1000), submitted_us, jobs };
  }

  const [benchHost, benchPort] = process.env.BENCH_DRIVER.split(":");
  const bench = createConnection({ host: benchHost, port: Number(benchPort) });
  const answer = (value) => bench.write(`${JSON.stringify(value)}\n`);
  const manifest = new URL("./node_modules/bullmq/package.json", import.meta.url);
  answer({ name: `BullMQ ${JSON.parse(readFileSync(manifest)).version}` });
  for await (const line of createInterface({ input: bench })) {
    const load = JSON.parse(line);
    answer(await ("burst" in load ? burst(load.burst) : openLoop(load.at_us)));
  }
  await pacer.terminate();
  await Promise.all([events.close(), queue.close()]);
}

function work(slots) {
  const worker = new Worker(QUEUE, async () => nowUs(), { connection, concurrency: slots });
  worker.on("error", (error) => {
    console.error(error);
    process.exit(1);
  });
  process.on("SIGTERM", async () => {
    await worker.close();
    process.exit(0);
  });
}

const [role, slots] = process.argv.slice(2);
if (role === "worker") {
  work(Number(slots));
} else {
  await drive();
}
