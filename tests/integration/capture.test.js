// capture.test.js - commands and jobs with real Node.js workers: from the command line, over the status socket, over the command
// port.
'use strict';

const assert = require('node:assert');
const { spawn } = require('node:child_process');
const crypto = require('node:crypto');
const fs = require('node:fs');
const http = require('node:http');
const net = require('node:net');
const path = require('node:path');
const { test } = require('node:test');
const zlib = require('node:zlib');
const h = require('./lib/harness');

const TOKEN = 'a-token-of-more-than-sixteen';
const BUSY = path.join(__dirname, 'apps/busy.js');

const freePort = () => new Promise((resolve, reject) => {
  const server = net.createServer();
  server.on('error', reject);
  server.listen(0, '127.0.0.1', () => {
    const { port } = server.address();
    server.close(() => resolve(port));
  });
});

// One request to the command port.
function ask(port, method, url, { headers = {}, body } = {}) {
  return new Promise((resolve, reject) => {
    const rq = http.request({ host: '127.0.0.1', port, method, path: url, headers, agent: false }, (rs) => {
      const parts = [];
      rs.on('data', (d) => parts.push(d));
      rs.on('end', () => {
        const text = Buffer.concat(parts).toString();
        let json = null;
        try { json = JSON.parse(text); } catch { /* it is text */ }
        resolve({ status: rs.statusCode, headers: rs.headers, text, json });
      });
    });
    rq.on('error', reject);
    rq.setTimeout(10000, () => rq.destroy(new Error('no answer in 10 s')));
    rq.end(body);
  });
}

const bearer = { Authorization: `Bearer ${TOKEN}` };

function signature(method, url, body, token = TOKEN, t = Math.floor(Date.now() / 1000)) {
  const v1 = crypto.createHmac('sha256', token).update(`${t}.${method}.${url}.${body}`).digest('hex');
  return { 'Pillion-Signature': `t=${t},v1=${v1}` };
}

// A `pillion run` with one worker that is live.
async function start(t, env = {}) {
  const running = await h.startRun(t, [process.execPath, BUSY], { env: { PILLION_LISTEN: 'none', ...env } });
  await running.waitReady();
  const worker = await running.waitWorkers('a worker', (ws) => ws.find((w) => w.state === 'live' && w.last_sample));
  return { running, worker };
}

const post = (running, command) => running.get('/v1/commands', { method: 'POST', body: JSON.stringify(command) });
const state = async (running, id) => JSON.parse((await running.get(`/v1/jobs/${id}`)).body);
const ended = (running, id) => h.waitFor(`job ${id} has ended`, async () => {
  const job = await state(running, id);
  return /^(done|failed|cancelled)$/.test(job.state) && job;
}, 60000);

