#!/usr/bin/env node
'use strict';
// init.js - `pillion run` beside tini and dumb-init, in turn: time from spawn to the application's first instruction, memory of the
// init process alone (its helper, which the others do not have, is in the other tables) and its wake-ups while nothing happens.
//
// "start" is read by the application itself (date +%N) and is compared with the same application without any init. It holds what
// the kernel needs for one more program: exec, dynamic linking, fork. A part as run.js wants it; as a program it prints its table.

const { spawn, spawnSync } = require('node:child_process');

const proc = require('./lib/proc');
const harness = require('../integration/lib/harness');
const { Run, builds, pause } = require('./lib/pillion');
const { quantile, median } = require('./lib/stats');
const { budget, number, table } = require('./lib/report');

const OTHERS = [['tini', '-s', '--'], ['dumb-init', '--'], ['dumb-init', '-c', '--']];

function candidates() {
  const ours = builds().map(({ name, file }) => ({ name: `pillion run (${name})`, argv: [file, 'run', '--'], ours: file, build: name }));
  const theirs = OTHERS.filter(([command]) => spawnSync(command, ['--version']).error === undefined)
    .map((argv) => ({ name: argv.slice(0, -1).join(' '), argv }));
  return [{ name: 'no init', argv: [] }, ...ours, ...theirs];
}

// ms from just before spawn to the application's own look at the clock.
function startOnce(argv, env) {
  const command = [...argv, 'date', '+%s%N'];
  const begin = performance.timeOrigin + performance.now();
  const r = spawnSync(command[0], command.slice(1), { env, encoding: 'utf8' });
  if (r.status !== 0) throw new Error(`${command.join(' ')}: ${r.stderr || r.error}`);
  return Number(BigInt(r.stdout.trim()) / 1000n) / 1000 - begin;
}

// Memory, and wake-ups in so many seconds of nothing.
async function idle(candidate, seconds) {
  const run = candidate.ours ? new Run(candidate.ours, ['sleep', '1000']) : null;
  const child = run ? null : spawn(candidate.argv[0], [...candidate.argv.slice(1), 'sleep', '1000'], { stdio: 'ignore' });
  try {
    if (run) await run.running.waitReady();
    await pause(1500);
    const pid = run ? run.init : child.pid;
    const before = proc.cost(pid);
    await pause(seconds * 1000);
    return { ...proc.memory(pid), wakeups: proc.cost(pid).wakeups - before.wakeups };
  } finally {
    if (run) await run.stop();
    else child.kill('SIGKILL');
  }
}

async function measure({ smoke = false } = {}) {
  const all = candidates();
  const scope = { after(fn) { this.end = fn; } };
  const dir = harness.tempDir(scope);
  const env = harness.cleanEnv({ PILLION_RUNTIME_DIR: `${dir}/run`, PILLION_DATA_DIR: `${dir}/data`, PILLION_LOG: 'error' });
  const rounds = smoke ? 5 : 50;
  const seconds = smoke ? 2 : 10;
  for (const c of all) c.start = [];
  for (let i = 0; i < rounds; i++) for (const c of all) c.start.push(startOnce(c.argv, env));
  for (const c of all) if (c.argv.length > 0) c.idle = await idle(c, seconds);
  await scope.end();
  return { seconds, rounds, all: all.map(({ name, build, start, idle: i }) => ({ name, build, start, idle: i })) };
}

function tables({ seconds, rounds, all }) {
  const rows = all.map(({ name, start, idle: i }) => [
    name, number(quantile(start, 0)), number(median(start)),
    number(quantile(start, 0) - quantile(all[0].start, 0)),
    i ? i.rss : '', i ? i.dirty : '', i ? i.private : '', i ? i.wakeups : '',
  ]);
  const header = ['init', 'start min, ms', 'start median, ms', 'more than without, min, ms', 'RSS, KiB', 'Private_Dirty, KiB', 'private, KiB', `wake-ups in ${seconds} s`];
  return [[`Init processes: start of the application (${rounds} times, in turn), and the init process at rest`, table(header, rows)]];
}

function budgets({ all }) {
  const row = all.find((c) => c.build === 'static') || all.find((c) => c.build);
  return [
    budget(`init (${row.build}): private memory`, row.idle.private / 1024, 0.6, 'MiB'),
    budget(`init (${row.build}): wake-ups while nothing happens`, row.idle.wakeups, 0, '', { digits: 0 }),
    budget(`init (${row.build}): start to exec of the application`, quantile(row.start, 0) - quantile(all[0].start, 0), 5, 'ms'),
  ];
}

module.exports = { title: 'init beside tini and dumb-init', measure, tables, budgets, failures: () => [] };

if (require.main === module) {
  measure({ smoke: process.argv.includes('--smoke') }).then((r) => {
    for (const [title, text] of tables(r)) console.log(`${title}\n\n${text}\n`);
    console.log(table(['budget', 'limit', 'measured', ''], budgets(r)));
  });
}
