// Heap snapshots from a forked child (collectors/node/fork), on each Node.js: they are whole, the worker is as before, and what goes
// wrong is said. FORK_ROUNDS=20 is the long run: so many forks for each state of the worker.
'use strict';

const assert = require('node:assert');
const { execFileSync, spawnSync } = require('node:child_process');
const fs = require('node:fs');
const http = require('node:http');
const net = require('node:net');
const path = require('node:path');
const { test } = require('node:test');
const { BIN, ROOT, cleanEnv, defer, tempDir, waitFor } = require('./lib/harness');
const { ADDON, SOURCE, classesOf, startForker } = require('./lib/forker');
const { eachVersion, versions } = require('./lib/versions');

const ROUNDS = Number(process.env.FORK_ROUNDS) || 1;
const OBJECTS = 5000;
const LONG_MS = 300000; // for a child at the lowest priority on a busy machine
const ROOT_ONLY = process.getuid() === 0 ? false : 'only root can become another user';
const newest = versions.filter((v) => v.node).pop();
const native = fs.existsSync(ADDON) && fs.statSync(ADDON).size > 0;

const alive = (pid) => fs.existsSync(`/proc/${pid}`);
const childrenOf = (pid) => fs.readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').trim().split(' ').filter(Boolean).map(Number);
const heapDiff = (...args) => spawnSync(BIN, ['heap-diff', ...args], { encoding: 'utf8', env: cleanEnv(), maxBuffer: 64 << 20 });

function fifo(t) {
  const file = path.join(tempDir(t), 'fifo');
  execFileSync('mkfifo', [file]);
  return file;
}

// Somebody who holds the FIFO open for reading and reads nothing.
function holdFifo(t) {
  const file = fifo(t);
  const fd = fs.openSync(file, fs.constants.O_RDONLY | fs.constants.O_NONBLOCK);
  const reader = { file, close: () => { fs.closeSync(fd); reader.close = () => {}; } };
  defer(t, () => reader.close());
  return reader;
}

// The child of a snapshot whose reader does not read: it lives until it is ended.
async function stuck(t, app, options = {}) {
  const reader = holdFifo(t);
  const result = app.ask('snapshot', { file: reader.file, options });
  result.catch(() => {});
  const child = await waitFor('there is a child', () => childrenOf(app.pid)[0], LONG_MS);
  await waitFor('it writes', () => fs.readFileSync(`/proc/${child}/wchan`, 'utf8').includes('pipe_write')
    || /pipe/.test(fs.readFileSync(`/proc/${child}/stack`, 'utf8')), LONG_MS).catch(() => {});
  return { reader, result, child };
}

function near(a, b, share, what) {
  assert.ok(Math.abs(a - b) <= share * Math.max(a, b), `${what}: ${a} and ${b}`);
}

test('the native part is there', () => assert.ok(native, `${ADDON} is missing or empty: ${process.arch}`));

const STATES = { idle: 'small', mixed: 'mixed', churn: 'small', pool: 'small', threads: 'small' };
for (const [kind, shape] of Object.entries(STATES)) {
  eachVersion(`P13 a snapshot of a worker that is ${kind}: whole, and the worker serves on`, async (t, node) => {
    const app = await startForker(t, node);
    const file = path.join(tempDir(t), 'a.heapsnapshot');
    await app.ask('fill', { shape, n: OBJECTS });
    if (kind !== 'mixed') await app.ask('load', { kind });
    for (let i = 0; i < ROUNDS; i++) {
      const r = await app.ask('snapshot', { file, options: { deadlineMs: LONG_MS } });
      assert.strictEqual(r.code, 'ok', JSON.stringify(r));
      assert.strictEqual(r.bytes, fs.statSync(file).size);
      const { classes } = classesOf(file);
      if (shape === 'small') near(classes.Customer[0], OBJECTS, kind === 'churn' ? 1 : 0, 'customers');
      else assert.strictEqual(classes.Session[0], OBJECTS / 4);
    }
    assert.deepStrictEqual(await app.ask('spawn').then((s) => s.code), 7);
    assert.strictEqual(app.stderr, '');
  });
}

eachVersion('P13 a snapshot from a child says what V8 says in-process', async (t, node) => {
  const app = await startForker(t, node);
  const dir = tempDir(t);
  const [ours, own] = [path.join(dir, 'ours.heapsnapshot'), path.join(dir, 'own.heapsnapshot')];
  await app.ask('fill', { shape: 'small', n: OBJECTS });
  await app.ask('fill', { shape: 'mixed', n: OBJECTS });
  assert.strictEqual((await app.ask('snapshot', { file: ours, options: { deadlineMs: LONG_MS } })).code, 'ok');
  await app.ask('own', { file: own });
  const [a, b] = [classesOf(ours), classesOf(own)];
  for (const name of ['Customer', 'Order', 'Session', 'Map', 'Buffer', 'ArrayBuffer', 'WeakRef', '(bigint)']) {
    if (b.classes[name]) near(a.classes[name][0], b.classes[name][0], 0.001, name);
  }
  assert.strictEqual(a.classes.Customer[1], b.classes.Customer[1]);
  near(a.nodes, b.nodes, 0.02, 'nodes');
});

