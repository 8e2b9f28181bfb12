#!/usr/bin/env node
'use strict';
// run.js - the benchmarks: `make bench` (all, up to half an hour, writes docs/BENCHMARKS.md) and `make bench-smoke` (under three
// minutes: that everything runs; its figures are for nobody).
//
//   node tests/bench/run.js [--smoke] [--write] [--parts NAME,NAME…] [--rounds N] [--results FILE]
//
// A part is a module { title, measure(options), tables(result), budgets(result), failures(result) }. Results are kept as JSON
// (build/bench/results.json); --write makes the page from them, also from those of parts that were measured earlier. Ends with 1
// only for what must not happen on any machine (lost samples, failed requests): time depends on the machine and is shown, not
// asserted.

const fs = require('node:fs');
const os = require('node:os');
const path = require('node:path');
const { execFileSync } = require('node:child_process');

const { ROOT, builds } = require('./lib/pillion');
const proc = require('./lib/proc');
const { table } = require('./lib/report');

const PARTS = {
  footprint: './footprint', deliver: './deliver', sidebyside: './sidebyside', compare: './compare', init: './init',
  heapsnapshot: './heapsnapshot', flamegraph: './flamegraph',
};
const QUIET_LOAD = 1;
const PAGE = path.join(ROOT, 'docs/BENCHMARKS.md');

const args = process.argv.slice(2);
const flag = (name) => args.includes(name);
const option = (name, otherwise) => (flag(name) ? args[args.indexOf(name) + 1] : otherwise);
const smoke = flag('--smoke');
const file = path.resolve(option('--results', path.join(ROOT, 'build/bench', smoke ? 'smoke.json' : 'results.json')));
const started = process.hrtime.bigint();

const log = (text) => console.error(`[${String(Math.round(Number(process.hrtime.bigint() - started) / 1e9)).padStart(4)} s] ${text}`);

function tool(command, ...rest) {
  try {
    return execFileSync(command, rest, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] }).split('\n')[0].trim();
  } catch (e) {
    return `${e.stdout || ''}`.split('\n')[0].trim() || null; // wrk -v and its like end with 1
  }
}

function machine() {
  const cpu = /model name\s*:\s*(.*)/.exec(proc.read('/proc/cpuinfo'));
  const distribution = /PRETTY_NAME="(.*)"/.exec(proc.read('/etc/os-release') || '');
  return {
    cpu: `${os.cpus().length} × ${cpu ? cpu[1] : os.cpus()[0].model}`,
    memory: `${(os.totalmem() / 2 ** 30).toFixed(0)} GiB`,
    kernel: os.release(),
    distribution: distribution ? distribution[1] : 'unknown',
    node: process.version,
    wrk: (tool('wrk', '-v') || 'none').replace(/ \[.*/, ''),
    builds: builds().map((b) => ({ name: b.name, bytes: fs.statSync(b.file).size })),
  };
}

const sections = (name, result) => require(PARTS[name]).tables(result).map(([title, text]) => `### ${title}\n\n${text}\n`);

function budgetRows(results) {
  return Object.entries(results.parts).flatMap(([name, r]) => require(PARTS[name]).budgets(r.result));
}

function page(results) {
  const m = results.machine;
  const sizes = m.builds.map((b) => `${b.name} ${(b.bytes / 2 ** 20).toFixed(2)} MiB`).join(', ');
  const out = ['# Benchmarks', '',
    'Made by `make bench` (`node tests/bench/run.js --write`); how each figure is measured stands at the top of its file in',
    '`tests/bench/`. Everything that is compared ran side by side, in turn, in one run on one machine. ± is the half width of the',
    '95 % interval (Student\'s t) of the paired differences.', '',
    table(['machine', ''], [['processors', m.cpu], ['memory', m.memory], ['kernel', m.kernel], ['distribution', m.distribution],
      ['Node.js', m.node], ['load', m.wrk], ['program', sizes]]), '',
    '## Budgets', '', table(['what', 'budget', 'measured', ''], budgetRows(results)), ''];
  for (const [name, file] of Object.entries(PARTS)) {
    const r = results.parts[name];
    out.push(`## ${require(file).title}`, '');
    if (!r) {
      out.push(`Not measured yet: \`node tests/bench/run.js --parts ${name} --write\`.`, '');
      continue;
    }
    out.push(`Measured ${r.at} by \`node tests/bench/run.js --parts ${name}\`. Load average of the machine before: ` +
      `${r.loadBefore.join(' ')}; after: ${r.loadAfter.join(' ')}.`);
    // What ran before us fades from the first figure within a minute; ours is part of the second.
    if (r.loadBefore[0] > QUIET_LOAD) out.push('**The machine was busy with other work: times, CPU and wake-ups are worse than on a quiet one.**');
    out.push('', ...sections(name, r.result));
  }
  return `${out.join('\n').trimEnd()}\n`;
}

function readResults() {
  try {
    return JSON.parse(fs.readFileSync(file, 'utf8'));
  } catch {
    return { parts: {} };
  }
}

async function main() {
  const wanted = option('--parts', Object.keys(PARTS).join(',')).split(',').filter(Boolean);
  const unknown = wanted.filter((name) => !PARTS[name]);
  if (unknown.length) throw new Error(`no part ${unknown.join(', ')}; there are ${Object.keys(PARTS).join(', ')}`);
  const old = readResults();
  const results = { machine: machine(), parts: {} };
  const bad = [];
  fs.mkdirSync(path.dirname(file), { recursive: true });
  for (const name of Object.keys(PARTS)) {
    if (!wanted.includes(name)) {
      if (old.parts[name]) results.parts[name] = old.parts[name];
      continue;
    }
    const part = require(PARTS[name]);
    log(`${part.title} …`);
    const loadBefore = proc.load();
    const result = await part.measure({ smoke, rounds: Number(option('--rounds', 0)), node: process.execPath, log });
    results.parts[name] = { at: `${new Date().toISOString().slice(0, 16).replace('T', ' ')} UTC`, loadBefore, loadAfter: proc.load(), result };
    bad.push(...part.failures(result).map((text) => `${name}: ${text}`));
    console.log(`## ${part.title}\n\n${sections(name, result).join('\n')}`);
    fs.writeFileSync(file, JSON.stringify(results, null, 1));
  }
  if (smoke) console.log('Smoke: too few rounds to judge the budgets by.\n');
  console.log(`## Budgets\n\n${table(['what', 'budget', 'measured', ''], budgetRows(results))}\n`);
  if (flag('--write')) {
    fs.mkdirSync(path.dirname(PAGE), { recursive: true });
    fs.writeFileSync(PAGE, page(results));
    log(`wrote ${path.relative(ROOT, PAGE)}`);
  }
  for (const text of bad) console.error(`FAILED ${text}`);
  return bad.length ? 1 : 0;
}

main().then((code) => process.exit(code), (e) => {
  console.error(e.stack);
  process.exit(1);
});
