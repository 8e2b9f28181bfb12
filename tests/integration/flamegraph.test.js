'use strict';
// flamegraph.test.js - `pillion flamegraph` on profiles that real programs leave behind, made here. Sums are compared with those of
// an independent computation (lib/profile.js).

const assert = require('node:assert');
const { spawnSync } = require('node:child_process');
const fs = require('node:fs');
const path = require('node:path');
const { test } = require('node:test');
const zlib = require('node:zlib');

const { BIN, APPS, tempDir } = require('./lib/harness');
const { list } = require('../nodes');
const reader = require('./lib/profile');

const DATAERR = 65;

function pillion(args, { input, expected = 0 } = {}) {
  const r = spawnSync(BIN, ['flamegraph', ...args], { input, maxBuffer: 1 << 28 });
  assert.strictEqual(r.status, expected, `${args.join(' ')}: ${r.stderr}`);
  return r;
}

const out = (args, options) => pillion([...args, '-o', '-'], options).stdout;

function profiled(t, { node = process.execPath, heap = false, dir = tempDir(t), rounds = '4' } = {}) {
  const file = path.join(dir, heap ? 'app.heapprofile' : 'app.cpuprofile');
  const args = heap ? ['--heap-prof', '--heap-prof-interval=4096', `--heap-prof-name=${path.basename(file)}`, `--heap-prof-dir=${dir}`]
    : ['--cpu-prof', `--cpu-prof-name=${path.basename(file)}`, `--cpu-prof-dir=${dir}`];
  const r = spawnSync(node, [...args, path.join(APPS, 'profiled.js'), rounds], { env: { PATH: process.env.PATH }, encoding: 'utf8' });
  assert.strictEqual(r.status, 0, r.stderr);
  return { file, dir, profile: JSON.parse(fs.readFileSync(file, 'utf8')) };
}

const sorted = (map) => [...map].sort(([a], [b]) => (a < b ? -1 : 1));
const same = (a, b, what) => assert.deepStrictEqual(sorted(a), sorted(b), what);

// In turn, so that a program that has no stacks at all is seen.
function sumsAgree(file, expected) {
  assert.ok(expected.size > 10, 'the profile has stacks');
  same(reader.stacksOfFolded(out([file, '--format', 'folded']).toString()), expected, 'folded');
  same(reader.stacksOfSpeedscope(JSON.parse(out([file, '--format', 'speedscope']))), expected, 'speedscope');
  const byName = new Map();
  for (const [key, v] of reader.stacksOfPprof(out([file, '--format', 'pprof'])).stacks) byName.set(key, v);
  assert.ok(byName.size > 5);
  return byName;
}

const versions = list().filter((v) => v.node).map((v) => [`Node ${v.major}`, v.node]);
for (const [name, node] of versions.length ? versions : [[`Node ${process.versions.node}`, process.execPath]]) {
  test(`flame graph: sums of a CPU profile are those of an independent computation, ${name}`, (t) => {
    const { file, profile } = profiled(t, { node });
    const expected = reader.stacksOfCpu(profile);
    const pprof = sumsAgree(file, expected);
    const nanoseconds = [...pprof.values()].reduce((a, b) => a + b, 0);
    assert.strictEqual(nanoseconds, 1000 * [...expected.values()].reduce((a, b) => a + b, 0));
  });

  test(`flame graph: sums of a heap profile are those of an independent computation, ${name}`, (t) => {
    const { file, profile } = profiled(t, { node, heap: true });
    sumsAgree(file, reader.stacksOfHeap(profile));
  });
}

test('flame graph: the text names the functions with the largest sums, with their shares', (t) => {
  const { file, profile } = profiled(t);
  const { self, total } = reader.totals(reader.stacksOfCpu(profile));
  const all = [...self.values()].reduce((a, b) => a + b, 0);
  const text = out([file, '--format', 'text']).toString();
  const rows = (title) => text.split(`${title}\n`)[1].split('\n\n')[0].split('\n');
  for (const [title, map] of [['Top functions by self', self], ['Top functions by total', total]]) {
    const shares = [...map.values()].sort((a, b) => b - a).slice(0, 20).map((v) => `${((100 * v) / all).toFixed(1)} %`);
    assert.deepStrictEqual(rows(title).map((r) => r.trim().split('  ')[0]), shares);
  }
});

