'use strict';
// What can be fetched out of a worker, on each Node.js version: its loop turning, or stuck in every way there is.

const assert = require('node:assert');
const fs = require('node:fs');
const http = require('node:http');
const path = require('node:path');
const zlib = require('node:zlib');
const { test } = require('node:test');
const { APPS, pause, startHelper, startNode, waitFor } = require('./lib/harness');
const { eachVersion } = require('./lib/versions');

let last = 0;

// Gives an order and waits for its end: the job.
async function capture(helper, worker, action, params = {}) {
  const id = `t${++last}`;
  const answer = await helper.get('/v1/commands', {
    method: 'POST', body: JSON.stringify({ id, action, worker: String(worker), params }),
  });
  if (answer.status !== 202) return { state: 'refused', reason: answer.body };
  return waitFor(`${action} to end`, async () => {
    const job = JSON.parse((await helper.get(`/v1/jobs/${id}`)).body);
    return !['queued', 'running'].includes(job.state) && job;
  }, 60000);
}

// The artifact of this kind, read: JSON of it.
function file(job, kind) {
  const artifact = job.artifacts.find((a) => a.kind === kind);
  assert.ok(artifact, `${kind} in ${JSON.stringify(job)}`);
  const bytes = fs.readFileSync(artifact.url.replace('file://', ''));
  assert.strictEqual(bytes.length, artifact.bytes);
  return JSON.parse(zlib.gunzipSync(bytes));
}

async function startApp(t, node, options = {}) {
  const helper = await startHelper(t, { env: { PILLION_ON_BLOCKED: 'none' } });
  const app = startNode(t, helper, [path.join(APPS, 'block.js')], { node, ...options });
  await waitFor('the app and its worker', async () => app.stdout.includes('\n') && (await helper.workers()).length === 1);
  const { port } = JSON.parse(app.stdout);
  return { helper, app, ask: (url) => new Promise((resolve) => {
    http.get({ port, host: '127.0.0.1', path: url, agent: false }, (rs) => rs.resume().on('end', () => resolve(true))).on('error', () => resolve(false));
  }) };
}

// Sockets on which a process listens.
function listening(pid) {
  const inodes = new Set();
  for (const fd of fs.readdirSync(`/proc/${pid}/fd`)) {
    try {
      const inode = /^socket:\[(\d+)\]$/.exec(fs.readlinkSync(`/proc/${pid}/fd/${fd}`));
      if (inode) inodes.add(inode[1]);
    } catch {
      // closed in between
    }
  }
  return fs.readFileSync(`/proc/${pid}/net/tcp`, 'latin1').split('\n').map((line) => line.trim().split(/\s+/))
    .filter((f) => f[3] === '0A' && inodes.has(f[9])).length;
}

eachVersion('a worker whose loop turns: profiles, stack, collections, report; and nothing of it stays', async (t, node, major) => {
  const { helper, app, ask } = await startApp(t, node);
  const descriptors = fs.readdirSync(`/proc/${app.pid}/fd`).length;
  const timer = setInterval(() => ask('/while/20'), 40);
  t.after(() => clearInterval(timer));

  const cpu = await capture(helper, app.pid, 'cpu_profile', { seconds: 1 });
  assert.strictEqual(cpu.state, 'done', cpu.reason);
  const profile = file(cpu, 'cpu_profile');
  assert.ok(profile.nodes.some((n) => n.callFrame.url.endsWith('block.js')));
  assert.strictEqual(cpu.result.samples, profile.samples.length);

  const heap = await capture(helper, app.pid, 'heap_profile', { seconds: 1 });
  assert.strictEqual(heap.state, 'done', heap.reason);
  assert.ok(file(heap, 'heap_profile').head);

  const stack = await capture(helper, app.pid, 'stack');
  assert.strictEqual(stack.result.state, 'running', stack.reason);
  assert.ok(stack.result.idle >= 0 && stack.result.idle <= 1);
  assert.ok(stack.result.stacks.some((s) => s.frames.some((f) => f.url.endsWith('block.js'))), JSON.stringify(stack.result));

  const gc = await capture(helper, app.pid, 'gc_trace', { seconds: 1 });
  assert.strictEqual(gc.result.gcs.length, gc.result.collections, gc.reason);

  const report = await capture(helper, app.pid, 'report');
  if (major === 18) {
    assert.match(report.reason, /asks the name server/);
  } else {
    assert.strictEqual(report.state, 'done', report.reason);
    assert.strictEqual(file(report, 'report').environmentVariables, undefined);
  }
  clearInterval(timer);
  assert.ok(await ask('/'));
  await waitFor('its descriptors to be what they were', () => fs.readdirSync(`/proc/${app.pid}/fd`).length <= descriptors);
  assert.strictEqual(app.stderr, '');
});

