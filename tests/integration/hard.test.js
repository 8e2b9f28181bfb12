// Hard circumstances: other pid namespaces, few descriptors, no rights, clocks that jump, mistakes in the environment.
'use strict';

const assert = require('node:assert');
const { execFileSync, spawnSync } = require('node:child_process');
const fs = require('node:fs');
const path = require('node:path');
const { test } = require('node:test');
const { APPS, ROOT, BIN, start, startHelper, startNode, startRun, tempDir, waitFor, helperPid, cleanEnv } = require('./lib/harness');

const PUPPET = path.join(APPS, 'puppet.js');
const piped = { stdio: ['pipe', 'pipe', 'pipe'] };
const works = (command, ...args) => spawnSync(command, args, { stdio: 'ignore' }).status === 0;
const seen = (helper, node) => helper.waitWorkers('the worker', (ws) => ws.find((w) => w.pid === node.pid && w.last_sample));

test('P52 a helper in a pid namespace of its own works by the socket alone', async (t) => {
  if (!works('unshare', '--pid', '--fork', '--mount-proc', 'true')) return t.skip('unshare --pid is not permitted here');
  const helper = await startHelper(t, { before: ['unshare', '--pid', '--fork', '--kill-child', '--mount-proc'] });
  const node = startNode(t, helper, [PUPPET], piped);
  const w = await seen(helper, node);
  assert.strictEqual(typeof w.metrics['pillion.memory.heap.used'], 'number');
  assert.strictEqual(w.metrics['process.thread.count'], undefined, 'what needs /proc is not known, never of a wrong pid');
  await waitFor('CPU by its own word', async () => (await helper.workers()).find((x) => x.worker === w.worker).metrics['process.cpu.utilization'] >= 0);
  node.child.stdin.write('exit 5\n');
  const e = await helper.waitRecords('its exit', (rs) => rs.find((r) => r.event === 'exited' && r.worker === w.worker));
  assert.strictEqual(e.code, 5);
});

test('P54 under `run` the application starts whatever the environment says, and status repeats the line', async (t) => {
  const cases = [
    [{ PILLION_SAMPLE_INTERVALL: '1s' }, /PILLION_SAMPLE_INTERVALL.*PILLION_SAMPLE_INTERVAL/],
    [{ PILLION_SAMPLE_INTERVAL: '1h' }, /PILLION_SAMPLE_INTERVAL.*1h.*100ms/],
    [{ PILLION_SINK: 'carrier-pigeon:' }, /PILLION_SINK.*carrier-pigeon:.*file:/],
    [{ PILLION_BATCH_MAX: '' }, /PILLION_BATCH_MAX/],
  ];
  for (const [env, line] of cases) {
    const alone = start(t, ['agent'], { env });
    assert.strictEqual((await alone.ended).code, 78, alone.stderr);
    assert.match(alone.stderr, line);
    assert.strictEqual(alone.stderr.trim().split('\n').length, 1, alone.stderr);
    const run = start(t, ['run', '--', process.execPath, '-e', 'console.log("served"); setInterval(() => {}, 1000)'], { env });
    await waitFor('the application', () => run.stdout === 'served\n');
    await waitFor('the helper ended', () => fs.existsSync(path.join(run.runtime, 'helper.error')));
    const status = spawnSync(BIN, ['status'], { env: cleanEnv({ PILLION_RUNTIME_DIR: run.runtime }), encoding: 'utf8' });
    assert.strictEqual(status.status, 69);
    assert.match(status.stderr + status.stdout, line);
    assert.strictEqual((await run.stop()).code, 143);
  }
});

test('P71 64 descriptors: old streams live, new ones are told when to return, and get in when there is room', async (t) => {
  const { FakeWorker } = require('./lib/fake-worker');
  const helper = await startHelper(t, { before: ['prlimit', '--nofile=64:64'], env: { PILLION_SAMPLE_INTERVAL: '200ms' } });
  const node = startNode(t, helper, [PUPPET], piped);
  const w = await seen(helper, node);
  void FakeWorker;
  const crowd = [];
  const sockets = require('node:net');
  for (let i = 0; i < 200; i++) {
    const s = sockets.connect(helper.socket('workers.sock'));
    s.on('error', () => {});
    crowd.push(s);
  }
  await waitFor('some are told to come later', async () => (await helper.counters()).workers_later > 0).catch((e) => { throw e; });
  const before = w.last_sample;
  await helper.waitWorkers('the old stream goes on', (ws) => ws.find((x) => x.worker === w.worker)?.last_sample > before);
  crowd.forEach((s) => s.destroy());
  const late = startNode(t, helper, [PUPPET], piped);
  await seen(helper, late);
  assert.strictEqual((await helper.counters()).samples_missing, 0);
});

