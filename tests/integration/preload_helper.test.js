'use strict';
// The preload against a helper that is killed, hangs, lies, is slow or is not there. The helper is tests/integration/lib/peer.js.

const assert = require('node:assert/strict');
const { execFileSync } = require('node:child_process');
const fs = require('node:fs');
const os = require('node:os');
const path = require('node:path');
const { test } = require('node:test');
const { Peer, frame, ackFrame } = require('./lib/peer');
const { versions, switches, eachVersion, startPeer, startApp, runApp } = require('./lib/versions');
const { pause, tempDir, waitFor } = require('./lib/harness');

const NODE = process.execPath;
const LIVE = 'setInterval(() => {}, 1e6)';
const descriptors = (pid) => fs.readdirSync(`/proc/${pid}/fd`).length;
const numbers = (list) => [...new Set(list.map((s) => s.number))].sort((a, b) => a - b);
const gapless = (list) => numbers(list).every((n, i) => n === i + 1);

eachVersion('P01 a helper that is killed again and again loses no sample, and the worker comes back by itself', async (t, node) => {
  const peer = await startPeer(t, { ack: false });
  const app = startApp(t, node, ['-e', LIVE], peer);
  let next = 0;
  for (let i = 0; i < 3; i++) {
    await peer.until('samples', () => peer.of(app.pid).length > i && peer.of(app.pid)[i].samples.length > 3);
    const worker = peer.of(app.pid)[i];
    assert.ok(worker.hello.next <= next + 1, 'it begins with the oldest that is not acknowledged');
    assert.equal(worker.samples[0].number, worker.hello.next);
    next = worker.samples[2].number;
    worker.ack(next);
    await pause(30);
    await peer.stop();
    await pause(250);
    await peer.listen();
  }
  await peer.until('it is back', () => peer.of(app.pid).length > 3 && peer.of(app.pid)[3].samples.length > 3);
  assert.ok(gapless(peer.samples), numbers(peer.samples).join(' '));
  const clocks = new Map();
  for (const s of peer.samples) {
    assert.equal(clocks.get(s.number) ?? s.clock, s.clock, 'a repeat is the same sample');
    clocks.set(s.number, s.clock);
  }
  assert.deepEqual([app.exit, app.stdout, app.stderr, peer.errors], [null, '', '', []]);
});

test('P06 a worker holds so much at most, drops its oldest samples, counts and tells them', async (t) => {
  const hold = 262144 / 4;
  const peer = await startPeer(t, { ack: false, welcome: { hold_bytes: hold, interval_ms: 100 } });
  const app = startApp(t, NODE, ['-e', LIVE], peer);
  const worker = await peer.until('samples', () => peer.of(app.pid).find((w) => w.last));
  const bytes = 24 + 8 * worker.layout.n;
  const event = await peer.until('the first that was dropped', () => peer.events.find((e) => e.event === 'dropped'));
  assert.ok(event.samples >= 1);
  const s = await peer.until('the count in a sample', () => worker.last.get('pillion.worker.samples.dropped') > 2 && worker.last);
  assert.ok(s.get('pillion.worker.held_bytes') <= hold && s.get('pillion.worker.held_bytes') > hold / 4);
  worker.ack(s.number);
  await peer.until('room again', () => worker.last.get('pillion.worker.held_bytes') < 4 * bytes);
  // After a reconnect it sends only what it still has, and says where that begins.
  worker.close();
  const again = await peer.until('a second connection', () => peer.of(app.pid).find((w) => w !== worker && w.samples.length > 2));
  assert.equal(again.samples[0].number, again.hello.next);
  assert.ok(again.hello.next > s.number);
  assert.deepEqual(peer.errors, []);
});

