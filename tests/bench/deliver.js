'use strict';
// deliver.js - what delivery costs: eight clustered workers under a light load, sampled at 1 Hz, and a sink over HTTP in this
// process that notes when each batch came.
//
//   live   the sink takes everything: time until it has a sample, the helper's CPU and memory, bytes written to the spool
//   away   it answers 503 for a while: bytes that a sample takes in the spool then, and how long 64 MiB last
//   back   it takes again: how fast the backlog comes, and what that costs
//
// Beside it an OpenTelemetry Collector that is given the same lines (as OTLP logs, JSON: it reads no NDJSON) and writes them to a
// file, where tests/services has built one. Vector and Fluent Bit are in none of the registries that the tests may use.
//
// A worker's sample carries the rest with it: bytes a sample are all bytes of the spool (the primary's records, the container's,
// heads, indices) over the samples of the eight.

const fs = require('node:fs');
const http = require('node:http');
const net = require('node:net');
const os = require('node:os');
const path = require('node:path');
const zlib = require('node:zlib');
const { execFileSync, spawn } = require('node:child_process');

const { Run, builds, pause, waitFor } = require('./lib/pillion');
const proc = require('./lib/proc');
const { quantile } = require('./lib/stats');
const { budget, mib, number, table } = require('./lib/report');

const SERVER = path.join(__dirname, 'apps/server.js');
const WORKERS = 8;
const SPOOL_BYTES = 64 * 2 ** 20;
const DAY = 24 * 3600;
const COLLECTOR = 'otelcol-0.160.0/otelcol';
const LOSSES = ['samples_missing', 'samples_dropped', 'batches_dropped', 'spool_samples_dropped', 'spool_damaged'];

const paces = (smoke) => (smoke
  ? { flush: '1s', settle: 2, live: 4, away: 5, lines: 4000, rate: 50 }
  : { flush: '10s', settle: 15, live: 60, away: 120, lines: 50000, rate: 150 });

const listen = (server) => new Promise((resolve) => server.listen(0, '127.0.0.1', () => resolve(server.address().port)));

async function freePort() {
  const server = net.createServer();
  const port = await listen(server);
  await new Promise((resolve) => server.close(resolve));
  return port;
}

// The sink: notes each batch with the time it came; `away`: 503.
class Hub {
  constructor() {
    this.batches = [];
    this.away = false;
    this.server = http.createServer((rq, rs) => {
      const parts = [];
      rq.on('data', (d) => parts.push(d)).on('end', () => {
        if (this.away) return rs.writeHead(503, { 'retry-after': '1' }).end();
        const key = rq.headers['idempotency-key']; // the empty batch has none
        if (key) this.batches.push({ at: Date.now(), key, body: Buffer.concat(parts) });
        return rs.writeHead(204).end();
      });
    });
  }

  async start() {
    this.port = await listen(this.server);
    return this;
  }

  stop() {
    this.server.closeAllConnections();
    return new Promise((resolve) => this.server.close(resolve));
  }
}

const lines = (batch) => zlib.gunzipSync(batch.body).toString().trimEnd().split('\n').slice(1);
const ofWorkers = (records) => records.filter((r) => r.kind === 'process' && r.role === 'worker');

// A request now and then, at random, so that counters and heaps move.
function startLoad(port, rate) {
  const agent = new http.Agent({ keepAlive: true, maxSockets: 16 });
  let timer;
  const next = () => {
    http.get({ port, agent, path: '/' }, (rs) => rs.resume()).on('error', () => {}); // the server may be ending
    timer = setTimeout(next, (-Math.log(1 - Math.random()) * 1000) / rate);
  };
  next();
  return () => {
    clearTimeout(timer);
    agent.destroy();
  };
}

const counters = async (run) => (await run.status()).counters;

// What passed between two looks: the helper's CPU, its counters, and the samples of workers that it was given.
async function look(run, pid) {
  return { cost: proc.cost(pid), counters: await counters(run) };
}

function between(a, b) {
  const samples = b.counters.samples_received - a.counters.samples_received;
  return {
    ...proc.rate(a.cost, b.cost),
    samples,
    perThousandMs: (Number(b.cost.ns - a.cost.ns) / 1e6 / Math.max(1, samples)) * 1000,
    written: b.counters.spool_bytes_written - a.counters.spool_bytes_written,
    packed: b.counters.spool_packed - a.counters.spool_packed,
  };
}

async function live(run, helper, hub, pace) {
  const from = hub.batches.length;
  const before = await look(run, helper);
  await pause(pace.live * 1000);
  const after = await look(run, helper);
  const latencies = [];
  const closed = [];
  for (const batch of hub.batches.slice(from)) {
    const times = lines(batch).map((l) => Date.parse(JSON.parse(l).time));
    latencies.push(...times.map((t) => batch.at - t));
    closed.push(batch.at - Math.max(...times));
  }
  if (latencies.length === 0) throw new Error('no batch came');
  return {
    ...between(before, after),
    p50: quantile(latencies, 0.5), max: Math.max(...latencies), fromClose: quantile(closed, 0.5), memory: proc.memory(helper),
  };
}

