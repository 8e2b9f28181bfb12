'use strict';
// oracle.js - a hub that remembers: every batch that it was given, whether a repeat is the same to the last byte, and which
// samples came under which (boot, seq). For the tests that kill the helper and then ask what is missing.
//
//   const oracle = await Oracle.start(t);        oracle.sink is what PILLION_SINK takes
//   oracle.away = true;                          answers 503 from now on
//   oracle.report(workers)                       { missing, foreign, corrupt, repeats, twice, reordered, … }
//
// The workers are those of fake-worker.js, whose sample `number` has the values valuesOf(number).

const crypto = require('node:crypto');
const http = require('node:http');
const zlib = require('node:zlib');
const { defer } = require('./harness.js');

// Different with each number, and not easy to compress.
function valuesOf(number) {
  const x = Math.imul(number, 2654435761) >>> 0;
  return [number / 128, (x % 1e6) / 1e6 + number, 4096 * number, (x >>> 8) / 2 ** 24];
}

class Oracle {
  static async start(t) {
    const o = new Oracle();
    o.server = http.createServer((rq, rs) => {
      const parts = [];
      rq.on('data', (d) => parts.push(d));
      rq.on('end', () => o.answer(rq, rs, Buffer.concat(parts)));
    });
    await new Promise((resolve) => o.server.listen(0, '127.0.0.1', resolve));
    o.sink = `hub+http://127.0.0.1:${o.server.address().port}`;
    defer(t, () => {
      o.server.closeAllConnections();
      return new Promise((resolve) => o.server.close(resolve));
    });
    return o;
  }

  constructor() {
    this.away = false;
    this.refused = 0;
    this.batches = new Map(); // "boot/seq" → { hash, times }
    this.samples = new Map(); // worker → Map of number → "boot/seq"
    this.last = new Map(); // worker → number of its sample that came last for the first time
    this.repeats = 0;
    this.corrupt = [];
    this.foreign = [];
    this.twice = [];
    this.reordered = [];
  }

  answer(rq, rs, body) {
    if (this.away) {
      this.refused++;
      rs.writeHead(503, { 'Retry-After': '1' }).end();
      return;
    }
    try {
      this.take(rq.headers['idempotency-key'], body);
    } catch (e) {
      this.corrupt.push(e.message);
    }
    rs.writeHead(200, { 'Content-Type': 'application/json' }).end('{}');
  }

  take(key, body) {
    const lines = zlib.gunzipSync(body).toString().split('\n');
    const head = JSON.parse(lines.shift());
    if (lines.pop() !== '') throw new Error('no newline at the end');
    if (head.records === 0) return; // "nothing else to say"
    if (lines.length !== head.records) throw new Error(`${lines.length} records for ${head.records}`);
    const name = `${head.boot}/${head.seq}`;
    if (key && !key.startsWith(`${head.boot}-${head.seq}`)) throw new Error(`${name} came as ${key}`);
    const hash = crypto.createHash('sha256').update(body).digest('hex');
    const known = this.batches.get(name);
    if (known) {
      known.times++;
      this.repeats++;
      if (known.hash !== hash) throw new Error(`${name} came again with other bytes`);
      return;
    }
    this.batches.set(name, { hash, times: 1 });
    for (const line of lines) this.record(name, JSON.parse(line));
  }

  record(name, r) {
    if (r.kind !== 'process' || !r.sample) return;
    let seen = this.samples.get(r.worker);
    if (!seen) this.samples.set(r.worker, (seen = new Map()));
    const before = seen.get(r.sample);
    if (before) {
      this.twice.push(`${r.worker} #${r.sample}: ${before} and ${name}`);
      return;
    }
    seen.set(r.sample, name);
    if ((this.last.get(r.worker) || 0) > r.sample) this.reordered.push(`${r.worker} #${r.sample}`);
    this.last.set(r.worker, r.sample);
    const got = [r['process.cpu.time{cpu.mode=user}'], r['process.cpu.time{cpu.mode=system}'], r['process.memory.usage'],
      r['nodejs.eventloop.utilization']];
    // Two of them the kernel may know better; the other two are the worker's alone.
    const want = valuesOf(r.sample).map((v) => Math.round(v * 1e9) / 1e9); // a record has billionths
    if (got[3] !== want[3]) this.corrupt.push(`${r.worker} #${r.sample}: ${got[3]} for ${want[3]}`);
  }

  // workers: Map of worker id → number of its last sample
  report(workers) {
    const missing = [];
    for (const [id, most] of workers) {
      const seen = this.samples.get(id) || new Map();
      for (let n = 1; n <= most; n++) if (!seen.has(n)) missing.push(`${id} #${n}`);
    }
    const foreign = [];
    for (const [id, seen] of this.samples) {
      for (const n of seen.keys()) if (!(n <= (workers.get(id) || 0))) foreign.push(`${id} #${n}`);
    }
    let samples = 0;
    for (const seen of this.samples.values()) samples += seen.size;
    return { missing, foreign, corrupt: this.corrupt, repeats: this.repeats, twice: this.twice, reordered: this.reordered, samples,
      batches: this.batches.size };
  }
}

module.exports = { Oracle, valuesOf };
