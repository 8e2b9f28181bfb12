'use strict';
// fake-worker.js - a worker made of JavaScript, for tests and benches of the helper: it speaks ipc/PROTOCOL.md, keeps what is not
// acknowledged, and misbehaves on request. Hundreds of them run in one process: one timer for all, one buffer each.
//
//   const w = new FakeWorker(socketPath, { title: 'shop' });
//   await w.connect();              the welcome; rejects with an error that has .later, .refused or neither (closed)
//   w.sample([1, 2, …]);  w.event({ event: 'exit', code: 1 });  w.beat();  w.raw(bytes);
//   await w.acked(3);               every sample up to number 3 is acknowledged
//   w.destroy();                    gone without a word; connect() again sends the kept ones again
//
// From one process all have the same pid, which the kernel tells the helper; they differ by `thread`.
//
//   node fake-worker.js SOCKET [WORKERS] [HERTZ] [SECONDS]      a crowd; prints what it saw as JSON

const { EventEmitter } = require('node:events');
const fs = require('node:fs');
const net = require('node:net');

const TYPE = { hello: 0x01, sample: 0x02, event: 0x03, beat: 0x04, welcome: 0x81, ack: 0x82, later: 0x83, refused: 0x84 };
const HEADER = 8;

function frame(type, payload) {
  const body = Buffer.isBuffer(payload) ? payload : Buffer.from(typeof payload === 'string' ? payload : JSON.stringify(payload));
  const out = Buffer.alloc(HEADER + body.length);
  out.writeUInt32LE(body.length, 0);
  out[4] = type;
  body.copy(out, HEADER);
  return out;
}

const monotonic = () => Number(process.hrtime.bigint()) / 1e9; // CLOCK_MONOTONIC on Linux

// Field 22 of /proc/self/stat; the command in field 2 may hold blanks and parentheses.
function startTicks() {
  const stat = fs.readFileSync('/proc/self/stat', 'utf8');
  return Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19]);
}

const slotsOf = (fields) => fields.reduce((n, f) => n + (f.kind === 'histogram' ? f.bounds.length + 2 : 1), 0);

const FEW_FIELDS = [
  { name: 'process.cpu.time', attributes: { 'cpu.mode': 'user' }, unit: 's', kind: 'counter' },
  { name: 'process.cpu.time', attributes: { 'cpu.mode': 'system' }, unit: 's', kind: 'counter' },
  { name: 'process.memory.usage', unit: 'By', kind: 'gauge' },
  { name: 'nodejs.eventloop.utilization', unit: '1', kind: 'gauge' },
];

// As many and as long as those of a real worker: some 100 slots.
function manyFields() {
  const fields = FEW_FIELDS.slice();
  const spaces = ['read_only', 'new', 'old', 'code', 'shared', 'trusted', 'new_large_object', 'large_object', 'code_large_object'];
  for (const space of spaces) {
    for (const what of ['used', 'space.size', 'space.available_size', 'space.physical_size']) {
      fields.push({ name: `v8js.memory.heap.${what}`, attributes: { 'v8js.heap.space.name': `${space}_space` }, unit: 'By', kind: 'gauge' });
    }
  }
  for (const p of ['min', 'max', 'mean', 'stddev', 'p50', 'p90', 'p99']) {
    fields.push({ name: `nodejs.eventloop.delay.${p}`, unit: 's', kind: 'gauge' });
  }
  for (const type of ['major', 'minor', 'incremental', 'weakcb']) {
    fields.push({ name: 'v8js.gc.duration', attributes: { 'v8js.gc.type': type }, unit: 's', kind: 'histogram', bounds: [0.001, 0.01, 0.1, 1, 2, 5] });
  }
  fields.push({ name: 'http.server.request.duration', unit: 's', kind: 'histogram', bounds: [0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10] });
  return fields;
}

