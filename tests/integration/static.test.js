'use strict';
// static.test.js - the static release (build/static/pillion, made by `make dist`) needs nothing around it.

const assert = require('node:assert');
const fs = require('node:fs');
const path = require('node:path');
const { test } = require('node:test');

const { ROOT, APPS, start, startNode, tempDir, waitFor } = require('./lib/harness');

const FILE = process.env.PILLION_STATIC_BIN || path.join(ROOT, 'build/static/pillion');
const missing = fs.existsSync(FILE) ? false : 'no static build here (make dist)';
const noRoot = missing || (process.getuid() === 0 ? false : 'chroot needs root');

const PT_INTERP = 3;
const PT_GNU_RELRO = 0x6474e552;

// [{ type, vaddr, size }] of a 64-bit little-endian ELF file.
function segments(file) {
  const b = fs.readFileSync(file);
  const at = Number(b.readBigUInt64LE(32));
  return Array.from({ length: b.readUInt16LE(56) }, (_, i) => {
    const o = at + i * b.readUInt16LE(54);
    return { type: b.readUInt32LE(o), vaddr: Number(b.readBigUInt64LE(o + 16)), size: Number(b.readBigUInt64LE(o + 40)) };
  });
}

// Whole pages of RELRO and what they are mapped as: [{ from, perms }].
function relroPages(pid, relro) {
  const maps = fs.readFileSync(`/proc/${pid}/maps`, 'utf8').trim().split('\n').map((line) => {
    const [range, perms] = line.split(' ');
    const [from, to] = range.split('-').map((x) => parseInt(x, 16));
    return { from, to, perms, name: line.split(/\s+/)[5] || '' };
  });
  const base = maps.find((m) => m.name.endsWith('/pillion')).from;
  const pages = [];
  const end = base + relro.vaddr + relro.size;
  for (let page = base + relro.vaddr - ((base + relro.vaddr) % 4096); page + 4096 <= end; page += 4096) {
    pages.push({ page: page.toString(16), perms: maps.find((m) => m.from <= page && page < m.to).perms });
  }
  return pages;
}

// The helper alone in a root that holds nothing but the program: no /etc, no /proc, no /tmp, no library.
async function helperInEmptyRoot(t) {
  const root = tempDir(t);
  fs.copyFileSync(FILE, path.join(root, 'pillion'));
  fs.chmodSync(path.join(root, 'pillion'), 0o755);
  const helper = start(t, ['agent'], {
    dir: root, command: '/pillion', before: ['chroot', root],
    env: { PILLION_RUNTIME_DIR: '/run', PILLION_DATA_DIR: '/data' },
  });
  await helper.waitReady();
  return helper;
}

test('P65 the static program asks for no interpreter and no library', { skip: missing }, () => {
  assert.ok(!segments(FILE).some((s) => s.type === PT_INTERP));
});

test('P65 the static helper starts in an empty root and samples a worker from there', { skip: noRoot }, async (t) => {
  const helper = await helperInEmptyRoot(t);
  const node = startNode(t, helper, [path.join(APPS, 'puppet.js')], { stdio: 'pipe' });
  const worker = await helper.waitWorkers('the worker is sampled', (all) => all.find((w) => w.pid === node.pid && w.last_sample));
  assert.ok(worker.metrics['v8js.memory.heap.used{v8js.heap.space.name=new_space}'] > 0);
  await waitFor('a batch in the file sink', () => helper.batches().records.some((r) => r.kind === 'process'));
});

test('P65 what relocation needed to write is read-only in the static program', { skip: noRoot }, async (t) => {
  const helper = await helperInEmptyRoot(t);
  const pages = relroPages(helper.pid, segments(FILE).find((s) => s.type === PT_GNU_RELRO));
  assert.ok(pages.length > 0);
  assert.deepStrictEqual(pages.filter((p) => p.perms !== 'r--p'), []);
});