eachVersion('P06 a helper that does not read holds nobody up: the worker goes on, stays within its bounds and ends when it wants to', async (t, node) => {
  let deaf = true;
  const peer = await startPeer(t, { behave(w) { w.welcome(); if (deaf) w.socket.pause(); } });
  // As if for a long time: more than the socket takes, at once.
  const text = `const { monitorEventLoopDelay } = require('perf_hooks'); const d = monitorEventLoopDelay({ resolution: 10 }); d.enable();
    setTimeout(() => { console.log(d.max / 1e6 < 1000, process.memoryUsage().external < 8e6); process.exitCode = 3; }, 4500);`;
  const fast = path.join(peer.dir, 'fast.js');
  // 30 samples a second and more: the sampler takes the interval that it finds.
  fs.writeFileSync(fast, 'const s = globalThis.setInterval; globalThis.setInterval = (f, ms) => s(f, ms === 100 ? 8 : ms);');
  const app = startApp(t, node, ['-e', text], peer, { options: `--require=${fast}` });
  await peer.until('it gives up a connection that takes nothing', () => peer.of(app.pid).length > 1);
  deaf = false;
  await peer.stop();
  await peer.listen();
  const worker = await peer.until('what it kept', () => peer.of(app.pid).find((w) => w.samples.length > 100));
  assert.ok(worker.samples[0].number > 1 || worker.samples.length > 100);
  assert.ok(worker.last.get('pillion.worker.held_bytes') <= 262144);
  const end = await app.ended;
  assert.deepEqual([end.code, app.stdout, app.stderr], [3, 'true true\n', '']);
}, 5);

test('P07 a process ends by itself while its helper hangs, before and after the welcome', async (t) => {
  for (const behave of [() => {}, (w) => { w.welcome(); w.socket.pause(); }]) {
    const peer = await startPeer(t, { behave });
    const r = await runApp(t, NODE, ['-e', 'setTimeout(() => { process.exitCode = 2; }, 1500)'], peer);
    assert.deepEqual([r.code, r.signal, r.stdout, r.stderr], [2, null, '', '']);
    await peer.stop();
  }
});

const huge = Buffer.alloc(8);
huge.writeUInt32LE(0x80000000, 0);
huge[4] = 0x81;
const random = Buffer.from(Array.from({ length: 5000 }, (_, i) => (i * 7919) % 251));
const WELCOME = { protocol: 1, interval_ms: 100, beat_ms: 0, hold_bytes: 262144, stored: 0 };
const hostile = {
  'a length of 2^31': (w) => w.send(huge),
  'a length of 0': (w) => w.send(Buffer.alloc(8)),
  garbage: (w) => w.send(random),
  'no JSON': (w) => w.send(frame(0x81, Buffer.from('{"protocol":1,'))),
  'JSON that is no object': (w) => w.send(frame(0x81, Buffer.from('null'))),
  'deep JSON': (w) => w.send(frame(0x81, Buffer.from('['.repeat(4000)))),
  'a long welcome': (w) => w.send(frame(0x81, Buffer.alloc(60000, 0x20))),
  'another protocol': (w) => w.send(frame(0x81, { ...WELCOME, protocol: 9 })),
  'an ack before the welcome': (w) => w.send(ackFrame(1)),
  'an ack of the future': (w) => { w.welcome(); w.send(ackFrame(1000)); },
  'an ack of a wrong length': (w) => { w.welcome(); w.send(frame(0x82, Buffer.alloc(4))); },
  'a second welcome': (w) => { w.welcome(); w.welcome(); },
  'a flood': (w) => { w.welcome(); w.send(Buffer.concat(Array.from({ length: 20 }, () => frame(0x90, Buffer.alloc(60000))))); },
  'a close': (w) => w.close(),
  'a half-close': (w) => w.socket.end(),
};

