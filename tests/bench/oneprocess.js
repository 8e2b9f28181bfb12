'use strict';
// oneprocess.js - what the preload takes from a busy HTTP server, looked at closely: one server process under `pillion run`, our
// part switched off and on in turn (apps/switch.js), throughput and latency of each phase, paired. The order within a pair turns
// round each time. Everything of ours shares the server's core; wrk has the other. "nothing switched" shows the noise.

const path = require('node:path');
const http = require('node:http');

const nodes = require('../nodes');
const load = require('./lib/load');
const { Run, builds, pause, waitFor } = require('./lib/pillion');
const { median, pairedPercent } = require('./lib/stats');
const { budget, number, percent, table } = require('./lib/report');

const SERVER = path.join(__dirname, 'apps/server.js');
const SWITCH = path.join(__dirname, 'apps/switch.js');
const PORT = 18180;
const URL = `http://127.0.0.1:${PORT}/`;
const SETTLE_MS = 300; // after a switch, for the compiler

function control(what) {
  return new Promise((resolve, reject) => {
    http.get(`http://127.0.0.1:${PORT + 1}/${what}`, { agent: false }, (rs) => {
      let text = '';
      rs.on('data', (d) => (text += d)).on('end', () => resolve(Number(text)));
    }).on('error', reject);
  });
}

// A scene: { name, node, kind, real }; real false: nothing is switched.
async function scene(build, { node, kind, real }, { pairs, seconds, warm }) {
  const run = new Run(build.file, [node, SERVER, String(PORT), kind], {
    before: ['taskset', '-c', load.SERVER_CORE],
    env: { NODE_OPTIONS: `--require="${SWITCH}"`, BENCH_SWITCH_PORT: String(PORT + 1) },
  });
  try {
    await run.workers(1);
    await waitFor('the server listens', () => run.output.includes('ready'));
    const hooked = await control('state');
    if (hooked === 0) throw new Error('the preload hooked into nothing: there is nothing to switch');
    await load.wrk(URL, warm);
    const phase = async (on) => {
      await control(real ? (on ? 'on' : 'off') : 'state');
      await pause(SETTLE_MS);
      return load.wrk(URL, seconds);
    };
    const off = [];
    const on = [];
    for (let i = 0; i < pairs; i++) {
      if (i % 2) on.push(await phase(true));
      off.push(await phase(false));
      if (i % 2 === 0) on.push(await phase(true));
    }
    return { hooked, off, on };
  } finally {
    await run.stop();
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

async function measure({ smoke, rounds, node, log }) {
  const why = load.missing();
  if (why) return { skipped: why, scenes: [] };
  const build = builds().find((b) => b.name === 'static') || builds()[0];
  const pace = smoke ? { pairs: 2, seconds: 1, warm: 1 } : { pairs: rounds || 14, seconds: 2, warm: 4 };
  const result = { build: build.name, pace, scenes: [], missing: nodes.list().filter((n) => !n.node).map((n) => n.reason) };
  for (const s of scenes(smoke, node)) {
    const r = await scene(build, s, pace);
    result.scenes.push({ name: s.name, kind: s.kind, real: s.real, ...r });
    const rps = (runs) => runs.map((x) => x.rps);
    log(`${s.name} ${s.kind}${s.real ? '' : ', nothing switched'}: ${percent(pairedPercent(rps(r.off), rps(r.on)))}`);
  }
  return result;
}

const of = (runs, key) => runs.map((x) => x[key]);

function failures(r) {
  return r.scenes.filter((s) => [...s.off, ...s.on].some((x) => x.errors)).map((s) => `${s.name} ${s.kind}: failed requests`);
}

function tables(r) {
  if (r.skipped) return [['One process, switched', `Skipped: ${r.skipped}`]];
  const rows = r.scenes.map((s) => {
    const p99 = pairedPercent(of(s.off, 'p99'), of(s.on, 'p99'));
    const rps = pairedPercent(of(s.off, 'rps'), of(s.on, 'rps'));
    return [s.name, s.real ? s.kind : `${s.kind}, nothing switched`, s.on.length, number(median(of(s.off, 'rps')), 0),
      number(median(of(s.on, 'rps')), 0), percent(rps), `${number(rps.median)} %`, number(median(of(s.off, 'p99'))),
      number(median(of(s.on, 'p99'))), percent(p99)];
  });
  const out = [[`One process, our part switched off and on (${r.build} build)`, table(['', 'application', 'pairs', 'requests/s off', 'on',
    'difference', 'median', 'p99 ms off', 'on', 'difference'], rows)]];
  if (r.missing.length) out.push(['Versions not measured', r.missing.map((m) => `- ${m}`).join('\n')]);
  return out;
}

function budgets(r) {
  return r.scenes.filter((s) => s.real).flatMap((s) => {
    const rps = pairedPercent(of(s.off, 'rps'), of(s.on, 'rps'));
    const p99 = pairedPercent(of(s.off, 'p99'), of(s.on, 'p99'));
    return [
      budget(`throughput lost, ${s.name} ${s.kind}`, -rps.mean, 1, '%', { half: rps.half }),
      budget(`p99 more, ${s.name} ${s.kind}`, p99.mean, 1, '%', { half: p99.half }),
    ];
  });
}

module.exports = { title: 'What a busy application pays', measure, failures, tables, budgets };
