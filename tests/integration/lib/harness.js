// harness.js - what every integration test needs: a helper or a `pillion run` of its own in a directory of its own, its status
// pages, its batches. Tests wait for what status says, never for time; every wait has a deadline that only a failure reaches.
'use strict';

const { spawn } = require('node:child_process');
const fs = require('node:fs');
const http = require('node:http');
const os = require('node:os');
const path = require('node:path');
const zlib = require('node:zlib');
const { quickInstance } = require('./registry');

const ROOT = path.resolve(__dirname, '../../..');
const BIN = process.env.PILLION_BIN ? path.resolve(process.env.PILLION_BIN) : path.join(ROOT, 'build/release/pillion');
const APPS = path.join(ROOT, 'tests/integration/apps');
const DEADLINE_MS = 30000;

const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

// Calls `probe` until it gives something true; that is the result.
async function waitFor(what, probe, deadline = DEADLINE_MS) {
  const end = Date.now() + deadline;
  let last;
  for (;;) {
    try {
      const result = await probe();
      if (result) return result;
      last = result;
    } catch (e) {
      last = e;
    }
    if (Date.now() > end) throw new Error(`waited ${deadline} ms in vain for: ${what}${last instanceof Error ? ` (${last.message})` : ''}`);
    await pause(30);
  }
}

// Runs `fn` at the end of test `t`, last one first: processes end before their directories go.
const deferred = new WeakMap();
function defer(t, fn) {
  let stack = deferred.get(t);
  if (!stack) {
    deferred.set(t, (stack = []));
    t.after(async () => {
      while (stack.length > 0) await stack.pop()();
    });
  }
  stack.push(fn);
}

// A fresh private directory, removed when the test `t` ends.
function tempDir(t) {
  const dir = fs.mkdtempSync(path.join(os.tmpdir(), 'pillion-test-'));
  defer(t, () => fs.rmSync(dir, { recursive: true, force: true }));
  return dir;
}

// The environment of a test: ours without anything of pillion's or of a surrounding test runner's.
function cleanEnv(extra = {}) {
  const env = {};
  for (const [k, v] of Object.entries(process.env)) {
    if (!/^PILLION_|^NODE_OPTIONS$|^NODE_TEST_CONTEXT$|^OTEL_|^NODE_CHANNEL|^NODE_UNIQUE_ID/.test(k)) env[k] = v;
  }
  return { ...env, ...extra };
}

// One request to a Unix socket; resolves to { status, headers, body }.
function request(socketPath, url, options = {}) {
  return new Promise((resolve, reject) => {
    const rq = http.request({ socketPath, path: url, agent: false, ...options }, (rs) => {
      const parts = [];
      rs.on('data', (d) => parts.push(d));
      rs.on('end', () => resolve({ status: rs.statusCode, headers: rs.headers, body: Buffer.concat(parts).toString() }));
      rs.on('error', reject);
    });
    rq.on('error', reject);
    rq.setTimeout(10000, () => rq.destroy(new Error('no answer in 10 s')));
    rq.end(options.body);
  });
}

// A started program: its output, its end.
class Running {
  constructor(child, dir) {
    this.child = child;
    this.pid = child.pid;
    this.dir = dir;
    this.runtime = path.join(dir, 'run');
    this.data = path.join(dir, 'data');
    this.stdout = '';
    this.stderr = '';
    this.exit = null;
    child.stdout?.on('data', (d) => { this.stdout += d; });
    child.stderr?.on('data', (d) => { this.stderr += d; });
    this.ended = new Promise((resolve) => {
      child.on('exit', (code, signal) => { this.exit = { code, signal }; });
      child.on('close', () => resolve(this.exit));
      child.on('error', (error) => resolve({ error }));
    });
  }

  socket(name = 'status.sock') {
    return path.join(this.runtime, name);
  }

  get(url, options) {
    return request(this.socket(), url, options);
  }

  async json(url) {
    return JSON.parse((await this.get(url)).body);
  }

  async workers() {
    return (await this.json('/workers')).workers;
  }

  async counters() {
    return (await this.json('/status')).counters;
  }