test('P06 P61 a helper that lies is left, and tried again at growing intervals', { concurrency: 3 }, async (t) => {
  await Promise.all(Object.entries(hostile).map(([name, behave]) => t.test(name, async (one) => {
    const peer = await startPeer(one, { behave });
    const app = startApp(one, NODE, ['-e', LIVE], peer);
    await peer.until('a third try', () => peer.workers.length >= 3);
    assert.ok(peer.workers.filter((w) => w.open).length <= 1);
    peer.behave = (w) => w.welcome();
    await peer.until('peace', () => peer.workers.some((w) => w.samples.length > 2));
    assert.deepEqual([app.exit, app.stdout, app.stderr], [null, '', '']);
    assert.ok(descriptors(app.pid) < 40);
  })));
});

test('P61 strange values in a welcome are bounded', { concurrency: 3 }, async (t) => {
  const strange = [{ interval_ms: -5 }, { interval_ms: 1e-9, hold_bytes: 1e18 }, { hold_bytes: 0 }, { hold_bytes: 'x', beat_ms: {} },
    { beat_ms: 1e-3 }, { stored: -1 }, { stored: 41 }, { stored: 1e300 }, { interval_ms: null, stored: 'x' }];
  await Promise.all(strange.map((values) => t.test(JSON.stringify(values), async (one) => {
    const peer = await startPeer(one, { welcome: values });
    const app = startApp(one, NODE, ['-e', LIVE], peer);
    const w = await peer.until('samples', () => peer.workers.find((x) => x.samples.length > 1));
    if (values.stored === 41) assert.equal(w.samples[0].number, 42, 'goes on behind what is stored');
    assert.deepEqual([app.exit, app.stderr, peer.errors], [null, '', []]);
  })));
});

test('P06 a helper that sends a byte at a time and frames of unknown types is understood', async (t) => {
  const peer = await startPeer(t, {
    behave(w) {
      w.welcomed = true;
      const bytes = Buffer.concat([frame(0x90, Buffer.alloc(300, 7)), frame(0x81, WELCOME)]);
      for (let i = 0; i < bytes.length; i++) setTimeout(() => w.send(bytes.subarray(i, i + 1)), i);
    },
  });
  startApp(t, NODE, ['-e', LIVE], peer);
  await peer.until('samples', () => peer.samples.length > 2);
  assert.deepEqual(peer.errors, []);
});

test('P71 "later" is obeyed, "refused" is the end of it', async (t) => {
  const times = [];
  const peer = await startPeer(t, {
    behave(w) {
      times.push(performance.now());
      if (times.length === 1) w.send(frame(0x83, { after_ms: 1500, reason: 'full' }));
      else if (times.length === 2) w.welcome();
      else w.send(frame(0x84, { reason: 'not wanted' }));
    },
  });
  const text = `setInterval(() => console.log(process.listenerCount('exit') + process.listenerCount('uncaughtExceptionMonitor'),
    require('diagnostics_channel').hasSubscribers('http.server.request.start')), 200)`;
  const app = startApp(t, NODE, ['-e', text], peer);
  await peer.until('samples', () => peer.samples.length > 2);
  assert.ok(times[1] - times[0] >= 1400, `${times[1] - times[0]} ms`);
  await waitFor('our listeners', () => app.stdout.endsWith('2 true\n'));
  peer.workers.find((w) => w.open).close();
  await waitFor('our listeners are gone', () => app.stdout.endsWith('0 false\n'));
  assert.equal(times.length, 3);
  await peer.stop();
  await peer.listen();
  const connections = peer.workers.length;
  await pause(2500);
  assert.equal(peer.workers.length, connections, 'it does not come back');
});