// Bytes of the packed ones alone: until a sink is three batches behind they are written as they are.
async function away(run, helper, hub, pace) {
  hub.away = true;
  const start = await counters(run);
  await waitFor('a packed batch', async () => (await counters(run)).spool_packed > start.spool_packed, 60000 + 1000 * pace.away);
  const before = await look(run, helper);
  await pause(pace.away * 1000);
  const after = await look(run, helper);
  const r = between(before, after);
  // The workers' share of all that is sampled; the primary's samples are the rest.
  return { ...r, perSample: r.written / ((r.samples * WORKERS) / (WORKERS + 1)), memory: proc.memory(helper) };
}

async function back(run, helper, hub) {
  const from = hub.batches.length;
  const before = await look(run, helper);
  hub.away = false;
  await waitFor('the backlog is through', async () => {
    const s = (await run.status()).sinks[0];
    return hub.batches.length > from && s.backlog <= 1;
  }, 120000);
  const after = await look(run, helper);
  const came = hub.batches.slice(from);
  const keys = new Set(hub.batches.map((b) => b.key));
  return {
    batches: came.length,
    records: came.reduce((s, b) => s + lines(b).length, 0),
    seconds: Math.max(0.001, (came[came.length - 1].at - came[0].at) / 1000),
    cpuMs: Number(after.cost.ns - before.cost.ns) / 1e6,
    repeats: hub.batches.length - keys.size,
  };
}

// Samples of each worker without gaps, over all that came.
function missing(hub) {
  const seen = new Map();
  for (const batch of hub.batches) {
    for (const r of ofWorkers(lines(batch).map((l) => JSON.parse(l)))) {
      if (!seen.has(r.worker)) seen.set(r.worker, new Set());
      seen.get(r.worker).add(r.sample);
    }
  }
  let n = 0;
  for (const s of seen.values()) n += Math.max(...s) - Math.min(...s) + 1 - s.size;
  return n;
}

async function scene(build, node, pace, log) {
  const hub = await new Hub().start();
  const port = await freePort();
  const env = { PILLION_SINK: `hub+http://127.0.0.1:${hub.port}`, PILLION_FLUSH_INTERVAL: pace.flush };
  const run = new Run(build.file, [node, SERVER, String(port), 'json', '--cluster', String(WORKERS)], { env });
  let stopLoad = () => {};
  try {
    await run.workers(WORKERS + 1);
    stopLoad = startLoad(port, pace.rate);
    await waitFor('the first batch', () => hub.batches.length > 0, 60000);
    await pause(pace.settle * 1000);
    execFileSync('sync'); // pages of a program that was just built are dirty and would count as private
    const helper = run.helper();
    const r = { build: build.name, live: await live(run, helper, hub, pace) };
    log(`${build.name}: live, ${number(r.live.cpu)} % CPU, ${mib(r.live.memory.private)} MiB private`);
    r.away = await away(run, helper, hub, pace);
    log(`${build.name}: away, ${number(r.away.perSample, 1)} bytes a sample`);
    r.back = await back(run, helper, hub);
    const end = await counters(run);
    r.lost = Object.fromEntries(LOSSES.map((name) => [name, end[name]]));
    r.lost.records_missing = missing(hub);
    r.sample = lines(hub.batches[0]);
    return r;
  } finally {
    stopLoad();
    await run.stop();
    await hub.stop();
  }
}

// --- the OpenTelemetry Collector --------------------------------------------------------------------------------------------

const post = (port, body) => new Promise((resolve, reject) => {
  const rq = http.request({ port, path: '/v1/logs', method: 'POST', headers: { 'content-type': 'application/json', 'content-encoding': 'gzip' } },
    (rs) => rs.resume().on('end', () => (rs.statusCode === 200 ? resolve() : reject(new Error(`answer ${rs.statusCode}`)))));
  rq.on('error', reject).end(body);
});

const asLogs = (records) => zlib.gzipSync(JSON.stringify({
  resourceLogs: [{ scopeLogs: [{ logRecords: records.map((body) => ({ body: { stringValue: body } })) }] }],
}), { level: 1 });