eachVersion('a snapshot read as it streams by has the classes that JSON.parse finds', async (t, node) => {
  const app = await startForker(t, node);
  const dir = tempDir(t);
  const [file, none] = [path.join(dir, 'a.heapsnapshot'), path.join(dir, 'none')];
  await app.ask('fill', { shape: 'mixed', n: OBJECTS });
  await app.ask('own', { file });
  const meta = { node_fields: ['type', 'name', 'self_size', 'edge_count'], node_types: [['object'], 'string'], edge_fields: ['a'] };
  fs.writeFileSync(none, JSON.stringify({ snapshot: { meta, node_count: 0, edge_count: 0 }, nodes: [], edges: [], strings: [] }));
  const r = heapDiff(none, file, '--json');
  assert.strictEqual(r.status, 0, r.stderr);
  const { classes, nodes } = classesOf(file);
  const all = JSON.parse(r.stdout);
  assert.strictEqual(all.after.nodes, nodes);
  assert.deepStrictEqual(Object.fromEntries(all.classes.map((c) => [c.class, [c.count_after, c.bytes_after, c.detached_after]])), classes);
});

eachVersion('P13 a snapshot leaves no trace in the worker', async (t, node) => {
  const app = await startForker(t, node);
  const file = path.join(tempDir(t), 'a.heapsnapshot');
  await app.ask('fill', { shape: 'small', n: OBJECTS * 4 });
  await app.ask('sigchld');
  await app.ask('snapshot', { file, options: { deadlineMs: LONG_MS } }); // the add-on is loaded
  await app.ask('spawn');
  const before = await app.ask('state');
  for (let i = 0; i < 3; i++) assert.strictEqual((await app.ask('snapshot', { file, options: { roomBytes: 4e9, deadlineMs: LONG_MS } })).code, 'ok');
  const after = await app.ask('state');
  assert.ok(after.rss < before.rss + (16 << 20), `resident: ${before.rss} before, ${after.rss} after`);
  assert.ok(before.keptBytes > 1 << 20);
  near(before.keptBytes, after.keptBytes, 0.5, 'bytes kept from children');
  for (const k of ['fds', 'handlers', 'children', 'limits', 'nice', 'oom']) assert.strictEqual(after[k], before[k], k);
  for (let i = 0; i < 3; i++) assert.strictEqual((await app.ask('spawn')).code, 7);
});

eachVersion('P13 a client whose connection the worker closes during a snapshot sees it at once', async (t, node) => {
  const app = await startForker(t, node);
  const port = await app.ask('listen');
  const socket = net.connect(port, '127.0.0.1');
  await new Promise((resolve) => socket.once('connect', resolve));
  await new Promise((resolve) => http.get({ port, host: '127.0.0.1', agent: false }, (rs) => rs.resume().on('end', resolve)));
  const { result, child } = await stuck(t, app);
  const closed = new Promise((resolve) => socket.on('close', resolve).on('error', () => {}));
  socket.write('GET /cut HTTP/1.1\r\nHost: a\r\n\r\n');
  socket.resume();
  await closed;
  assert.ok(alive(child), 'the child had ended, nothing is proven');
  assert.strictEqual((await app.ask('spawn')).code, 7); // its own children end as ever
  await app.ask('cancel');
  assert.strictEqual((await result).code, 'cancelled');
  assert.ok(!alive(child));
});

eachVersion('P10 the budget ends the child and not the worker', async (t, node) => {
  const app = await startForker(t, node);
  const file = path.join(tempDir(t), 'a.heapsnapshot');
  await app.ask('fill', { shape: 'small', n: 60000 });
  let r = await app.ask('snapshot', { file, options: { roomBytes: 24 << 20, deadlineMs: LONG_MS } });
  assert.strictEqual(r.code, 'memory', JSON.stringify(r));
  assert.match(r.reason, /22 MiB/);
  assert.strictEqual(r.attempts, 1);
  r = await app.ask('snapshot', { file, options: { roomBytes: 1 << 20 } });
  assert.strictEqual(r.code, 'memory');
  assert.match(r.reason, /has 1 MiB left/);
  assert.strictEqual(r.attempts, 0);
  r = await app.ask('snapshot', { file, options: { roomBytes: 60 << 20, oomGroup: true } });
  assert.strictEqual(r.attempts, 0);
  assert.strictEqual((await app.ask('spawn')).code, 7);
  assert.strictEqual((await app.ask('state')).children, '');
});