test('P09 10,000 reconnects leave nothing behind', async (t) => {
  // One in ten is closed after the welcome, the others at once.
  const peer = await startPeer(t, { behave: (w) => { w.welcome(); w.close(); }, accept: (socket, n) => n % 10 === 0 || socket.destroy() });
  const fast = path.join(peer.dir, 'fast.js');
  fs.writeFileSync(fast, `const s = globalThis.setTimeout;
    globalThis.setTimeout = (f, ms) => (ms > 2000 ? s(f, ms) : { unref() {}, at: setImmediate(f) });`);
  const app = startApp(t, NODE, ['--expose-gc', '--max-semi-space-size=1', '-e',
    'let n = 0; setInterval(() => { gc(); console.log(process.memoryUsage().heapUsed, process.getActiveResourcesInfo().length); }, 200)'], peer, { options: `--require=${fast}` });
  const look = async (n) => {
    await peer.until(`${n} connections`, () => peer.accepted >= n, 60000);
    const before = app.stdout.length;
    await waitFor('a line', () => app.stdout.slice(before).split('\n').length > 3);
    const [heap, active] = app.stdout.trim().split('\n').pop().split(' ').map(Number);
    return { heap, active, fds: descriptors(app.pid), rss: Number(/VmRSS:\s+(\d+)/.exec(fs.readFileSync(`/proc/${app.pid}/status`, 'utf8'))[1]) };
  };
  const early = await look(2000);
  const late = await look(10000);
  t.diagnostic(`after 2,000: ${JSON.stringify(early)}, after 10,000: ${JSON.stringify(late)}`);
  assert.ok(late.fds <= early.fds + 1 && late.active <= early.active + 1);
  assert.ok(late.heap < early.heap + 500e3, 'heap');
  assert.ok(late.rss < early.rss + 6000, 'resident set');
});

test('P12 an idle worker gains 3 wake-ups a second at most', async (t) => {
  const have = versions.filter((v) => v.node);
  if (have.length === 0) return t.skip('no Node.js in the cache (run tests/nodes.js)');
  const peer = await startPeer(t, { welcome: { interval_ms: 1000 }, ack: 10 });
  const apps = have.map((v) => startApp(t, v.node, ['-e', LIVE], peer));
  const least = () => Math.min(...apps.map((a) => Math.max(0, ...peer.of(a.pid).map((w) => w.samples.length))));
  // Five windows, and the calmest one counts: V8 tidies up after the start, which is a hundred wake-ups of all its threads, and does
  // so whenever a busy machine lets it.
  const windows = [];
  for (let i = 0; i < 5; i++) {
    const from = least();
    const begun = performance.now();
    const before = apps.map((a) => switches(a.pid));
    await peer.until('three samples more', () => least() >= from + 3, 40000);
    windows.push(apps.map((a, k) => ((switches(a.pid) - before[k]) * 1000) / (performance.now() - begun)));
  }
  const rates = apps.map((a, k) => windows.map((w) => w[k]).sort((x, y) => x - y)[0]);
  t.diagnostic(have.map((v, i) => `Node ${v.major}: ${rates[i].toFixed(2)}/s`).join(', '));
  for (const rate of rates) assert.ok(rate <= 3, `${rate} wake-ups a second`);
  return undefined;
});

test('P71 300 streams are back after a restart of the helper', async (t) => {
  // 300 preloads in one process: 300 processes are more than a small machine has room for.
  const peer = await startPeer(t);
  const text = `const fs = require('fs'), Module = require('module'), wrap = Module.wrap(fs.readFileSync(${JSON.stringify(peer.preload)}, 'utf8'));
    const fn = require('vm').runInThisContext(wrap);
    process.setMaxListeners(0);
    for (let i = 0; i < 299; i++) fn.call({}, {}, require, {}, ${JSON.stringify(peer.preload)}, ${JSON.stringify(peer.dir)});
    ${LIVE}`;
  startApp(t, NODE, ['-e', text], peer);
  const open = () => peer.workers.filter((w) => w.open && w.samples.length > 0).length;
  await peer.until('300 streams', () => open() === 300, 40000);
  await peer.stop();
  peer.workers.length = 0;
  await pause(1000);
  const begun = performance.now();
  await peer.listen();
  await peer.until('300 streams again', () => open() === 300, 40000);
  t.diagnostic(`all back after ${Math.round(performance.now() - begun)} ms`);
  assert.deepEqual(peer.errors, []);
});