class FakeWorker extends EventEmitter {
  // options: hello (keys that replace those of the default hello; undefined leaves a key out), fields, keep (samples until they
  // are acknowledged, default true), and every key of the hello by its own name.
  constructor(socketPath, options = {}) {
    super();
    const { hello, fields = FEW_FIELDS, keep = true, ...keys } = options;
    this.path = socketPath;
    this.fields = fields;
    this.keep = keep;
    this.keys = { ...keys, ...hello };
    this.number = 0; // of the newest sample
    this.ackedTo = 0;
    this.kept = []; // { number, bytes }
    this.stats = { sent: 0, acks: 0, repeated: 0, later: 0, refused: 0, closed: 0 };
    this.welcome = null;
    this.closed = true;
    this.buffer = Buffer.alloc(HEADER + 16 + 8 * slotsOf(fields));
    this.buffer.writeUInt32LE(this.buffer.length - HEADER, 0);
    this.buffer[4] = TYPE.sample;
    this.slots = new Float64Array(slotsOf(fields));
  }

  helloText() {
    const next = this.kept.length > 0 ? this.kept[0].number : this.number + 1;
    const hello = { protocol: [1], pid: process.pid, start: startTicks(), ppid: process.ppid, role: 'process',
      title: process.title, node: process.version, app: 'fake', next, fields: this.fields, ...this.keys };
    return JSON.stringify(hello);
  }

  // Only the connection, for those who say something else than hello.
  open() {
    return new Promise((resolve, reject) => {
      const socket = net.connect(this.path);
      this.socket = socket;
      this.rest = Buffer.alloc(0);
      this.welcome = null;
      this.answer = null;
      this.closed = false;
      socket.once('connect', resolve);
      socket.on('error', (e) => { this.lastError = e; reject(e); });
      socket.on('data', (d) => this.take(d));
      socket.on('close', () => {
        this.closed = true;
        this.stats.closed++;
        this.emit('close');
        reject(new Error('closed'));
      });
    });
  }

  async connect() {
    await this.open();
    return new Promise((resolve, reject) => {
      const onClose = () => {
        const answer = this.answer || {};
        const e = new Error(answer.reason ? `${answer.type}: ${answer.reason}` : 'closed without an answer');
        reject(Object.assign(e, { [answer.type || 'silent']: answer }));
      };
      if (this.closed) return onClose();
      this.once('close', onClose);
      this.once('welcome', (welcome) => {
        this.off('close', onClose);
        for (const { bytes } of this.kept) {
          this.socket.write(bytes);
          this.stats.repeated++;
        }
        resolve(welcome);
      });
      this.socket.write(frame(TYPE.hello, this.helloText()));
    });
  }

  take(data) {
    let d = this.rest.length > 0 ? Buffer.concat([this.rest, data]) : data;
    while (d.length >= HEADER && d.length >= HEADER + d.readUInt32LE(0)) {
      const end = HEADER + d.readUInt32LE(0);
      this.frame(d[4], d.subarray(HEADER, end));
      d = d.subarray(end);
    }
    this.rest = d;
  }

  frame(type, payload) {
    if (type === TYPE.ack) {
      this.stats.acks++;
      this.forget(Number(payload.readBigUInt64LE(0)));
    } else if (type === TYPE.welcome) {
      this.welcome = JSON.parse(payload);
      this.forget(this.welcome.stored);
      this.emit('welcome', this.welcome);
    } else if (type === TYPE.later || type === TYPE.refused) {
      const name = type === TYPE.later ? 'later' : 'refused';
      this.stats[name]++;
      this.answer = { type: name, ...JSON.parse(payload) };
      this.emit(name, this.answer);
    }
  }

  forget(number) {
    if (number <= this.ackedTo) return;
    this.ackedTo = number;
    while (this.kept.length > 0 && this.kept[0].number <= number) this.kept.shift();
    this.emit('ack', number);
  }

  // `values`: the slots; without them those of last time. Made while there is no connection it is kept for the next one.
  sample(values, clock = monotonic()) {
    const b = this.buffer;
    if (values) this.slots.set(values);
    b.writeBigUInt64LE(BigInt(++this.number), HEADER);
    b.writeDoubleLE(clock, HEADER + 8);
    for (let i = 0, at = HEADER + 16; i < this.slots.length; i++, at += 8) b.writeDoubleLE(this.slots[i], at);
    // The socket holds on to bytes that it could not write at once.
    const bytes = this.keep || (this.socket && this.socket.writableLength > 0) ? Buffer.from(b) : b;
    if (this.keep) this.kept.push({ number: this.number, bytes });
    if (!this.welcome || this.closed) return this.number;
    this.socket.write(bytes);
    if (bytes === b && this.socket.writableLength > 0) this.buffer = Buffer.from(b);
    this.stats.sent++;
    return this.number;
  }