  waitReady() {
    return waitFor('the helper answers', async () => (await this.get('/healthz')).status === 200).catch((e) => {
      throw new Error(`${e.message}\n${this.stderr}`);
    });
  }

  // Waits until `pick(workers)` is true and returns it.
  waitWorkers(what, pick, deadline) {
    return waitFor(what, async () => pick(await this.workers()), deadline);
  }

  // Every record of every batch that the file sink has written, header lines apart.
  batches() {
    const dir = path.join(this.data, 'batches');
    const result = { headers: [], records: [] };
    let names = [];
    try {
      names = fs.readdirSync(dir).filter((n) => n.endsWith('.ndjson.gz')).sort();
    } catch {
      return result;
    }
    for (const name of names) {
      const text = zlib.gunzipSync(fs.readFileSync(path.join(dir, name)), { finishFlush: zlib.constants.Z_SYNC_FLUSH }).toString();
      for (const line of text.split('\n')) {
        if (line === '') continue;
        const o = JSON.parse(line);
        (o.pillion ? result.headers : result.records).push(o);
      }
    }
    return result;
  }

  waitRecords(what, pick, deadline) {
    return waitFor(what, () => pick(this.batches().records), deadline);
  }

  signal(name) {
    this.child.kill(name);
  }

  async stop() {
    if (this.exit === null) this.child.kill('SIGTERM');
    return this.ended;
  }
}

function start(t, args, { dir = tempDir(t), env = {}, cwd, stdio = ['ignore', 'pipe', 'pipe'], command = BIN, before = [] } = {}) {
  const full = cleanEnv({
    PILLION_RUNTIME_DIR: path.join(dir, 'run'),
    PILLION_DATA_DIR: path.join(dir, 'data'),
    PILLION_FLUSH_INTERVAL: '1s',
    ...env,
  });
  // A container delivers for the first time at a moment of its own within 30 s; tests are one whose moment comes at once.
  if (/\+http|hub:/.test(full.PILLION_SINK ?? '') && !('PILLION_INSTANCE' in env)) {
    full.PILLION_INSTANCE = quickInstance(full.PILLION_APP ?? full.OTEL_SERVICE_NAME ?? 'app', 300, 'delivery');
  }
  for (const k of Object.keys(full)) if (full[k] === undefined) delete full[k];
  const argv = [...before, command, ...args];
  const running = new Running(spawn(argv[0], argv.slice(1), { env: full, cwd: cwd ?? dir, stdio }), dir);
  defer(t, async () => {
    if (running.exit === null) {
      running.child.kill('SIGTERM');
      const timer = setTimeout(() => running.child.kill('SIGKILL'), 15000);
      await running.ended;
      clearTimeout(timer);
    }
  });
  return running;
}

// The helper alone, ready.
async function startHelper(t, options) {
  const helper = start(t, ['agent'], options);
  await helper.waitReady();
  return helper;
}

// `pillion run -- command`, with the helper ready.
async function startRun(t, command, options) {
  const run = start(t, ['run', '--', ...command], options);
  await run.waitReady();
  return run;
}

// A Node process that is sampled by `helper`; it is killed at the end of the test.
function startNode(t, helper, args, { node = process.execPath, env = {}, stdio = ['ignore', 'pipe', 'pipe'], before = [] } = {}) {
  const argv = [...before, node, ...args];
  const child = spawn(argv[0], argv.slice(1), {
    env: cleanEnv({ NODE_OPTIONS: `--require=${path.join(helper.runtime, 'preload.js')}`, ...env }),
    cwd: helper.dir,
    stdio,
  });
  const running = new Running(child, helper.dir);
  defer(t, async () => {
    if (running.exit === null) child.kill('SIGKILL');
    await running.ended;
  });
  return running;
}

// The pid of the helper that serves this directory.
function helperPid(running) {
  return Number(fs.readFileSync(path.join(running.runtime, 'helper.lock'), 'utf8'));
}

module.exports = { ROOT, BIN, APPS, pause, waitFor, defer, tempDir, cleanEnv, request, Running, start, startHelper, startRun, startNode, helperPid };
