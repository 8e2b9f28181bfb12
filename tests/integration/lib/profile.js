'use strict';
// profile.js - what a profile says, computed from the whole document in memory: the other way than the program does it, to compare
// with. And readers of what the program writes.

const zlib = require('node:zlib');

const label = (f) => {
  const file = f.url.replace(/^file:\/\//, '');
  const place = !file ? '' : f.lineNumber < 0 ? file : `${file}:${f.lineNumber + 1}${f.columnNumber < 0 ? '' : `:${f.columnNumber + 1}`}`;
  return `${f.functionName || '(anonymous)'}${place ? ` ${place}` : ''}`;
};

// Map of "a;b;c" to weight, of a CPU profile as the inspector writes it. A sample weighs the time until the next one.
function stacksOfCpu(profile) {
  const nodes = new Map(profile.nodes.map((n) => [n.id, n]));
  const parent = new Map();
  for (const n of profile.nodes) for (const c of n.children || []) parent.set(c, n.id);
  const stacks = new Map();
  profile.samples.forEach((id, i) => {
    const weight = Math.max(0, profile.timeDeltas[i + 1] || 0);
    const path = [];
    for (let k = id; k !== undefined; k = parent.get(k)) {
      const f = nodes.get(k).callFrame;
      if (f.functionName !== '(root)') path.unshift(label(f).replaceAll(';', ':'));
    }
    if (weight === 0 || path[0] === '(idle)') return;
    const key = path.join(';') || '(root)';
    stacks.set(key, (stacks.get(key) || 0) + weight);
  });
  return stacks;
}

function stacksOfHeap(profile) {
  const stacks = new Map();
  const walk = (node, path) => {
    const here = node.callFrame.functionName === '(root)' ? path : [...path, label(node.callFrame).replaceAll(';', ':')];
    const key = here.join(';') || '(root)';
    if (node.selfSize > 0) stacks.set(key, (stacks.get(key) || 0) + node.selfSize);
    for (const child of node.children) walk(child, here);
  };
  walk(profile.head, []);
  return stacks;
}

const stacksOfFolded = (text) => new Map(text.split('\n').filter(Boolean).map((line) => {
  const at = line.lastIndexOf(' ');
  return [line.slice(0, at), Number(line.slice(at + 1))];
}));

// { self, total } by function: one that calls itself counts once.
function totals(stacks) {
  const self = new Map();
  const total = new Map();
  const add = (map, key, v) => map.set(key, (map.get(key) || 0) + v);
  for (const [key, weight] of stacks) {
    const path = key.split(';');
    add(self, path.at(-1), weight);
    for (const f of new Set(path)) add(total, f, weight);
  }
  return { self, total };
}

// Stacks of an evented speedscope file.
function stacksOfSpeedscope(file) {
  const [profile] = file.profiles;
  const stacks = new Map();
  const open = [];
  let at = profile.startValue;
  const name = (i) => {
    const f = file.shared.frames[i];
    return label({ functionName: f.name, url: f.file || '', lineNumber: (f.line || 0) - 1, columnNumber: (f.col || 0) - 1 }).replaceAll(';', ':');
  };
  for (const e of profile.events) {
    if (e.at < at) throw new Error('events are not in order');
    if (e.at > at && open.length) stacks.set(open.map(name).join(';'), (stacks.get(open.map(name).join(';')) || 0) + e.at - at);
    at = e.at;
    if (e.type === 'O') open.push(e.frame);
    else if (open.pop() !== e.frame) throw new Error('an event closes what is not open');
  }
  if (open.length) throw new Error('the last event leaves something open');
  return stacks;
}

// Protocol buffers: [[field, value]], value a number or bytes.
function fields(bytes) {
  const list = [];
  let at = 0;
  const varint = () => {
    let v = 0n;
    for (let shift = 0n; ; shift += 7n) {
      const b = bytes[at++];
      v |= BigInt(b & 0x7f) << shift;
      if (b < 0x80) return Number(v);
    }
  };
  while (at < bytes.length) {
    const key = varint();
    if ((key & 7) === 0) list.push([key >> 3, varint()]);
    else if ((key & 7) === 2) {
      const n = varint();
      list.push([key >> 3, bytes.subarray(at, at + n)]);
      at += n;
    } else throw new Error(`wire type ${key & 7}`);
  }
  return list;
}

function packed(bytes) {
  const list = [];
  for (let at = 0; at < bytes.length;) {
    let v = 0;
    let scale = 1;
    for (;; scale *= 128) {
      const b = bytes[at++];
      v += (b & 0x7f) * scale;
      if (b < 0x80) break;
    }
    list.push(v);
  }
  return list;
}

function stacksOfPprof(gz) {
  const all = fields(zlib.gunzipSync(gz));
  const of = (n) => all.filter(([f]) => f === n).map(([, v]) => v);
  const strings = of(6).map((b) => Buffer.from(b).toString());
  if (strings[0] !== '') throw new Error('the first string is not empty');
  const functions = new Map(of(5).map((b) => {
    const f = Object.fromEntries(fields(b));
    return [f[1], { name: strings[f[2]], file: strings[f[4]], line: f[5] }];
  }));
  const locations = new Map(of(4).map((b) => {
    const l = Object.fromEntries(fields(b));
    return [l[1], functions.get(Object.fromEntries(fields(l[4]))[1])];
  }));
  const [type, unit] = fields(of(1)[0]).map(([, v]) => strings[v]);
  const stacks = new Map();
  for (const b of of(2)) {
    const s = Object.fromEntries(fields(b));
    const key = packed(s[1]).map((id) => locations.get(id).name).reverse().join(';');
    stacks.set(key, (stacks.get(key) || 0) + packed(s[2])[0]);
  }
  return { type, unit, stacks };
}

module.exports = { stacksOfCpu, stacksOfHeap, stacksOfFolded, stacksOfSpeedscope, stacksOfPprof, totals, label };
