'use strict';
// The spool under kills: what was acknowledged arrives, each batch under its one name, whatever moment the helper ends at.
//
// CHAOS_KILLS and CHAOS_FAULTS (make chaos) make it long; without them it is the short form that runs in every `make test`.

const assert = require('node:assert');
const { spawnSync } = require('node:child_process');
const fs = require('node:fs');
const path = require('node:path');
const test = require('node:test');
const { ROOT, defer, pause, start, tempDir, waitFor } = require('./lib/harness.js');
const { FakeWorker, startTicks } = require('./lib/fake-worker.js');
const { Oracle, valuesOf } = require('./lib/oracle.js');

const FAULT_BIN = process.env.PILLION_FAULT_BIN || path.join(ROOT, 'build/fault/pillion');
const KILLS = Number(process.env.CHAOS_KILLS || 60);
const FAULTS = Number(process.env.CHAOS_FAULTS || 3);
const LONG = Boolean(process.env.CHAOS_KILLS);
const SPOOL = { PILLION_SPOOL_MAX: '1MiB', PILLION_SPOOL_SYNC: '100ms', PILLION_BATCH_MAX: '16KiB', PILLION_SAMPLE_INTERVAL: '100ms' };

// Workers that never stop: each makes samples at a rate, comes back when it was cut off, and keeps what is not acknowledged.
class Riders {
  constructor(t, socketPath, n) {
    this.running = true;
    this.workers = Array.from({ length: n }, (_, i) => new FakeWorker(socketPath, { role: i === 0 ? 'process' : 'thread', thread: i }));
    for (const w of this.workers) this.stay(w);
    defer(t, () => this.stop(true));
  }

  async stay(w) {
    while (this.running) {
      try {
        await w.connect();
        await w.gone();
      } catch {
        // not there, or not yet
      }
      await pause(15);
    }
  }

  start(everyMs, each) {
    this.timer = setInterval(() => {
      for (const w of this.workers) {
        if (w.kept.length > 2000) continue; // a real one would drop; here nothing may be missing
        for (let i = 0; i < each; i++) w.sample(valuesOf(w.number + 1));
      }
    }, everyMs);
  }

  pauseSampling() {
    clearInterval(this.timer);
  }

  stop() {
    this.running = false;
    clearInterval(this.timer);
    for (const w of this.workers) w.destroy();
  }

  made() {
    const start = startTicks();
    return new Map(this.workers.map((w, i) => [`${process.pid}:${start}${i > 0 ? `/${i}` : ''}`, w.number]));
  }

  allAcked() {
    return this.workers.every((w) => w.ackedTo === w.number);
  }
}

function faultHelper(t, dir, oracle, env = {}) {
  return start(t, ['agent'], { dir, command: FAULT_BIN, env: { ...SPOOL, PILLION_SINK: oracle.sink, ...env } });
}

async function settle(h, riders, oracle) {
  riders.pauseSampling();
  await waitFor('all samples acknowledged', () => riders.allAcked(), 60000);
  await waitFor('the backlog delivered', async () => {
    const [sink] = (await h.json('/status')).sinks;
    return sink.backlog === 0;
  }, 60000);
  return oracle.report(riders.made());
}

function judge(t, r, kills) {
  t.diagnostic(`${kills} kills: ${r.samples} samples in ${r.batches} batches; missing ${r.missing.length}, foreign ${r.foreign.length}, ` +
    `corrupt ${r.corrupt.length}, under two names ${r.twice.length}, reordered ${r.reordered.length}, repeats ${r.repeats}`);
  assert.deepStrictEqual(r.missing.slice(0, 5), []);
  assert.deepStrictEqual(r.foreign.slice(0, 5), []);
  assert.deepStrictEqual(r.corrupt.slice(0, 5), []);
  assert.deepStrictEqual(r.twice.slice(0, 5), []);
  assert.deepStrictEqual(r.reordered.slice(0, 5), []);
  assert.ok(r.repeats <= kills, `${r.repeats} repeats after ${kills} kills`);
}

function quarantine(dir) {
  const place = path.join(dir, 'data/spool/quarantine');
  return fs.existsSync(place) ? fs.readdirSync(place).map((name) => fs.readFileSync(path.join(place, name))) : [];
}

const needsFaults = fs.existsSync(FAULT_BIN) ? false : `${FAULT_BIN} is not built (make MODE=fault)`;

test(`P20 ${KILLS} kills at random moments: missing 0, foreign 0, corrupt 0, one repeat a kill at most`, { skip: needsFaults }, async (t) => {
  const dir = tempDir(t);
  const oracle = await Oracle.start(t);
  const riders = new Riders(t, path.join(dir, 'run/workers.sock'), 4);
  riders.start(10, 3);
  for (let i = 0; i < KILLS; i++) {
    const h = faultHelper(t, dir, oracle);
    const before = oracle.batches.size;
    await waitFor('it delivers', () => oracle.batches.size > before || h.exit !== null);
    await pause(Math.random() * 150);
    h.signal('SIGKILL');
    await h.ended;
    if (LONG && i % 50 === 49) t.diagnostic(`${i + 1} kills, ${oracle.batches.size} batches, ${oracle.repeats} repeats`);
  }
  const last = faultHelper(t, dir, oracle);
  await last.waitReady();
  judge(t, await settle(last, riders, oracle), KILLS);
  assert.ok(!LONG || oracle.repeats > 0, 'no batch was ever repeated: the kills did not hit');
  // A kill before the first record of a segment is whole leaves a file without one: nothing else may have been set aside.
  for (const bytes of quarantine(dir)) assert.ok(bytes.length < 72 || bytes.length < 72 + bytes.readUInt32LE(8) + bytes.readUInt32LE(12));
});

