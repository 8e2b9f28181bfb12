'use strict';
// The preload in every Node.js version: that no form of program notices it, what it measures, whom it says it is. The helper is
// tests/integration/lib/peer.js.

const assert = require('node:assert/strict');
const fs = require('node:fs');
const http = require('node:http');
const path = require('node:path');
const { switches, eachVersion, startPeer, startApp, runApp } = require('./lib/versions');
const { pause, tempDir, waitFor } = require('./lib/harness');

const get = (port, url, agent) => new Promise((resolve) => {
  http.get({ host: '127.0.0.1', port, path: url, agent: agent || false }, (rs) => {
    rs.resume();
    rs.on('end', () => resolve(rs.statusCode));
  }).on('error', () => resolve(0));
});

async function portOf(app) {
  await waitFor('the port', () => app.stdout.includes('\n'));
  return JSON.parse(app.stdout).port;
}

eachVersion('P07 every form of program starts, ends by itself with its own code and prints only its own output', async (t, node, major) => {
  const peer = await startPeer(t);
  const dir = tempDir(t);
  const file = (name, text) => {
    fs.writeFileSync(path.join(dir, name), text);
    return path.join(dir, name);
  };
  const deaf = path.join(dir, 'none');
  fs.mkdirSync(deaf);
  fs.copyFileSync(peer.preload, path.join(deaf, 'preload.js'));
  const permission = major === 20 ? '--experimental-permission' : '--permission';
  const forms = [
    { what: 'CommonJS', args: [file('a.js', 'setTimeout(() => { console.log("out"); process.exitCode = 4; }, 150)')], out: 'out\n', code: 4 },
    { what: 'CommonJS at once', args: [file('b.js', 'console.log("out")')], out: 'out\n' },
    { what: 'ES module', args: ['@esm.mjs'], env: { LIVE_MS: '150' }, out: 'esm esm.mjs\n', code: 5 },
    { what: 'threads', args: ['@threads.js'], env: { LIVE_MS: '150' }, out: 'thread true\nthread true\n', code: 6 },
    { what: '-e', args: ['-e', 'setTimeout(() => console.log("out"), 150)'], out: 'out\n' },
    { what: '-p', args: ['-p', '1 + 1'], out: '2\n' },
    { what: 'REPL', args: ['-i'], input: '1 + 1\n.exit 9\n', out: /2\n/, code: 0, env: { NODE_REPL_HISTORY: '' } },
    { what: 'fork', args: [file('f.js', 'if (process.send) process.send("out"); else require("child_process").fork(__filename).on("message", (m) => console.log(m))')], out: 'out\n' },
    { what: 'no code from strings', args: ['--disallow-code-generation-from-strings', file('c.js', 'setTimeout(() => console.log("out"), 150)')], out: 'out\n' },
    { what: 'frozen intrinsics', args: ['--frozen-intrinsics', file('g.js', 'setTimeout(() => console.log("out"), 150)')], out: 'out\n', err: /Warning/ },
    { what: 'all deprecations throw', args: ['--throw-deprecation', '--pending-deprecation', file('h.js', 'setTimeout(() => console.log("out"), 150)')], out: 'out\n' },
    { what: 'uncaught', args: ['@crash.js', 'throw'], env: { WAIT_MS: '150' }, err: /thrown on purpose/, code: 1 },
    { what: 'no socket', args: [file('i.js', 'setTimeout(() => console.log(process.listenerCount("exit"), process._getActiveHandles().length), 150)')],
      out: /^0 \d\n$/, env: { NODE_OPTIONS: `--require=${path.join(deaf, 'preload.js')}` } },
    { what: 'working directory that is gone', args: ['-e', 'require("fs").rmdirSync(process.cwd()); setTimeout(() => console.log("out"), 150)'], cwd: fs.mkdtempSync(path.join(dir, 'gone-')), out: 'out\n' },
  ];
  if (major >= 20) {
    forms.push({ what: '--test', args: ['--test', '--experimental-test-coverage', file('t.test.js', 'require("node:test")("one", async () => { await new Promise((f) => setTimeout(f, 150)); })')], out: /^(?=[^]*pass 1\n)(?=[^]*preload\.js +\| 100\.00)/ });
    // Node 20 does not let itself read what is only preloaded (22 does); there the directory must be allowed.
    const read = major === 20 ? [`--allow-fs-read=${peer.dir}/*`, `--allow-fs-read=${dir}/*`] : [];
    forms.push({ what: 'permission', args: [permission, ...read, file('p.js', 'setTimeout(() => console.log("out"), 150)')], out: 'out\n', err: major === 20 ? /Warning/ : undefined });
  }
  const one = async (form) => {
    const r = await runApp(t, node, form.args, peer, { env: form.env, cwd: form.cwd, input: form.input });
    assert.equal(r.signal, null, form.what);
    assert.equal(r.code, form.code || 0, `${form.what}: ${r.stderr}`);
    if (form.out instanceof RegExp) assert.match(r.stdout, form.out, form.what);
    else assert.equal(r.stdout, form.out || '', form.what);
    if (form.err) assert.match(r.stderr, form.err, form.what);
    else assert.equal(r.stderr, '', form.what);
  };
  for (let i = 0; i < forms.length; i += 3) await Promise.all(forms.slice(i, i + 3).map(one));
  assert.deepEqual(peer.errors, []);
  assert.ok(peer.workers.filter((w) => w.hello).length >= 8, 'the longer ones were seen');
  for (const w of peer.workers) if (w.hello) assert.ok(w.hello.start > 0 || w.hello.title.includes('p.js'), w.hello.title);
});

