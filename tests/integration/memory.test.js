// A container with little memory: a control group with a real limit, where this machine lets us make one.
'use strict';

const assert = require('node:assert');
const fs = require('node:fs');
const path = require('node:path');
const { test } = require('node:test');
const { APPS, defer, helperPid, start, waitFor } = require('./lib/harness');

const PUPPET = path.join(APPS, 'puppet.js');
const MIB = 1048576;

// Our own memory group's directory and the names of its files, or the reason why there is none.
function memoryGroup() {
  const lines = fs.readFileSync('/proc/self/cgroup', 'utf8').trim().split('\n');
  for (const line of lines) {
    const [, controllers, where] = line.split(':');
    const at = (root) => [path.join(root, where), root].find((d) => fs.existsSync(path.join(d, 'cgroup.procs')));
    if (controllers.split(',').includes('memory') && at('/sys/fs/cgroup/memory')) {
      return { dir: at('/sys/fs/cgroup/memory'), limit: 'memory.limit_in_bytes', usage: 'memory.usage_in_bytes', swap: 'memory.swappiness' };
    }
    if (controllers === '' && at('/sys/fs/cgroup') && fs.existsSync('/sys/fs/cgroup/cgroup.controllers')) {
      return { dir: at('/sys/fs/cgroup'), limit: 'memory.max', usage: 'memory.current', swap: 'memory.swap.max' };
    }
  }
  return null;
}

// A group with a limit; processes enter it by the command line that is returned.
function limited(t, bytes) {
  const parent = memoryGroup();
  if (parent === null) return { why: 'no memory controller is mounted' };
  const dir = path.join(parent.dir, `pillion-memory-${process.pid}-${bytes}`);
  try {
    fs.mkdirSync(dir);
  } catch (e) {
    return { why: `cannot make a control group: ${e.code}` };
  }
  defer(t, () => waitFor('the group is empty', () => {
    fs.rmdirSync(dir);
    return true;
  }).catch(() => {}));
  try {
    fs.writeFileSync(path.join(dir, parent.limit), String(bytes));
  } catch (e) {
    return { why: `cannot set a memory limit: ${e.code}` };
  }
  if (fs.existsSync(path.join(dir, parent.swap))) fs.writeFileSync(path.join(dir, parent.swap), '0');
  return {
    enter: ['sh', '-c', `echo $$ > ${dir}/cgroup.procs && exec "$@"`, 'sh'],
    // What cannot be had back: the files that others have read before us may or may not be charged to this group.
    usage: () => Number(fs.readFileSync(path.join(dir, parent.usage), 'utf8'))
      - Number(/^(?:total_)?inactive_file (\d+)/m.exec(fs.readFileSync(path.join(dir, 'memory.stat'), 'utf8'))[1]),
  };
}

test('P11 at 99 % of the memory limit samples go on and the helper stays small; it is told that memory is near its limit', async (t) => {
  const group = limited(t, 320 * MIB);
  if (group.why) return t.skip(group.why);
  const run = start(t, ['run', '--', process.execPath, PUPPET], { stdio: ['pipe', 'pipe', 'pipe'], before: group.enter, env: { PILLION_SAMPLE_INTERVAL: '200ms' } });
  await run.waitReady();
  const id = await run.waitWorkers('the worker', (ws) => ws.find((w) => w.last_sample)?.worker);
  const pid = helperPid(run);
  // Buffers do not count for V8's heap: the container's limit is the nearer one.
  for (let used = group.usage(); used < 0.985 * 320 * MIB; used = group.usage()) {
    const more = Math.min(16 * MIB, Math.floor(0.99 * 320 * MIB) - used);
    if (more < 65536) break;
    const before = run.stdout.length;
    run.child.stdin.write(`buffer ${more}\n`);
    await waitFor('it is allocated', () => run.stdout.length > before);
    await waitFor('it is used', () => group.usage() > used + more / 2).catch(() => {});
  }
  const e = await run.waitRecords('the event', (rs) => rs.find((r) => r.event === 'memory_near_limit' && r.limit === 'container'));
  assert.ok(e.used_bytes / e.limit_bytes >= 0.9 && e.limit_bytes === 320 * MIB, JSON.stringify(e));
  const last = (await run.workers()).find((w) => w.worker === id);
  await run.waitRecords('samples go on', (rs) => rs.filter((r) => r.worker === id && r.time > last.last_sample).length > 10);
  assert.strictEqual(helperPid(run), pid, 'the helper was not killed');
  const rss = Number(/VmRSS:\s+(\d+)/.exec(fs.readFileSync(`/proc/${pid}/status`, 'utf8'))[1]);
  assert.ok(rss < 40 * 1024, `the helper has ${rss} KiB`);
  assert.strictEqual((await run.counters()).samples_missing, 0);
  return undefined;
});

test('P31 a worker killed by the OOM killer is told as such', async (t) => {
  const group = limited(t, 256 * MIB);
  if (group.why) return t.skip(group.why);
  // A shell that outlives its worker, so that the container goes on.
  const script = `"${process.execPath}" -e 'setTimeout(() => { const k = []; setInterval(() => k.push(Buffer.alloc(${8 * MIB}, 1)), 20); }, 2500)'; sleep 60`;
  const run = start(t, ['run', '--', 'sh', '-c', script], { before: group.enter });
  await run.waitReady();
  const e = await run.waitRecords('its end', (rs) => rs.find((r) => r.event === 'exited'));
  assert.strictEqual(e.oom, true, JSON.stringify(e));
  assert.strictEqual(e.cause, 'oom_kill');
  assert.strictEqual(e.signal, 'SIGKILL');
  assert.ok(e.last_sample >= 1 && e['process.memory.usage'] > 0);
  return undefined;
});
