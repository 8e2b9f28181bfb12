// Notifications against a real RabbitMQ on loopback: what only the real one does.
//
//   make test-services, or: NOTIFIER=build/release/tests/services/notifier node --test tests/services/notify.test.js
'use strict';

const assert = require('node:assert');
const { execFile, execFileSync, spawn } = require('node:child_process');
const fs = require('node:fs');
const net = require('node:net');
const path = require('node:path');
const readline = require('node:readline');
const { promisify } = require('node:util');
const { after, before, test } = require('node:test');
const { defer, tempDir, waitFor } = require('../integration/lib/harness');

const ROOT = path.join(__dirname, '../..');
const NOTIFIER = path.resolve(process.env.NOTIFIER || path.join(ROOT, 'build/release/tests/services/notifier'));
const SLOW_MS = 120000;

const run = promisify(execFile);
const broker = { dir: null, port: 0 };

// Five ports behind each other that are free now.
async function freePorts(n) {
  const listen = (port) => new Promise((resolve) => {
    const s = net.createServer().once('error', () => resolve(null)).listen(port, '127.0.0.1', () => resolve(s));
  });
  for (;;) {
    const base = 20000 + Math.floor(Math.random() * 10000);
    const servers = await Promise.all(Array.from({ length: n }, (_, i) => listen(base + i)));
    await Promise.all(servers.filter(Boolean).map((s) => new Promise((resolve) => s.close(resolve))));
    if (servers.every(Boolean)) return base;
  }
}

const script = (name, ...args) => execFileSync(path.join(__dirname, name), args, { stdio: ['ignore', 'ignore', 'inherit'] });
const start = () => script('rabbitmq/start.sh', broker.dir, String(broker.port));

async function api(method, where, body) {
  const r = await fetch(`http://127.0.0.1:${broker.port + 2}/api/${where}`, {
    method,
    body: body && JSON.stringify(body),
    headers: { authorization: `Basic ${btoa('guest:guest')}`, 'content-type': 'application/json' },
  });
  assert.ok(r.ok, `${method} ${where}: ${r.status}`);
  const text = await r.text();
  return text ? JSON.parse(text) : null;
}

const queue = (name, args = {}) => api('PUT', `queues/%2f/${name}`, { durable: true, arguments: args });
const take = (name, count = 100) => api('POST', `queues/%2f/${name}/get`, { count, ackmode: 'ack_requeue_false', encoding: 'auto' });
const ctl = (...args) => run('bash', ['-c', '. "$0/env"; exec rabbitmqctl -q "$@"', broker.dir, ...args]);
const alarm = (on) => ctl('set_vm_memory_high_watermark', on ? '0.00001' : '0.4');

// The notifications in a process of their own (notifier.c), with a timer that sees how late the loop is.
class Notifier {
  constructor(t, list, { dir = tempDir(t), files = [] } = {}) {
    this.dir = dir;
    this.answers = [];
    this.kept = new Map();
    this.log = '';
    this.child = spawn(NOTIFIER, [dir, list, ...files], { stdio: ['pipe', 'pipe', 'pipe'] });
    this.child.stderr.on('data', (d) => { this.log += d; });
    this.ended = new Promise((resolve) => this.child.once('exit', resolve));
    readline.createInterface({ input: this.child.stdout }).on('line', (line) => {
      const [word, id, rc] = line.split(' ');
      if (word === 'kept') this.kept.set(id, Number(rc));
      else if (word !== 'ready') this.answers.shift()?.(line);
    });
    defer(t, () => { this.child.kill('SIGKILL'); return this.ended; });
  }

  order(line) {
    this.child.stdin.write(`${line}\n`);
    return new Promise((resolve) => this.answers.push(resolve));
  }

  async send(id, message = { event: 'artifact_ready', id }) {
    assert.strictEqual(await this.order(`send ${id} ${JSON.stringify(message)}`), `sent ${id} 0`);
  }

  async status() { return JSON.parse(await this.order('status'))[0]; }

  async counter(name) { return JSON.parse(await this.order('counters'))[name]; }

  state(wanted) { return waitFor(`state ${wanted}`, async () => { const s = await this.status(); return s.state === wanted && s; }, SLOW_MS); }

