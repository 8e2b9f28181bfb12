'use strict';
// footprint.js - what helper, init and workers take while nothing happens in the application: memory, CPU, wake-ups.
//
// Workers are real Node.js processes with an idle HTTP server. Each scene is one `pillion run`; after the first batches have left,
// `sync` (pages of a program that was just built are dirty and would count as private), then a window of quiet watching.

const { execFileSync } = require('node:child_process');
const fs = require('node:fs');
const path = require('node:path');

const { Plain, Run, builds, pause, waitFor } = require('./lib/pillion');
const proc = require('./lib/proc');
const { mean, sum } = require('./lib/stats');
const { budget, mib, number, table } = require('./lib/report');

const IDLE = path.join(__dirname, 'apps/idle.js');
const WORKER_KIB = 60 * 1024; // memory that must be there for one Node.js process

// n processes, and the shell that waits for them.
const many = (node, n) => ['sh', '-c', `i=0; while [ $i -lt ${n} ]; do "${node}" "${IDLE}" & i=$((i+1)); done; wait`];

const scenes = (smoke) => (smoke
  ? [[1, 1], [8, 1], [64, 10]]
  : [[1, 1], [1, 10], [8, 1], [8, 10], [64, 1], [64, 10]]);

const available = () => Number(/MemAvailable:\s+(\d+)/.exec(fs.readFileSync('/proc/meminfo', 'utf8'))[1]);

const LOSSES = ['samples_missing', 'samples_dropped', 'samples_dropped_worker', 'batches_dropped', 'out_of_memory'];

// Mean of what a set of processes costs between two looks.
function group(before, after) {
  const rates = [...before.keys()].filter((pid) => before.get(pid) && after.get(pid)).map((pid) => proc.rate(before.get(pid), after.get(pid)));
  return { cpu: mean(rates.map((r) => r.cpu)), wakeups: mean(rates.map((r) => r.wakeups)) };
}
const look = (pids) => new Map(pids.map((pid) => [pid, proc.cost(pid)]));

function memories(pids) {
  const all = pids.map(proc.memory).filter(Boolean);
  const of = (key) => mean(all.map((m) => m[key]));
  return { rss: of('rss'), private: of('private') };
}

async function scene(build, [n, hz], node, { settle, watch, flush }) {
  const env = { PILLION_SAMPLE_INTERVAL: `${1000 / hz}ms`, PILLION_FLUSH_INTERVAL: flush };
  const run = new Run(build.file, many(node, n), { env });
  try {
    const workers = (await run.workers(n)).map((w) => w.pid);
    const helper = run.helper();
    const first = await run.status();
    await waitFor('the first batches', async () =>
      (await run.status()).counters.batches_sent >= first.counters.batches_sent + settle, 90000);
    execFileSync('sync');
    const busy = proc.machine();
    const start = await run.status();
    const before = { helper: proc.cost(helper), init: proc.cost(run.init), workers: look(workers) };
    await pause(watch * 1000);
    const after = { helper: proc.cost(helper), init: proc.cost(run.init), workers: look(workers) };
    const memory = { helper: proc.memory(helper), init: proc.memory(run.init), workers: memories(workers.slice(0, 8)) };
    const machine = proc.busy(busy, proc.machine());
    const end = await run.status();
    const delta = (name) => end.counters[name] - start.counters[name];
    return {
      build: build.name, n, hz, watch, machine,
      helper: { ...proc.rate(before.helper, after.helper), ...memory.helper },
      init: { ...proc.rate(before.init, after.init), ...memory.init },
      workers: { ...group(before.workers, after.workers), ...memory.workers },
      samples: delta('samples_received') / watch,
      late: delta('loop_late'),
      lost: Object.fromEntries(LOSSES.map((name) => [name, end.counters[name]])),
    };
  } finally {
    await run.stop();
  }
}

// The same idle workers without us.
async function without(node, n, watch) {
  const run = new Plain(many(node, n));
  try {
    const workers = await waitFor('idle workers', () => {
      const pids = proc.tree(run.init).filter((pid) => pid !== run.init && proc.commandLine(pid)[1] === IDLE);
      return pids.length === n && pids;
    });
    await pause(3000);
    execFileSync('sync');
    const before = look(workers);
    await pause(watch * 1000);
    return { n, ...group(before, look(workers)), ...memories(workers) };
  } finally {
    await run.stop();
  }
}

