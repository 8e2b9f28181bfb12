'use strict';
// peer.js - a helper made of JavaScript, for the tests of the preload alone: it speaks ipc/PROTOCOL.md, checks every frame that
// a worker sends, and misbehaves on request. It listens on workers.sock in a directory that holds the preload beside it.

const { EventEmitter } = require('node:events');
const fs = require('node:fs');
const net = require('node:net');
const path = require('node:path');
const { ROOT } = require('./harness');

const PARTS = ['identity.js', 'sampler.js', 'capture.js', 'preload.js'];

// The preload as the program writes it.
function preloadText() {
  return PARTS.map((name) => fs.readFileSync(path.join(ROOT, 'collectors/node', name), 'utf8')).join('');
}

function frame(type, payload) {
  const body = Buffer.isBuffer(payload) ? payload : Buffer.from(JSON.stringify(payload));
  const head = Buffer.alloc(8);
  head.writeUInt32LE(body.length, 0);
  head[4] = type;
  return Buffer.concat([head, body]);
}

function ackFrame(number) {
  const body = Buffer.alloc(8);
  body.writeBigUInt64LE(BigInt(number));
  return frame(0x82, body);
}

// key -> slot, as the helper's schema names them; a histogram's first slot, its sum under key + '.sum'.
function layout(fields) {
  const slots = new Map();
  let n = 0;
  for (const f of fields) {
    const attributes = Object.entries(f.attributes || {}).map(([k, v]) => `${k}=${v}`).sort().join(',');
    const key = attributes ? `${f.name}{${attributes}}` : f.name;
    if (slots.has(key)) throw new Error(`two fields ${key}`);
    slots.set(key, n);
    n += f.kind === 'histogram' ? f.bounds.length + 2 : 1;
    if (f.kind === 'histogram') slots.set(`${key}.sum`, n - 1);
  }
  return { slots, n };
}

// One connection of a worker. Emits nothing; look at it.
class Worker {
  constructor(peer, socket) {
    Object.assign(this, { peer, socket, hello: null, samples: [], events: [], beats: [], open: true, errors: [], bytes: 0 });
    this.pending = Buffer.alloc(0);
    socket.on('error', () => {});
    socket.on('close', () => { this.open = false; peer.emit('change'); });
    socket.on('data', (d) => {
      this.bytes += d.length;
      this.pending = this.pending.length ? Buffer.concat([this.pending, d]) : d;
      try {
        this.take();
      } catch (e) {
        this.errors.push(e.message);
        socket.destroy();
      }
      peer.emit('change');
    });
  }

  take() {
    while (this.pending.length >= 8) {
      const length = this.pending.readUInt32LE(0);
      if (length < 1 || length > 65528) throw new Error(`frame of ${length} bytes`);
      if (this.pending.readUInt16LE(6) !== 0 || this.pending[5] !== 0) throw new Error('reserved bytes are not 0');
      if (this.pending.length < 8 + length) return;
      const payload = this.pending.subarray(8, 8 + length);
      this.frame(this.pending[4], payload);
      this.pending = this.pending.subarray(8 + length);
    }
  }

  frame(type, payload) {
    if (this.hello === null && type !== 1) throw new Error(`frame ${type} before hello`);
    if (type === 1) {
      if (this.hello !== null) throw new Error('a second hello');
      this.hello = JSON.parse(payload.toString());
      this.layout = layout(this.hello.fields);
      this.expect = this.hello.next;
      this.peer.behave(this);
    } else if (!this.welcomed) {
      throw new Error(`frame ${type} before welcome`);
    } else if (type === 2) {
      if (payload.length !== 16 + this.layout.n * 8) throw new Error(`sample of ${payload.length} bytes`);
      this.sample(payload);
    } else if (type === 3) {
      const event = JSON.parse(payload.toString());
      event.worker = this;
      this.events.push(event);
      this.peer.events.push(event);
    } else if (type === 4) {
      if (payload.length !== 8) throw new Error('beat of a wrong length');
      this.beats.push(payload.readDoubleLE(0));
    } else {
      throw new Error(`frame of type ${type}`);
    }
  }

