// full.js - the demonstration behind `make demo-full`: two containers (two clusters, each with a helper of its own) beside a real
// Consul and a real OpenSearch on loopback. Prints what it asks and what is answered: one service for each container, whatever the
// number of its workers; each worker's heap and event loop as series; and no sample missing. Ends with 0 when all of it was there,
// and leaves nothing behind.
//
//   node demo/full.js PROGRAM
'use strict';

const { execFileSync, spawn } = require('node:child_process');
const fs = require('node:fs');
const net = require('node:net');
const os = require('node:os');
const path = require('node:path');

const program = path.resolve(process.argv[2] || path.join(__dirname, '../build/release/pillion'));
const SERVICES = path.join(__dirname, '../tests/services');
const DIR = fs.mkdtempSync(path.join(os.tmpdir(), 'pillion-demo-full-'));
const CONTAINERS = ['web-1', 'web-2'];
const WORKERS = 2;
const POINTS = 6; // of each series, 2 s each
const DEADLINE_MS = 120000;

const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
const say = (text) => console.log(process.stdout.isTTY ? `\n\x1b[1m${text}\x1b[0m` : `\n${text}`);
const ends = []; // what is to be undone, last one first

function script(name, ...args) {
  execFileSync(path.join(SERVICES, name), args, { stdio: ['ignore', 'ignore', 'inherit'] });
}

async function until(what, probe) {
  let last;
  for (const end = Date.now() + DEADLINE_MS; Date.now() < end; await pause(250)) {
    try {
      const result = await probe();
      if (result) return result;
    } catch (e) {
      last = e;
    }
  }
  throw new Error(`${what}: not within ${DEADLINE_MS / 1000} s${last ? ` (${last.message})` : ''}`);
}

// The first of three ports behind each other that are free now.
async function freePorts() {
  const listen = (port) => new Promise((resolve) => {
    const s = net.createServer().once('error', () => resolve(null)).listen(port, '127.0.0.1', () => resolve(s));
  });
  for (;;) {
    const base = 20000 + Math.floor(Math.random() * 12000);
    const servers = await Promise.all([0, 1, 2].map((i) => listen(base + i)));
    await Promise.all(servers.filter(Boolean).map((s) => new Promise((resolve) => s.close(resolve))));
    if (servers.every(Boolean)) return base;
  }
}

async function startServer(name) {
  const port = await freePorts();
  const dir = path.join(DIR, name);
  script(`${name}/start.sh`, dir, String(port));
  ends.push(() => script('stop.sh', dir));
  return `http://127.0.0.1:${port}`;
}

function background(command, args, env, log) {
  const out = fs.openSync(path.join(DIR, log), 'w');
  const child = spawn(command, args, { env, stdio: ['ignore', out, out] });
  fs.closeSync(out);
  child.ended = new Promise((resolve) => child.on('exit', (code, signal) => resolve(code ?? signal)));
  ends.push(async () => {
    if (child.exitCode !== null || child.signalCode !== null) return;
    child.kill('SIGTERM');
    await Promise.race([child.ended, pause(15000)]);
    child.kill('SIGKILL');
  });
  return child;
}

async function ask(url, body) {
  const r = await fetch(url, body ? { method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify(body) } : {});
  if (!r.ok) throw new Error(`${url}: ${r.status}`);
  return r.json();
}

// What a person would type.
function show(url, body) {
  console.log(`$ curl -s '${url}'${body ? ` -H 'content-type: application/json' -d '\n${JSON.stringify(body, null, 1).replace(/\n\s*/g, ' ')}'` : ''}`);
}

// --- what is asked ----------------------------------------------------------------------------------------------------------------

const seriesOf = { size: 0, query: { bool: { filter: [{ term: { kind: 'process' } }, { term: { role: 'worker' } }] } },
  aggs: { worker: { terms: { field: 'worker', size: 50 },
    aggs: { instance: { terms: { field: 'instance' } },
      series: { date_histogram: { field: '@timestamp', fixed_interval: '2s', min_doc_count: 1 },
        aggs: { heap: { avg: { field: 'pillion_memory_heap_used' } }, loop: { max: { field: 'nodejs_eventloop_delay_p99' } } } } } } } };

const numbersOf = { size: 0, query: { bool: { filter: [{ term: { kind: 'process' } }, { exists: { field: 'sample' } }] } },
  aggs: { worker: { terms: { field: 'worker', size: 50 },
    aggs: { first: { min: { field: 'sample' } }, last: { max: { field: 'sample' } }, different: { cardinality: { field: 'sample', precision_threshold: 10000 } } } } } };

const services = async (consul) => (await ask(`${consul}/v1/health/service/pillion?passing`)).map((e) => e.Service);

function column(values, digits) {
  return values.map((v) => (v === null ? '-' : v.toFixed(digits)).padStart(7)).join('');
}

function drawSeries(buckets) {
  for (const b of buckets) {
    const points = b.series.buckets.slice(-10);
    console.log(`${b.instance.buckets[0].key}  worker ${b.key}`);
    console.log(`   heap used, MiB         ${column(points.map((p) => p.heap.value / 1048576), 1)}`);
    console.log(`   event loop p99, ms     ${column(points.map((p) => (p.loop.value === null ? null : p.loop.value * 1000)), 1)}`);
  }
}

