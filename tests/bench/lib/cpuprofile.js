'use strict';
// cpuprofile.js - writes a .cpuprofile of about so many bytes in the inspector's form: as V8 writes it (depth first, ids by first
// sighting, 9,000 functions, stacks up to 300 deep), always the same for the same size. In a real one of 147 MB there were
// 631,000 nodes and 42,000 samples; here a sample comes for every 15 nodes as well.

const fs = require('node:fs');

const FUNCTIONS = 9000;
const NODE_BYTES = 202;
const DEPTH = 300;

// mulberry32
function random(seed) {
  let a = seed;
  return () => {
    a = (a + 0x6d2b79f5) | 0;
    let t = Math.imul(a ^ (a >>> 15), 1 | a);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}

function frames(next) {
  const list = ['(root)', '(program)', '(idle)', '(garbage collector)']
    .map((functionName) => ({ functionName, scriptId: '0', url: '', lineNumber: -1, columnNumber: -1 }));
  while (list.length < FUNCTIONS) {
    const i = list.length;
    const kind = next();
    const url = kind < 0.1 ? `node:internal/part${i % 40}` : kind < 0.6
      ? `file:///srv/app/node_modules/package-${i % 90}/lib/module${i % 700}.js` : `file:///srv/app/src/area${i % 30}/service${i % 400}.js`;
    list.push({ functionName: next() < 0.1 ? '' : `handle${'Request Response Stream Token Value'.split(' ')[i % 5]}${i}`, scriptId: String(i % 1000),
      url, lineNumber: Math.floor(next() * 3000), columnNumber: Math.floor(next() * 90) });
  }
  return list;
}

// Parents come before their children in time, so ids are drawn first; then the file has them depth first.
function tree(n, next) {
  const parent = new Int32Array(n + 1);
  const depth = new Int32Array(n + 1);
  for (let id = 2; id <= n; id++) {
    let up = id <= 4 ? 1 : next() < 0.86 ? id - 1 : 1 + Math.floor(next() * (id - 1));
    while (up !== 1 && (up <= 4 || depth[up] >= DEPTH)) up = up <= 4 ? 1 : parent[up];
    parent[id] = up;
    depth[id] = depth[up] + 1;
  }
  const children = Array.from({ length: n + 1 }, () => null);
  for (let id = 2; id <= n; id++) (children[parent[id]] = children[parent[id]] || []).push(id);
  return children;
}

function write(file, bytes) {
  const next = random(42);
  const n = Math.max(10, Math.round(bytes / NODE_BYTES));
  const list = frames(next).map((f) => JSON.stringify(f));
  const children = tree(n, next);
  const out = fs.openSync(file, 'w');
  let text = '{"nodes":[';
  const put = (s) => {
    text += s;
    if (text.length > 1 << 20) {
      fs.writeSync(out, text);
      text = '';
    }
  };
  const stack = [1];
  while (stack.length > 0) {
    const id = stack.pop();
    const hits = next() < 0.07 ? 1 + Math.floor(next() * 9) : 0;
    const frame = id <= 4 ? id - 1 : 4 + Math.floor(next() ** 2 * (list.length - 4));
    const kids = children[id];
    const ticks = hits ? `,"positionTicks":[{"line":${Math.floor(next() * 3000)},"ticks":${hits}}]` : '';
    put(`${id > 1 ? ',' : ''}{"id":${id},"callFrame":${list[frame]},"hitCount":${hits}${kids ? `,"children":[${kids.join(',')}]` : ''}${ticks}}`);
    if (kids) for (let i = kids.length - 1; i >= 0; i--) stack.push(kids[i]);
  }
  const samples = Math.max(10, Math.round(n / 15));
  put('],"startTime":1000000,"endTime":');
  put(String(1000000 + samples * 1000));
  put(',"samples":[');
  for (let i = 0; i < samples; i++) put(`${i ? ',' : ''}${2 + Math.floor(next() * (n - 1))}`);
  put('],"timeDeltas":[');
  for (let i = 0; i < samples; i++) put(`${i ? ',' : ''}${Math.floor(next() * 2000) - (next() < 0.001 ? 2500 : 0)}`);
  put(']}');
  fs.writeSync(out, text);
  fs.closeSync(out);
  return { bytes: fs.statSync(file).size, nodes: n, samples };
}

module.exports = { write, random };

if (require.main === module) console.log(write(process.argv[2], Number(process.argv[3])));