test('P20 P21 killed while a sink is away and batches are packed: all come, once back, as they were', { skip: needsFaults }, async (t) => {
  const dir = tempDir(t);
  const oracle = await Oracle.start(t);
  const riders = new Riders(t, path.join(dir, 'run/workers.sock'), 4);
  const kills = 12;
  let packed = 0;
  riders.start(10, 3);
  for (let i = 0; i < kills; i++) {
    oracle.away = i % 4 !== 3;
    const h = faultHelper(t, dir, oracle);
    const before = oracle.batches.size;
    if (oracle.away) {
      await waitFor('batches are packed', async () => {
        const n = (await h.json('/status')).counters.spool_packed;
        if (n >= 2) packed += n;
        return n >= 2;
      });
    } else {
      await waitFor('it delivers', () => oracle.batches.size > before);
    }
    await pause(Math.random() * 150);
    h.signal('SIGKILL');
    await h.ended;
  }
  oracle.away = false;
  const last = faultHelper(t, dir, oracle);
  await last.waitReady();
  const report = await settle(last, riders, oracle);
  judge(t, report, kills);
  assert.ok(packed >= 2 * 9, `${packed} packed`);
  assert.strictEqual((await last.json('/status')).counters.spool_damaged, 0);
});

const POINTS = ['segment-created', 'segment-durable', 'head-half', 'record-half', 'record-written', 'before-kept', 'after-kept', 'synced',
  'sink-done', 'position-half', 'position-written', 'positions-written-anew', 'positions-renamed', 'segment-full', 'before-delete',
  'segment-unlinked'];

// Those that are passed seldom are tried at their first pass, the others later as well.
const pass = (point, i) => (/^(head|record|position)-|kept|sink-done/.test(point) ? 1 + i * 3 : 1);

test(`P20 ${FAULTS} kills at each of ${POINTS.length} fault points of the spool`, { skip: needsFaults }, async (t) => {
  const dir = tempDir(t);
  const oracle = await Oracle.start(t);
  const riders = new Riders(t, path.join(dir, 'run/workers.sock'), 4);
  let kills = 0;
  riders.start(10, 8);
  for (const point of POINTS) {
    for (let i = 0; i < FAULTS; i++) {
      const h = faultHelper(t, dir, oracle, { FAULT_POINT: `${point}:${pass(point, i)}` });
      await waitFor(`${point} is reached`, () => h.exit !== null, 30000);
      assert.deepStrictEqual(h.exit, { code: null, signal: 'SIGKILL' }, `${point}: ${h.stderr}`);
      kills++;
    }
  }
  const last = faultHelper(t, dir, oracle);
  await last.waitReady();
  judge(t, await settle(last, riders, oracle), kills);
});

// A half-written record has to be there for its end to be cut off, and a stranger to be set aside.
test('P20 P23 kills while the start repairs what it finds', { skip: needsFaults }, async (t) => {
  const dir = tempDir(t);
  const spool = path.join(dir, 'data/spool');
  const oracle = await Oracle.start(t);
  const riders = new Riders(t, path.join(dir, 'run/workers.sock'), 2);
  let kills = 0;
  const die = async (point) => {
    const h = faultHelper(t, dir, oracle, { FAULT_POINT: point });
    await waitFor(`${point} is reached`, () => h.exit !== null);
    assert.strictEqual(h.exit.signal, 'SIGKILL');
    kills++;
  };
  riders.start(10, 4);
  for (let i = 0; i < FAULTS; i++) {
    await die('record-half:3');
    await die('tail-cut:1');
    const stranger = `7${String(i).padStart(15, '0')}.seg`;
    fs.writeFileSync(path.join(spool, stranger), 'not one of ours');
    await die('setting-aside:1');
    await die('set-aside:1');
    assert.strictEqual(fs.readFileSync(path.join(spool, 'quarantine', stranger), 'utf8'), 'not one of ours');
  }
  const last = faultHelper(t, dir, oracle);
  await last.waitReady();
  judge(t, await settle(last, riders, oracle), kills);
});

