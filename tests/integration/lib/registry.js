// registry.js - a Consul agent and a Eureka server that do what a test wants of them, and names of containers whose turn comes soon.
'use strict';

const http = require('node:http');
const https = require('node:https');

// --- the place of a container in the 30 s (uploader/registry/schedule.c) --------------------------------------------------------

const MASK = (1n << 64n) - 1n;

function mix(x) {
  x = ((x ^ (x >> 30n)) * 0xbf58476d1ce4e5b9n) & MASK;
  x = ((x ^ (x >> 27n)) * 0x94d049bb133111ebn) & MASK;
  return x ^ (x >> 31n);
}

function fnv(h, text) {
  for (const byte of [...Buffer.from(text), 0]) h = ((h ^ BigInt(byte)) * 0x100000001b3n) & MASK;
  return h;
}

const keyOf = (app, instance) => mix(fnv(fnv(0xcbf29ce484222325n, app), instance));

function spread(app, instance, occasion = 'registration', windowMs = 30000) {
  return Number(mix(fnv(keyOf(app, instance), occasion)) % BigInt(windowMs));
}

// The order in which this container asks hubs (uploader/registry/hubs.c).
function hubOrder(app, instance, urls) {
  const rank = new Map(urls.map((url) => [url, mix(fnv(keyOf(app, instance), url)) % MASK]));
  return [...urls].sort((a, b) => (rank.get(a) < rank.get(b) ? -1 : 1));
}

// Names of containers of `app` that register, or deliver, within `ms` of their start.
function* quickInstances(app, ms = 300, occasion = 'registration') {
  for (let i = 0; ; i++) if (spread(app, `i${i}`, occasion) < ms) yield `i${i}`;
}

function quickInstance(app, ms, occasion) {
  return quickInstances(app, ms, occasion).next().value;
}

// One that does both, and of which `also` is true.
function quickBoth(app, ms = 1000, also = () => true) {
  for (let i = 0; ; i++) if (['registration', 'delivery'].every((o) => spread(app, `i${i}`, o) < ms) && also(`i${i}`)) return `i${i}`;
}

// --- a server that keeps a list of what it was asked ---------------------------------------------------------------------------

class FakeServer {
  // `tls`: options of https.createServer
  constructor({ tls } = {}) {
    this.requests = []; // { method, url, path, headers, body, at }
    this.script = null; // (request) => undefined | { status, body, headers } | 'hang' | 'destroy'; may be async
    this.sockets = new Set();
    const handler = (rq, rs) => this.receive(rq, rs);
    this.server = tls ? https.createServer(tls, handler) : http.createServer(handler);
    this.server.keepAliveTimeout = 0;
    this.server.on('connection', (s) => {
      this.sockets.add(s);
      this.connections = (this.connections ?? 0) + 1;
      s.on('close', () => this.sockets.delete(s));
      s.on('error', () => {});
    });
    this.server.on('clientError', (e, s) => s.destroy());
  }

  listen(where = { port: 0, host: '127.0.0.1' }) {
    return new Promise((resolve, reject) => {
      this.server.once('error', reject);
      this.server.listen(where, () => {
        this.port = this.server.address().port;
        resolve(this);
      });
    });
  }

  async close() {
    for (const s of this.sockets) s.destroy();
    if (this.server.listening) await new Promise((resolve) => this.server.close(resolve));
  }

  of(method, prefix) {
    return this.requests.filter((r) => r.method === method && r.path.startsWith(prefix));
  }

  receive(rq, rs) {
    const parts = [];
    rq.on('data', (d) => parts.push(d));
    rq.on('error', () => {});
    rq.on('end', async () => {
      const url = new URL(rq.url, 'http://x');
      const text = Buffer.concat(parts).toString();
      const request = { method: rq.method, url: rq.url, path: url.pathname, query: url.searchParams, headers: rq.headers, at: Date.now() };
      try {
        request.body = text === '' ? undefined : JSON.parse(text);
      } catch {
        request.body = text;
      }
      this.requests.push(request);
      const scripted = await this.script?.(request);
      if (scripted === 'hang') return;
      if (scripted === 'destroy') {
        rs.destroy();
        return;
      }
      const { status = 200, headers = {}, body = '' } = scripted ?? (await this.answer(request));
      rs.writeHead(status, headers);
      rs.end(typeof body === 'string' ? body : JSON.stringify(body));
    });
  }
}

// --- Consul ----------------------------------------------------------------------------------------------------------------------

class FakeConsul extends FakeServer {
  constructor(options) {
    super(options);
    this.services = new Map(); // id -> { ...what was registered, passedAt, status }
    this.hubs = []; // { Address, Port, Meta, Tags, status }
    this.index = 10;
    this.waiting = new Set();
  }

  // Everything is forgotten, as after a restart with nothing on the disk.
  wipe() {
    this.services.clear();
  }

  setHubs(list) {
    this.hubs = list;
    this.index++;
    for (const wake of this.waiting) wake();
    this.waiting.clear();
  }

  hubsAnswer(index = this.index) {
    const body = this.hubs.map((h, i) => ({
      Node: { Address: '10.9.9.9' },
      Service: { ID: `hub-${i}`, Service: 'pillion-hub', Address: h.Address, Port: h.Port, Meta: h.Meta ?? {}, Tags: h.Tags ?? [] },
      Checks: [{ Status: h.status ?? 'passing' }],
    }));
    return { headers: { 'x-consul-index': String(index), 'content-type': 'application/json' }, body };
  }

  async answer(rq) {
    const id = decodeURIComponent(rq.path.split('/').pop());
    if (rq.method === 'PUT' && rq.path === '/v1/agent/service/register') {
      this.services.set(rq.body.ID, { ...rq.body, status: rq.body.Check.Status ?? 'critical' });
      return {};
    }
    if (rq.method === 'PUT' && rq.path.startsWith('/v1/agent/check/pass/')) {
      const s = this.services.get(id);
      if (!s) return { status: 404, body: `Unknown check ID "${id}". Ensure that the check ID is passed, not the check name.` };
      s.status = 'passing';
      return {};
    }
    if (rq.method === 'PUT' && rq.path.startsWith('/v1/agent/service/deregister/')) {
      return this.services.delete(id) ? {} : { status: 404, body: `Unknown service ID "${id}".` };
    }
    if (rq.method === 'GET' && rq.path === '/v1/health/service/pillion-hub') {
      const index = Number(rq.query.get('index') ?? 0);
      if (index >= this.index) {
        await new Promise((resolve) => {
          this.waiting.add(resolve);
          setTimeout(resolve, parseInt(rq.query.get('wait') ?? '300', 10) * 1000).unref();
        });
      }
      return this.hubsAnswer();
    }
    return { status: 405, body: 'method not allowed' };
  }
}

// --- Eureka ----------------------------------------------------------------------------------------------------------------------

class FakeEureka extends FakeServer {
  constructor(options) {
    super(options);
    this.instances = new Map();
  }

  async answer(rq) {
    const [, , , app, id] = rq.path.split('/'); // /eureka/apps/APP/ID
    if (rq.method === 'POST' && app) {
      this.instances.set(rq.body.instance.instanceId, rq.body.instance);
      return { status: 204 };
    }
    if (rq.method === 'PUT' && id) return { status: this.instances.has(id) ? 200 : 404 };
    if (rq.method === 'DELETE' && id) return { status: this.instances.delete(id) ? 200 : 404 };
    return { status: 404 };
  }
}

module.exports = { FakeServer, FakeConsul, FakeEureka, hubOrder, quickBoth, quickInstance, quickInstances, spread };