test('P71 a crowd of workers comes back after a restart of the helper', async (t) => {
  const run = await startRun(t, [process.execPath, path.join(APPS, 'puppet.js')], piped);
  const nodes = Array.from({ length: 12 }, () => startNode(t, run, [PUPPET], piped));
  const pids = nodes.map((n) => n.pid);
  const all = (ws) => pids.every((pid) => ws.some((w) => w.pid === pid && w.state === 'live' && w.last_sample));
  await run.waitWorkers('all', all);
  const old = helperPid(run);
  process.kill(old, 'SIGKILL');
  await waitFor('a new helper', () => helperPid(run) !== old);
  await run.waitReady();
  await run.waitWorkers('all are back', all);
});

test('P65 no capability, another user, a read-only root, no new privileges', async (t) => {
  if (process.getuid() !== 0) return t.skip('needs root to become somebody else');
  if (!works('setpriv', '--reuid=65534', '--regid=65534', '--clear-groups', '--no-new-privs', '--bounding-set=-all', 'true')) return t.skip('setpriv cannot do it here');
  const dir = tempDir(t);
  fs.chmodSync(dir, 0o755);
  for (const d of ['run', 'data']) {
    fs.mkdirSync(path.join(dir, d), { mode: 0o700 });
    fs.chownSync(path.join(dir, d), 65534, 65534);
  }
  const drop = ['setpriv', '--reuid=65534', '--regid=65534', '--clear-groups', '--no-new-privs', '--bounding-set=-all', '--inh-caps=-all'];
  const script = path.join(dir, 'puppet.js');
  const bin = path.join(dir, 'pillion');
  fs.copyFileSync(PUPPET, script);
  fs.copyFileSync(BIN, bin);
  fs.chmodSync(bin, 0o755);
  const readOnly = works('unshare', '--mount', 'true')
    ? ['unshare', '--mount', 'sh', '-c', `mount --make-rprivate / && mount --bind ${dir} ${dir} && mount -o remount,ro,bind / 2>/dev/null; exec "$@"`, 'sh'] : [];
  const run = start(t, ['run', '--', process.execPath, script], { ...piped, dir, command: bin, before: [...readOnly, ...drop] });
  await run.waitReady();
  const w = await run.waitWorkers('the worker', (ws) => ws.find((x) => x.last_sample && x.metrics['process.thread.count']));
  assert.ok(w.metrics['process.unix.file_descriptor.count'] > 0);
  const status = fs.readFileSync(`/proc/${helperPid(run)}/status`, 'utf8');
  assert.match(status, /^NoNewPrivs:\s*1$/m);
  await run.waitRecords('records', (rs) => rs.some((r) => r.kind === 'process'));
});

test('P65 P12 the application inherits nothing of what the helper does to itself', async (t) => {
  const show = 'sed -n "s/^\\(NoNewPrivs\\|Seccomp\\|SigBlk\\|SigIgn\\|Max open files\\)/\\1/p" /proc/self/status /proc/self/limits; ls /proc/self/fd | wc -l; cat /proc/self/oom_score_adj; umask';
  const plain = spawnSync('sh', ['-c', show], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'inherit'] });
  const run = start(t, ['run', '--', 'sh', '-c', show]);
  assert.strictEqual((await run.ended).code, 0);
  assert.strictEqual(run.stdout, plain.stdout);
});

test('P48 the wall clock jumps by a day in both directions: no negative rate, no burst, nobody blocked', async (t) => {
  const dir = tempDir(t);
  const shim = path.join(dir, 'wallclock.so');
  try {
    execFileSync(process.env.CC || 'cc', ['-shared', '-fPIC', '-O1', '-o', shim, path.join(ROOT, 'tests/integration/lib/wallclock.c'), '-ldl'], { stdio: 'pipe' });
  } catch (e) {
    return t.skip(`no compiler for the clock: ${e.message.split('\n')[0]}`);
  }
  if (process.env.PILLION_STATIC) return t.skip('a static program cannot be given another clock');
  const offset = path.join(dir, 'offset');
  fs.writeFileSync(offset, '0');
  const helper = await startHelper(t, { env: { LD_PRELOAD: shim, WALLCLOCK_FILE: offset, PILLION_SAMPLE_INTERVAL: '200ms' } });
  const node = startNode(t, helper, [PUPPET], piped);
  const w = await seen(helper, node);
  const samples = () => helper.batches().records.filter((r) => r.kind === 'process' && r.worker === w.worker);
  for (const seconds of ['86400', '-86400', '0']) {
    fs.writeFileSync(offset, seconds);
    const n = samples().length;
    await waitFor(`samples at an offset of ${seconds} s`, () => samples().length > n + 8);
  }
  const list = samples();
  list.forEach((r, i) => {
    assert.ok(i === 0 || r.sample === list[i - 1].sample + 1, 'in order, none twice, none missing');
    assert.ok(!(r['process.cpu.utilization'] < 0) && !(r['process.uptime'] < 0));
    if (i > 0) assert.ok(r['process.cpu.time{cpu.mode=user}'] >= list[i - 1]['process.cpu.time{cpu.mode=user}']);
  });
  const days = new Set(list.map((r) => r.time.slice(0, 10)));
  assert.ok(days.size >= 2, `the jump was seen in the records' times: ${[...days]}`);
  assert.ok(!helper.batches().records.some((r) => r.event === 'blocked'));
});