eachVersion('P12 what a serving process measures is true', async (t, node, major) => {
  const peer = await startPeer(t, { welcome: { interval_ms: 200 } });
  const app = startApp(t, node, ['@http.js'], peer);
  const port = await portOf(app);
  const worker = await peer.until('the worker', () => peer.of(app.pid).find((w) => w.samples.length > 1));
  assert.deepEqual(
    { ...worker.hello, start: 1, fields: 0 },
    { protocol: [1], pid: app.pid, start: 1, ppid: process.pid, thread: 0, role: 'process', title: worker.hello.title, node: worker.hello.node,
      next: 1, fields: 0 },
  );
  assert.match(worker.hello.title, /^node .*http\.js$/);
  assert.match(worker.hello.node, new RegExp(`^v${major}\\.`));
  assert.ok(worker.layout.n >= 120 && worker.layout.n <= 160, `${worker.layout.n} slots`);

  const agent = new http.Agent({ keepAlive: true, maxSockets: 4 });
  await Promise.all(Array.from({ length: 40 }, (_, i) => get(port, i % 4 ? '/after/30' : '/status/404', agent)));
  const seen = worker.samples.length;
  await peer.until('a sample after them', () => worker.samples.length > seen + 1);
  assert.ok(Object.keys(agent.freeSockets).length > 0);
  assert.equal(worker.last.get('pillion.http.server.active_requests'), 0, 'idle connections are no requests');
  const gone = http.get({ host: '127.0.0.1', port, path: '/never', agent: false }).on('error', () => {});
  await peer.until('a request in flight', () => worker.last.get('pillion.http.server.active_requests') === 1);
  gone.destroy();
  await peer.until('no request in flight, although its client went away', () => worker.last.get('pillion.http.server.active_requests') === 0);
  agent.destroy();
  const s = await peer.until('a garbage collection', () => {
    if (worker.last.count('v8js.gc.duration{v8js.gc.type=minor}') > 0) return worker.last;
    get(port, '/');
    return false;
  });
  assert.equal(s.get('pillion.http.server.requests{http.response.status_class=4xx}'), 10);
  assert.ok(s.get('pillion.http.server.requests{http.response.status_class=2xx}') >= 30);
  assert.ok(s.count('http.server.request.duration') >= 40);
  assert.ok(s.get('http.server.request.duration.sum') >= 30 * 0.025, 'thirty of 30 ms');
  assert.ok(s.get('v8js.gc.duration{v8js.gc.type=minor}.sum') > 0);
  assert.equal(s.get('v8js.resource.active{v8js.resource.type=TCPServerWrap}'), 1);
  assert.ok(s.get('pillion.resource.handles') >= 1);

  const status = fs.readFileSync(`/proc/${app.pid}/status`, 'utf8');
  const rss = Number(/VmRSS:\s+(\d+)/.exec(status)[1]) * 1024;
  assert.ok(Math.abs(s.get('process.memory.usage') - rss) < rss / 2, 'RSS as the kernel says');
  const used = [...worker.layout.slots.keys()].filter((k) => k.startsWith('v8js.memory.heap.used{')).reduce((sum, k) => sum + s.get(k), 0);
  assert.ok(Math.abs(used - s.get('pillion.memory.heap.used')) < 2e6, 'the spaces make up the heap');
  assert.ok(s.get('pillion.memory.heap.limit') > 1e7 && s.get('pillion.memory.array_buffers') > 0);
  const cpu = s.get('process.cpu.time{cpu.mode=user}') + s.get('process.cpu.time{cpu.mode=system}');
  assert.ok(cpu > 0.01 && cpu < 60);
  const clock = Number(process.hrtime.bigint()) / 1e9;
  assert.ok(Math.abs(clock - s.clock) < 20, `clock ${s.clock} is CLOCK_MONOTONIC ${clock}`);
  assert.ok(worker.samples.every((one, i) => one.number === i + 1 && (i === 0 || one.clock > worker.samples[i - 1].clock)), 'numbers and clock');
  const time = s.get('nodejs.eventloop.time{nodejs.eventloop.state=active}') + s.get('nodejs.eventloop.time{nodejs.eventloop.state=idle}');
  assert.ok(time > 0.2 && time < 120);
  assert.deepEqual(peer.errors, []);
});

