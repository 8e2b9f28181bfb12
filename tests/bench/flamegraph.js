#!/usr/bin/env node
'use strict';
// flamegraph.js - `pillion flamegraph` beside what only reads: simdjson's DOM (its own program, built here when g++ and simdjson are
// there; it reads the file into memory first, which is part of it) and JSON.parse in Node. In turn, on one profile of 150 MB in V8's
// form (lib/cpuprofile.js). CPU is user + system of the whole process: the wall clock also counts what others do meanwhile. The peak
// is VmHWM, looked at every 2 ms until the process ends. A part as run.js wants it; as a program it prints its table.

const { execFileSync, spawn, spawnSync } = require('node:child_process');
const fs = require('node:fs');
const path = require('node:path');

const harness = require('../integration/lib/harness');
const cpuprofile = require('./lib/cpuprofile');
const proc = require('./lib/proc');
const { builds } = require('./lib/pillion');
const { quantile, median } = require('./lib/stats');
const { budget, number, table } = require('./lib/report');

const BYTES = 150e6;
const SMOKE_BYTES = 20e6;
const MIB = 1024 * 1024;
const LOOK_MS = 2;

// Its times, by bash, and its peak, by /proc: the program is the child of the shell that we started.
function once(argv) {
  return new Promise((resolve, reject) => {
    const child = spawn('bash', ['-c', 'TIMEFORMAT="%R %U %S"; time "$@" >/dev/null', 'bash', ...argv],
      { env: { ...process.env, LC_ALL: 'C' }, stdio: ['ignore', 'ignore', 'pipe'] });
    let text = '';
    let peak = 0;
    let pid;
    const look = setInterval(() => {
      if (!pid) {
        const below = (proc.read(`/proc/${child.pid}/task/${child.pid}/children`) || '').trim().split(' ').filter(Boolean);
        pid = below[0];
      }
      const status = pid && proc.read(`/proc/${pid}/status`);
      const high = status && /VmHWM:\s+(\d+)/.exec(status);
      if (high) peak = Math.max(peak, Number(high[1]));
    }, LOOK_MS);
    child.stderr.setEncoding('utf8').on('data', (t) => { text += t; });
    child.on('close', (code) => {
      clearInterval(look);
      if (code !== 0) return reject(new Error(`${argv.join(' ')}: ${text}`));
      const [wall, user, system] = text.trim().split('\n').pop().split(' ').map(Number);
      return resolve({ wall: wall * 1000, cpu: (user + system) * 1000, peak: peak / 1024 });
    });
  });
}

function simdjson(dir) {
  const program = path.join(dir, 'simdjson_parse');
  const r = spawnSync('g++', ['-O2', path.join(__dirname, 'simdjson_parse.cpp'), '-lsimdjson', '-o', program], { encoding: 'utf8' });
  return r.status === 0 ? program : null;
}

function candidates(dir, file) {
  const ours = builds().flatMap(({ name, file: program }) => ['html', 'text'].map((format) => ({
    name: `pillion flamegraph, ${format} (${name})`, build: name, format,
    argv: [program, 'flamegraph', file, '--format', format, '-o', path.join(dir, `out.${format}`)],
  })));
  const bare = simdjson(dir);
  return [...ours,
    ...(bare ? [{ name: 'simdjson, DOM, bare parse', bare: true, argv: [bare, file] }] : []),
    { name: `JSON.parse, Node ${process.versions.node}`, argv: [process.execPath, '--max-old-space-size=4096', '-e', 'JSON.parse(require("fs").readFileSync(process.argv[1], "utf8"))', file] },
  ];
}

async function measure({ smoke = false, rounds = 0 } = {}) {
  const scope = { after(fn) { this.end = fn; } };
  const dir = harness.tempDir(scope);
  const file = path.join(dir, 'bench.cpuprofile');
  // Its own process: making it needs more memory than all that is measured.
  execFileSync(process.execPath, [path.join(__dirname, 'lib/cpuprofile.js'), file, String(smoke ? SMOKE_BYTES : BYTES)]);
  const all = candidates(dir, file);
  for (const c of all) c.runs = [];
  for (let i = 0; i < (rounds || (smoke ? 2 : 9)); i++) for (const c of all) c.runs.push(await once(c.argv));
  const html = fs.statSync(path.join(dir, 'out.html')).size;
  const bytes = fs.statSync(file).size;
  await scope.end();
  return { bytes, html, all: all.map(({ name, build, format, bare, runs }) => ({ name, build, format, bare, runs })) };
}

const of = (c, what) => c.runs.map((r) => r[what]);

function tables({ bytes, html, all }) {
  const rows = all.map((c) => [c.name, number(quantile(of(c, 'cpu'), 0), 0), number(median(of(c, 'cpu')), 0), number(median(of(c, 'wall')), 0),
    number(Math.max(...of(c, 'peak')), 1)]);
  const title = `Flame graph of a profile of ${(bytes / 1e6).toFixed(0)} MB (page: ${(html / 1e6).toFixed(1)} MB), ${all[0].runs.length} times, in turn`;
  return [[title, table(['program', 'CPU min, ms', 'CPU median, ms', 'wall median, ms', 'peak RSS, MiB'], rows)]];
}

function budgets({ bytes, all }) {
  const ours = all.find((c) => c.build === 'static' && c.format === 'html') || all.find((c) => c.format === 'html');
  const bare = all.find((c) => c.bare);
  const peak = Math.max(...of(ours, 'peak'));
  return [
    budget(`flame graph (${ours.build}): CPU against simdjson's bare parse`, bare ? quantile(of(ours, 'cpu'), 0) / quantile(of(bare, 'cpu'), 0) : NaN, 1.5, 'times'),
    budget(`flame graph (${ours.build}): peak RSS`, peak, Number(Math.min(64, bytes / MIB / 3).toFixed(1)), 'MiB', { digits: 1 }),
  ];
}

module.exports = { title: 'Flame graph beside bare JSON parsers', measure, tables, budgets, failures: () => [] };

if (require.main === module) {
  measure({ smoke: process.argv.includes('--smoke') }).then((r) => {
    for (const [title, text] of tables(r)) console.log(`${title}\n\n${text}\n`);
    console.log(table(['budget', 'limit', 'measured', ''], budgets(r)));
  });
}