eachVersion('P10 a heap snapshot by V8\'s own way, when it is allowed: whole, and counted by class', async (t, node) => {
  const { helper, app } = await startApp(t, node);
  const job = await capture(helper, app.pid, 'heap_snapshot', { allow_stall: true, force: true });
  assert.strictEqual(job.state, 'done', job.reason);
  const snapshot = file(job, 'heap_snapshot');
  const fields = snapshot.snapshot.meta.node_fields.length;
  assert.strictEqual(snapshot.nodes.length / fields, snapshot.snapshot.node_count);
  assert.strictEqual(job.result.nodes, snapshot.snapshot.node_count);
  assert.ok(file(job, 'heap_summary').classes.length > 10);
});

for (const [kind, functionName] of [['while', 'while'], ['regexp', 'regexp'], ['atomics', 'atomics'], ['microtasks', 'again']]) {
  eachVersion(`P49 stuck by ${kind}: its stack, its profile, and the inspector is closed again`, async (t, node) => {
    const { helper, app, ask } = await startApp(t, node);
    const back = ask(`/${kind}/8000`);
    await pause(200);
    const stack = await capture(helper, app.pid, 'stack');
    assert.strictEqual(stack.result?.state, 'blocked', stack.reason);
    // Between two microtasks it is Node's own queue that runs, and the look may fall there.
    const named = (frames) => frames.some((f) => (f.function === functionName && f.url.endsWith('block.js') && f.line > 1)
      || (kind === 'microtasks' && f.url.endsWith('task_queues')));
    assert.ok(named(stack.result.stack), JSON.stringify(stack.result));
    assert.strictEqual(listening(app.pid), 1);
    const cpu = await capture(helper, app.pid, 'cpu_profile', { seconds: 1 });
    assert.strictEqual(cpu.state, 'done', cpu.reason);
    // V8 gives the samples of code that it had optimized before to whoever called it; the stack beside the profile is exact.
    assert.ok(file(cpu, 'cpu_profile').samples.length > 1);
    assert.ok(named(cpu.result.stack.stack), JSON.stringify(cpu.result));
    assert.ok(cpu.result.real_interval_us > 0);
    assert.ok(await back);
    assert.ok(await ask('/'));
    await pause(1000); // the signal's other messengers have come by then
    await waitFor('the inspector to be closed', () => listening(app.pid) === 1);
  });
}

eachVersion('P49 stuck in native code: the system call is named, and the inspector that opens afterwards is closed', async (t, node) => {
  const { helper, app, ask } = await startApp(t, node);
  const back = ask('/exec/7000');
  await pause(200);
  const stack = await capture(helper, app.pid, 'stack');
  assert.strictEqual(stack.result?.state, 'native', stack.reason);
  assert.match(stack.result.syscall, /^[a-z]\w+$/);
  assert.match(stack.result.children[0].name, /sh|sleep/);
  assert.ok(await back);
  await waitFor('the inspector to open', () => app.stderr.includes('Debugger listening'));
  await waitFor('the inspector to be closed', () => listening(app.pid) === 1);
  assert.ok(await ask('/'));
});

test('P08 an application with a handler of its own for SIGUSR1 never gets the signal from us', async (t) => {
  const helper = await startHelper(t, { env: { PILLION_ON_BLOCKED: 'none' } });
  const app = startNode(t, helper, ['-e', `process.on('SIGUSR1', () => console.log('signal'));
    setTimeout(() => { for (const end = Date.now() + 6000; Date.now() < end;); }, 2000); setInterval(() => {}, 1000);`]);
  await waitFor('the worker', async () => (await helper.workers()).length === 1);
  await pause(2200);
  const cpu = await capture(helper, app.pid, 'cpu_profile', { seconds: 1 });
  assert.match(cpu.reason, /keeps SIGUSR1/);
  const stack = await capture(helper, app.pid, 'stack');
  assert.strictEqual(stack.result?.state, 'blocked', stack.reason);
  await waitFor('the loop to turn again', async () => (await helper.workers())[0].state === 'live');
  assert.strictEqual(app.stdout, '');
  assert.strictEqual(app.stderr, '');
});

test('P08 process.exit() in the middle of a capture: its own code, nothing printed', async (t) => {
  const helper = await startHelper(t, {});
  const app = startNode(t, helper, ['-e', 'setTimeout(() => process.exit(7), 4000)']);
  await waitFor('the worker', async () => (await helper.workers()).length === 1);
  const job = await capture(helper, app.pid, 'cpu_profile', { seconds: 30 });
  assert.strictEqual(job.state, 'failed');
  assert.deepStrictEqual((await app.ended), { code: 7, signal: null });
  assert.strictEqual(app.stderr, '');
});
