// servers.js - the real servers: built once into a cache outside the checkout (NAME/build.sh), started on loopback for one test
// (NAME/start.sh), stopped at its end. One that cannot be had here is a reason to skip, and never a pass.
'use strict';

const assert = require('node:assert');
const { execFileSync, spawnSync } = require('node:child_process');
const fs = require('node:fs');
const http = require('node:http');
const net = require('node:net');
const path = require('node:path');
const { defer, tempDir, waitFor } = require('../../integration/lib/harness');

const HERE = path.join(__dirname, '..');
const BUILD_S = Number(process.env.SERVICES_BUILD_SECONDS ?? 1200);

function script(name, ...args) {
  execFileSync(path.join(HERE, name), args, { stdio: ['ignore', 'ignore', 'inherit'] });
}

// false when it is there, or was built now; else why it cannot be had: what `skip` of a test wants.
function missing(name) {
  const began = Date.now();
  // timeout(1) ends all that the script has started, and with it the lock of the cache.
  const r = spawnSync('timeout', ['-k', '10', String(BUILD_S), path.join(HERE, name, 'build.sh')], { stdio: ['ignore', 'ignore', 'pipe'], encoding: 'utf8' });
  if (r.status === 0) {
    const seconds = Math.round((Date.now() - began) / 1000);
    if (seconds > 1) process.stderr.write(`${name}: built in ${seconds} s\n`);
    return false;
  }
  const last = (r.stderr ?? '').trimEnd().split('\n').pop();
  return `${name} cannot be built here: ${r.status === 124 ? `not within ${BUILD_S} s` : last || r.error?.message || `exit code ${r.status}`}`;
}

// The first of so many ports behind each other that are free now.
async function freePorts(count = 4) {
  const listen = (port) => new Promise((resolve) => {
    const s = net.createServer().once('error', () => resolve(null));
    s.listen(port, '127.0.0.1', () => resolve(s));
  });
  for (;;) {
    const base = 20000 + Math.floor(Math.random() * 12000); // below the ports that the kernel gives away by itself
    const servers = await Promise.all(Array.from({ length: count }, (_, i) => listen(base + i)));
    await Promise.all(servers.filter(Boolean).map((s) => new Promise((resolve) => s.close(resolve))));
    if (servers.every(Boolean)) return base;
  }
}

class Server {
  constructor(t, name, port, args = []) {
    Object.assign(this, { name, port, args, dir: path.join(tempDir(t), name), url: `http://127.0.0.1:${port}` });
    this.start();
    defer(t, () => this.stop());
  }

  start() {
    script(`${this.name}/start.sh`, this.dir, String(this.port), ...this.args);
  }

  stop() {
    script('stop.sh', this.dir);
  }

  // As a machine that loses power and its disk with it.
  kill() {
    process.kill(Number(fs.readFileSync(path.join(this.dir, 'pid'), 'utf8')), 'SIGKILL');
    script('stop.sh', this.dir);
  }

  request(method, url, { body, headers = {} } = {}) {
    return new Promise((resolve, reject) => {
      const rq = http.request({ port: this.port, host: '127.0.0.1', method, path: url, headers: { accept: 'application/json', 'content-type': 'application/json', ...(this.token && { 'x-consul-token': this.token }), ...headers } }, (rs) => {
        const parts = [];
        rs.on('data', (d) => parts.push(d));
        rs.on('end', () => resolve({ status: rs.statusCode, text: Buffer.concat(parts).toString() }));
      });
      rq.on('error', reject);
      rq.end(body === undefined ? undefined : JSON.stringify(body));
    });
  }

  async json(method, url, options) {
    const r = await this.request(method, url, options);
    assert.ok(r.status >= 200 && r.status < 300, `${method} ${url}: ${r.status} ${r.text}`);
    return r.text === '' ? null : JSON.parse(r.text);
  }
}

async function startServer(t, name, ...args) {
  return new Server(t, name, await freePorts(), args);
}

class Consul extends Server {
  static async start(t, token, extra) {
    const consul = new Consul(t, 'consul', await freePorts(), [token ?? '', ...(extra ? [extra] : [])]);
    consul.token = token;
    return consul;
  }

  get registry() {
    return `consul+${this.url}`;
  }

  // [{ id, status, meta, address, port }]
  async entries() {
    const list = await this.json('GET', '/v1/health/service/pillion');
    return list.map((e) => ({
      id: e.Service.ID, address: e.Service.Address, port: e.Service.Port, meta: e.Service.Meta,
      status: e.Checks.find((c) => c.ServiceID === e.Service.ID)?.Status,
    }));
  }

  waitEntries(what, pick, deadline) {
    return waitFor(what, async () => pick(await this.entries()), deadline);
  }

  // A token with just these rules; { SecretID, AccessorID }.
  async tokenFor(name, rules) {
    await this.json('PUT', '/v1/acl/policy', { body: { Name: name, Rules: rules } });
    return this.json('PUT', '/v1/acl/token', { body: { Policies: [{ Name: name }] } });
  }
}

module.exports = { Consul, Server, freePorts, missing, script, startServer };