test('P07 npm, npx, yarn, pnpm and corepack are left alone, an application of such a name is not', async (t) => {
  const peer = await startPeer(t);
  const dir = tempDir(t);
  const make = (file, name) => {
    const full = path.join(dir, file);
    fs.mkdirSync(path.dirname(full), { recursive: true });
    fs.writeFileSync(full, 'setTimeout(() => console.log("out"), 700)');
    if (name) fs.writeFileSync(path.join(path.dirname(path.dirname(full)), 'package.json'), JSON.stringify({ name }));
    return full;
  };
  const cases = [
    [make('lib/node_modules/npm/bin/npm-cli.js', 'npm'), false], [make('lib/node_modules/npm/bin/npx-cli.js'), false],
    [make('opt/yarn-v1.22.22/bin/yarn.js', 'yarn'), false], [make('x/pnpm/bin/pnpm.cjs', 'pnpm'), false],
    [make('x/corepack/dist/pnpm.js', 'corepack'), false], [make('p/.yarn/releases/yarn-4.5.0.cjs'), false],
    [make('shop/bin/yarn.js', 'shop'), true], [make('shop/bin/npm.js'), true], [make('none/yarn-report.js'), true],
  ];
  fs.mkdirSync(path.join(dir, 'bin'));
  fs.symlinkSync('../lib/node_modules/npm/bin/npm-cli.js', path.join(dir, 'bin/npm'));
  cases.push([path.join(dir, 'bin/npm'), false]);
  await Promise.all(cases.map(async ([file, seen]) => {
    const r = await runApp(t, NODE, [file], peer);
    assert.deepEqual([r.code, r.stdout, r.stderr], [0, 'out\n', '']);
    assert.equal(peer.of(r.pid).length, seen ? 1 : 0, file);
  }));

  // And the real one, as far as it is here.
  let npm;
  try {
    npm = fs.realpathSync(execFileSync('sh', ['-c', 'command -v npm'], { encoding: 'utf8' }).trim());
  } catch {
    return t.diagnostic('npm is not installed');
  }
  if (!npm.endsWith('.js')) return t.diagnostic(`npm is not a script: ${npm}`);
  const before = peer.workers.length;
  const r = await runApp(t, NODE, [npm, '--version'], peer, { env: { HOME: dir, npm_config_cache: os.tmpdir() } });
  assert.match(r.stdout, /^\d+\./);
  assert.equal(peer.workers.length, before);
  return undefined;
});

test('P07 a Node.js that is too old, Bun and Electron leave it at that', async (t) => {
  const peer = await startPeer(t);
  for (const [name, value] of [['node', '16.20.0'], ['bun', '1.2.0'], ['electron', '30.0.0']]) {
    const lie = path.join(peer.dir, `${name}.js`);
    fs.writeFileSync(lie, `Object.defineProperty(process, 'versions', { value: { ...process.versions, ${name}: '${value}' } })`);
    const r = await runApp(t, NODE, ['-e', 'setTimeout(() => {}, 400)'], peer, { options: `--require=${lie}` });
    assert.deepEqual([r.code, r.stderr], [0, '']);
  }
  assert.equal(peer.workers.length, 0);
  // Nothing in it that the parser of Node 10 would refuse.
  const text = fs.readFileSync(peer.preload, 'utf8').replace(/\/\*[^]*?\*\/|\/\/.*$/gm, '').replace(/`(?:[^`\\]|\\.)*`|'(?:[^'\\]|\\.)*'/g, '""');
  assert.doesNotMatch(text, /\?\.[^0-9]|\?\?|\|\|=|&&=|catch \{|#[a-z]+\b/);
});

test('P08 the socket path is never longer than the kernel takes', async (t) => {
  const dir = path.join(tempDir(t), 'x'.repeat(120));
  fs.mkdirSync(dir);
  const peer = new Peer(dir);
  const r = await runApp(t, NODE, ['-e', 'setTimeout(() => {}, 300)'], peer);
  assert.deepEqual([r.code, r.stderr], [0, '']);
});