eachVersion('P14 whatever ends a snapshot: the reason is said, nothing is left', async (t, node) => {
  const app = await startForker(t, node);
  const before = await app.ask('state');
  let s = await stuck(t, app, { deadlineMs: 12000 });
  assert.strictEqual((await app.ask('snapshot', { file: '/dev/null' })).code, 'busy');
  let r = await s.result;
  assert.strictEqual(r.code, 'deadline', JSON.stringify(r));
  assert.match(r.reason, /within 12 s/);
  s = await stuck(t, app, { deadlineMs: LONG_MS });
  s.reader.close();
  r = await s.result;
  assert.strictEqual(r.code, 'write', JSON.stringify(r));
  r = await app.ask('snapshot', { file: '/dev/full', options: { deadlineMs: LONG_MS } });
  assert.strictEqual(r.code, 'write', JSON.stringify(r));
  s = await stuck(t, app, { deadlineMs: LONG_MS });
  process.kill(s.child, 'SIGKILL');
  assert.strictEqual((await s.result).code, 'memory'); // as the kernel would do it
  s = await stuck(t, app, { deadlineMs: LONG_MS });
  process.kill(s.child, 'SIGSEGV');
  r = await s.result;
  assert.strictEqual(r.code, 'crashed', JSON.stringify(r));
  assert.match(r.reason, /SIGSEGV/);
  const after = await app.ask('state');
  for (const k of ['fds', 'handlers', 'children']) assert.strictEqual(after[k], before[k], k);
  s = await stuck(t, app, { deadlineMs: LONG_MS });
  app.child.kill('SIGKILL');
  await app.ended;
  await waitFor('the child goes with the worker', () => !alive(s.child));
});

eachVersion('P14 add-ons that are not allowed: refused with that reason', async (t, node, major) => {
  const permission = [major < 22 ? '--experimental-permission' : '--permission', '--allow-fs-read=*', '--allow-fs-write=*'];
  for (const args of major < 20 ? [['--no-addons']] : [['--no-addons'], permission]) {
    const app = await startForker(t, node, { args });
    const r = await app.ask('snapshot', { file: '/dev/null' });
    assert.strictEqual(r.code, 'no_addons', JSON.stringify(r));
    assert.match(r.reason, /--no-addons/);
    assert.strictEqual((await app.ask('state')).children, '');
  }
});

test('P14 no native part, no /proc, another user, no room for a process', { skip: newest ? ROOT_ONLY : 'no Node.js in the cache' }, async (t) => {
  const { node } = newest;
  let app = await startForker(t, node, { addon: '/nowhere/snapshot.node' });
  assert.strictEqual((await app.ask('snapshot', { file: '/dev/null' })).code, 'load');

  const unshare = spawnSync('unshare', ['-m', 'true']);
  if (unshare.status === 0) {
    app = await startForker(t, node, { before: ['unshare', '-m', 'sh', '-c', 'mount -t tmpfs none /proc && exec "$@"', 'sh'] });
    assert.strictEqual((await app.ask('snapshot', { file: '/dev/null' })).code, 'no_proc');
  } else {
    t.diagnostic('no mount namespaces here: not tried without /proc');
  }

  // An application that has given up root is not readable to itself in /proc as before: it goes nevertheless.
  app = await startForker(t, node);
  await app.ask('setuid', { uid: 65534 });
  const dir = tempDir(t);
  fs.chmodSync(dir, 0o777);
  const file = path.join(dir, 'a.heapsnapshot');
  assert.strictEqual((await app.ask('snapshot', { file, options: { deadlineMs: LONG_MS } })).code, 'ok');
  app = await startForker(t, node, { before: ['prlimit', '--nproc=1:1'] }); // root has no limit
  await app.ask('setuid', { uid: 65534 });
  const r = await app.ask('snapshot', { file: '/dev/null' });
  assert.strictEqual(r.code, 'fork', JSON.stringify(r));
  assert.match(r.reason, /errno 11/);
});

test('P14 what the tests have not been run on is refused, unless it is wished', async (t) => {
  const source = fs.readFileSync(SOURCE, 'utf8');
  const alone = setInterval(() => {}, 1000); // nothing of ours keeps a process alive
  const start = (versions, arch, options) => new Promise((resolve) => {
    const fake = { versions: { node: versions }, version: `v${versions}`, arch, platform: 'linux', dlopen: () => { throw new Error('tried'); } };
    const fork = new Function('require', 'process', `${source};return pillionFork`)(require, fake)();
    fork.start('x', 1, options, resolve);
  });
  assert.match((await start('27.0.0', 'x64', {})).reason, /tried on Node\.js 18, 20, 22, 24, 26, and this is v27\.0\.0/);
  assert.match((await start('24.0.0', 'arm64', {})).reason, /not been proven on arm64/);
  assert.match((await start('24.0.0', 'ppc64', { anyArch: true })).reason, /not linux on ppc64/);
  assert.strictEqual((await start('27.0.0', 'arm64', { anyNode: true, anyArch: true })).code, 'load');
  clearInterval(alone);
});

