'use strict';
// `pillion run --workers`: start, restart, reload, stop.

const { test } = require('node:test');
const assert = require('node:assert');
const fs = require('node:fs');
const http = require('node:http');
const net = require('node:net');
const path = require('node:path');
const h = require('./lib/harness');
const { childrenOf, helperOf, processes } = require('./lib/init');
const nodes = require('../nodes');

const APP = path.join(h.APPS, 'worker.js');

const freePort = () => new Promise((resolve) => {
  const s = net.createServer().listen(0, () => {
    const { port } = s.address();
    s.close(() => resolve(port));
  });
});

function get(port, url = '/', agent = false) {
  return new Promise((resolve, reject) => {
    http.get({ port, path: url, agent }, (r) => {
      let text = '';
      r.on('data', (d) => { text += d; });
      r.on('end', () => resolve(text));
      r.on('error', reject);
    }).on('error', reject);
  });
}

const lines = (r, word) => r.stdout.split('\n').filter((l) => l.startsWith(`${word} `));
const started = (r) => lines(r, 'worker').map((l) => JSON.parse(l.slice(7)));
const masterOf = (r) => childrenOf(r.pid).map((p) => p.pid).find((p) => p !== helperOf(r.pid));

async function startWorkers(t, n, { args = [], env = {}, node = process.execPath, ready = true, script = APP } = {}) {
  const port = await freePort();
  const r = h.start(t, ['run', '--workers', String(n), script, String(port), ...args], { env: { PATH: `${path.dirname(node)}:${process.env.PATH}`, ...env } });
  r.port = port;
  if (ready) {
    await h.waitFor('the workers listen', async () => started(r).length >= n && (await get(port)));
  }
  return r;
}

const available = (nodes.list ? nodes.list() : []).filter((n) => n.node);
if (!available.some((n) => n.version === process.version)) available.unshift({ version: process.version, node: process.execPath });

for (const { version, node } of available) {
  test(`N workers, a master, one helper; reload under load without a failed request; orderly stop: Node ${version}`, async (t) => {
    const r = await startWorkers(t, 2, { node, args: ['graceful'] });
    const first = started(r);
    assert.deepStrictEqual(first[0].argv, [fs.realpathSync(node), APP, String(r.port), 'graceful']);
    assert.deepStrictEqual(first[0].execArgv, []);
    const master = masterOf(r);
    assert.deepStrictEqual(childrenOf(master).map((p) => p.pid).sort(), first.map((w) => w.pid).sort());
    assert.strictEqual(childrenOf(r.pid).length, 2, 'master and helper');

    let on = true;
    const errors = [];
    const seen = new Set();
    const agent = new http.Agent({ keepAlive: true, maxSockets: 8 });
    const client = async (a, url) => {
      while (on) {
        await get(r.port, url, a).then((pid) => seen.add(Number(pid)), (e) => errors.push(e.code || e.message));
        await h.pause(2);
      }
    };
    const load = [client(agent, '/'), client(agent, '/'), client(agent, '/slow'), client(false, '/'), client(false, '/slow')];
    await h.pause(300);
    process.kill(r.pid, 'SIGHUP');
    await h.waitFor('the reload is over', () => r.stderr.includes('reload is over'), 60000);
    await h.pause(300);
    on = false;
    await Promise.all(load);
    agent.destroy();
    assert.deepStrictEqual(errors, []);
    const second = started(r).slice(2);
    assert.strictEqual(second.length, 2);
    assert.deepStrictEqual(childrenOf(master).map((p) => p.pid).sort(), second.map((w) => w.pid).sort());
    assert.ok(second.every((w) => seen.has(w.pid)), 'the new ones have answered');
    assert.strictEqual(masterOf(r), master);

    const last = get(r.port, '/slow');
    await h.pause(300);
    process.kill(r.pid, 'SIGTERM');
    assert.match(await last, /^\d+$/, 'a request under way at the stop is answered');
    assert.deepStrictEqual(await r.ended, { code: 0, signal: null }, r.stderr);
    for (const w of [...first, ...second]) {
      assert.strictEqual(lines(r, 'term').filter((l) => l === `term ${w.pid}`).length, 1, 'told once');
      assert.strictEqual(lines(r, 'exit').filter((l) => l === `exit ${w.pid} 0`).length, 1, 'ended by itself');
    }
    assert.doesNotMatch(r.stderr, /killed/);
  });
}

