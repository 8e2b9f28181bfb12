'use strict';
// init.js - our init beside tini and dumb-init: how much later the application starts than without, how much later its end is
// seen, what the process takes while nothing happens. None of them is pid 1 here (tini: -s, as a subreaper).
//
// Start: from just before the spawn to the clock that the application prints first; end: from just after it printed to the exit of
// the init. Both against starting the application directly, in turn. Ours starts and stops a helper as well: its start is not
// waited for, its end is.

const { spawn, spawnSync } = require('node:child_process');
const fs = require('node:fs');
const os = require('node:os');
const path = require('node:path');

const { builds, pause } = require('./lib/pillion');
const proc = require('./lib/proc');
const { median, quantile } = require('./lib/stats');
const { budget, mib, number, table } = require('./lib/report');

const nowMs = () => performance.timeOrigin + performance.now();

// [{ name, file, argv }]: argv goes in front of the command.
function inits(dir) {
  const find = (name) => spawnSync('sh', ['-c', `command -v ${name}`], { encoding: 'utf8' }).stdout.trim();
  const version = (file) => {
    const r = spawnSync(file, ['--version'], { encoding: 'utf8' });
    return ((r.stdout + r.stderr).match(/\d+\.\d+(\.\d+)?/) || ['?'])[0];
  };
  const list = builds().map((b) => ({ name: `pillion run (${b.name})`, build: b.name, file: b.file, argv: [b.file, 'run', '--'] }));
  for (const [name, options] of [['tini', ['-s', '--']], ['dumb-init', ['--']]]) {
    const file = find(name);
    if (file) list.push({ name: `${name} ${version(file)}`, file, argv: [file, ...options] });
    else list.push({ name, missing: 'not installed' });
  }
  const env = { PATH: process.env.PATH, PILLION_RUNTIME_DIR: path.join(dir, 'run'), PILLION_DATA_DIR: path.join(dir, 'data') };
  return { list, env };
}

// { start, end } in ms.
function once(argv, env) {
  return new Promise((resolve, reject) => {
    const from = nowMs();
    const [file, ...rest] = [...argv, 'date', '+%s%N'];
    const child = spawn(file, rest, { env, stdio: ['ignore', 'pipe', 'ignore'] });
    let text = '';
    child.stdout.on('data', (d) => (text += d));
    child.on('error', reject);
    child.on('close', () => {
      const printed = Number(BigInt(text.trim()) / 1000n) / 1000;
      resolve({ start: printed - from, end: nowMs() - printed });
    });
  });
}

async function idle(one, env, seconds) {
  const child = spawn(one.argv[0], [...one.argv.slice(1), 'sleep', '1000'], { env, stdio: 'ignore' });
  const ended = new Promise((resolve) => child.on('exit', resolve));
  try {
    await pause(2000);
    const before = proc.cost(child.pid);
    await pause(seconds * 1000);
    const after = proc.cost(child.pid);
    return { ...proc.rate(before, after), ...proc.memory(child.pid) };
  } finally {
    child.kill('SIGTERM');
    await ended;
  }
}

async function measure({ smoke, log }) {
  const dir = fs.mkdtempSync(path.join(os.tmpdir(), 'pillion-bench-'));
  const { list, env } = inits(dir);
  const rounds = smoke ? 10 : 60;
  const result = { rounds, direct: [], inits: [], missing: list.filter((i) => i.missing).map((i) => `${i.name}: ${i.missing}`) };
  try {
    spawnSync('sync');
    for (const i of list.filter((x) => !x.missing)) {
      result.inits.push({ name: i.name, build: i.build, bytes: fs.statSync(i.file).size, runs: [], idle: await idle(i, env, smoke ? 3 : 20) });
    }
    for (let round = 0; round < rounds; round++) {
      result.direct.push(await once([], env));
      for (const r of result.inits) r.runs.push(await once(list.find((i) => i.name === r.name).argv, env));
    }
    log(`${rounds} rounds of ${result.inits.length} inits`);
  } finally {
    fs.rmSync(dir, { recursive: true, force: true });
  }
  return result;
}

const later = (r, runs, key) => runs.map((x, n) => x[key] - r.direct[n][key]);

function tables(r) {
  const rows = r.inits.map((i) => [i.name, number(median(later(r, i.runs, 'start'))), number(quantile(later(r, i.runs, 'start'), 0.95)),
    number(median(later(r, i.runs, 'end'))), mib(i.idle.rss), mib(i.idle.private), number(i.idle.wakeups), number(i.bytes / 1024, 0)]);
  const out = [[`Beside the application itself (${r.rounds} rounds in turn)`, table(['', 'start later by, ms', '95 %', 'end later by, ms',
    'RSS MiB', 'private MiB', 'wake-ups/s', 'file KiB'], rows)]];
  if (r.missing.length) out.push(['Not compared', r.missing.map((m) => `- ${m}`).join('\n')]);
  return out;
}

function budgets(r) {
  const ours = r.inits.find((i) => i.build === 'static');
  return ours ? [budget('start to exec of the application, median (static)', median(later(r, ours.runs, 'start')), 5, 'ms')] : [];
}

module.exports = { title: 'Init', measure, tables, budgets, failures: () => [] };