eachVersion('P49 a blocked loop is in the first sample after it; the delay is measured under load and rests without', async (t, node) => {
  const peer = await startPeer(t, { welcome: { beat_ms: 100 } });
  const app = startApp(t, node, ['@block.js'], peer);
  const port = await portOf(app);
  const worker = await peer.until('the worker rests', () => peer.of(app.pid).find((w) => w.samples.length > 8
    && w.last.get('nodejs.eventloop.utilization') < 0.01));
  for (const kind of ['while', 'regexp', 'atomics', 'microtasks', 'exec']) {
    const before = worker.samples.length;
    assert.equal(await get(port, `/${kind}/400`), 200);
    const late = await peer.until(`the delay of ${kind}`, () => worker.samples.slice(before).find((s) => s.get('nodejs.eventloop.delay.max') > 0.15));
    assert.ok(late.get('nodejs.eventloop.delay.max') < 20 && late.get('nodejs.eventloop.delay.p99') > 0, kind);
  }
  await waitFor('the delay timer rests: 50 wake-ups a second less', async () => {
    const before = switches(app.pid);
    await pause(500);
    return switches(app.pid) - before < 20;
  });
  await peer.until('beats', () => worker.beats.length > 3);
  assert.ok(worker.beats.every((b, i) => i === 0 || b > worker.beats[i - 1]));
  assert.ok(worker.samples.slice(1).every((s) => s.get('nodejs.eventloop.delay.p99') >= 0), 'never unknown after the first');
  assert.deepEqual(peer.errors, []);
});

eachVersion('P08 what the application or a test library replaces does not matter, and ours does not disturb it', async (t, node) => {
  const peer = await startPeer(t);
  const file = path.join(peer.dir, 'rude.js');
  fs.writeFileSync(file, `
    'use strict';
    const fail = (what) => () => { throw new Error(what); };
    globalThis.setInterval = globalThis.clearInterval = globalThis.clearTimeout = fail('timer');
    const { setTimeout } = globalThis;
    globalThis.setTimeout = fail('setTimeout');
    globalThis.Date = class { static now() { return 0; } };
    globalThis.JSON = globalThis.Buffer = globalThis.Map = undefined;
    process.binding = process.hrtime = process.memoryUsage = process.cpuUsage = fail('process');
    require('net').Socket.prototype.connect = require('net').connect = fail('net');
    require('v8').getHeapStatistics = fail('v8');
    Object.defineProperty(require('perf_hooks').performance, 'now', { value: fail('now') });
    require('perf_hooks').monitorEventLoopDelay({ resolution: 10 }).enable();
    for (const o of [Object, Array, Function, Promise, Map, Error]) if (o) Object.freeze(o.prototype);
    const warnings = [];
    process.on('warning', (w) => warnings.push(w.message));
    setTimeout(() => {
      // As many listeners as Node lets pass without a warning.
      for (let i = 0; i < 10; i++) process.on('exit', () => {});
      setTimeout(() => {
        process._rawDebug(warnings.length, process.listenerCount('exit'), process.report && process.report.directory !== undefined);
        process.exit(11);
      }, 300);
    }, 600);`);
  const r = await runApp(t, node, [file], peer);
  assert.equal(r.stderr, '0 10 true\n');
  assert.deepEqual([r.code, r.stdout], [11, '']);
  const [worker] = peer.of(r.pid);
  assert.ok(worker.samples.length >= 3, `${worker.samples.length} samples`);
  assert.ok(worker.last.get('process.memory.usage') > 1e6 && worker.last.get('process.cpu.time{cpu.mode=user}') > 0);
  assert.deepEqual(peer.errors, []);
});