test('flame graph: every shape of the same profile gives the same stacks', (t) => {
  const { profile, dir } = profiled(t);
  const expected = reader.stacksOfCpu(profile);
  const { nodes, startTime, endTime, samples, timeDeltas } = profile;
  const reversed = (o) => Object.fromEntries(Object.entries(o).reverse());
  const byId = new Map(nodes.map((n) => [n.id, n]));
  const nested = (n) => ({ ...n, children: (n.children || []).map((c) => nested(byId.get(c))) });
  const parents = new Map();
  for (const n of nodes) for (const c of n.children || []) parents.set(c, n.id);
  const shapes = {
    'samples first, all keys reversed': { timeDeltas, samples, endTime, startTime, nodes: nodes.map((n) => ({ ...reversed(n), callFrame: reversed(n.callFrame) })) },
    'nodes in between': { samples, nodes, timeDeltas, startTime, endTime },
    'numeric script ids': { ...profile, nodes: nodes.map((n) => ({ hitCount: n.hitCount, ...n, callFrame: { lineNumber: n.callFrame.lineNumber, ...n.callFrame, scriptId: Number(n.callFrame.scriptId) } })) },
    'parents in place of children': { samples, timeDeltas, nodes: nodes.map(({ children, ...n }) => ({ ...n, parent: parents.get(n.id) })) },
    'one inside the other': { head: nested(nodes[0]), samples, timeDeltas },
    "an inspector's answer": { id: 7, result: { profile } },
    'ids that are huge': { nodes: nodes.map((n) => ({ ...n, id: n.id * 1e9, children: (n.children || []).map((c) => c * 1e9) })), samples: samples.map((s) => s * 1e9), timeDeltas },
  };
  for (const [name, shape] of Object.entries(shapes)) {
    for (const [form, text] of [['', JSON.stringify(shape)], [', indented', JSON.stringify(shape, null, '\t')]]) {
      const file = path.join(dir, 'shape.json');
      fs.writeFileSync(file, text);
      same(reader.stacksOfFolded(out([file, '--format', 'folded']).toString()), expected, name + form);
    }
  }
  const plain = JSON.stringify(profile);
  same(reader.stacksOfFolded(out(['-', '--format', 'folded'], { input: plain }).toString()), expected, 'standard input');
  same(reader.stacksOfFolded(out(['-', '--format', 'folded'], { input: zlib.gzipSync(plain) }).toString()), expected, 'gzip');
  const half = plain.length >> 1;
  const members = Buffer.concat([zlib.gzipSync(plain.slice(0, half)), zlib.gzipSync(plain.slice(half))]);
  same(reader.stacksOfFolded(out(['-', '--format', 'folded'], { input: members }).toString()), expected, 'two gzip members');
});

test('flame graph: the ending of OUT decides, and the default lies beside FILE', (t) => {
  const { file, dir } = profiled(t);
  const gz = `${file}.gz`;
  fs.writeFileSync(gz, zlib.gzipSync(fs.readFileSync(file)));
  pillion([gz]);
  assert.match(fs.readFileSync(path.join(dir, 'app.html'), 'utf8'), /^<!doctype html>[^]*<\/html>\n$/);
  for (const [name, begins] of [['a.svg', '<svg '], ['a.speedscope.json', '{"$schema"'], ['a.txt', 'app.cpuprofile\nCPU profile: ']]) {
    pillion([file, '-o', path.join(dir, name)]);
    assert.ok(fs.readFileSync(path.join(dir, name), 'utf8').startsWith(begins), name);
  }
  pillion([file, '-o', path.join(dir, 'a.pb.gz')]);
  assert.strictEqual(reader.stacksOfPprof(fs.readFileSync(path.join(dir, 'a.pb.gz'))).unit, 'nanoseconds');
  assert.deepStrictEqual(fs.readdirSync(dir).filter((f) => f.endsWith('.tmp')), []);
});

test('flame graph: what is no whole profile is refused with the byte, and OUT stays as it was', (t) => {
  const { file, dir } = profiled(t);
  const whole = fs.readFileSync(file);
  const bad = path.join(dir, 'bad.cpuprofile');
  const target = path.join(dir, 'bad.html');
  fs.writeFileSync(target, 'before');
  const refuse = (data, why) => {
    fs.writeFileSync(bad, data);
    assert.match(pillion([bad], { expected: DATAERR }).stderr.toString(), why);
    assert.strictEqual(fs.readFileSync(target, 'utf8'), 'before');
  };
  refuse(whole.subarray(0, whole.length - 100), new RegExp(`cut off at byte ${whole.length - 100}`));
  refuse(zlib.gzipSync(whole).subarray(0, 2000), /gzip data are cut off/);
  refuse('', /the input is empty/);
  refuse('not a profile', /this is no profile/);
  refuse('{"a":1}', /neither "nodes"/);
  refuse('{"snapshot":{}}', /heap snapshot/);
  assert.match(pillion([path.join(dir, 'none')], { expected: 66 }).stderr.toString(), /No such file/);
  assert.match(pillion([dir], { expected: 66 }).stderr.toString(), /Is a directory/);
  assert.match(pillion([file, '-o', path.join(dir, 'no/such.html')], { expected: 73 }).stderr.toString(), /No such file/);
  assert.match(pillion([file, '--format', 'png'], { expected: 64 }).stderr.toString(), /html, svg, folded, speedscope, pprof and text/);
  assert.match(pillion([], { expected: 64 }).stderr.toString(), /a FILE is wanted/);
  assert.deepStrictEqual(fs.readdirSync(dir).filter((f) => f.endsWith('.tmp')), []);
});

test('flame graph: a name that would end a script does no harm in any format', (t) => {
  const { file } = profiled(t);
  const html = out([file]).toString();
  assert.strictEqual(html.split('</script').length - 1, 2);
  assert.ok(html.includes('&#60;/script&#62;&#60;b onclick=&#34;x&#34;&#62;&#38;\\'));
  assert.ok(!html.includes('<b onclick'));
  const svg = out([file, '--format', 'svg']).toString();
  assert.ok(!svg.includes('</script') && !svg.includes('<b onclick'));
});

test('flame graph: two profiles are compared by share', (t) => {
  const a = profiled(t, { rounds: '2' });
  const b = profiled(t, { rounds: '6' });
  const text = out([b.file, '--base', a.file, '--format', 'text']).toString();
  assert.match(text, /compared with .* s/);
  assert.match(text, /Largest changes of self/);
  assert.match(pillion([b.file, '--base', a.file, '--format', 'folded', '-o', '-'], { expected: DATAERR }).stderr.toString(), /html and text can/);
});
