'use strict';
// sidebyside.js - what a busy HTTP server pays for us: the same server twice, under `pillion run` and alone, both at work at the
// same time on the same core, each with a wrk of its own on the other core.
//
// What a virtual machine's neighbours take changes the speed of a core by tens of per cent from one second to the next; two
// processes that share the core by milliseconds both get the same of it. What is left is that two equal processes differ by some
// per cent (memory layout, timing of the compiler): each round starts both anew, and the medians of many rounds bear it. The core
// is full, so the CPU time that a request takes is what throughput is made of: it is the figure to look at. "two without us" shows
// the noise. The helper's own time is in the footprint.

const path = require('node:path');

const nodes = require('../nodes');
const load = require('./lib/load');
const proc = require('./lib/proc');
const { Plain, Run, builds, waitFor } = require('./lib/pillion');
const { median, pairedPercent } = require('./lib/stats');
const { budget, middle, number, table } = require('./lib/report');

const SERVER = path.join(__dirname, 'apps/server.js');
const PORTS = { with: 18180, without: 18190 };
const KEYS = ['cpu', 'rps', 'p99']; // µs of CPU time per request; requests/s; ms

const url = (port) => `http://127.0.0.1:${port}/`;

async function start(build, { node, kind, real }, side) {
  const command = [node, SERVER, String(PORTS[side]), kind];
  const ours = real && side === 'with';
  // Each in a session of its own, as Plain is: the scheduler shares the core among sessions first.
  const options = { before: [...(ours ? ['setsid'] : []), 'taskset', '-c', load.SERVER_CORE] };
  const run = ours ? new Run(build.file, command, options) : new Plain(command, options);
  try {
    run.pid = ours ? (await run.workers(1))[0].pid : run.init;
    await waitFor('the server listens', () => run.output.includes('ready'));
    return run;
  } catch (e) {
    await run.stop();
    throw e;
  }
}

async function loaded(run, port, seconds) {
  const before = proc.cost(run.pid);
  const r = await load.wrk(url(port), seconds);
  return { ...r, cpu: Number(proc.cost(run.pid).ns - before.ns) / 1000 / r.requests };
}

// One round: { with, without }; what is started first turns round each time.
async function round(build, what, n, { warm, seconds }) {
  const sides = n % 2 ? ['with', 'without'] : ['without', 'with'];
  const runs = [];
  try {
    for (const side of sides) runs.push(await start(build, what, side));
    const both = (s) => Promise.all(runs.map((run, i) => loaded(run, PORTS[sides[i]], s)));
    await both(warm);
    const results = await both(seconds);
    return Object.fromEntries(sides.map((side, i) => [side, results[i]]));
  } finally {
    for (const run of runs) await run.stop();
  }
}

function scenes(smoke, own) {
  const have = nodes.list().filter((n) => n.node);
  const versions = have.length ? have.map((n) => ({ name: `Node ${n.version}`, node: n.node })) : [{ name: `Node ${process.version}`, node: own }];
  const main = versions.find((v) => v.name.includes(process.version.split('.')[0])) || versions[0];
  if (smoke) return [{ ...main, kind: 'hello', real: true }];
  return [
    ...versions.map((v) => ({ ...v, kind: 'hello', real: true })),
    { ...main, kind: 'json', real: true },
    { ...main, kind: 'hello', real: false },
  ];
}

const title = (s) => `${s.name} ${s.kind}${s.real ? '' : ', two without us'}`;
const of = (s, side, key) => s.rounds.map((r) => r[side][key]);
const differences = (s, key) => pairedPercent(of(s, 'without', key), of(s, 'with', key));

async function measure({ smoke, rounds, node, log }) {
  const why = load.missing();
  if (why) return { skipped: why, scenes: [] };
  const build = builds().find((b) => b.name === 'static') || builds()[0];
  const pace = smoke ? { rounds: 3, warm: 1, seconds: 1 } : { rounds: rounds || 24, warm: 2, seconds: 2 };
  const result = { build: build.name, pace, scenes: [], missing: nodes.list().filter((n) => !n.node).map((n) => n.reason) };
  for (const what of scenes(smoke, node)) {
    const s = { name: what.name, kind: what.kind, real: what.real, rounds: [] };
    for (let n = 0; n < pace.rounds; n++) s.rounds.push(await round(build, what, n, pace));
    result.scenes.push(s);
    log(`${title(s)}: ${KEYS.map((key) => `${key} ${middle(differences(s, key))}`).join(', ')}`);
  }
  return result;
}

function failures(r) {
  return r.scenes.filter((s) => [...of(s, 'with', 'errors'), ...of(s, 'without', 'errors')].some(Boolean)).map((s) => `${title(s)}: failed requests`);
}

function tables(r) {
  if (r.skipped) return [['Side by side', `Skipped: ${r.skipped}`]];
  const rows = r.scenes.map((s) => [title(s), s.rounds.length, number(median(of(s, 'without', 'cpu'))),
    ...KEYS.map((key) => middle(differences(s, key)))]);
  const out = [[`The same server with us and without us on one core (${r.build} build): medians of the paired differences, 95 % interval`,
    table(['', 'rounds', 'CPU µs/request without', 'with: CPU per request', 'requests/s', 'p99'], rows)]];
  if (r.missing.length) out.push(['Versions not measured', r.missing.map((m) => `- ${m}`).join('\n')]);
  return out;
}

function budgets(r) {
  return r.scenes.filter((s) => s.real).flatMap((s) => {
    const cpu = differences(s, 'cpu');
    const p99 = differences(s, 'p99');
    return [
      budget(`throughput lost (CPU per request more), ${title(s)}`, cpu.median, 1, '%', cpu),
      budget(`p99 more, ${title(s)}`, p99.median, 1, '%', p99),
    ];
  });
}

module.exports = { title: 'What a busy application pays', measure, failures, tables, budgets };
