// The container's entry in the registry, against a Consul agent and Eureka servers that answer as they are told to.
'use strict';

const assert = require('node:assert');
const { execFileSync } = require('node:child_process');
const dgram = require('node:dgram');
const fs = require('node:fs');
const net = require('node:net');
const path = require('node:path');
const { describe, test } = require('node:test');
const { APPS, BIN, cleanEnv, defer, pause, start, startHelper, startNode, startRun, tempDir, waitFor } = require('./lib/harness');
const { FakeConsul, FakeEureka, FakeServer, hubOrder, quickBoth, quickInstance, spread } = require('./lib/registry');

const APP = 'shop';
const REGISTER = '/v1/agent/service/register';
const PASS = '/v1/agent/check/pass/';
const LEAVE = '/v1/agent/service/deregister/';

async function fakeConsul(t, { where, ...options } = {}) {
  const consul = await new FakeConsul(options).listen(where);
  defer(t, () => consul.close());
  return consul;
}

async function fakeEureka(t) {
  const eureka = await new FakeEureka().listen();
  defer(t, () => eureka.close());
  return eureka;
}

const at = (consul) => `consul+http://127.0.0.1:${consul.port}`;
const env = (registry, extra = {}) => ({ PILLION_APP: APP, PILLION_INSTANCE: quickInstance(APP), PILLION_REGISTRY: registry, PILLION_SINK: 'none', ...extra });
const registryOf = async (helper) => (await helper.json('/status')).registry;
const waitState = (helper, state, deadline) => waitFor(`state ${state}`, async () => {
  const r = await registryOf(helper);
  return r.state === state && r;
}, deadline);

function keyAndCertificate(dir, name, { days = '2', host = 'localhost' } = {}) {
  const key = path.join(dir, `${name}.key`);
  const cert = path.join(dir, `${name}.pem`);
  execFileSync('openssl', ['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-days', days,
    '-keyout', key, '-out', cert, '-subj', `/CN=${host}`, '-addext', `subjectAltName=DNS:${host},IP:127.0.0.1`], { stdio: 'ignore' });
  return { key, cert };
}

