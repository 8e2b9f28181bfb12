// The whole line: real Node.js processes, the real helper, its status pages and its batches.
'use strict';

const assert = require('node:assert');
const fs = require('node:fs');
const path = require('node:path');
const { test } = require('node:test');
const { APPS, startHelper, startNode, startRun, helperPid, waitFor, pause } = require('./lib/harness');

const PUPPET = path.join(APPS, 'puppet.js');
const piped = { stdio: ['pipe', 'pipe', 'pipe'] };

async function puppet(t, helper, options = {}) {
  const node = startNode(t, helper, [PUPPET], { ...piped, ...options });
  const worker = await helper.waitWorkers(
    'the first sample of the puppet',
    (ws) => ws.find((w) => w.pid === node.pid && w.last_sample),
  );
  return { node, id: worker.worker, tell: (line) => node.child.stdin.write(`${line}\n`) };
}

const eventOf = (helper, id, name) =>
  helper.waitRecords(`event ${name} of ${id}`, (rs) => rs.find((r) => r.kind === 'event' && r.event === name && r.worker === id));

// The numbers of a worker's samples, in the order of the batches.
const numbers = (records, id) => records.filter((r) => r.kind === 'process' && r.worker === id && r.sample).map((r) => r.sample);

function assertWhole(list) {
  assert.ok(list.length > 0, 'there are samples');
  const unique = [...new Set(list)].sort((a, b) => a - b);
  unique.forEach((n, i) => assert.strictEqual(n, unique[0] + i, `sample ${unique[0] + i} is missing: ${unique.join(' ')}`));
  return unique;
}

test('a worker is seen: identity, kernel and own numbers, records of all kinds', async (t) => {
  const helper = await startHelper(t);
  const p = await puppet(t, helper);
  const w = await helper.waitWorkers('its second sample', (ws) => ws.find((x) => x.worker === p.id && 'nodejs.eventloop.utilization' in x.metrics));
  assert.match(w.worker, new RegExp(`^${p.node.pid}:\\d+$`));
  assert.strictEqual(w.ppid, process.pid);
  assert.strictEqual(w.role, 'process');
  assert.strictEqual(w.state, 'live');
  assert.strictEqual(w.node, process.version);
  for (const key of ['pillion.memory.heap.used', 'process.memory.usage', 'process.thread.count', 'process.context_switches{process.context_switch.type=voluntary}',
    'process.cpu.time{cpu.mode=user}', 'v8js.memory.heap.used{v8js.heap.space.name=old_space}', 'nodejs.eventloop.utilization']) {
    assert.strictEqual(typeof w.metrics[key], 'number', key);
  }
  const records = await helper.waitRecords('records of a worker, the container and an event', (rs) =>
    ['process', 'container', 'event'].every((k) => rs.some((r) => r.kind === k)) && rs);
  assert.ok(records.some((r) => r.kind === 'event' && r.event === 'connected' && r.worker === p.id));
  const { headers } = helper.batches();
  assert.deepStrictEqual(headers.map((h) => h.seq), headers.map((_, i) => i + 1));
  assert.ok(headers.every((h) => h.pillion === 1 && h.boot === headers[0].boot));
});

const endings = [
  ['exit 0', { cause: 'exit', code: 0 }],
  ['exit 7', { cause: 'exit', code: 7 }],
  ['throw', { cause: 'uncaught_exception', code: 1 }, /thrown on purpose/],
  ['reject', { cause: 'uncaught_exception', code: 1 }, /rejected on purpose/],
  ['abort', { cause: 'abort', signal: 'SIGABRT' }],
  ['kill SIGKILL', { cause: 'signal', signal: 'SIGKILL' }],
  ['kill SIGSEGV', { cause: 'crash', signal: 'SIGSEGV' }],
];

test('P31 a worker that ends gives an event with the cause and its last sample', async (t) => {
  const helper = await startHelper(t);
  for (const [order, want, text] of endings) {
    await t.test(order, async (tt) => {
      const p = await puppet(tt, helper);
      p.tell(order);
      const e = await eventOf(helper, p.id, 'exited');
      for (const [k, v] of Object.entries(want)) assert.strictEqual(e[k], v, `${k} of ${JSON.stringify(e)}`);
      if (text) assert.match(e.text, text);
      assert.ok(e.last_sample >= 1);
      assert.strictEqual(typeof e['pillion.memory.heap.used'], 'number');
      await helper.waitWorkers('it is shown as gone', (ws) => ws.find((x) => x.worker === p.id)?.state === 'gone');
    });
  }
});

const blocks = [
  ['while 6000', /running/],
  ['regexp 31', /running/],
  ['atomics 6000', /futex/],
  ['microtasks 6000', /running/],
  ['exec 6', /./],
];

