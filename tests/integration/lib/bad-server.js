// bad-server.js - a remote end that answers as it is told: every kind of right and wrong answer, from a script. Plain sockets, because
// much of it is not what node:http would say.
//
// A script is a list of answers, one a request; the last one goes on for ever. An answer is a function (connection, request) or one of
// those that are made here.
'use strict';

const net = require('node:net');
const tls = require('node:tls');
const zlib = require('node:zlib');
const { defer } = require('./harness');

const REASONS = { 200: 'OK', 204: 'No Content', 301: 'Moved Permanently' };

const head = (status, headers) => `HTTP/1.1 ${status} ${REASONS[status] ?? 'Because'}\r\n${Object.entries(headers).map(([k, v]) => `${k}: ${v}\r\n`).join('')}\r\n`;

// A whole, honest answer.
const answer = (status, { headers = {}, body = '' } = {}) => (c) => c.write(head(status, { 'Content-Length': Buffer.byteLength(body), ...headers }) + body);
const ok = (body = '{}') => answer(200, { body });
const empty = () => (c) => c.end();
const garbage = () => (c) => c.end(Buffer.from([...Array(3000).keys()].map((i) => (i * 7919) & 255)));
const bigHeaders = (bytes) => (c) => c.write(`HTTP/1.1 200 OK\r\n${`X-Long: ${'x'.repeat(1000)}\r\n`.repeat(bytes / 1000)}Content-Length: 2\r\n\r\n{}`);
const bigBody = (bytes) => (c) => c.write(head(200, { 'Content-Length': bytes }) + 'x'.repeat(bytes));
const cutHead = () => (c) => c.end('HTTP/1.1 200 OK\r\nContent-Ty');
const cutBody = () => (c) => c.end(head(200, { 'Content-Length': 100 }) + '{"a":');
const never = () => () => {};
const byteASecond = () => (c) => {
  const text = head(200, { 'Content-Length': 2 }) + '{}';
  let i = 0;
  const timer = setInterval(() => (i < text.length && !c.destroyed ? c.write(text[i++]) : clearInterval(timer)), 1000);
  c.on('close', () => clearInterval(timer));
};
// The connection is reset when this share of the body has come.
const reset = (share) => Object.assign(() => {}, { resetAt: share });

// What has come so far, as { method, url, headers, at, length }, or null.
function parseHead(buffer) {
  const end = buffer.indexOf('\r\n\r\n');
  if (end < 0) return null;
  const [first, ...lines] = buffer.subarray(0, end).toString('latin1').split('\r\n');
  const [method, url] = first.split(' ');
  const headers = {};
  for (const line of lines) {
    const colon = line.indexOf(':');
    headers[line.slice(0, colon).toLowerCase()] = line.slice(colon + 1).trim();
  }
  return { method, url, headers, at: end + 4, length: Number(headers['content-length'] ?? 0) };
}

class BadServer {
  constructor(script, options = {}) {
    this.script = script;
    this.requests = []; // whole ones: { method, url, headers, body, text, connection, time }
    this.begun = 0; // requests whose head has come
    this.connections = 0;
    this.open = new Set();
    const make = options.tls ? (fn) => tls.createServer(options.tls, fn) : (fn) => net.createServer(fn);
    this.server = make((c) => this.connected(c));
    this.server.on('tlsClientError', (e) => { this.tlsError = e; });
    this.scheme = options.tls ? 'https' : 'http';
  }

  connected(c) {
    const id = ++this.connections;
    let buffer = Buffer.alloc(0);
    let started = false;
    this.open.add(c);
    c.on('error', () => {});
    c.on('close', () => this.open.delete(c));
    c.on('data', (d) => {
      buffer = Buffer.concat([buffer, d]);
      if (buffer[0] === 0x16) { // a hello of TLS, to one who speaks none
        c.end('HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n');
        return;
      }
      for (;;) {
        const rq = parseHead(buffer);
        if (rq === null) return;
        if (!started) {
          started = true;
          this.begun++;
          this.now = this.script[Math.min(this.begun, this.script.length) - 1];
        }
        const have = buffer.length - rq.at;
        if (this.now.resetAt !== undefined && have >= rq.length * this.now.resetAt) {
          c.resetAndDestroy();
          return;
        }
        if (have < rq.length) return;
        const body = buffer.subarray(rq.at, rq.at + rq.length);
        buffer = buffer.subarray(rq.at + rq.length);
        started = false;
        const request = { method: rq.method, url: rq.url, headers: rq.headers, body, connection: id, time: Date.now() };
        request.text = rq.headers['content-encoding'] === 'gzip' ? zlib.gunzipSync(body).toString() : body.toString();
        this.requests.push(request);
        this.now(c, request);
      }
    });
  }

  // Batches in order of arrival: { key, head, records }, empty ones left out.
  batches() {
    return this.requests.filter((r) => r.url.endsWith('/v1/batches')).map((r) => {
      const [first, ...lines] = r.text.trimEnd().split('\n').map((l) => JSON.parse(l));
      return { key: r.headers['idempotency-key'], head: first, records: lines, request: r };
    }).filter((b) => b.head.records > 0);
  }

  listen(port = 0) {
    return new Promise((resolve, reject) => {
      this.server.once('error', reject);
      this.server.listen(port, '127.0.0.1', () => {
        this.port = this.server.address().port;
        this.url = `${this.scheme}://127.0.0.1:${this.port}`;
        resolve(this);
      });
    });
  }

  close() {
    for (const c of this.open) c.destroy();
    return new Promise((resolve) => this.server.close(resolve));
  }
}

// One that is closed when test `t` ends.
async function startBadServer(t, script, options = {}) {
  const server = await new BadServer(script, options).listen(options.port);
  defer(t, () => server.close()); // behind the end of a helper that was started later
  return server;
}

module.exports = { answer, bigBody, bigHeaders, BadServer, byteASecond, cutBody, cutHead, empty, garbage, never, ok, reset, startBadServer };