async function measure({ smoke, node, log }) {
  const found = builds();
  if (found.length === 0) throw new Error('no program: run make first');
  const pace = smoke ? { settle: 2, watch: 5, flush: '1s' } : { settle: 1, watch: 20, flush: '10s' };
  const result = { pace, scenes: [], skipped: [], bytes: {} };
  if (!found.some((b) => b.name === 'static')) result.skipped.push('static build: there is none (make dist)');
  result.without = await without(node, 8, pace.watch);
  for (const build of found) {
    for (const one of scenes(smoke)) {
      if (available() < one[0] * WORKER_KIB) {
        result.skipped.push(`${build.name}, ${one[0]} workers: only ${mib(available())} MiB of memory left`);
        continue;
      }
      const s = await scene(build, one, node, pace);
      result.scenes.push(s);
      log(`${build.name}: ${one[0]} workers at ${one[1]} Hz: helper ${mib(s.helper.private)} MiB private, ${number(s.helper.cpu)} % CPU`);
    }
    result.bytes[build.name] = fs.statSync(build.file).size;
  }
  return result;
}

// What must not happen on any machine, however busy.
function failures(r) {
  const all = [];
  for (const s of r.scenes) {
    for (const [name, n] of Object.entries(s.lost)) {
      if (n > 0) all.push(`${s.build}, ${s.n} workers at ${s.hz} Hz: ${name} is ${n}`);
    }
    if (s.samples === 0) all.push(`${s.build}, ${s.n} workers at ${s.hz} Hz: no sample came`);
  }
  return all;
}

function tables(r) {
  const lost = (s) => sum(Object.values(s.lost));
  const header = ['build', 'workers', 'Hz', 'helper private MiB', 'RSS MiB', 'CPU %', 'wake-ups/s', 'init private MiB', 'RSS MiB',
    'wake-ups/s', 'samples/s', 'lost', 'late turns', 'machine busy %'];
  const rows = r.scenes.map((s) => [s.build, s.n, s.hz, mib(s.helper.private), mib(s.helper.rss), number(s.helper.cpu),
    number(s.helper.wakeups, 1), mib(s.init.private), mib(s.init.rss), number(s.init.wakeups, 2), number(s.samples, 1), lost(s), s.late,
    number(s.machine, 0)]);
  const w = r.without;
  const workerRow = (name, x) => [name, mib(x.rss), mib(x.private), number(x.cpu, 3), number(x.wakeups, 2)];
  const idle = [workerRow(`without us, ${w.n} workers`, w),
    ...r.scenes.map((s) => workerRow(`${s.build}, ${s.n} workers at ${s.hz} Hz`, s.workers))];
  const out = [
    ['Helper and init', table(header, rows)],
    ['An idle worker (mean)', table(['', 'RSS MiB', 'private MiB', 'CPU %', 'wake-ups/s'], idle)],
  ];
  if (r.skipped.length) out.push(['Not measured', r.skipped.map((text) => `- ${text}`).join('\n')]);
  return out;
}

// The static release counts; of the dynamic build only what the design gives a figure for.
function budgets(r) {
  const at = (build, n, hz) => r.scenes.find((s) => s.build === build && s.n === n && s.hz === hz);
  const rows = [];
  if (r.bytes.static) rows.push(budget('program, static, stripped', r.bytes.static / 2 ** 20, 4, 'MiB'));
  for (const build of [...new Set(r.scenes.map((s) => s.build))]) {
    const small = at(build, 8, 1);
    const big = at(build, 64, 10);
    const many1 = at(build, 64, 1);
    if (small) {
      rows.push(budget(`helper, 8 workers at 1 Hz, private (${build})`, small.helper.private / 1024, build === 'static' ? 2.5 : 4, 'MiB'));
      if (build === 'static') rows.push(budget('helper, 8 workers at 1 Hz, RSS (static)', small.helper.rss / 1024, 6, 'MiB'));
      rows.push(budget(`helper, 8 workers at 1 Hz, CPU (${build})`, small.helper.cpu, 0.3, '% of a core'));
      rows.push(budget(`idle worker at 1 Hz, wake-ups more (${build})`, small.workers.wakeups - r.without.wakeups, 3, 'a second'));
    }
    if (small && many1) {
      rows.push(budget(`helper, each worker more, private (${build})`, (many1.helper.private - small.helper.private) / 56, 16, 'KiB', { digits: 1 }));
    }
    if (big) {
      rows.push(budget(`helper, 64 workers at 10 Hz, CPU (${build})`, big.helper.cpu, 5, '% of a core'));
      rows.push(budget(`64 workers at 10 Hz, samples lost (${build})`, sum(Object.values(big.lost)), 0, 'samples', { digits: 0 }));
    }
  }
  return rows;
}

module.exports = { title: 'Footprint', measure, failures, tables, budgets };
