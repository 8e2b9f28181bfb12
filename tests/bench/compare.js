'use strict';
// compare.js - one clustered application in turn alone, with us, and with what people use today; each round runs every variant
// once, so that what drifts on the machine is in all of them. Throughput and latency are those of separate processes, which on
// a shared machine differ by some per cent between two equal ones: the interval says so. sidebyside.js looks closer at ours.

const http = require('node:http');
const fs = require('node:fs');
const os = require('node:os');
const path = require('node:path');

const { Plain, Run, builds, pause, waitFor } = require('./lib/pillion');
const load = require('./lib/load');
const packages = require('./lib/packages');
const proc = require('./lib/proc');
const { mean, median, pairedPercent } = require('./lib/stats');
const { mib, number, percent, table } = require('./lib/report');

const SERVER = path.join(__dirname, 'apps/server.js');
const PORT = 18080;
const WORKERS = 2;
const SCRAPE_MS = 2000;
const PIN = ['taskset', '-c', load.SERVER_CORE];

function fetch(url) {
  return new Promise((resolve) => {
    http.get(url, { agent: false, timeout: 5000 }, (rs) => rs.resume().on('end', () => resolve(rs.statusCode === 200))).on('error', () => resolve(false));
  });
}

const command = (node, kind, more = []) => [node, SERVER, String(PORT), kind, '--cluster', String(WORKERS), ...more];

// Each variant: start() gives { init, output, stop(), scrape() }; everything of it runs on the server's core.
function variants(node, build, have) {
  const list = [{ name: 'alone', start: (kind) => new Plain(command(node, kind), { before: PIN }) }];
  list.push({
    name: `pillion (${build.name})`,
    start: (kind) => {
      const run = new Run(build.file, command(node, kind), { before: PIN });
      return Object.assign(run, { ready: () => run.workers(WORKERS + 1) });
    },
  });
  if (have['prom-client'].dir) {
    list.push({
      name: `prom-client ${have['prom-client'].version}`,
      start: (kind) => {
        const run = new Plain(command(node, kind, ['--with', 'prom-client', '--packages', have['prom-client'].dir]), { before: PIN });
        return Object.assign(run, { scrape: () => fetch(`http://127.0.0.1:${PORT + 1}/`) });
      },
    });
  }
  if (have.xprofiler.dir && have.xtransit.dir) list.push(xprofiler(node, have));
  return list;
}

// The add-on writes logs in each process; xtransit (a guard and a client, as its start command starts them) reads them and sends
// them by WebSocket to a server that takes everything.
function xprofiler(node, have) {
  const modules = path.join(have.xtransit.dir, 'node_modules');
  const { WebSocketServer } = require(path.join(modules, 'ws'));
  return {
    name: `xprofiler ${have.xprofiler.version} + xtransit ${have.xtransit.version}`,
    start: (kind) => {
      const dir = fs.mkdtempSync(path.join(os.tmpdir(), 'pillion-bench-'));
      const config = path.join(dir, 'xtransit.json');
      const sink = new WebSocketServer({ host: '127.0.0.1', port: PORT + 2 });
      fs.writeFileSync(config, JSON.stringify({ server: `ws://127.0.0.1:${PORT + 2}`, appId: 1, appSecret: 'x', logDir: dir }));
      const run = new Plain(['sh', '-c', '"$1" "$2" "$3" & shift 3; exec "$@"', 'sh', node, path.join(modules, 'xtransit/bin/main.js'), config,
        ...command(node, kind, ['--with', 'xprofiler', '--packages', have.xprofiler.dir])],
      { before: PIN, env: { XPROFILER_LOG_DIR: dir, HOME: dir } });
      const stop = () => Plain.prototype.stop.call(run);
      run.ready = () => waitFor('xtransit is connected', () => sink.clients.size > 0);
      run.stop = async () => {
        await stop();
        for (const client of sink.clients) client.terminate();
        await new Promise((resolve) => sink.close(resolve));
        fs.rmSync(dir, { recursive: true, force: true });
      };
      return run;
    },
  };
}

function footprint(root) {
  const all = proc.tree(root).map(proc.memory).filter(Boolean);
  const total = (key) => all.reduce((s, m) => s + m[key], 0);
  return { processes: all.length, rss: total('rss'), pss: total('pss') };
}

