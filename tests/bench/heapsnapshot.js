'use strict';
// heapsnapshot.js - how long an application stands still for a heap snapshot: from a forked child, and V8's own way. A timer of 1 ms in
// the application notes the longest time that its loop did not turn. Each figure is of a process of its own; then the summary by
// class is timed on the file that was written.

const { spawn, spawnSync } = require('node:child_process');
const fs = require('node:fs');
const os = require('node:os');
const path = require('node:path');

const { ROOT, builds } = require('./lib/pillion');
const { budget, table } = require('./lib/report');

const title = 'Heap snapshots';
const SIZES = [50, 200, 500];
const BUDGET_MS_PER_MB = 0.1;
const LONG_MS = 30 * 60000;

// The application: fills its heap, waits, takes a snapshot, says how long it stood still.
const APP = `
  const fs = require('fs');
  const [source, addon, mb, way, file] = process.argv.slice(1);
  const fork = new Function('require', fs.readFileSync(source, 'utf8') + ';return pillionFork')(require)();
  class Row { constructor(i) { this.id = i; this.name = 'row ' + i; this.tags = [i, i + 1]; } }
  const kept = [];
  while (process.memoryUsage().heapUsed < mb * 1048576) for (let i = 0; i < 1000; i++) kept.push(new Row(kept.length));
  global.gc();
  globalThis.kept = kept;
  let last = performance.now(), worst = 0;
  setInterval(() => { const now = performance.now(); worst = Math.max(worst, now - last - 1); last = now; }, 1);
  setTimeout(() => {
    const before = worst, rss = process.memoryUsage().rss, began = performance.now();
    worst = 0;
    const end = (r) => setTimeout(() => {
      console.log(JSON.stringify({ heap: process.memoryUsage().heapUsed, rss, after: process.memoryUsage().rss, quiet: before, worst,
        ms: performance.now() - began, bytes: fs.statSync(file).size, result: r }));
      process.exit();
    }, 200);
    if (way === 'own') { require('v8').writeHeapSnapshot(file); return end({ ok: true }); }
    fork.start(addon, fs.openSync(file, 'w'), { deadlineMs: ${LONG_MS} }, end);
  }, 500);
`;

function one(node, addon, mb, way, file) {
  return new Promise((resolve, reject) => {
    const args = ['--expose-gc', '--max-old-space-size=8192', '-e', APP, '--', path.join(ROOT, 'collectors/node/fork/fork.js'), addon, String(mb), way, file];
    const child = spawn(node, args, { stdio: ['ignore', 'pipe', 'inherit'] });
    let out = '';
    child.stdout.on('data', (d) => { out += d; });
    child.on('close', (code) => (out ? resolve(JSON.parse(out)) : reject(new Error(`${way}, ${mb} MB: ended with ${code}`))));
  });
}

// MB/s of the summary by class, and its memory.
function summary(program, file) {
  const began = process.hrtime.bigint();
  const r = spawnSync('/usr/bin/env', ['bash', '-c', '"$0" heap-diff "$1" "$1" --json >/dev/null & p=$!; m=0; while [ -r /proc/$p/status ]; do '
    + 'v=$(grep -s VmHWM /proc/$p/status | tr -dc 0-9); [ -n "$v" ] && m=$v; sleep 0.02; done; wait $p; echo $m', program, file], { encoding: 'utf8' });
  const seconds = Number(process.hrtime.bigint() - began) / 1e9;
  return { mbPerSecond: 2 * fs.statSync(file).size / 1048576 / seconds, rssKib: Number(r.stdout) };
}

async function measure({ smoke, log = () => {} }) {
  const dir = fs.mkdtempSync(path.join(os.tmpdir(), 'pillion-bench-'));
  const rows = [];
  const program = builds()[0].file;
  const addon = path.join(path.dirname(program), 'collectors/node/fork/snapshot.node');
  try {
    for (const mb of smoke ? [50] : SIZES) {
      const file = path.join(dir, 'a.heapsnapshot');
      const ours = await one(process.execPath, addon, mb, 'fork', file);
      log(`heap snapshot of ${mb} MB from a child: ${ours.worst.toFixed(0)} ms still`);
      const read = summary(program, file);
      const own = await one(process.execPath, addon, mb, 'own', file);
      log(`heap snapshot of ${mb} MB, V8's own way: ${own.worst.toFixed(0)} ms still`);
      rows.push({ mb, ours, own, read });
    }
  } finally {
    fs.rmSync(dir, { recursive: true, force: true });
  }
  return { node: process.version, rows };
}

const mib = (bytes) => `${(bytes / 1048576).toFixed(0)} MiB`;
const ms = (v) => (v >= 1000 ? `${(v / 1000).toFixed(1)} s` : `${v.toFixed(0)} ms`);

function tables(result) {
  return [[`The application stands still (Node.js ${result.node}, small objects)`, table(
    ['heap', 'RSS', 'stands still: from a child', "V8's own way", 'its fork() alone', 'RSS after: from a child', "V8's own way", 'written in', "V8's own way"],
    result.rows.map((r) => [mib(r.ours.heap), mib(r.ours.rss), ms(r.ours.worst), ms(r.own.worst), ms(r.ours.result.pauseMs), mib(r.ours.after),
      mib(r.own.after), ms(r.ours.ms), ms(r.own.ms)]))],
  ['Summary by class of the file', table(['file', 'MB/s', 'RSS'],
    result.rows.map((r) => [mib(r.ours.bytes), r.read.mbPerSecond.toFixed(0), `${r.read.rssKib} KiB`]))]];
}

function budgets(result) {
  return result.rows.map((r) => budget(`heap snapshot: pause at ${mib(r.ours.rss)} RSS`, r.ours.result.pauseMs,
    Number((BUDGET_MS_PER_MB * r.ours.rss / 1048576).toFixed(1)), 'ms', { digits: 1 }));
}

const failures = (result) => result.rows.filter((r) => !r.ours.result.ok).map((r) => `heap snapshot of ${r.mb} MB: ${r.ours.result.reason}`);

module.exports = { title, measure, tables, budgets, failures };