async function main() {
  say('A real Consul and a real OpenSearch:');
  const [consul, opensearch] = [await startServer('consul'), await startServer('opensearch')];
  console.log(`${consul}  ${opensearch}`);

  say(`${CONTAINERS.length} containers, each a shop with a master, ${WORKERS} workers and one helper:`);
  const base = Object.fromEntries(Object.entries(process.env).filter(([k]) => !/^PILLION_|^CONSUL_|^NODE_OPTIONS$/.test(k)));
  const runs = [];
  for (const instance of CONTAINERS) {
    const port = String(await freePorts());
    const env = { ...base, PORT: port, PILLION_APP: 'shop', PILLION_INSTANCE: instance, PILLION_FLUSH_INTERVAL: '2s',
      PILLION_RUNTIME_DIR: path.join(DIR, instance, 'run'), PILLION_DATA_DIR: path.join(DIR, instance, 'data'),
      PILLION_REGISTRY: `consul+${consul}`, PILLION_SINK: `es+${opensearch}` };
    fs.mkdirSync(path.join(DIR, instance));
    console.log(`$ PILLION_INSTANCE=${instance} PILLION_REGISTRY=consul+${consul} PILLION_SINK=es+${opensearch} pillion run --workers ${WORKERS} demo/shop.js`);
    runs.push(background(program, ['run', '--workers', String(WORKERS), path.join(__dirname, 'shop.js')], env, `${instance}.log`));
    background(process.execPath, [path.join(__dirname, 'load.js'), port], base, `${instance}-load.log`);
  }

  console.log('\nEach container has its own place in 30 s for its first registration and its first delivery …');
  const entries = await until('an entry for each container', async () => {
    const all = await services(consul);
    return all.length >= CONTAINERS.length && all;
  });
  const buckets = await until('series of all workers', async () => {
    const list = (await ask(`${opensearch}/pillion-*/_search`, seriesOf)).aggregations.worker.buckets;
    const whole = list.filter((b) => b.series.buckets.filter((p) => p.heap.value > 0 && p.loop.value !== null).length >= POINTS);
    return whole.length === CONTAINERS.length * WORKERS && list;
  });

  say('Which services does the registry know?');
  show(`${consul}/v1/health/service/pillion?passing`);
  for (const s of entries) console.log(`   ${s.ID}  ${s.Address}  app=${s.Meta.app} instance=${s.Meta.instance} workers=${s.Meta.workers} node=${s.Meta.node}`);
  if (entries.length !== CONTAINERS.length || new Set(entries.map((s) => s.Meta.instance)).size !== CONTAINERS.length) throw new Error(`${entries.length} services for ${CONTAINERS.length} containers`);
  console.log(`=> exactly one for each container: ${entries.length} services, ${CONTAINERS.length} containers`);

  say('Heap and event loop of each worker, in steps of 2 s:');
  show(`${opensearch}/pillion-*/_search`, seriesOf);
  drawSeries(buckets);
  console.log(`=> ${buckets.length} workers, each with both series`);

  say('The containers are stopped:');
  runs.forEach((r) => r.kill('SIGTERM'));
  const codes = await Promise.all(runs.map((r) => r.ended));
  const after = await services(consul);
  await ask(`${opensearch}/pillion-*/_refresh`, {});
  const numbers = (await ask(`${opensearch}/pillion-*/_search`, numbersOf)).aggregations.worker.buckets;
  console.log(`pillion run ended with ${codes.join(' and ')}; services at Consul: ${after.length}`);
  console.log('Is a sample missing, or there twice? The first number, the last one, how many are between, how many documents:');
  show(`${opensearch}/pillion-*/_search`, numbersOf);
  let wrong = after.length;
  for (const b of numbers) {
    const expected = b.last.value - b.first.value + 1;
    const fits = expected === b.different.value && expected === b.doc_count;
    console.log(`   ${b.key}: ${b.first.value} to ${b.last.value}: ${b.different.value} different ones, ${b.doc_count} documents${fits ? '' : '  <= WRONG'}`);
    if (!fits) wrong++;
  }
  if (wrong > 0 || numbers.length < CONTAINERS.length * (WORKERS + 1)) throw new Error('something is missing, or still there');
  console.log('=> none is missing, none is there twice, and Consul has forgotten both');
}

async function undo() {
  while (ends.length > 0) {
    try {
      await ends.pop()();
    } catch (e) {
      console.error(`demo-full: ${e.message}`);
    }
  }
  fs.rmSync(DIR, { recursive: true, force: true, maxRetries: 5 });
}

function showLogs() {
  for (const name of fs.readdirSync(DIR).filter((n) => n.endsWith('.log'))) {
    const text = fs.readFileSync(path.join(DIR, name), 'utf8').trimEnd().split('\n').slice(-10).join('\n');
    if (text) console.error(`--- ${name}\n${text}`);
  }
}

let stopped = false;
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) {
  process.on(signal, () => {
    if (stopped) return;
    stopped = true;
    undo().then(() => process.exit(1));
  });
}

main().catch((e) => {
  if (stopped) return;
  console.error(`demo-full: ${e.message}`);
  showLogs();
  process.exitCode = 1;
}).finally(() => !stopped && undo());