test('P26 a dead sink and a full spool, killed while the oldest goes: only the oldest is missing, and it is counted', { skip: needsFaults }, async (t) => {
  const dir = tempDir(t);
  const oracle = await Oracle.start(t);
  const riders = new Riders(t, path.join(dir, 'run/workers.sock'), 4);
  riders.start(10, 20);
  oracle.away = true;
  for (let i = 0; i < FAULTS; i++) {
    const h = faultHelper(t, dir, oracle, { FAULT_POINT: `dropping-oldest:${1 + (i % 3)}` });
    await waitFor('it is full', () => h.exit !== null, 60000);
    assert.strictEqual(h.exit.signal, 'SIGKILL');
  }
  const last = faultHelper(t, dir, oracle);
  const status = await waitFor('more is dropped', async () => {
    const s = await last.json('/status');
    const used = Number(spawnSync('du', ['-sb', path.join(dir, 'data/spool')], { encoding: 'utf8' }).stdout.split('\t')[0]);
    assert.ok(used <= (1 << 20) + 65536, `${used} bytes`);
    return s.sinks[0].dropped > 10 && s.sinks[0].lag > 0 && s; // the lag is known with the first batch that was read
  }, 60000);
  assert.strictEqual(Object.keys(status.spool.dropped_samples).length, 4);
  assert.ok(status.counters.spool_samples_dropped > 0);
  oracle.away = false;
  const r = await settle(last, riders, oracle);
  assert.deepStrictEqual([r.foreign.length, r.corrupt.length, r.twice.length, r.reordered.length], [0, 0, 0, 0]);
  // What is missing of a worker is old, in one piece: behind it there is no gap. Before it may stand the one batch that was at
  // hand all the time.
  for (const [id, seen] of oracle.samples) {
    const numbers = [...seen.keys()].sort((x, y) => x - y);
    const gaps = numbers.filter((n, i) => i > 0 && n !== numbers[i - 1] + 1).length;
    assert.ok(gaps <= 1, `${gaps} gaps in ${id}`);
    assert.strictEqual(numbers[numbers.length - 1], riders.made().get(id));
  }
  assert.ok(r.missing.length > 0);
});

test('P24 stopped with a backlog and a dead sink: ends in time, goes on at the next start', async (t) => {
  const dir = tempDir(t);
  const oracle = await Oracle.start(t);
  const riders = new Riders(t, path.join(dir, 'run/workers.sock'), 2);
  const options = { dir, env: { ...SPOOL, PILLION_SINK: oracle.sink, PILLION_STOP_TIMEOUT: '3s' } };
  oracle.away = true;
  riders.start(20, 5);
  const first = start(t, ['agent'], options);
  await waitFor('a backlog', async () => (await first.json('/status')).sinks[0].backlog > 5);
  const began = Date.now();
  first.signal('SIGTERM');
  assert.deepStrictEqual(await first.ended, { code: 0, signal: null });
  assert.ok(Date.now() - began < 3000 + 5000, 'more than the stop timeout, and the slowness of a loaded machine');
  oracle.away = false;
  const second = start(t, ['agent'], options);
  await second.waitReady();
  const r = await settle(second, riders, oracle);
  judge(t, r, 0);
});

test('P22 the disk is full: delivered from memory, counted, little CPU; then free again: back without a restart', async (t) => {
  const dir = tempDir(t);
  const data = path.join(dir, 'data');
  fs.mkdirSync(data, { mode: 0o700 });
  if (spawnSync('mount', ['-t', 'tmpfs', '-o', 'size=2m,mode=0700', 'pillion-test', data]).status !== 0) {
    t.skip('a small file system needs mount(2)');
    return;
  }
  defer(t, () => spawnSync('umount', ['-l', data]));
  const oracle = await Oracle.start(t);
  const riders = new Riders(t, path.join(dir, 'run/workers.sock'), 2);
  const h = start(t, ['agent'], { dir, env: { ...SPOOL, PILLION_SINK: oracle.sink } });
  riders.start(50, 5);
  await waitFor('it delivers', () => oracle.batches.size > 3);
  const filler = fs.openSync(path.join(data, 'filler'), 'w');
  for (const size of [65536, 4096, 1]) {
    try {
      for (;;) fs.writeSync(filler, Buffer.alloc(size));
    } catch (e) {
      assert.strictEqual(e.code, 'ENOSPC');
    }
  }
  await waitFor('it is seen', async () => (await h.json('/status')).spool.state === 'failing');
  const before = oracle.batches.size;
  await waitFor('batches come all the same', () => oracle.batches.size > before + 3);
  const status = await h.json('/status');
  assert.ok(status.counters.spool_writes_failed > 0);
  assert.match(status.spool.last_error, /No space left/);
  fs.ftruncateSync(filler, 0);
  const freed = Date.now();
  await waitFor('it works again', async () => (await h.json('/status')).spool.state === 'ok');
  t.diagnostic(`back ${Date.now() - freed} ms after there was room`);
  fs.closeSync(filler);
  judge(t, await settle(h, riders, oracle), 0);
});

test('P74 a second helper with the same data directory ends with a clear line, the first is unharmed', async (t) => {
  const dir = tempDir(t);
  const first = start(t, ['agent'], { dir });
  await first.waitReady();
  const second = start(t, ['agent'], { dir, env: { PILLION_RUNTIME_DIR: path.join(tempDir(t), 'run') } });
  assert.strictEqual((await second.ended).code, 69);
  assert.match(second.stderr, /another helper uses .*\/spool; give each its own PILLION_DATA_DIR/);
  assert.strictEqual((await first.get('/healthz')).status, 200);
});
