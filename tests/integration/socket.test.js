'use strict';
// The workers' socket of the real helper: hostile peers beside a good one, a socket that is deleted, samples that are kept.

const assert = require('node:assert');
const fs = require('node:fs');
const { test } = require('node:test');
const { FakeWorker, TYPE, frame } = require('./lib/fake-worker');
const { startHelper, waitFor } = require('./lib/harness');

const SLOTS = [1, 2, 3, 4];

// A worker whose samples arrive; `still()` shows that they do so even now.
async function neighbour(helper) {
  const w = new FakeWorker(helper.socket('workers.sock'), { title: 'neighbour', thread: 1000 });
  await w.connect();
  return { w, still: () => w.acked(w.sample(SLOTS)) };
}

const header = (length, type = TYPE.sample) => {
  const b = Buffer.alloc(8);
  b.writeUInt32LE(length);
  b[4] = type;
  return b;
};

test('P61 hostile frames: the connection is closed and counted, the others are unaffected', async (t) => {
  const helper = await startHelper(t);
  const good = await neighbour(helper);
  const deep = frame(TYPE.event, '['.repeat(10000) + ']'.repeat(10000));
  const bad = {
    'length 0': header(0),
    'length 2^31': header(2 ** 31),
    'length beyond the limit': header(65529),
    'a sample that is too short': frame(TYPE.sample, Buffer.alloc(24)),
    'a second hello': frame(TYPE.hello, '{}'),
    'JSON 10,000 deep': deep,
    'NaN in JSON': frame(TYPE.event, '{"event":"exit","code":NaN}'),
    'invalid UTF-8': frame(TYPE.event, Buffer.from([0x7b, 0x22, 0xff, 0x22, 0x3a, 0x31, 0x7d])),
  };
  let thread = 0;
  for (const [what, bytes] of Object.entries(bad)) {
    for (const said of [true, false]) {
      const before = (await helper.counters()).workers_closed_protocol ?? 0;
      const w = new FakeWorker(helper.socket('workers.sock'), { thread: thread++ });
      await (said ? w.connect() : w.open());
      if (!said && bytes[4] === TYPE.hello) continue; // refused with words, see below
      w.raw(bytes);
      await w.gone();
      await waitFor(`${what}: counted`, async () => (await helper.counters()).workers_closed_protocol === before + 1);
      await good.still();
    }
  }
  good.w.destroy();
});

test('P61 a hello that is not valid is answered with the key and what is accepted', async (t) => {
  const helper = await startHelper(t);
  for (const [hello, reason] of [
    [{ pid: 0 }, /^pid: an integer from 1/],
    [{ protocol: [2] }, /^protocol: version 1/],
    [{ role: 'boss' }, /^role: primary, worker, agent, process or thread/],
    [{ fields: [] }, /^fields: an array of 1 to 512/],
    [{ next: undefined }, /^next: .* required/],
  ]) {
    const w = new FakeWorker(helper.socket('workers.sock'), { hello });
    const e = await w.connect().then(() => assert.fail('welcome'), (error) => error);
    assert.ok(e.refused, e.message);
    assert.match(e.refused.reason, reason);
    await w.gone();
  }
  assert.strictEqual((await helper.counters()).workers_refused_hello, 5);
});

test('P61 a worker that claims the pid of another is known by its own', async (t) => {
  const helper = await startHelper(t);
  const w = new FakeWorker(helper.socket('workers.sock'), { pid: 1, title: 'liar' });
  await w.connect();
  const [seen] = await helper.waitWorkers('the worker is seen', (ws) => ws.length === 1 && ws);
  assert.strictEqual(seen.pid, process.pid);
  w.destroy();
});

test('P61 values that cannot be are counted and not shown', async (t) => {
  const helper = await startHelper(t);
  const w = new FakeWorker(helper.socket('workers.sock'), { fields: [{ name: 'x.gauge', unit: '1', kind: 'gauge' }, { name: 'x.counter', unit: '1', kind: 'counter' }, { name: 'x.good', unit: '1', kind: 'gauge' }] });
  await w.connect();
  await w.acked(w.sample([Infinity, -1, -1]));
  const [seen] = await helper.workers();
  assert.strictEqual(seen.metrics['x.gauge'], undefined);
  assert.strictEqual(seen.metrics['x.counter'], undefined);
  assert.strictEqual(seen.metrics['x.good'], -1);
  assert.strictEqual((await helper.counters()).values_refused, 2);
  w.destroy();
});

test('P74 the socket is deleted while the helper runs: made again, old streams live', async (t) => {
  const helper = await startHelper(t);
  const old = await neighbour(helper);
  fs.unlinkSync(helper.socket('workers.sock'));
  await waitFor('the socket is there again', () => fs.existsSync(helper.socket('workers.sock')));
  const fresh = new FakeWorker(helper.socket('workers.sock'), { thread: 1 });
  await fresh.connect();
  await fresh.acked(fresh.sample(SLOTS));
  await old.still();
  assert.strictEqual(fs.statSync(helper.socket('workers.sock')).mode & 0o777, 0o600);
  fresh.destroy();
  old.w.destroy();
});

test('P61 a peer that never reads does not hurt', async (t) => {
  const helper = await startHelper(t);
  const good = await neighbour(helper);
  const w = new FakeWorker(helper.socket('workers.sock'), { keep: false });
  await w.connect();
  w.deaf();
  for (let i = 0; i < 2000; i++) w.sample(SLOTS);
  await waitFor('all of them are taken', async () => (await helper.workers()).some((x) => x.pid === process.pid && x.metrics['process.memory.usage'] !== undefined));
  await waitFor('all of them are counted', async () => (await helper.counters()).samples_received >= 2000);
  await good.still();
  w.destroy();
  good.w.destroy();
});