  sent(n) { return waitFor(`${n} sent`, async () => { const s = await this.status(); return s.sent === n && s; }, SLOW_MS); }

  // The loop turned all the time: hardly more often late than a thread that only sleeps, and never by what a broker would take.
  async checkLag(t) {
    const [, most, ticks, late, alone] = (await this.order('lag')).split(' ').map(Number);
    t.diagnostic(`${late} of ${ticks} ticks over 10 ms late (${alone} of a thread that sleeps), at most ${most} ms`);
    assert.ok(late <= 3 + 2 * alone + ticks / 50 && most < 1000, `${late} of ${ticks} ticks late (${alone} alone), at most ${most} ms`);
  }

  // How long the closing took.
  async end() {
    const ms = Number((await this.order('end')).split(' ')[1]);
    assert.strictEqual(await this.ended, 0, this.log);
    assert.ok(ms < 3000, `closing took ${ms} ms`);
  }
}

const plain = (more) => `amqp://guest:guest@localhost:${broker.port}/%2f?${more}`;

before(async () => {
  assert.ok(fs.existsSync(NOTIFIER), `${NOTIFIER} is not built`);
  broker.dir = fs.mkdtempSync('/tmp/pillion-mq-');
  broker.port = await freePorts(5);
  start();
}, { timeout: SLOW_MS });

after(() => {
  script('stop.sh', broker.dir);
  fs.rmSync(broker.dir, { recursive: true, force: true });
});

test('P30 delivered: persistent, with the id, the type and the name of the application', async (t) => {
  await queue('plain');
  const n = new Notifier(t, plain('routing_key=plain'));
  await n.send('a-1', { event: 'artifact_ready', bytes: 7 });
  const s = await n.sent(1);
  assert.strictEqual(s.state, 'up');
  assert.strictEqual(s.backlog, 0);
  const [m] = await take('plain');
  assert.strictEqual(m.payload, '{"event":"artifact_ready","bytes":7}');
  assert.strictEqual(m.properties.message_id, 'a-1');
  assert.strictEqual(m.properties.delivery_mode, 2);
  assert.strictEqual(m.properties.content_type, 'application/json');
  assert.strictEqual(m.properties.app_id, 'shop');
  assert.ok(Math.abs(m.properties.timestamp - Date.now() / 1000) < 60);
  assert.strictEqual(n.kept.get('a-1'), 0);
  assert.deepStrictEqual(fs.readdirSync(path.join(n.dir, 'notify')), []);
  await n.checkLag(t);
  await n.end();
});

test('P30 unroutable: the broker acknowledges it, and it is an error that is seen; delivered when a queue is there', async (t) => {
  await api('PUT', 'exchanges/%2f/late', { type: 'direct', durable: true });
  const n = new Notifier(t, plain('exchange=late&routing_key=k'));
  await n.send('u-1');
  const s = await n.state('failing');
  assert.match(s.last_error, /no queue wants it \(312 NO_ROUTE\)/);
  assert.strictEqual(s.sent, 0);
  assert.strictEqual(s.backlog, 1);
  assert.strictEqual(await n.counter('notify_returned'), 1);
  assert.match(n.log, /no queue wants it/);
  await queue('late');
  await api('POST', 'bindings/%2f/e/late/q/late', { routing_key: 'k' });
  await n.sent(1); // after 30 to 60 s
  assert.deepStrictEqual((await take('late')).map((m) => m.properties.message_id), ['u-1']);
  await n.checkLag(t);
  await n.end();
});

test('P30 nack: a full queue refuses it; delivered later under the same id, once', async (t) => {
  await queue('full', { 'x-max-length': 1, 'x-overflow': 'reject-publish' });
  const n = new Notifier(t, plain('routing_key=full'));
  await n.send('n-1');
  await n.send('n-2');
  const s = await n.state('failing');
  assert.match(s.last_error, /nack/);
  assert.strictEqual(s.sent, 1);
  assert.deepStrictEqual((await take('full')).map((m) => m.properties.message_id), ['n-1']);
  await n.sent(2);
  assert.deepStrictEqual((await take('full')).map((m) => m.properties.message_id), ['n-2']);
  await n.checkLag(t);
  await n.end();
});