test('a worker that dies is replaced, with back-off when it dies young', async (t) => {
  const r = await startWorkers(t, 2);
  await get(r.port, '/die').catch(() => {});
  await h.waitFor('a third worker', () => started(r).length === 3);
  assert.match(r.stderr, /ended with code 3; a new one in 1 s/);
  process.kill(started(r)[2].pid, 'SIGKILL');
  await h.waitFor('a fourth worker', () => started(r).length === 4);
  assert.match(r.stderr, /was ended by SIGKILL; a new one in 2 s/);
  assert.match(await get(r.port), /^\d+$/);
});

test('a script that cannot start: given up with its exit code and a line', async (t) => {
  const dir = h.tempDir(t);
  fs.writeFileSync(path.join(dir, 'bad.mjs'), 'process.exit(33);');
  const r = h.start(t, ['run', '--workers', '6', 'bad.mjs'], { dir });
  assert.deepStrictEqual(await r.ended, { code: 33, signal: null });
  assert.match(r.stderr, /10 workers died and none ever got ready; the last one ended with code 33\. Giving up/);
  const none = h.start(t, ['run', '--workers', '2', 'none.js'], { dir });
  assert.deepStrictEqual(await none.ended, { code: 1, signal: null });
  assert.match(none.stderr, /cannot find none\.js/);
});

test('a reload whose new worker dies leaves the old ones at work', async (t) => {
  const file = path.join(h.tempDir(t), 'break');
  const r = await startWorkers(t, 2, { env: { BREAK_FILE: file } });
  const before = childrenOf(masterOf(r)).map((p) => p.pid).sort();
  fs.writeFileSync(file, '');
  process.kill(r.pid, 'SIGHUP');
  await h.waitFor('it is given up', () => r.stderr.includes('the reload is given up'));
  assert.deepStrictEqual(childrenOf(masterOf(r)).map((p) => p.pid).sort(), before);
  fs.rmSync(file);
  process.kill(r.pid, 'SIGHUP');
  await h.waitFor('the next one works', () => started(r).length === 5 && r.stderr.split('reload is over').length === 3);
  assert.match(await get(r.port), /^\d+$/);
});

test('ES modules, scripts that never listen, auto', async (t) => {
  const dir = h.tempDir(t);
  fs.writeFileSync(path.join(dir, 'quiet.mjs'), "console.log('worker ' + JSON.stringify({ pid: process.pid, argv: process.argv.slice(2) })); setInterval(() => {}, 1e6);");
  const r = h.start(t, ['run', '--workers', 'auto', 'quiet.mjs', '--workers', '-x'], { dir });
  await h.waitFor('a worker', () => started(r).length > 0);
  assert.deepStrictEqual(started(r)[0].argv, ['--workers', '-x']);
  await h.waitFor('all of them', () => started(r).length === childrenOf(masterOf(r)).length);
  const n = started(r).length;
  assert.ok(n >= 1 && n <= require('node:os').cpus().length);
  await h.pause(1200);
  process.kill(r.pid, 'SIGHUP');
  await h.waitFor('the reload is over', () => r.stderr.includes('reload is over'));
  assert.strictEqual(started(r).length, 2 * n);
  process.kill(r.pid, 'SIGTERM');
  assert.deepStrictEqual(await r.ended, { code: 0, signal: null });
});

test('a worker that is stuck is killed within the stop timeout; nobody is left', async (t) => {
  const dir = h.tempDir(t);
  fs.writeFileSync(path.join(dir, 'stuck.js'), "console.log('worker ' + JSON.stringify({ pid: process.pid })); setTimeout(() => { for (;;); }, 100);");
  const r = h.start(t, ['run', '--workers', '1', 'stuck.js'], { dir, env: { PILLION_STOP_TIMEOUT: '4s' } });
  await h.waitFor('the worker', () => started(r).length === 1);
  await h.pause(1500);
  const begin = Date.now();
  process.kill(r.pid, 'SIGTERM');
  assert.deepStrictEqual(await r.ended, { code: 0, signal: null });
  assert.ok(Date.now() - begin < 4000);
  assert.ok(!processes().some((p) => p.pid === started(r)[0].pid));
});

test('without a usable runtime directory the workers run all the same', async (t) => {
  const dir = h.tempDir(t);
  fs.symlinkSync(dir, path.join(dir, 'run'));
  const port = await freePort();
  const r = h.start(t, ['run', '--workers', '2', APP, String(port)], { dir });
  await h.waitFor('the workers', async () => started(r).length === 2 && (await get(port)));
  assert.deepStrictEqual(started(r)[0].execArgv, []);
  process.kill(r.pid, 'SIGTERM');
  assert.deepStrictEqual(await r.ended, { code: 0, signal: null });
});