test('P49 a blocked loop is told with what it does, sampled from outside, and told to be free again', async (t) => {
  const helper = await startHelper(t);
  await Promise.all(blocks.map(([order, where]) => t.test(order, async (tt) => {
    const p = await puppet(tt, helper);
    p.tell(order);
    const e = await eventOf(helper, p.id, 'blocked');
    assert.match(e.where, where);
    const w = (await helper.workers()).find((x) => x.worker === p.id);
    if (w.state === 'blocked') {
      assert.strictEqual(w.metrics['pillion.memory.heap.used'], undefined, 'what only the worker knows is not known now');
      assert.strictEqual(typeof w.metrics['process.memory.usage'], 'number');
    }
    await helper.waitRecords('a record from outside', (rs) => rs.find((r) => r.worker === p.id && r.state === 'blocked'));
    if (order.startsWith('regexp')) p.node.signal('SIGKILL');
    else assert.ok((await eventOf(helper, p.id, 'unblocked'))['pillion.blocked.duration'] > 2);
  })));
});

test('P49 P31 a worker killed while it is blocked still leaves its last sample', async (t) => {
  const helper = await startHelper(t, { env: { PILLION_BLOCKED_AFTER: '500ms' } });
  const p = await puppet(t, helper);
  p.tell('while 60000');
  await eventOf(helper, p.id, 'blocked');
  p.node.signal('SIGKILL');
  const e = await eventOf(helper, p.id, 'exited');
  assert.strictEqual(e.signal, 'SIGKILL');
  assert.strictEqual(typeof e['pillion.memory.heap.used'], 'number');
});

test('P01 P06 a killed, a restarted and a stopped helper lose no sample', async (t) => {
  const run = await startRun(t, [process.execPath, PUPPET], { ...piped, env: { PILLION_SAMPLE_INTERVAL: '100ms' } });
  const id = await run.waitWorkers('the puppet', (ws) => ws.find((w) => w.last_sample)?.worker);
  for (let i = 0; i < 5; i++) {
    const old = helperPid(run);
    process.kill(old, i % 2 ? 'SIGSEGV' : 'SIGKILL');
    await waitFor('a new helper', () => helperPid(run) !== old);
    await run.waitReady();
    await run.waitWorkers('the worker is back', (ws) => ws.find((w) => w.worker === id && w.last_sample));
  }
  const pid = helperPid(run);
  process.kill(pid, 'SIGSTOP');
  await pause(3000); // the time in which the worker has nobody
  process.kill(pid, 'SIGCONT');
  const before = Math.max(...numbers(run.batches().records, id), 0);
  await run.waitRecords('samples go on', (rs) => Math.max(...numbers(rs, id)) > before + 40);
  assert.ok(!run.batches().records.some((r) => r.event === 'blocked'), 'nobody is called blocked because the helper was stopped');
  await run.stop();
  assertWhole(numbers(run.batches().records, id));
});

test('P74 a stale socket, a second helper, sockets that are deleted while it runs', async (t) => {
  const helper = await startHelper(t);
  const p = await puppet(t, helper);
  const second = require('./lib/harness').start(t, ['agent'], { dir: helper.dir });
  assert.deepStrictEqual(await second.ended, { code: 69, signal: null });
  assert.match(second.stderr, new RegExp(`another helper \\(pid ${helper.pid}\\)`));
  assert.ok((await helper.workers()).length > 0, 'the first is unharmed');
  for (const name of ['status.sock', 'workers.sock', 'preload.js']) fs.unlinkSync(path.join(helper.runtime, name));
  await helper.waitReady();
  await waitFor('workers.sock and preload.js', () => ['workers.sock', 'preload.js'].every((n) => fs.existsSync(path.join(helper.runtime, n))));
  const q = await puppet(t, helper);
  const ids = (await helper.workers()).map((w) => w.worker);
  assert.ok(ids.includes(p.id) && ids.includes(q.id));
  helper.signal('SIGKILL');
  await helper.ended;
  const third = await startHelper(t, { dir: helper.dir });
  await third.waitWorkers('both are back', (ws) => [p.id, q.id].every((id) => ws.some((w) => w.worker === id && w.state === 'live')));
});

test('P63 a directory that is not ours alone is refused with the reason', async (t) => {
  const { start, tempDir } = require('./lib/harness');
  const cases = {
    symlink: [(run, dir) => { fs.mkdirSync(path.join(dir, 'real'), { mode: 0o700 }); fs.symlinkSync(path.join(dir, 'real'), run); }, /symbolic link/],
    file: [(run) => fs.writeFileSync(run, ''), /not a directory/],
    open: [(run) => { fs.mkdirSync(run); fs.chmodSync(run, 0o777); }, /written to by others/],
  };
  for (const [name, [make, reason]] of Object.entries(cases)) {
    const dir = tempDir(t);
    make(path.join(dir, 'run'), dir);
    const helper = start(t, ['agent'], { dir });
    assert.strictEqual((await helper.ended).code, 77, `${name}: ${helper.stderr}`);
    assert.match(helper.stderr, reason);
    const run = start(t, ['run', '--', process.execPath, '-e', 'console.log("served")'], { dir });
    assert.deepStrictEqual(await run.ended, { code: 0, signal: null }, name);
    assert.strictEqual(run.stdout, 'served\n');
  }
});
