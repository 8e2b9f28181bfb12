// An application whose heap is photographed from a child: what it is told comes over the IPC channel, one answer each.
//   argv: fork.js, snapshot.node
'use strict';
const fs = require('fs');
const http = require('http');
const crypto = require('crypto');
const zlib = require('zlib');
const { spawn } = require('child_process');
const { Worker } = require('worker_threads');
const v8 = require('v8');

const [source, addon] = process.argv.slice(2);
const fork = new Function('require', `${fs.readFileSync(source, 'utf8')};return pillionFork`)(require)();

class Customer { constructor(i) { this.id = i; this.name = `customer ${i}`; this.order = new Order(i); } }
class Order { constructor(i) { this.lines = [i, i + 1]; this.at = i / 3; } }
class Session { constructor(i) { this.map = new Map([[i, `s${i}`]]); this.fn = () => i; this.buf = Buffer.alloc(i % 200); } }

const kept = [];
let running = null;
let sigchlds = 0;

const makers = {
  small(n) { for (let i = 0; i < n; i++) kept.push(new Customer(i)); },
  mixed(n) {
    for (let i = 0; i < n / 4; i++) kept.push(new Session(i));
    kept.push(new Uint8Array(8 << 20), require('vm').createContext({ a: 1 }), Symbol('x'), 12n ** 300n, 'x'.repeat(1 << 20));
    kept.push(new FinalizationRegistry(() => {}), new WeakRef(kept), new WeakMap([[kept, 1]]), new SharedArrayBuffer(4096));
  },
};

const loads = {
  idle() {},
  churn() { setInterval(() => { for (let i = 0; i < 5000; i++) kept[i] = new Customer(i); }, 1); },
  pool() { // busy, and not so much that a child at the lowest priority gets nothing
    const soon = (fn) => () => setTimeout(fn, 10);
    const again = () => crypto.pbkdf2('a', 'b', 1000, 32, 'sha256', soon(again));
    const more = () => zlib.deflate(Buffer.alloc(1 << 16, 'ab'), soon(more));
    again(), again(), more(), more();
  },
  threads() {
    for (let i = 0; i < 2; i++) new Worker('let a = []; setInterval(() => { for (let i = 0; i < 5000; i++) a.push({ i }); if (a.length > 1e5) a = []; }, 2)', { eval: true });
  },
};

// What the kernel does not give to children (MADV_DONTFORK).
function keptBytes() {
  let bytes = 0;
  for (const one of fs.readFileSync('/proc/self/smaps', 'utf8').split(/^(?=[0-9a-f]+-)/m)) {
    if (/^VmFlags:.* dc/m.test(one)) bytes += Number(/^Rss:\s*(\d+)/m.exec(one)[1]) * 1024;
  }
  return bytes;
}

function state() {
  const status = fs.readFileSync('/proc/self/status', 'utf8');
  const field = (name) => (new RegExp(`^${name}:\\s*(.*)$`, 'm').exec(status) || [])[1];
  return {
    fds: fs.readdirSync('/proc/self/fd').length,
    handlers: ['SigBlk', 'SigIgn', 'SigCgt'].map(field).join(' '),
    children: fs.readFileSync(`/proc/self/task/${process.pid}/children`, 'utf8').trim(),
    keptBytes: keptBytes(),
    limits: fs.readFileSync('/proc/self/limits', 'utf8'),
    nice: require('os').getPriority(),
    oom: fs.readFileSync('/proc/self/oom_score_adj', 'utf8').trim(),
    rss: process.memoryUsage().rss,
    sigchlds,
  };
}

const commands = {
  fill: ({ shape, n }) => { makers[shape](n); global.gc && global.gc(); return null; },
  load: ({ kind }) => { loads[kind](); return null; },
  state,
  setuid: ({ uid }) => { process.setgid(uid); process.setuid(uid); return null; },
  sigchld: () => { process.on('SIGCHLD', () => sigchlds++); return null; },
  listen: (_, answer) => { const s = http.createServer((rq, rs) => (rq.url === '/cut' ? rq.socket.destroy() : rs.end('ok'))).listen(0, '127.0.0.1', () => answer(s.address().port)); },
  snapshot({ file, options = {} }, answer) {
    const fifo = fs.statSync(file, { throwIfNoEntry: false });
    const fd = fs.openSync(file, fifo && fifo.isFIFO() ? fs.constants.O_WRONLY | fs.constants.O_NONBLOCK : 'w');
    running = fork.start(addon, fd, options, (result) => { fs.closeSync(fd); running = null; answer(result); });
  },
  cancel: () => { running.cancel(); return null; },
  busy: ({ ms }) => { const end = Date.now() + ms; while (Date.now() < end); return null; },
  own: ({ file }) => { v8.writeHeapSnapshot(file); return null; },
  spawn(_, answer) {
    const began = process.hrtime.bigint();
    spawn('/bin/sh', ['-c', 'exit 7']).on('exit', (code) => answer({ code, ms: Number(process.hrtime.bigint() - began) / 1e6 }));
  },
};

process.on('message', (m) => {
  const answer = (value) => process.send({ id: m.id, value });
  const value = commands[m.command](m, answer);
  if (value !== undefined) answer(value);
});
process.on('disconnect', () => process.exit());
process.send({ id: 0 });