  event(event) {
    this.socket.write(frame(TYPE.event, event));
  }

  beat() {
    const b = Buffer.alloc(8);
    b.writeDoubleLE(monotonic());
    this.socket.write(frame(TYPE.beat, b));
  }

  raw(bytes) {
    this.socket.write(bytes);
  }

  // A peer that does not read.
  deaf() {
    this.socket.pause();
  }

  acked(number) {
    if (this.ackedTo >= number) return Promise.resolve();
    return new Promise((resolve) => {
      const onAck = (n) => {
        if (n < number) return;
        this.off('ack', onAck);
        resolve();
      };
      this.on('ack', onAck);
    });
  }

  gone() {
    return this.closed ? Promise.resolve() : new Promise((resolve) => this.once('close', resolve));
  }

  destroy() {
    if (this.socket) this.socket.destroy();
  }
}

// `n` workers that come at once and come again when they are sent away or cut off, as real ones do.
class Crowd {
  constructor(socketPath, n, options = {}) {
    this.retries = 0;
    this.running = true;
    this.workers = Array.from({ length: n }, (_, i) =>
      new FakeWorker(socketPath, { fields: manyFields(), role: i === 0 ? 'process' : 'thread', thread: i, ...options }));
  }

  // Each of them, until it is welcome once.
  async connect() {
    await Promise.all(this.workers.map((w) => this.insist(w)));
  }

  async insist(w) {
    while (this.running) {
      try {
        await w.connect();
        w.once('close', () => this.insist(w));
        return;
      } catch (e) {
        if (e.refused) throw e;
        this.retries++;
        await new Promise((resolve) => setTimeout(resolve, e.later ? e.later.after_ms : 200 + Math.random() * 300));
      }
    }
  }

  // One timer: each time as many as it takes, so that the samples are spread over the interval.
  start(hertz) {
    const perMs = (this.workers.length * hertz) / 1000;
    const began = performance.now();
    let made = 0;
    this.timer = setInterval(() => {
      const due = Math.floor((performance.now() - began) * perMs);
      for (; made < due; made++) {
        const w = this.workers[made % this.workers.length];
        w.slots[0] += 0.001;
        w.slots[2] = 5e7 + (made % 1000) * 4096;
        w.sample();
      }
    }, Math.max(1, Math.min(10, 1 / perMs)));
  }

  stop() {
    clearInterval(this.timer);
  }

  destroy() {
    this.stop();
    this.running = false;
    for (const w of this.workers) {
      w.removeAllListeners('close');
      w.destroy();
    }
  }

  total(key) {
    return this.workers.reduce((sum, w) => sum + w.stats[key], 0);
  }

  summary() {
    return {
      workers: this.workers.length, welcome: this.workers.filter((w) => w.welcome && !w.closed).length, retries: this.retries,
      made: this.workers.reduce((sum, w) => sum + w.number, 0), sent: this.total('sent'), repeated: this.total('repeated'),
      acknowledged: this.workers.reduce((sum, w) => sum + w.ackedTo, 0), later: this.total('later'), closed: this.total('closed'),
    };
  }
}

module.exports = { Crowd, FEW_FIELDS, FakeWorker, TYPE, frame, manyFields, monotonic, slotsOf, startTicks };

async function main([socketPath, workers = '8', hertz = '1', seconds = '10']) {
  const crowd = new Crowd(socketPath, Number(workers));
  await crowd.connect();
  crowd.start(Number(hertz));
  await new Promise((resolve) => setTimeout(resolve, Number(seconds) * 1000));
  crowd.stop();
  process.stdout.write(`${JSON.stringify({ ...crowd.summary(), cpu_ms: Math.round(process.cpuUsage().user / 1000 + process.cpuUsage().system / 1000) })}\n`);
  crowd.destroy();
}

if (require.main === module) {
  if (process.argv.length < 3) {
    process.stderr.write('usage: fake-worker.js SOCKET [WORKERS] [HERTZ] [SECONDS]\n');
    process.exitCode = 64;
  } else {
    main(process.argv.slice(2)).catch((e) => { process.stderr.write(`${e.stack}\n`); process.exitCode = 1; });
  }
}