async function once(variant, kind, { warm, seconds, idle }) {
  const run = variant.start(kind);
  let timer;
  try {
    await waitFor(`${variant.name} is ready`, () => run.output.includes('ready')).catch((e) => {
      throw new Error(`${e.message}\n${run.output}`);
    });
    if (run.ready) await run.ready();
    if (run.scrape) timer = setInterval(() => run.scrape().catch(() => {}), SCRAPE_MS);
    let quiet = null;
    if (idle) {
      await pause(idle * 1000);
      quiet = footprint(run.init);
    }
    await load.wrk(`http://127.0.0.1:${PORT}/`, warm);
    return { ...(await load.wrk(`http://127.0.0.1:${PORT}/`, seconds)), idle: quiet, loaded: footprint(run.init) };
  } finally {
    clearInterval(timer);
    await run.stop();
    await waitFor('the port is free', () => fetch(`http://127.0.0.1:${PORT}/`).then((up) => !up));
  }
}

async function measure({ smoke, rounds, node, log }) {
  const why = load.missing();
  if (why) return { skipped: why };
  const build = builds().find((b) => b.name === 'static') || builds()[0];
  const have = packages.get({ install: !smoke });
  const list = variants(node, build, have);
  const pace = smoke ? { warm: 1, seconds: 1, idle: 1, rounds: 1 } : { warm: 1, seconds: 2, idle: 4, rounds: rounds || 12 };
  const result = { pace, node: process.version, missing: [], kinds: {} };
  for (const [name, p] of Object.entries(have)) if (!p.dir) result.missing.push(`${name}: ${p.reason}`);
  for (const kind of smoke ? ['hello'] : ['hello', 'json']) {
    const rows = Object.fromEntries(list.map((v) => [v.name, []]));
    for (let round = 0; round < pace.rounds; round++) {
      // The order turns round from one round to the next; memory at rest is looked at in the first alone.
      const order = round % 2 ? [...list].reverse() : list;
      for (const v of order) rows[v.name].push(await once(v, kind, { ...pace, idle: round === 0 ? pace.idle : 0 }));
      log(`${kind}, round ${round + 1} of ${pace.rounds}: ` + list.map((v) => `${v.name} ${number(rows[v.name][round].rps, 0)}/s`).join(', '));
    }
    result.kinds[kind] = rows;
  }
  return result;
}

// What others do under load is shown (by their figures), not held against us.
function failures(r) {
  const all = [];
  for (const [kind, rows] of Object.entries(r.kinds || {})) {
    for (const [name, runs] of Object.entries(rows).filter(([n]) => n.startsWith('pillion'))) {
      const errors = runs.reduce((s, x) => s + x.errors, 0);
      if (errors) all.push(`${kind}, ${name}: ${errors} failed requests`);
    }
  }
  return all;
}

function tables(r) {
  if (r.skipped) return [['Application with each of them', `Skipped: ${r.skipped}`]];
  const out = [];
  for (const [kind, rows] of Object.entries(r.kinds)) {
    const alone = rows.alone;
    const lines = Object.entries(rows).map(([name, runs]) => {
      const rps = runs.map((x) => x.rps);
      const self = name === 'alone';
      const idle = runs[0].idle;
      return [name, number(median(rps), 0), self ? '' : percent(pairedPercent(alone.map((x) => x.rps), rps)),
        number(median(runs.map((x) => x.p99))), self ? '' : percent(pairedPercent(alone.map((x) => x.p99), runs.map((x) => x.p99))),
        idle.processes, mib(idle.rss), mib(idle.pss), self ? '' : mib(idle.pss - alone[0].idle.pss),
        mib(mean(runs.map((x) => x.loaded.pss)))];
    });
    out.push([`Cluster of ${WORKERS} workers and primary, "${kind}"`, table(['with', 'requests/s', 'against alone', 'p99 ms', 'against alone',
      'processes', 'RSS MiB', 'PSS MiB', 'PSS more', 'PSS under load'], lines)]);
  }
  if (r.missing.length) out.push(['Not compared', r.missing.map((m) => `- ${m}`).join('\n')]);
  return out;
}

module.exports = { title: 'Beside what people use today', measure, failures, tables, budgets: () => [] };