test('P30 blocked by an alarm of memory: shown, the loop turns, delivered once when it ends; the helper ends all the same', async (t) => {
  await queue('alarm');
  const n = new Notifier(t, plain('routing_key=alarm'));
  const other = new Notifier(t, plain('routing_key=alarm'));
  await n.state('up');
  await alarm(true);
  defer(t, () => alarm(false));
  await n.send('b-1');
  const s = await n.state('blocked');
  assert.match(s.last_error, /low on memory/);
  await other.send('b-2');
  await other.state('blocked');
  await other.end();
  await n.checkLag(t);
  await alarm(false);
  await n.sent(1);
  const ids = (await take('alarm')).map((m) => m.properties.message_id);
  assert.deepStrictEqual(ids.filter((id) => id === 'b-1'), ['b-1']);
  assert.strictEqual(fs.readdirSync(path.join(other.dir, 'notify')).length, 1); // its own will send it again
  await n.end();
});

test('P30 the broker is killed and comes back: what was sent meanwhile is delivered under its ids', async (t) => {
  await queue('again');
  const n = new Notifier(t, plain('routing_key=again&heartbeat=2'));
  await n.send('r-1');
  await n.sent(1);
  const pid = fs.readFileSync(path.join(broker.dir, 'rabbit.pid'), 'utf8').trim();
  process.kill(Number(pid), 'SIGKILL');
  await n.send('r-2');
  await n.send('r-3');
  const s = await n.state('failing');
  assert.strictEqual(s.backlog, 2);
  script('stop.sh', broker.dir);
  start();
  await n.sent(3);
  const ids = (await take('again')).map((m) => m.properties.message_id);
  assert.deepStrictEqual([...new Set(ids)], ['r-1', 'r-2', 'r-3']);
  await n.checkLag(t);
  await n.end();
});

test('P30 killed with a message that nobody took: the next run delivers it', async (t) => {
  const first = new Notifier(t, plain('routing_key=nobody-yet'));
  await first.send('k-1');
  first.child.kill('SIGKILL'); // no time to sync
  await first.ended;
  await queue('nobody-yet');
  const second = new Notifier(t, plain('routing_key=nobody-yet'), { dir: first.dir });
  await second.sent(1);
  assert.deepStrictEqual((await take('nobody-yet')).map((m) => m.properties.message_id), ['k-1']);
  await second.end();
});

test('P30 TLS: the authority and the name are checked, by name and by address, before a password leaves', async (t) => {
  const ca = path.join(broker.dir, 'ca.pem');
  const list = (host) => `amqps://guest:guest@${host}:${broker.port + 1}/?routing_key=tls`;
  await queue('tls');
  for (const host of ['localhost', '127.0.0.1']) {
    const n = new Notifier(t, list(host), { files: [ca, path.join(broker.dir, 'cert.pem'), path.join(broker.dir, 'key.pem')] });
    await n.send(`t-${host}`);
    await n.sent(1);
    await n.checkLag(t);
    await n.end();
  }
  assert.deepStrictEqual((await take('tls')).map((m) => m.properties.message_id), ['t-localhost', 't-127.0.0.1']);
  const unknown = new Notifier(t, list('localhost'));
  assert.match((await unknown.state('failing')).last_error, /certificate is not accepted/);
  await unknown.end();
  const wrong = new Notifier(t, list('127.0.0.2'), { files: [ca] });
  assert.match((await wrong.state('failing')).last_error, /certificate is not accepted: IP address mismatch|refuses the connection/);
  await wrong.end();
});

test('P30 wrong password, virtual host, exchange: what it is stands in the status, and no password anywhere', async (t) => {
  const cases = [
    [`amqp://guest:topsecret@localhost:${broker.port}/?routing_key=q`, /403: ACCESS_REFUSED/],
    [`amqp://guest:guest@localhost:${broker.port}/nowhere?routing_key=q`, /vhost nowhere not found/],
    [plain('exchange=nowhere'), /404: NOT_FOUND - no exchange 'nowhere'/],
  ];
  for (const [list, error] of cases) {
    const n = new Notifier(t, list);
    await n.send('w-1');
    const s = await n.state('failing');
    assert.match(s.last_error, error);
    assert.ok(!`${JSON.stringify(s)}${n.log}`.includes('topsecret'));
    await n.checkLag(t);
    await n.end();
  }
});