function cli(running, args) {
  const child = spawn(h.BIN, args, {
    env: h.cleanEnv({ PILLION_RUNTIME_DIR: running.runtime, PILLION_DATA_DIR: running.data, PILLION_LISTEN: 'none' }),
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const result = { child, stdout: '', stderr: '' };
  child.stdout.on('data', (d) => { result.stdout += d; });
  child.stderr.on('data', (d) => { result.stderr += d; });
  result.ended = new Promise((resolve) => child.on('close', (code, signal) => resolve({ code, signal })));
  return result;
}

const sha256 = (data) => crypto.createHash('sha256').update(data).digest('hex');

test('P49 a CPU profile of a healthy worker from the command line', async (t) => {
  const { running, worker } = await start(t);
  const dir = h.tempDir(t);
  const file = path.join(dir, 'x.cpuprofile');
  const run = cli(running, ['cpu-profile', String(worker.pid), '--seconds', '1', '-o', file]);
  assert.deepStrictEqual(await run.ended, { code: 0, signal: null }, run.stderr);
  const profile = JSON.parse(fs.readFileSync(file, 'utf8'));
  assert.ok(profile.nodes.length > 1 && profile.samples.length > 10);
  // V8 may have put the function into its caller, and then names that one: of this file it is in any case.
  const [hottest] = profile.nodes.filter((n) => n.callFrame.functionName !== '(idle)').sort((a, b) => b.hitCount - a.hitCount);
  assert.match(hottest.callFrame.url, /busy\.js$/, JSON.stringify(hottest.callFrame));

  // what is in the store is what the job says of it
  const { jobs } = await running.json('/jobs');
  assert.strictEqual(jobs.length, 1);
  assert.strictEqual(jobs[0].state, 'done');
  const kinds = jobs[0].artifacts.map((a) => a.kind).sort();
  assert.deepStrictEqual(kinds, ['cpu_profile', 'flamegraph']);
  for (const artifact of jobs[0].artifacts) {
    const data = fs.readFileSync(new URL(artifact.url));
    assert.strictEqual(data.length, artifact.bytes);
    assert.strictEqual(sha256(data), artifact.sha256);
  }
  const stored = jobs[0].artifacts.find((a) => a.kind === 'cpu_profile');
  assert.deepStrictEqual(JSON.parse(zlib.gunzipSync(fs.readFileSync(new URL(stored.url)))), profile);

  const html = path.join(dir, 'x.html');
  const again = cli(running, ['cpu-profile', 'all', '--seconds', '1', '-o', html]);
  assert.deepStrictEqual(await again.ended, { code: 0, signal: null }, again.stderr);
  assert.match(fs.readFileSync(html, 'utf8'), /^<!doctype html>/i);
  assert.match(await cliText(running, ['jobs']), /cpu_profile +\d+:\d+ +done/);
  assert.deepStrictEqual(fs.readdirSync(path.join(running.data, 'work')), []);
});

async function cliText(running, args) {
  const run = cli(running, args);
  assert.deepStrictEqual(await run.ended, { code: 0, signal: null }, run.stderr);
  return run.stdout;
}

test('P62 the same id twice is one job', async (t) => {
  const { running, worker } = await start(t);
  const command = { id: 'once', action: 'stack', worker: worker.pid };
  const first = await post(running, command);
  assert.strictEqual(first.status, 202, first.body);
  const job = await ended(running, 'once');
  assert.strictEqual(job.state, 'done', job.reason);
  assert.ok(job.result);
  const second = await post(running, { ...command, action: 'report' });
  assert.strictEqual(second.status, 200);
  assert.strictEqual(JSON.parse(second.body).action, 'stack');
  assert.strictEqual((await running.json('/jobs')).jobs.length, 1);
});

test('P62 fifty commands at once', async (t) => {
  const { running } = await start(t);
  const answers = await Promise.all(Array.from({ length: 50 }, (_, i) => post(running, { id: `c${i % 25}`, action: 'stack', worker: 'all' })));
  assert.deepStrictEqual([...new Set(answers.map((a) => a.status))].sort(), [200, 202]);
  assert.strictEqual((await running.json('/jobs')).jobs.length, 25);
  for (let i = 0; i < 25; i++) assert.strictEqual((await ended(running, `c${i}`)).state, 'done');
});

test('a job is cancelled, and the worker is free for the next', async (t) => {
  const { running, worker } = await start(t);
  assert.strictEqual((await post(running, { id: 'long', action: 'cpu_profile', worker: worker.pid, params: { seconds: 120 } })).status, 202);
  assert.strictEqual((await post(running, { id: 'next', action: 'cpu_profile', worker: worker.pid, params: { seconds: 1 } })).status, 202);
  assert.strictEqual((await state(running, 'next')).state, 'queued');
  assert.strictEqual((await running.get('/v1/jobs/long', { method: 'DELETE' })).status, 202);
  assert.strictEqual((await ended(running, 'long')).state, 'cancelled');
  assert.strictEqual((await ended(running, 'next')).state, 'done');
});

test('Ctrl-C cancels', async (t) => {
  const { running } = await start(t);
  const run = cli(running, ['cpu-profile', 'all', '--seconds', '100']);
  await h.waitFor('the job runs', async () => (await running.json('/jobs')).jobs.some((j) => j.state === 'running'));
  run.child.kill('SIGINT');
  assert.deepStrictEqual(await run.ended, { code: 130, signal: null });
  assert.match(run.stderr, /cancelled/);
  assert.strictEqual((await running.json('/jobs')).jobs[0].state, 'cancelled');
});

test('a helper that is killed in the middle of a job says so afterwards', async (t) => {
  const { running, worker } = await start(t);
  assert.strictEqual((await post(running, { id: 'cut', action: 'cpu_profile', worker: worker.pid, params: { seconds: 60 } })).status, 202);
  await h.waitFor('it runs', async () => (await state(running, 'cut')).state === 'running');
  const before = (await running.json('/status')).helper.pid;
  process.kill(before, 'SIGKILL');
  await h.waitFor('the next helper', async () => (await running.json('/status')).helper.pid !== before);
  const job = await state(running, 'cut');
  assert.strictEqual(job.state, 'failed');
  assert.strictEqual(job.reason, 'helper restarted');
  await running.waitWorkers('the worker is back', (ws) => ws.find((w) => w.pid === worker.pid && w.state === 'live'));
  assert.strictEqual((await post(running, { id: 'after', action: 'cpu_profile', worker: worker.pid, params: { seconds: 1 } })).status, 202);
  assert.strictEqual((await ended(running, 'after')).state, 'done');
});

test('P62 a worker that is not there', async (t) => {
  const { running } = await start(t);
  const answer = await post(running, { action: 'stack', worker: '999999999' });
  assert.strictEqual(answer.status, 404);
  assert.match(JSON.parse(answer.body).error, /no worker is called "999999999"; 1 is there/);
  const run = cli(running, ['stack', '999999999']);
  assert.deepStrictEqual(await run.ended, { code: 69, signal: null });
  assert.match(run.stderr, /no worker is called/);
});

test('P62 the command port: who may, and what is refused', async (t) => {
  const port = await freePort();
  const { running } = await start(t, { PILLION_LISTEN: `127.0.0.1:${port}`, PILLION_TOKEN: TOKEN });
  const stack = JSON.stringify({ id: 'p1', action: 'stack', worker: 'all' });
  const code = async (method, url, options) => (await ask(port, method, url, options)).status;

  assert.strictEqual(await code('GET', '/healthz'), 200);
  assert.strictEqual(await code('POST', '/v1/commands', { body: stack }), 401);
  assert.strictEqual((await ask(port, 'GET', '/v1/workers')).headers['www-authenticate'], 'Bearer');
  assert.strictEqual(await code('POST', '/v1/commands', { body: stack, headers: { Authorization: 'Bearer nonsense' } }), 403);
  assert.strictEqual(await code('POST', '/v1/commands', { body: stack, headers: signature('POST', '/v1/commands', stack, 'another token') }), 403);
  const old = Math.floor(Date.now() / 1000) - 301;
  assert.strictEqual(await code('POST', '/v1/commands', { body: stack, headers: signature('POST', '/v1/commands', stack, TOKEN, old) }), 403);
  assert.strictEqual((await running.json('/jobs')).jobs.length, 0);

  assert.strictEqual(await code('GET', '/v1/workers', { headers: bearer }), 200);
  assert.strictEqual(await code('GET', '/v1/workers'), 401, 'what was given to one is not given to the next');
  assert.strictEqual(await code('GET', '/status', { headers: bearer }), 404, 'the other pages are not for the network');
  assert.strictEqual(await code('POST', '/v1/commands', { body: stack, headers: bearer }), 202);
  assert.strictEqual(await code('POST', '/v1/commands', { body: stack, headers: signature('POST', '/v1/commands', stack) }), 200);
  assert.strictEqual((await ended(running, 'p1')).state, 'done');
  const anonymous = JSON.stringify({ action: 'stack', worker: 'all' });
  assert.strictEqual(await code('POST', '/v1/commands', { body: anonymous, headers: signature('POST', '/v1/commands', anonymous) }), 400);
  assert.strictEqual(await code('GET', '/v1/jobs/p1', { headers: signature('GET', '/v1/jobs/p1', '') }), 200);

  const refused = async (body, words, status = 400) => {
    const answer = await ask(port, 'POST', '/v1/commands', { body, headers: bearer });
    assert.strictEqual(answer.status, status, answer.text);
    assert.match(answer.text, words);
  };
  await refused('{', /JSON/);
  await refused('{"action":"format_disk","worker":"all"}', /heap_snapshot, heap_histogram, cpu_profile, heap_profile, gc_trace, report, stack/);
  await refused('{"action":"stack","worker":"all","params":{"path":"../../x"}}', /params\.path: stack takes/);
  await refused('{"id":"../../x","action":"stack","worker":"all"}', /id: 1 to 128/);
  await refused('{"action":"stack","worker":"99999999"}', /1 is there/, 404);
  await refused(`{"pad":"${'x'.repeat(70000)}"}`, /too long/, 413);
  assert.strictEqual(await code('PUT', '/v1/commands', { headers: bearer }), 405);
  const counters = await running.counters();
  assert.ok(counters.commands_unauthorised >= 6 && counters.commands_refused >= 5);
  assert.deepStrictEqual(fs.readdirSync(running.dir).sort().filter((n) => n !== 'run' && n !== 'data'), [], 'nothing beside our directories');
  const text = JSON.stringify(await running.json('/status')) + JSON.stringify(await running.json('/config')) + running.stderr;
  assert.ok(!text.includes(TOKEN), 'P64 the token is nowhere');
});

test('P62 without a token nobody may command over the port', async (t) => {
  const port = await freePort();
  const { running } = await start(t, { PILLION_LISTEN: `127.0.0.1:${port}` });
  const answer = await ask(port, 'POST', '/v1/commands', { body: '{"action":"stack","worker":"all"}', headers: bearer });
  assert.strictEqual(answer.status, 403);
  assert.match(answer.json.error, /PILLION_TOKEN is not set/);
  assert.strictEqual((await running.json('/status')).port.state, 'listening');
});

test('a port that is taken is said, and the helper goes on', async (t) => {
  const server = net.createServer();
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  h.defer(t, () => new Promise((resolve) => server.close(resolve)));
  const { running } = await start(t, { PILLION_LISTEN: `127.0.0.1:${server.address().port}`, PILLION_TOKEN: TOKEN });
  const { port, warnings } = await running.json('/status');
  assert.strictEqual(port.state, 'failed');
  assert.match(port.error, /in use/);
  assert.ok(warnings.some((w) => /cannot listen/.test(w.message)));
});

test('P49 a blocked loop: its stack is there before anybody asks', async (t) => {
  const running = await h.startRun(t, [process.execPath, BUSY, 'block'], { env: { PILLION_LISTEN: 'none', PILLION_BLOCKED_AFTER: '1s', PILLION_FLUSH_INTERVAL: '1s' } });
  await running.waitReady();
  const job = await h.waitFor('the job of the rule', async () => (await running.json('/jobs')).jobs.find((j) => j.cause === 'rule' && j.state === 'done'), 60000);
  assert.strictEqual(job.action, 'stack');
  assert.match(fs.readFileSync(new URL(job.artifacts[0].url), 'utf8'), /blockForTheStack/);
  const event = await h.waitFor('its event', () => running.batches().records.find((r) => r.event === 'stack'));
  assert.match(JSON.stringify(event.stack), /blockForTheStack/);
});

test('P31 P64 the report of a fatal error is stored, without the environment', async (t) => {
  const running = await h.startHelper(t, { env: { PILLION_LISTEN: 'none' } });
  h.startNode(t, running, ['--max-old-space-size=40', BUSY, 'exhaust'], { env: { MY_SECRET: 'do-not-tell' } });
  const dir = path.join(running.data, 'artifacts');
  const find = () => fs.readdirSync(dir, { recursive: true }).filter((n) => /report-.*\.json$/.test(n));
  const [name] = await h.waitFor('the report', () => { const n = find(); return n.length > 0 && n; }, 60000);
  const text = fs.readFileSync(path.join(dir, name), 'utf8');
  assert.match(JSON.parse(text).header.event, /heap|memory/i);
  assert.ok(!text.includes('do-not-tell'));
  assert.deepStrictEqual(fs.readdirSync(running.runtime).filter((n) => n.startsWith('report.')), []);
});

test('P31 the report of the worker whose end ends the container is kept for the next helper', async (t) => {
  const running = await h.startRun(t, [process.execPath, '--max-old-space-size=40', BUSY, 'exhaust'], { env: { PILLION_LISTEN: 'none' } });
  await running.ended;
  const files = fs.readdirSync(running.data, { recursive: true }).filter((n) => /^(artifacts|outgoing)\/.*\.(json|bin)$/.test(n));
  assert.ok(files.some((n) => fs.readFileSync(path.join(running.data, n), 'utf8').includes('javascriptHeap')), files.join());
  assert.deepStrictEqual(fs.readdirSync(running.runtime).filter((n) => n.startsWith('report.')), []);
});
