// A sink that is away for long, and one that takes a tenth of what comes. Hours are compressed by volume: samples come by the hundred a
// second, so that seconds make the backlog of an hour and more. What is counted is exact: every sample arrives, or is said to be dropped.
'use strict';

const assert = require('node:assert');
const fs = require('node:fs');
const path = require('node:path');
const { describe, test } = require('node:test');
const { defer, pause, startHelper, waitFor } = require('./lib/harness');
const bad = require('./lib/bad-server');
const { Crowd } = require('./lib/fake-worker');

const DRAIN_PER_S = 50; // LIMIT_DRAIN_PER_S
const SPOOL_BYTES = 1 << 20;
const BATCH_BYTES = 16384;

const sinkOf = async (helper) => (await helper.json('/status')).sinks[0];

// Workers with numbers that do not compress, `hertz` samples a second each.
async function startCrowd(t, helper, n, hertz) {
  const crowd = new Crowd(helper.socket('workers.sock'), n);
  await crowd.connect();
  for (const w of crowd.workers) for (let i = 0; i < w.slots.length; i++) w.slots[i] = Math.random() * 1e9;
  const timer = setInterval(() => {
    for (const w of crowd.workers) {
      w.slots[Math.floor(Math.random() * w.slots.length)] = Math.random() * 1e9;
      w.sample();
    }
  }, 1000 / hertz);
  crowd.stopSampling = () => clearInterval(timer);
  defer(t, () => {
    clearInterval(timer);
    crowd.running = false;
    crowd.workers.forEach((w) => w.destroy());
  });
  return crowd;
}

const made = (crowd) => crowd.workers.reduce((n, w) => n + w.number, 0);

// worker -> its sample numbers, in order of arrival.
function arrived(server) {
  const seen = new Map();
  for (const b of server.batches()) {
    for (const r of b.records) {
      if (r.sample === undefined) continue;
      if (!seen.has(r.worker)) seen.set(r.worker, []);
      seen.get(r.worker).push(r.sample);
    }
  }
  return seen;
}

function spoolBytes(helper) {
  const dir = path.join(helper.data, 'spool');
  let sum = 0;
  for (const name of fs.readdirSync(dir)) {
    try {
      sum += fs.statSync(path.join(dir, name)).size;
    } catch {
      // it is gone already
    }
  }
  return sum;
}

const options = (port, extra = {}) => ({ env: { PILLION_SINK: `hub+http://127.0.0.1:${port}`, PILLION_FLUSH_INTERVAL: '1s', PILLION_BATCH_MAX: '16KiB', ...extra } });

describe('backlog', { concurrency: 2 }, () => {
test('P21 a sink that was away: everything arrives, each worker in its order, old while new ones come, at a capped rate', async (t) => {
  const gone = await bad.startBadServer(t, [bad.ok()]);
  const { port } = gone;
  await gone.close();
  const helper = await startHelper(t, options(port));
  const crowd = await startCrowd(t, helper, 4, 8);
  const behind = await waitFor('a backlog of 150 batches', async () => {
    const s = await sinkOf(helper);
    return s.backlog >= 150 && s;
  }, 90000);
  assert.strictEqual(behind.sent, 0);
  assert.match(behind.last_error, /Connection refused/);
  const before = made(crowd);
  const server = await bad.startBadServer(t, [bad.ok()], { port });
  await waitFor('it has caught up while new ones came', async () => (await sinkOf(helper)).backlog <= 3, 60000);
  assert.ok(made(crowd) > before, 'samples went on');
  crowd.stopSampling();
  await waitFor('all of it', () => [...arrived(server).values()].reduce((n, list) => n + list.length, 0) >= made(crowd));
  const seen = arrived(server);
  assert.strictEqual(seen.size, crowd.workers.length);
  for (const list of seen.values()) assert.deepStrictEqual(list, list.map((_, i) => i + 1), 'none is missing, none twice, none out of order');
  const times = server.batches().map((b) => b.request.time);
  const most = (seconds) => Math.max(...times.map((from) => times.filter((at) => at >= from && at < from + seconds * 1000).length));
  t.diagnostic(`${times.length} batches, ${made(crowd)} samples; at most ${most(1)} batches in a second, ${most(3)} in three`);
  assert.ok(most(1) <= 2 * DRAIN_PER_S + 10, 'the bucket and what comes back in that second');
  assert.ok(most(3) <= 4 * DRAIN_PER_S + 10);
  const status = await helper.json('/status');
  assert.strictEqual(status.counters.batches_dropped, 0);
  assert.strictEqual(status.counters.spool_samples_dropped, 0);
});

test('P26 ten times more than the sink takes: the spool keeps its limit, the oldest go and are counted for each worker, `top` stays live', async (t) => {
  let delay = 700;
  const slow = (c, rq) => setTimeout(() => bad.ok()(c, rq), delay);
  const server = await bad.startBadServer(t, [slow]);
  const helper = await startHelper(t, options(server.port, { PILLION_SPOOL_MAX: '1MiB' }));
  const crowd = await startCrowd(t, helper, 4, 40);
  let most = 0;
  let stalest = 0;
  await waitFor('a good part is dropped', async () => {
    most = Math.max(most, spoolBytes(helper));
    for (const w of await helper.workers()) if (w.last_sample) stalest = Math.max(stalest, Date.now() - Date.parse(w.last_sample));
    return (await helper.counters()).spool_samples_dropped >= made(crowd) / 4 && made(crowd) > 2000;
  }, 120000);
  crowd.stopSampling();
  await Promise.all(crowd.workers.map((w) => w.acked(w.number)));
  delay = 0;
  await waitFor('the rest has arrived', async () => (await sinkOf(helper)).backlog === 0, 60000);
  await pause(100);
  const status = await helper.json('/status');
  const seen = arrived(server);
  const dropped = status.spool.dropped_samples;
  t.diagnostic(`${made(crowd)} samples, ${status.counters.spool_samples_dropped} dropped; spool at most ${most} bytes; the oldest newest sample was ${stalest} ms old`);
  for (const [worker, list] of seen) {
    assert.ok(list.every((n, i) => i === 0 || n > list[i - 1]), 'in order, and none twice');
    const w = crowd.workers.find((x) => (x.keys.thread ?? 0) === Number(worker.split('/')[1] ?? 0));
    assert.strictEqual(list[list.length - 1], w.number, 'the newest is there');
    // A batch that goes while it is under way is counted, and may still arrive.
    const more = dropped[worker] - (w.number - list.length);
    assert.ok(more >= 0 && more <= w.number / 20, `missing of ${worker}: ${w.number - list.length}, counted: ${dropped[worker]}`);
  }
  assert.strictEqual(Object.values(dropped).reduce((a, b) => a + b, 0), status.counters.spool_samples_dropped);
  assert.ok(most <= SPOOL_BYTES + 2 * BATCH_BYTES, `${most} bytes`);
  assert.ok(stalest < 5000, 'what `top` shows is live');
});
});