test('the native part stands beside the preload', async (t) => {
  const dir = tempDir(t);
  const r = spawnSync(BIN, ['preload'], { encoding: 'utf8', env: cleanEnv({ PILLION_RUNTIME_DIR: path.join(dir, 'run') }) });
  assert.strictEqual(r.status, 0, r.stderr);
  const beside = path.join(path.dirname(r.stdout.trim()), 'snapshot.node');
  assert.deepStrictEqual(fs.readFileSync(beside), fs.readFileSync(ADDON));
  assert.ok(fs.readFileSync(path.join(ROOT, 'collectors/node/fork/snapshot.c'), 'utf8').length > 0);
});

test('heap-diff: plain, compressed, from a pipe; what is no snapshot', async (t) => {
  const dir = tempDir(t);
  const write = (name, nodes, counts = {}) => {
    const meta = { node_fields: ['type', 'name', 'id', 'self_size', 'edge_count', 'detachedness'], node_types: [['object', 'string'], 'string'], edge_fields: ['type', 'name_or_index', 'to_node'] };
    const s = { snapshot: { meta, node_count: nodes.length, edge_count: 0, ...counts }, nodes: nodes.flat(), edges: [], strings: ['A', 'B\u001b[2J', 'C'] };
    fs.writeFileSync(path.join(dir, name), JSON.stringify(s));
    return path.join(dir, name);
  };
  const a = write('a', [[0, 0, 1, 100, 0, 0], [0, 2, 3, 7, 0, 0]]);
  const b = write('b', [[0, 0, 1, 100, 0, 0], [0, 0, 1, 2000, 0, 2], [0, 1, 1, 5, 0, 0], [1, 1, 1, 3000, 0, 0]]);
  const want = { A: [1, 2, 100, 2100, 0, 1], 'B\u001b[2J': [0, 1, 0, 5, 0, 0], C: [1, 0, 7, 0, 0, 0], '(string)': [0, 1, 0, 3000, 0, 0] };
  const zlib = require('node:zlib');
  const bytes = fs.readFileSync(b);
  fs.writeFileSync(`${b}.gz`, Buffer.concat([zlib.gzipSync(bytes.subarray(0, 100)), zlib.gzipSync(bytes.subarray(100))])); // two members
  for (const [second, input] of [[b], [`${b}.gz`], ['-', bytes], ['-', zlib.gzipSync(bytes)]]) {
    const r = spawnSync(BIN, ['heap-diff', a, second, '--json'], { encoding: 'utf8', input });
    assert.strictEqual(r.status, 0, r.stderr);
    const j = JSON.parse(r.stdout);
    assert.deepStrictEqual(Object.fromEntries(j.classes.map((c) => [c.class,
      [c.count_before, c.count_after, c.bytes_before, c.bytes_after, c.detached_before, c.detached_after]])), want);
    assert.strictEqual(j.classes[0].class, '(string)'); // grew most
    assert.deepStrictEqual([j.before.nodes, j.after.nodes, j.changed], [2, 4, 4]);
  }
  const text = heapDiff(a, b, '--top', '1');
  assert.match(text.stdout, /^\(string\) +1 +\+1 +2\.9K +\+2\.9K$/m);
  assert.match(text.stdout, /3 more classes changed/);
  assert.doesNotMatch(heapDiff(a, b).stdout, /\u001b/); // no command reaches the terminal
  assert.match(heapDiff(a, a).stdout, /no class changed/);
  fs.writeFileSync(`${b}.cut.gz`, fs.readFileSync(`${b}.gz`).subarray(0, 150));
  const wrong = [[[a], 64, /two snapshots/], [[a, b, b], 64, /third/], [[a, b, '--tip'], 64, /--tip/], [['-', '-'], 64, /only one/],
    [[a, b, '--top', 'x'], 64, /number/], [[a, '/nowhere'], 66, /No such file/], [[a, dir], 66, /directory/], [[a, `${b}.cut.gz`], 65, /cut off|end in the middle/],
    [[a, write('c', [], { node_count: 3 })], 65, /3 nodes were announced and there are 0/], [[a, '/proc/version'], 65, /no heap snapshot/]];
  for (const [args, code, why] of wrong) {
    const r = heapDiff(...args);
    assert.strictEqual(r.status, code, `${args}: ${r.stderr}`);
    assert.match(r.stderr, why);
    assert.strictEqual(r.stdout, '');
  }
});