// They mostly wait, for minutes that were promised: side by side.
describe('registry', { concurrency: 8 }, () => {
test('P40 one entry per container, passing from the first moment, whose meta follows the workers', async (t) => {
  const consul = await fakeConsul(t);
  const run = await startRun(t, [process.execPath, path.join(APPS, 'cluster.js')], { env: env(at(consul), { PILLION_ADVERTISE: '10.1.2.3:7468' }) });
  await waitState(run, 'registered');
  const first = consul.of('PUT', REGISTER)[0];
  assert.strictEqual(first.body.Check.Status, 'passing');
  assert.strictEqual(first.body.Check.TTL, '30s');
  assert.ok(parseInt(first.body.Check.DeregisterCriticalServiceAfter, 10) >= 10);
  assert.strictEqual(first.query.get('replace-existing-checks'), 'true');
  assert.strictEqual(first.body.Name, 'pillion');
  assert.strictEqual(first.body.ID, `${APP}-${quickInstance(APP)}`);
  assert.strictEqual(first.body.Address, '10.1.2.3');
  assert.strictEqual(first.body.Port, 7468);
  assert.strictEqual(first.body.Meta.commands, 'none', 'no command port is served, and the entry says so');
  // the workers of the cluster came after the first registration, or with it: the meta is right a minute later at the latest
  const entry = await waitFor('the meta names the workers', () => {
    const s = consul.services.get(first.body.ID);
    return s && Number(s.Meta.workers) >= 3 && s.Meta.node === process.version && s;
  }, 90000);
  assert.strictEqual(entry.Meta.app, APP);
  assert.ok(consul.of('PUT', REGISTER).length <= 3);
  assert.strictEqual(consul.services.size, 1, 'one entry, whatever the number of workers');
  const times = consul.of('PUT', REGISTER).map((r) => r.at);
  for (let i = 1; i < times.length; i++) assert.ok(times[i] - times[i - 1] >= 59000, 'at most once a minute');
  assert.ok(consul.of('PUT', PASS).length >= 1);
  assert.strictEqual(consul.connections, 1, 'one connection for everything');
  await run.stop();
  assert.strictEqual(consul.services.size, 0);
});

test('P40 a registry that forgot everything knows the container again within 10 s', async (t) => {
  const consul = await fakeConsul(t);
  const helper = await startHelper(t, { env: env(at(consul)) });
  await waitState(helper, 'registered');
  consul.wipe();
  const wiped = Date.now();
  await waitFor('it is there again', () => consul.services.size === 1, 15000);
  const took = Date.now() - wiped;
  t.diagnostic(`registered again after ${took} ms`);
  assert.strictEqual([...consul.services.values()][0].status, 'passing');
  const forgot = consul.requests.find((r) => r.at >= wiped && r.path.startsWith(PASS));
  const again = consul.requests.find((r) => r.at >= wiped && r.path === REGISTER);
  assert.ok(again.at - forgot.at < 3000, 'at once after the pass that was answered with 404');
  assert.strictEqual((await helper.counters()).registry_forgotten, 1);
});

test('P40 older versions say 500 where newer ones say 404', async (t) => {
  const consul = await fakeConsul(t);
  const helper = await startHelper(t, { env: env(at(consul)) });
  await waitState(helper, 'registered');
  consul.wipe();
  consul.script = (rq) => (rq.path.startsWith(PASS) && consul.services.size === 0
    ? { status: 500, body: `CheckID "${APP}" does not have associated TTL` } : undefined);
  await waitFor('it is there again', () => consul.services.size === 1, 15000);
  assert.strictEqual((await waitState(helper, 'registered')).registrations, 2);
});

test('P40 one registration a minute at most while it fails; samples go on', async (t) => {
  const consul = await fakeConsul(t);
  consul.script = (rq) => (rq.path === REGISTER ? { status: 403, body: 'Permission denied: token lacks permission' } : undefined);
  const helper = await startHelper(t, { env: env(at(consul), { PILLION_SINK: 'file:' }) });
  const node = startNode(t, helper, ['-e', 'setInterval(() => {}, 1e6)']);
  const failing = await waitState(helper, 'failing');
  assert.match(failing.last_error, /403: Permission denied: token lacks permission/);
  await helper.waitRecords('samples of the worker', (all) => all.filter((r) => r.worker?.startsWith(`${node.pid}:`) && r.sample).length >= 15);
  assert.strictEqual(consul.of('PUT', REGISTER).length, 1);
  consul.script = null;
  await waitState(helper, 'registered', 80000);
  const times = consul.of('PUT', REGISTER).map((r) => r.at);
  assert.ok(times.length === 2 && times[1] - times[0] >= 59000, `${times.length} registrations`);
});

test('P40 an application starts at once, and is registered soon after the registry is there', async (t) => {
  const dir = tempDir(t);
  const socket = path.join(dir, 'consul.sock');
  const run = start(t, ['run', '--', process.execPath, '-e', 'console.log("up"); setInterval(() => {}, 1e6)'], { dir, env: env(`consul+unix://${socket}`) });
  await waitFor('the application is up', () => run.stdout.includes('up'));
  await run.waitReady();
  const failing = await waitState(run, 'failing');
  assert.ok(failing.last_error.length > 5);
  const consul = await fakeConsul(t, { where: { path: socket } });
  const came = Date.now();
  await waitFor('registered', () => consul.services.size === 1, 15000);
  t.diagnostic(`registered ${Date.now() - came} ms after the socket was there`);
});

test('P40 a registry that is slow by 12 s keeps the entry', async (t) => {
  const consul = await fakeConsul(t);
  const helper = await startHelper(t, { env: env(at(consul)) });
  await waitState(helper, 'registered');
  consul.script = async () => {
    await pause(12000);
    return undefined;
  };
  await waitFor('two slow passes were taken', async () => (await registryOf(helper)).passes >= 2, 60000);
  const r = await registryOf(helper);
  assert.strictEqual(r.failures, 0);
  assert.strictEqual(r.state, 'registered');
  const times = consul.of('PUT', PASS).map((x) => x.at);
  for (let i = 1; i < times.length; i++) assert.ok(times[i] - times[i - 1] < 20000, 'well within the TTL');
});

test('P44 a clean stop takes the entry out within a second', async (t) => {
  const consul = await fakeConsul(t);
  const helper = await startHelper(t, { env: env(at(consul)) });
  await waitState(helper, 'registered');
  const asked = Date.now();
  helper.signal('SIGTERM');
  await waitFor('gone from the registry', () => consul.services.size === 0, 5000);
  const took = consul.of('PUT', LEAVE)[0].at - asked;
  t.diagnostic(`asked to take it out after ${took} ms`);
  assert.ok(took < 1000);
  assert.deepStrictEqual(await helper.ended, { code: 0, signal: null });
});

test('P44 the entry goes when the application begins to stop, not when it has', async (t) => {
  const consul = await fakeConsul(t);
  const run = await startRun(t, [process.execPath, '-e', 'process.on("SIGTERM", () => setTimeout(() => process.exit(0), 4000)); console.log("up"); setInterval(() => {}, 1e6)'], { env: env(at(consul)) });
  await waitFor('the application is up', () => run.stdout.includes('up'));
  await waitState(run, 'registered');
  run.signal('SIGTERM');
  await waitFor('gone from the registry', () => consul.services.size === 0, 5000);
  assert.strictEqual(run.exit, null, 'the application is still there');
  assert.strictEqual((await run.ended).code, 0);
});

test('P44 a registry that does not answer holds up no stop', async (t) => {
  const consul = await fakeConsul(t);
  const helper = await startHelper(t, { env: env(at(consul)) });
  await waitState(helper, 'registered');
  consul.script = () => 'hang';
  const asked = Date.now();
  assert.deepStrictEqual(await helper.stop(), { code: 0, signal: null });
  const took = Date.now() - asked;
  t.diagnostic(`stopped after ${took} ms`);
  assert.ok(took < 5000, 'a second of its own, and what a busy machine adds');
  assert.match(helper.stderr, /did not answer in time/);
});

test('P64 the token goes by header, and nowhere else', async (t) => {
  const token = 'b1gs3cr3t-0000-4444-8888-token';
  const consul = await fakeConsul(t);
  consul.script = (rq) => (rq.headers['x-consul-token'] === token ? undefined
    : { status: 403, body: `ACL not found: ${rq.headers['x-consul-token']}` });
  const right = await startHelper(t, { env: env(at(consul), { CONSUL_HTTP_TOKEN: token, PILLION_LOG: 'debug' }) });
  await waitState(right, 'registered');
  assert.strictEqual(consul.requests[0].headers.authorization, undefined);
  // a registry that gives back what it was sent
  consul.script = (rq) => ({ status: 403, body: `you sent ${rq.headers['x-consul-token']}` });
  const r = await waitState(right, 'failing');
  assert.match(r.last_error, /you sent \*+/);
  const pages = await Promise.all(['/', '/status', '/config', '/metrics', '/workers'].map(async (p) => (await right.get(p)).body));
  const title = fs.readFileSync(`/proc/${right.pid}/cmdline`, 'utf8');
  await right.stop();
  for (const text of [...pages, title, right.stderr, right.stdout]) assert.ok(!text.includes(token), 'the token is shown');
  for (const rq of consul.of('PUT', REGISTER)) assert.ok(!JSON.stringify(rq.body).includes(token));
});

test('P64 user and password in an address are used and never shown', async (t) => {
  const eureka = await fakeEureka(t);
  const helper = await startHelper(t, { env: env(`eureka+http://eva:pa55w0rd@127.0.0.1:${eureka.port}/eureka`, { PILLION_LOG: 'debug' }) });
  await waitState(helper, 'registered');
  assert.strictEqual(eureka.requests[0].headers.authorization, `Basic ${Buffer.from('eva:pa55w0rd').toString('base64')}`);
  const pages = await Promise.all(['/', '/status', '/config', '/metrics'].map(async (p) => (await helper.get(p)).body));
  await helper.stop();
  for (const text of [...pages, helper.stderr]) assert.ok(!text.includes('pa55w0rd'));
});

test('P40 a new token in the file is used when the old one is refused', async (t) => {
  const dir = tempDir(t);
  const file = path.join(dir, 'token');
  const consul = await fakeConsul(t);
  consul.script = (rq) => (rq.headers['x-consul-token'] === 'new-token' ? undefined : { status: 403, body: 'ACL not found' });
  fs.writeFileSync(file, 'old-token\n');
  const helper = await startHelper(t, { env: env(at(consul), { CONSUL_HTTP_TOKEN_FILE: file }) });
  await waitState(helper, 'failing');
  fs.writeFileSync(file, 'new-token\n');
  await waitState(helper, 'registered', 150000);
});

test('P66 TLS: the right authority is accepted; an unknown one, a wrong name and plain HTTP are refused, in words', async (t) => {
  const dir = tempDir(t);
  const good = keyAndCertificate(dir, 'good');
  const other = keyAndCertificate(dir, 'other', { host: 'elsewhere' });
  const read = ({ key, cert }) => ({ key: fs.readFileSync(key), cert: fs.readFileSync(cert) });
  const consul = await fakeConsul(t, { tls: read(good) });
  const plain = await fakeConsul(t);
  const helper = (port, ca, host = '127.0.0.1') => startHelper(t, { env: env(`consul+https://${host}:${port}`, { CONSUL_CACERT: ca }) });

  const right = await helper(consul.port, good.cert);
  await waitState(right, 'registered');
  const unknown = await helper(consul.port, other.cert);
  t.diagnostic(`unknown authority: ${(await waitState(unknown, 'failing')).last_error}`);
  assert.match((await registryOf(unknown)).last_error, /certificate/i);
  const unencrypted = await helper(plain.port, good.cert);
  t.diagnostic(`plain HTTP: ${(await waitState(unencrypted, 'failing')).last_error}`);
  assert.strictEqual(consul.services.size, 1);
  assert.strictEqual(plain.requests.length, 0);
});

test('P43 Eureka: registered, renewed every 30 s exactly, registered again in the tick of a 404, gone on stop', async (t) => {
  const eureka = await fakeEureka(t);
  const helper = await startHelper(t, { env: env(`eureka+http://127.0.0.1:${eureka.port}`, { PILLION_ADVERTISE: '10.1.2.3' }) });
  await waitState(helper, 'registered');
  const post = eureka.of('POST', '/eureka/apps/PILLION')[0].body.instance;
  assert.strictEqual(post.instanceId, `${APP}-${quickInstance(APP)}`);
  assert.strictEqual(post.ipAddr, '10.1.2.3');
  assert.deepStrictEqual(post.port, { $: 0, '@enabled': 'false' });
  assert.strictEqual(post.leaseInfo.renewalIntervalInSecs, 30);
  await waitFor('a renewal', () => eureka.of('PUT', '/eureka/apps/PILLION/').length === 1, 45000);
  eureka.instances.clear();
  await waitFor('it is there again', () => eureka.instances.size === 1, 45000);
  const puts = eureka.of('PUT', '/eureka/apps/PILLION/');
  const again = eureka.of('POST', '/eureka/apps/PILLION')[1];
  t.diagnostic(`renewals ${puts[1].at - puts[0].at} ms apart, registered ${again.at - puts[1].at} ms after the 404`);
  assert.ok(Math.abs(puts[1].at - puts[0].at - 30000) < 3000);
  assert.ok(again.at - puts[1].at < 2000);
  await helper.stop();
  assert.strictEqual(eureka.instances.size, 0);
});

test('P43 Eureka: the next server is asked when one is gone, has trouble, or is silent', async (t) => {
  const gone = net.createServer();
  await new Promise((resolve) => gone.listen(0, '127.0.0.1', resolve));
  const gonePort = gone.address().port;
  await new Promise((resolve) => gone.close(resolve));
  const troubled = await fakeEureka(t);
  troubled.script = () => ({ status: 503, body: 'busy' });
  const silent = await fakeEureka(t);
  silent.script = () => 'hang';
  const good = await fakeEureka(t);
  const list = [gonePort, troubled.port, silent.port, good.port].map((p) => `http://127.0.0.1:${p}/eureka`).join(',');
  const helper = await startHelper(t, { env: env(`eureka+${list}`) });
  const r = await waitState(helper, 'registered', 40000);
  assert.match(r.registry, new RegExp(`:${good.port}/eureka$`));
  assert.strictEqual(good.instances.size, 1);
  assert.strictEqual(troubled.of('POST', '/').length, 1);
  assert.ok(r.last_error.length > 0);
});

// --- hubs ------------------------------------------------------------------------------------------------------------------------

const isBatch = (r) => r.method === 'POST' && r.path === '/v1/batches' && r.headers['idempotency-key'];

async function fakeHub(t, answer) {
  const hub = await new FakeServer().listen();
  hub.answer = () => ({ status: 200, body: '{}' });
  hub.script = answer;
  defer(t, () => hub.close());
  return hub;
}

test('P42 one hub swallows packets, one answers 500, one is gone: the next one within 3 s, each asked again after a minute, no batch lost', async (t) => {
  const consul = await fakeConsul(t);
  const swallows = await fakeHub(t, () => 'hang');
  const troubled = await fakeHub(t, () => ({ status: 500, body: 'trouble' }));
  const gone = await fakeHub(t);
  const good = await fakeHub(t);
  const hubs = [swallows, troubled, gone, good];
  const urls = hubs.map((h) => `http://127.0.0.1:${h.port}`);
  consul.setHubs(hubs.map((h) => ({ Address: '127.0.0.1', Port: h.port })));
  await gone.close();
  // a container that would ask them in this order, the good one last
  const instance = quickBoth(APP, 1000, (name) => hubOrder(APP, name, urls).every((u, i) => u === urls[i]));
  const helper = await startHelper(t, { env: env(at(consul), { PILLION_SINK: 'hub:', PILLION_INSTANCE: instance }) });
  startNode(t, helper, ['-e', 'setInterval(() => {}, 1e6)']);
  const sequence = () => good.requests.filter(isBatch).map((r) => Number(r.headers['idempotency-key'].split('-').pop()));
  const failover = (n) => troubled.requests[n].at - swallows.requests[n].at;
  await waitFor('batches at the good one', () => sequence().length >= 5, 60000);
  assert.deepStrictEqual((await registryOf(helper)).discovery.hubs.map((h) => h.url), urls);
  assert.deepStrictEqual((await registryOf(helper)).discovery.hubs.map((h) => h.state), ['failed', 'failed', 'failed', 'ok']);
  assert.strictEqual(swallows.requests.length, 1);
  await waitFor('tried again', () => swallows.requests.length === 2 && troubled.requests.length === 2, 90000);
  const again = swallows.requests[1].at - swallows.requests[0].at;
  t.diagnostic(`from the one that swallows to the next: ${failover(0)} and ${failover(1)} ms; asked again after ${again} ms`);
  assert.ok(failover(0) < 3500 && failover(1) < 3500, '3 s, and what a busy machine adds');
  assert.ok(again >= 59000);
  const n = sequence().length;
  await waitFor('and left again', () => sequence().length > n + 1);
  assert.deepStrictEqual(sequence(), Array.from({ length: sequence().length }, (_, i) => i + 1), 'none is missing, none is out of order');
  const { counters } = await helper.json('/status');
  assert.strictEqual(counters.batches_dropped, 0);
  assert.ok(counters.hub_failovers >= 5);
});

test('P41 a registry that says something else a hundred times a second is asked four times a minute', async (t) => {
  const consul = await fakeConsul(t);
  const hub = await fakeHub(t);
  consul.setHubs([{ Address: '127.0.0.1', Port: hub.port }]);
  const helper = await startHelper(t, { env: env(at(consul), { PILLION_SINK: 'hub:' }) });
  await waitFor('asked', () => consul.of('GET', '/v1/health/').length > 0);
  const begun = Date.now();
  const timer = setInterval(() => consul.setHubs([{ Address: '127.0.0.1', Port: hub.port, Meta: { n: String(consul.index) } }]), 10);
  defer(t, () => clearInterval(timer));
  const cpu = (await helper.json('/status')).helper.cpu_seconds;
  await pause(40000);
  const asked = consul.of('GET', '/v1/health/').length;
  const used = (await helper.json('/status')).helper.cpu_seconds - cpu;
  t.diagnostic(`${asked} questions in ${Date.now() - begun} ms, ${(100 * used / 40).toFixed(2)} % of a core`);
  assert.ok(asked <= 2 + 1 + 40 / 15);
});

test('P41 the last good list is kept when the registry says that there are none, is away, or talks nonsense', async (t) => {
  const consul = await fakeConsul(t);
  const hub = await fakeHub(t);
  consul.setHubs([{ Address: '127.0.0.1', Port: hub.port }]);
  const helper = await startHelper(t, { env: env(at(consul), { PILLION_SINK: 'hub:' }) });
  const hubs = async () => (await registryOf(helper)).discovery.hubs.length;
  await waitFor('the hub is known', async () => await hubs() === 1);
  consul.setHubs([]);
  const asked = consul.of('GET', '/v1/health/').length;
  await waitFor('asked again', () => consul.of('GET', '/v1/health/').length > asked, 40000);
  assert.strictEqual(await hubs(), 1);
  consul.setHubs([{ Address: '127.0.0.1', Port: hub.port, status: 'critical' }]);
  consul.script = (rq) => (rq.method === 'GET' ? { status: 200, headers: { 'x-consul-index': '3' }, body: '{"not":"a list"}' } : undefined);
  for (const wake of consul.waiting) wake();
  await waitFor('nonsense is said', async () => (await registryOf(helper)).discovery.last_error !== null, 60000);
  assert.strictEqual(await hubs(), 1);
});

test('P45 the first delivery has its own place in the 30 s; what is sampled meanwhile waits and none is lost', async (t) => {
  const hub = await fakeHub(t);
  let instance;
  for (let i = 0; instance === undefined; i++) {
    const place = spread(APP, `d${i}`, 'delivery');
    if (place > 6000 && place < 7000) instance = `d${i}`;
  }
  const begun = Date.now();
  const helper = await startHelper(t, { env: { PILLION_APP: APP, PILLION_INSTANCE: instance, PILLION_SINK: `hub+http://127.0.0.1:${hub.port}` } });
  startNode(t, helper, ['-e', 'setInterval(() => {}, 1e6)']);
  await waitFor('delivered', () => hub.requests.filter(isBatch).length >= 3);
  const first = hub.requests[0].at - begun;
  t.diagnostic(`first delivery ${first} ms after the start; its place is ${spread(APP, instance, 'delivery')} ms`);
  assert.ok(first >= spread(APP, instance, 'delivery') - 50);
  assert.strictEqual(Number(hub.requests[0].headers['idempotency-key'].split('-').pop()), 1);
});

test('P53 a name server that never answers: the loop goes on, and the stop is not held up', async (t) => {
  if (process.getuid() !== 0) {
    t.skip('needs root, for a mount namespace with a resolv.conf of its own');
    return;
  }
  const dir = tempDir(t);
  const dead = dgram.createSocket('udp4');
  await new Promise((resolve, reject) => {
    dead.once('error', reject);
    dead.bind(53, '127.0.0.77', resolve);
  });
  defer(t, () => new Promise((resolve) => dead.close(resolve)));
  let questions = 0;
  dead.on('message', () => { questions++; });
  fs.writeFileSync(path.join(dir, 'resolv.conf'), 'nameserver 127.0.0.77\noptions timeout:30 attempts:2\n');
  fs.writeFileSync(path.join(dir, 'nsswitch.conf'), 'hosts: dns\n');
  const script = `mount --bind ${dir}/resolv.conf /etc/resolv.conf && mount --bind ${dir}/nsswitch.conf /etc/nsswitch.conf && exec "$@"`;
  const helper = await startHelper(t, {
    dir, before: ['unshare', '-m', 'sh', '-c', script, 'sh'],
    env: env('consul+http://consul.example:8500', { PILLION_SINK: 'file:' }),
  });
  startNode(t, helper, ['-e', 'setInterval(() => {}, 1e6)']);
  const r = await waitState(helper, 'failing', 60000);
  t.diagnostic(`in words: ${r.last_error}`);
  await helper.waitRecords('samples', (all) => all.filter((x) => x.sample).length >= 10);
  assert.ok(questions > 0, 'the dead name server was asked');
  const status = await helper.json('/status');
  t.diagnostic(`longest turn of the loop ${(status.helper.loop_lag_max_seconds * 1000).toFixed(1)} ms, turns over 10 ms: ${status.counters.loop_late}`);
  assert.ok(status.helper.loop_lag_max_seconds < 1, 'nothing waits for the name server');
  const asked = Date.now();
  await helper.stop();
  t.diagnostic(`stopped after ${Date.now() - asked} ms`);
  assert.ok(Date.now() - asked < 8000);
});

test('P54 a registry that cannot be is refused with the variable and what is accepted', (t) => {
  const dir = tempDir(t);
  const say = (vars) => {
    try {
      execFileSync(BIN, ['agent'], { env: cleanEnv({ PILLION_RUNTIME_DIR: path.join(dir, 'r'), PILLION_DATA_DIR: path.join(dir, 'd'), ...vars }), stdio: 'pipe', timeout: 20000 });
    } catch (e) {
      assert.strictEqual(e.status, 78);
      return e.stderr.toString();
    }
    return assert.fail('it started');
  };
  assert.match(say({ PILLION_REGISTRY: 'zookeeper://x' }), /PILLION_REGISTRY="zookeeper:\/\/x" is not the address of a registry; accepted: none, consul\+http/);
  assert.match(say({ PILLION_REGISTRY: 'consul:', CONSUL_HTTP_ADDR: 'ftp://x' }), /CONSUL_HTTP_ADDR is none of host:port/);
  assert.match(say({ PILLION_ADVERTISE: 'a b' }), /PILLION_ADVERTISE="a b" is not an address; accepted: found, HOST/);
  const secret = say({ PILLION_REGISTRY: 'consul+ftp://user:hunter2@x' });
  assert.ok(!secret.includes('hunter2'), secret);
});

test('P40 Consul\'s own variables: CONSUL_HTTP_ADDR, namespace, partition', async (t) => {
  const consul = await fakeConsul(t);
  const helper = await startHelper(t, { env: env('consul:', { CONSUL_HTTP_ADDR: `127.0.0.1:${consul.port}`, CONSUL_NAMESPACE: 'team a', CONSUL_PARTITION: 'p1', CONSUL_HTTP_AUTH: 'u:p' }) });
  await waitState(helper, 'registered');
  const rq = consul.of('PUT', REGISTER)[0];
  assert.strictEqual(rq.query.get('ns'), 'team a');
  assert.strictEqual(rq.query.get('partition'), 'p1');
  assert.strictEqual(rq.headers.authorization, `Basic ${Buffer.from('u:p').toString('base64')}`);
});
});