async function collector(sample, pace) {
  const cache = process.env.SERVICES_CACHE ||
    path.join(process.env.XDG_CACHE_HOME || path.join(os.homedir(), '.cache'), 'pillion-services');
  const program = path.join(cache, COLLECTOR);
  if (!fs.existsSync(program)) return { skipped: 'it is not built (tests/services/otlp/build.sh)' };
  const dir = fs.mkdtempSync(path.join(os.tmpdir(), 'pillion-bench-'));
  const port = await freePort();
  const config = path.join(dir, 'config.yaml');
  const out = path.join(dir, 'logs.json');
  fs.writeFileSync(config, `receivers: {otlp: {protocols: {http: {endpoint: "127.0.0.1:${port}"}}}}\n` +
    `exporters: {file: {path: ${out}, flush_interval: 50ms}}\n` +
    'service: {telemetry: {metrics: {level: none}}, pipelines: {logs: {receivers: [otlp], exporters: [file]}}}\n');
  const child = spawn(program, ['--config', `file:${config}`], { stdio: 'ignore' });
  const ended = new Promise((resolve) => child.on('exit', resolve));
  try {
    const body = asLogs(sample);
    await waitFor('the collector answers', () => post(port, body).then(() => true));
    const before = proc.cost(child.pid);
    const start = Date.now();
    let n = 0;
    for (; n < pace.lines; n += sample.length) await post(port, body);
    const seconds = (Date.now() - start) / 1000;
    const after = proc.cost(child.pid);
    return {
      perThousandMs: (Number(after.ns - before.ns) / 1e6 / n) * 1000, rate: n / seconds, records: n, memory: proc.memory(child.pid),
      bytes: fs.statSync(out).size / (n + sample.length),
    };
  } finally {
    child.kill('SIGKILL');
    await ended;
    fs.rmSync(dir, { recursive: true, force: true });
  }
}

// --- the part ---------------------------------------------------------------------------------------------------------------

async function measure({ smoke, node, log }) {
  const found = builds();
  if (found.length === 0) throw new Error('no program: run make first');
  const pace = paces(smoke);
  const result = { pace, scenes: [] };
  // Smoke: one program is enough to see that everything runs.
  for (const build of smoke ? found.slice(-1) : found) result.scenes.push(await scene(build, node, pace, log));
  result.collector = await collector(result.scenes[0].sample, pace).catch((e) => ({ skipped: e.message }));
  for (const s of result.scenes) delete s.sample;
  return result;
}

function failures(r) {
  const all = [];
  for (const s of r.scenes) {
    for (const [name, n] of Object.entries(s.lost)) if (n > 0) all.push(`${s.build}: ${name} is ${n}`);
    if (s.away.packed === 0) all.push(`${s.build}: nothing was packed while the sink was away`);
  }
  return all;
}

function tables(r) {
  const hours = (s) => SPOOL_BYTES / (s.away.perSample * WORKERS) / 3600;
  const liveRows = r.scenes.map((s) => [s.build, number(s.live.p50 / 1000, 1), number(s.live.max / 1000, 1), number(s.live.fromClose, 0),
    number(s.live.cpu, 3), number(s.live.perThousandMs, 1), mib(s.live.memory.private), mib(s.live.memory.rss), number(s.live.written / s.live.samples, 0)]);
  const awayRows = r.scenes.map((s) => [s.build, number(s.away.perSample, 1), number(hours(s), 1), number(s.away.cpu, 3),
    mib(s.away.memory.private), s.back.batches, number(s.back.records / s.back.seconds, 0), number((s.back.cpuMs / s.back.records) * 1000, 1), s.back.repeats]);
  const out = [
    ['The sink takes everything', `Batches close every ${r.pace.flush}.\n\n${table(['build', 'sample to stored, median s', 'most s',
      'last sample to stored, median ms', 'CPU %', 'CPU ms per 1,000 samples', 'private MiB', 'RSS MiB', 'spool bytes a sample'], liveRows)}`],
    ['The sink is away, and comes back', table(['build', 'spool bytes a sample of 8 workers', '64 MiB last, h', 'CPU % meanwhile', 'private MiB',
      'batches waiting', 'records/s when it is back', 'CPU ms per 1,000 of them', 'repeats'], awayRows)],
  ];
  const c = r.collector;
  out.push(['Beside it', c.skipped ? `OpenTelemetry Collector: not measured, ${c.skipped}.`
    : table(['', 'CPU ms per 1,000 records', 'records/s', 'private MiB', 'RSS MiB', 'bytes stored a record'],
      [['OpenTelemetry Collector 0.160.0, the same lines as OTLP logs into a file', number(c.perThousandMs, 1), number(c.rate, 0), mib(c.memory.private),
        mib(c.memory.rss), number(c.bytes, 0)]])]);
  return out;
}

function budgets(r) {
  const rows = [];
  for (const s of r.scenes) {
    const fixed = s.build === 'static';
    rows.push(budget(`helper with a sink over HTTP, 8 busy workers at 1 Hz, CPU (${s.build})`, s.live.cpu, 0.3, '% of a core', { digits: 3 }));
    rows.push(budget(`helper with a sink over HTTP, private (${s.build})`, s.live.memory.private / 1024, fixed ? 2.5 : 4, 'MiB'));
    if (fixed) rows.push(budget('helper with a sink over HTTP, RSS (static)', s.live.memory.rss / 1024, 6, 'MiB'));
    // Short batches, as in smoke, take more.
    if (r.pace.flush === '10s') {
      rows.push(budget(`a day of outage at 8 busy workers and 1 Hz, in the spool (${s.build})`, (s.away.perSample * WORKERS * DAY) / 2 ** 20, 64, 'MiB', { digits: 1 }));
    }
  }
  return rows;
}

module.exports = { title: 'Delivery', measure, failures, tables, budgets };
