// run.js - the demonstration behind `make demo`: a clustered shop under load, started by `pillion run`, and what is to be seen of
// it: samples, a flame graph, a heap snapshot. Nothing here is made up: every line that is shown comes from the program. Ends by
// itself, in a terminal after you press q in `top` or after half a minute; with 0 when everything that it promises was there.
//
//   node demo/run.js PROGRAM
'use strict';

const { spawn, spawnSync } = require('node:child_process');
const fs = require('node:fs');
const net = require('node:net');
const os = require('node:os');
const path = require('node:path');
const zlib = require('node:zlib');

const program = path.resolve(process.argv[2] || path.join(__dirname, '../build/release/pillion'));
const DIR = path.join(os.tmpdir(), `pillion-demo-${process.getuid()}`);
const WORKERS = 2;
const TOP_S = 30;
const DEADLINE_MS = 30000;
const terminal = process.stdout.isTTY && process.stdin.isTTY;

const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
const say = (text) => console.log(`\n\x1b[1m${text}\x1b[0m`.replace(/\x1b\[\d?m/g, (s) => (process.stdout.isTTY ? s : '')));

const env = Object.fromEntries(Object.entries(process.env).filter(([k]) => !/^PILLION_|^NODE_OPTIONS$/.test(k)));
Object.assign(env, {
  PILLION_APP: 'shop',
  PILLION_RUNTIME_DIR: path.join(DIR, 'run'),
  PILLION_DATA_DIR: path.join(DIR, 'data'),
  PILLION_FLUSH_INTERVAL: '2s',
});

async function until(what, probe) {
  for (const end = Date.now() + DEADLINE_MS; Date.now() < end; await pause(100)) {
    const result = await probe();
    if (result) return result;
  }
  throw new Error(`${what}: not within ${DEADLINE_MS / 1000} s`);
}

function freePort() {
  return new Promise((resolve, reject) => {
    const server = net.createServer().once('error', reject);
    server.listen(0, '127.0.0.1', () => {
      const { port } = server.address();
      server.close(() => resolve(port));
    });
  });
}

function ask(...args) {
  const r = spawnSync(program, args, { env, encoding: 'utf8' });
  return r.status === 0 ? r.stdout : null;
}

function show(...args) {
  console.log(`$ pillion ${args.join(' ')}`);
  const text = ask(...args);
  if (text === null) throw new Error(`pillion ${args.join(' ')} failed`);
  process.stdout.write(text);
}

function sampled() {
  const text = ask('workers', '--json');
  if (text === null) return null;
  const live = JSON.parse(text).workers.filter((w) => w.state === 'live' && w.last_sample);
  const workers = live.filter((w) => w.role === 'worker');
  return workers.length >= WORKERS && live.length > workers.length ? live : null;
}

// Live in a terminal, a few lines elsewhere.
async function top() {
  if (!terminal) {
    show('top', '-n', '3');
    return;
  }
  console.log(`$ pillion top          (q ends it; it ends by itself after ${TOP_S} s)`);
  await pause(1500);
  await new Promise((resolve) => {
    const child = spawn(program, ['top'], { env, stdio: 'inherit' });
    const timer = setTimeout(() => child.kill('SIGTERM'), TOP_S * 1000);
    child.on('exit', () => {
      clearTimeout(timer);
      resolve();
    });
  });
}

// A profile and a flame graph of a worker under load, and a heap snapshot of the master, which serves nobody: V8's own way of taking
// one stops a process for seconds.
function captures() {
  const all = JSON.parse(ask('workers', '--json')).workers.filter((w) => w.state === 'live');
  const [worker, master] = ['worker', 'primary'].map((role) => all.find((w) => w.role === role));
  const graph = path.join(DIR, 'worker.html');
  const snapshot = path.join(DIR, 'master.heapsnapshot.gz');
  say('What does a worker do all day? A CPU profile of 3 s and its flame graph, while it serves:');
  show('cpu-profile', String(worker.pid), '--seconds', '3', '-o', graph);
  const profile = JSON.parse(ask('jobs', '--json')).jobs[0].artifacts.find((a) => a.kind === 'cpu_profile');
  console.log('');
  show('flamegraph', new URL(profile.url).pathname, '--format', 'text', '-o', '-');
  say('What is in the memory of the master?');
  show('heap-snapshot', String(master.pid), '--allow-stall', '-o', snapshot);
  for (const file of [graph, snapshot]) if (!fs.existsSync(file)) throw new Error(`there is no ${file}`);
  say(`Open ${graph} in a browser, and ${snapshot} (gunzip it) in its developer tools.`);
}

function showBatches() {
  const dir = path.join(DIR, 'data', 'batches');
  const files = fs.readdirSync(dir).filter((name) => name.endsWith('.gz')).sort();
  const lines = files.flatMap((name) => zlib.gunzipSync(fs.readFileSync(path.join(dir, name))).toString().split('\n').filter(Boolean));
  const records = lines.filter((line) => JSON.parse(line).kind === 'process');
  const header = lines.find((line) => 'pillion' in JSON.parse(line));
  if (!header || records.length === 0) throw new Error(`there is no record in ${dir}`);
  const record = records[records.length - 1];
  say(`${lines.length} lines of batches lie in ${dir}`);
  console.log(`$ zcat ${path.join(dir, files[0])} | head -1\n${header}\n`);
  console.log(`one of ${records.length} records of processes, ${record.length} bytes:\n${record.slice(0, 600)}${record.length > 600 ? ' …' : ''}`);
}

async function main() {
  fs.rmSync(DIR, { recursive: true, force: true });
  fs.mkdirSync(DIR, { mode: 0o700 });
  const port = await freePort();

  say('A shop with two workers, started with one command; nothing in demo/shop.js knows of it:');
  console.log(`$ pillion run --workers ${WORKERS} demo/shop.js`);
  const log = fs.openSync(path.join(DIR, 'log'), 'w');
  const run = spawn(program, ['run', '--workers', String(WORKERS), path.join(__dirname, 'shop.js')], {
    env: { ...env, PORT: String(port) },
    stdio: ['ignore', log, log],
  });
  const ended = new Promise((resolve) => run.on('exit', (code, signal) => resolve({ code, signal })));
  const load = spawn(process.execPath, [path.join(__dirname, 'load.js'), String(port)], { env, stdio: 'ignore' });
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) {
    process.on(signal, () => {
      load.kill('SIGKILL');
      run.kill('SIGTERM');
      run.on('exit', () => process.exit(1));
    });
  }

  try {
    await until('a sample of the master and of each worker', () => {
      if (run.exitCode !== null) throw new Error(`pillion run ended with ${run.exitCode}`);
      return sampled();
    });
    await pause(terminal ? 3000 : 8000); // some history to look at
    say('Each process of the container, once a second, from inside and from outside:');
    show('workers');
    await top();
    say('And the helper itself:');
    show('status');
    captures();
  } finally {
    load.kill('SIGTERM');
    run.kill('SIGTERM');
  }
  const end = await Promise.race([ended, pause(DEADLINE_MS).then(() => null)]);
  if (end === null) {
    run.kill('SIGKILL');
    throw new Error('pillion run did not end');
  }
  say(`Stopped: the workers had their time, pillion run ended with ${end.code ?? end.signal}.`);
  showBatches();
  console.log('\nIts log and runtime directory are beside them; `pillion --help` and README.md tell the rest.');
}

main().catch((e) => {
  console.error(`demo: ${e.message}`);
  try {
    console.error(fs.readFileSync(path.join(DIR, 'log'), 'utf8').split('\n').slice(-20).join('\n'));
  } catch {
    // there is no log yet
  }
  process.exitCode = 1;
});