eachVersion('P31 a process tells its own end and the ends of its children', async (t, node) => {
  const peer = await startPeer(t);
  const throws = startApp(t, node, ['@crash.js', 'throw'], peer, { env: { WAIT_MS: '700' } });
  const rejects = startApp(t, node, ['@crash.js', 'reject'], peer, { env: { WAIT_MS: '700' } });
  const of = (app) => peer.until('its end', () => peer.events.find((e) => e.worker.hello.pid === app.pid && e.event === 'exit'));
  let e = await of(throws);
  assert.deepEqual([e.code, e.reason], [1, 'uncaughtException']);
  assert.match(e.message, /^thrown on purpose/);
  e = await of(rejects);
  assert.deepEqual([e.code, e.reason, e.message], [1, 'unhandledRejection', 'rejected on purpose']);

  const app = startApp(t, node, ['@cluster.js'], peer);
  const port = await portOf(app);
  await peer.until('a primary and two workers', () => peer.workers.filter((w) => w.hello && w.hello.role === 'worker' && w.samples.length > 1).length === 2);
  await peer.until('the primary to know itself', () => peer.of(app.pid).some((w) => w.hello.role === 'primary')
    || peer.events.some((x) => x.event === 'role' && x.role === 'primary' && x.worker.hello.pid === app.pid));
  const workers = peer.workers.filter((w) => w.hello && w.hello.role === 'worker');
  assert.ok(workers.every((w) => w.hello.ppid === app.pid));
  await waitFor('the primary to have seen its workers', () => peer.of(app.pid).some((w) => w.samples.length > 2));
  await get(port, '/end/3');
  const child = await peer.until('the child that ended', () => peer.events.find((x) => x.event === 'child_exit' && x.code === 3));
  const own = await peer.until('the exit of the worker itself', () => peer.events.find((x) => x.event === 'exit' && x.code === 3));
  assert.equal(own.worker.hello.pid, child.pid);
  const other = workers.find((w) => w.hello.pid !== child.pid);
  process.kill(other.hello.pid, 'SIGKILL');
  await peer.until('the child that was killed', () => peer.events.find((x) => x.event === 'child_exit' && x.pid === other.hello.pid && x.signal === 'SIGKILL'));
  assert.deepEqual(peer.errors, []);
});

eachVersion('P07 threads are streams of their own, and the loader hooks\' thread is none', async (t, node) => {
  const peer = await startPeer(t);
  const app = startApp(t, node, ['@threads.js'], peer, { env: { LIVE_MS: '900' } });
  const threads = await peer.until('two threads with samples', () => {
    const found = peer.of(app.pid).filter((w) => w.hello.thread > 0 && w.samples.length > 2);
    return found.length === 2 && found;
  });
  assert.notEqual(threads[0].hello.thread, threads[1].hello.thread);
  for (const w of threads) {
    assert.equal(w.hello.role, 'thread');
    assert.ok(Number.isNaN(w.last.get('process.memory.usage')), 'a thread has no resident set of its own');
    assert.ok(w.last.get('pillion.memory.heap.used') > 1e6);
  }
  assert.deepEqual(await app.ended, { code: 6, signal: null });

  fs.writeFileSync(path.join(peer.dir, 'hooks.mjs'), 'export async function load(url, context, next) { return next(url, context); }');
  fs.writeFileSync(path.join(peer.dir, 'hooked.mjs'), `import { register } from 'node:module';
    if (register) register('./hooks.mjs', import.meta.url);
    await import('node:path');
    setTimeout(() => {}, 500);`);
  const hooked = await runApp(t, node, ['--no-deprecation', path.join(peer.dir, 'hooked.mjs')], peer);
  assert.deepEqual([hooked.code, hooked.stdout, hooked.stderr], [0, '', '']);
  assert.deepEqual(peer.of(hooked.pid).map((w) => w.hello.thread), [0]);
  assert.deepEqual(peer.errors, []);
});

eachVersion('P31 the report of a fatal error goes beside the socket, the application\'s own ones where it wants them', async (t, node, major) => {
  const peer = await startPeer(t);
  const r = await runApp(t, node, ['--max-old-space-size=20', '@oom.js'], peer, { env: { WAIT_MS: '500' } });
  assert.equal(r.signal, 'SIGABRT');
  const reports = fs.readdirSync(peer.dir).filter((n) => /^report\..*\.json$/.test(n));
  if (major === 18) assert.deepEqual(reports, [], 'not there: it would ask the name server');
  else assert.equal(JSON.parse(fs.readFileSync(path.join(peer.dir, reports[0]))).header.processId, r.pid);

  const cwd = tempDir(t);
  const own = await runApp(t, node, ['-e', 'setTimeout(() => console.log(process.report.writeReport(), process.report.getReport().environmentVariables !== undefined), 500)'], peer, { cwd });
  const [name, environment] = own.stdout.trim().split(' ');
  assert.ok(fs.existsSync(path.join(cwd, name)), 'in its working directory');
  assert.equal(environment, 'true');
});
