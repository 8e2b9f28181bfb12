// puppet.js - does what it is told on standard input, a word a line: the ways in which a worker can end or hang.
'use strict';

const { execSync } = require('node:child_process');

const spin = (ms) => {
  const end = Date.now() + ms;
  while (Date.now() < end);
};

const actions = {
  exit: (code) => process.exit(Number(code)),
  throw: () => setImmediate(() => { throw new TypeError('thrown on purpose'); }),
  reject: () => { Promise.reject(new RangeError('rejected on purpose')); },
  abort: () => process.abort(),
  kill: (signal) => process.kill(process.pid, signal),
  while: (ms) => spin(Number(ms)),
  regexp: (n) => /^(a+)+$/.test(`${'a'.repeat(Number(n))}b`),
  atomics: (ms) => Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, Number(ms)),
  exec: (s) => execSync(`sleep ${s}`),
  microtasks: (ms) => {
    const end = Date.now() + Number(ms);
    const again = () => { if (Date.now() < end) Promise.resolve().then(again); };
    again();
  },
  allocate: (mib) => { (globalThis.kept ??= []).push(Array.from({ length: Number(mib) * 16384 }, (_, i) => ({ i }))); },
  buffer: (bytes) => { (globalThis.kept ??= []).push(Buffer.alloc(Number(bytes), 1)); },
  title: (text) => { process.title = text; },
};

process.stdout.write('ready\n');
let text = '';
process.stdin.on('data', (data) => {
  text += data;
  for (let at = text.indexOf('\n'); at >= 0; at = text.indexOf('\n')) {
    const [word, arg] = text.slice(0, at).split(' ');
    text = text.slice(at + 1);
    process.stdout.write(`${word}\n`);
    actions[word](arg);
  }
});