  sample(payload) {
    const sample = { number: Number(payload.readBigUInt64LE(0)), clock: payload.readDoubleLE(8), worker: this };
    if (sample.number < this.expect) throw new Error(`sample ${sample.number} after ${this.expect - 1}`);
    this.expect = sample.number + 1;
    sample.values = new Float64Array(this.layout.n);
    for (let i = 0; i < this.layout.n; i++) sample.values[i] = payload.readDoubleLE(16 + i * 8);
    for (const v of sample.values) if (v === Infinity || v === -Infinity) throw new Error('an infinite value');
    sample.get = (key) => {
      if (!this.layout.slots.has(key)) throw new Error(`no field ${key}`);
      return sample.values[this.layout.slots.get(key)];
    };
    // The observations of a histogram.
    sample.count = (key) => {
      let n = 0;
      for (let i = this.layout.slots.get(key); i < this.layout.slots.get(`${key}.sum`); i++) n += sample.values[i];
      return n;
    };
    this.samples.push(sample);
    this.peer.samples.push(sample);
    if (this.peer.ack && sample.number % this.peer.ack === 0) this.ack(sample.number);
  }

  get last() {
    return this.samples[this.samples.length - 1];
  }

  send(bytes) {
    if (this.open) this.socket.write(bytes);
  }

  welcome(extra = {}) {
    this.welcomed = true;
    this.send(frame(0x81, { protocol: 1, interval_ms: 100, beat_ms: 0, hold_bytes: 262144, stored: 0, ...extra }));
  }

  ack(number) {
    this.send(ackFrame(number));
  }

  close() {
    this.socket.destroy();
  }
}

// options: interval (ms), welcome (further keys), ack (each nth sample; 0, false: none),
// behave(worker): what to do when a hello has come, in place of welcome; accept(socket, n): false when it has done with it at once.
class Peer extends EventEmitter {
  constructor(dir, options = {}) {
    super();
    this.setMaxListeners(0);
    this.dir = dir;
    this.path = path.join(dir, 'workers.sock');
    this.preload = path.join(dir, 'preload.js');
    this.ack = Number(options.ack ?? 1);
    this.accept = options.accept || (() => true);
    this.accepted = 0;
    this.behave = options.behave || ((w) => w.welcome(options.welcome));
    this.workers = [];
    this.samples = [];
    this.events = [];
    fs.writeFileSync(this.preload, preloadText());
  }

  listen() {
    fs.rmSync(this.path, { force: true });
    this.server = net.createServer((socket) => {
      if (this.accept(socket, this.accepted++)) this.workers.push(new Worker(this, socket));
      this.emit('change');
    });
    return new Promise((resolve, reject) => {
      this.server.once('error', reject);
      this.server.listen(this.path, () => resolve(this));
    });
  }

  // As a helper that was killed: everything goes at once.
  stop() {
    for (const w of this.workers) w.close();
    return new Promise((resolve) => {
      if (!this.server) return resolve();
      this.server.close(() => resolve());
      this.server = null;
    });
  }

  of(pid) {
    return this.workers.filter((w) => w.hello && w.hello.pid === pid);
  }

  get errors() {
    return this.workers.flatMap((w) => w.errors);
  }

  // Resolves with the first true result of `probe`, tried at each thing that happens.
  until(what, probe, deadline = 20000) {
    return new Promise((resolve, reject) => {
      const end = (fn, value) => {
        clearTimeout(timer);
        clearInterval(poll);
        this.off('change', look);
        fn(value);
      };
      const look = () => {
        let result;
        try {
          result = probe();
        } catch (e) {
          return end(reject, e);
        }
        if (result) end(resolve, result);
        return undefined;
      };
      const timer = setTimeout(() => end(reject, new Error(`waited ${deadline} ms in vain for: ${what}; ${this.workers.length} `
        + `connections, ${this.samples.length} samples, errors: ${this.errors.join('; ') || 'none'}`)), deadline);
      const poll = setInterval(look, 100);
      this.on('change', look);
      look();
    });
  }
}

module.exports = { Peer, Worker, frame, ackFrame, layout, preloadText };
