// The container's entry in a real Consul agent (with and without ACLs, over TLS and a Unix socket) and a real Eureka server.
//
//   PILLION_BIN=… node --test tests/services/registry.test.js       builds the servers once (tests/services/NAME/build.sh)
'use strict';

const assert = require('node:assert');
const { execFileSync } = require('node:child_process');
const crypto = require('node:crypto');
const fs = require('node:fs');
const path = require('node:path');
const { describe, test } = require('node:test');
const { APPS, defer, pause, start, startHelper, startRun, tempDir, waitFor } = require('../integration/lib/harness');
const { makeCertificates, noOpenssl } = require('../integration/lib/certificates');
const { FakeServer, quickBoth, quickInstances, spread } = require('../integration/lib/registry');
const { Consul, Server, freePorts, missing } = require('./lib/servers');

const APP = 'shop';
const HELPERS = Number(process.env.HELPERS ?? 50);
const noConsul = missing('consul');
const noEureka = missing('eureka');

const registryOf = async (helper) => (await helper.json('/status')).registry;
const waitState = (helper, state, deadline) => waitFor(`state ${state}`, async () => (await registryOf(helper)).state === state, deadline);
const env = (registry, extra = {}) => ({ PILLION_APP: APP, PILLION_INSTANCE: quickBoth(APP), PILLION_REGISTRY: registry, ...extra });

// What `pillion check` says of the registry: { "registry": "ok Consul 1.22.3 …", … }.
async function check(t, vars) {
  const run = start(t, ['check', '--json'], { env: { PILLION_APP: APP, PILLION_INSTANCE: 'web-1', PILLION_SINK: 'none', ...vars } });
  await run.ended;
  return Object.fromEntries(JSON.parse(run.stdout).checks.map((c) => [c.check, `${c.result} ${c.text}`]));
}

// They mostly wait: side by side.
describe('registry', { concurrency: 4 }, () => {
test('P40 P44 Consul: one entry for a cluster, never critical; back in 10 s after a restart with nothing on its disk; gone in 1 s', { skip: noConsul }, async (t) => {
  const consul = await Consul.start(t);
  const run = await startRun(t, [process.execPath, path.join(APPS, 'cluster.js')], { env: env(consul.registry) });
  await waitState(run, 'registered');
  const seen = new Set();
  let watching = true;
  const watch = (async () => {
    while (watching) {
      for (const e of await consul.entries().catch(() => [])) seen.add(e.status);
      await pause(50);
    }
  })();
  await consul.waitEntries('the meta names the workers', (all) => all.length === 1 && Number(all[0].meta.workers) >= 3 && all[0].meta.node === process.version, 90000);
  consul.kill();
  await pause(1000);
  consul.start();
  const back = Date.now();
  await consul.waitEntries('passing again', (all) => all.length === 1 && all[0].status === 'passing', 20000);
  const took = Date.now() - back;
  t.diagnostic(`passing again ${took} ms after Consul was back`);
  assert.ok(took <= 10000);
  const status = await run.json('/status');
  t.diagnostic(`longest turn of the loop ${(status.helper.loop_lag_max_seconds * 1000).toFixed(1)} ms, connections made ${status.registry.connections}`);
  watching = false;
  await watch;
  assert.deepStrictEqual([...seen], ['passing'], 'never critical');
  const asked = Date.now();
  run.signal('SIGTERM');
  await consul.waitEntries('gone', (all) => all.length === 0, 5000);
  t.diagnostic(`gone ${Date.now() - asked} ms after SIGTERM`);
  assert.ok(Date.now() - asked <= 1000);
  await run.ended;
});

test('P44 Consul: a helper that is killed is critical after its TTL', { skip: noConsul }, async (t) => {
  const consul = await Consul.start(t);
  const helper = await startHelper(t, { env: env(consul.registry) });
  await waitState(helper, 'registered');
  helper.signal('SIGKILL');
  const killed = Date.now();
  await helper.ended;
  await consul.waitEntries('critical', (all) => all[0].status === 'critical', 45000);
  t.diagnostic(`critical ${Date.now() - killed} ms after kill -9`);
});

test('P40 Consul with ACLs: least privilege is enough; a revoked token is said in words, and a new one in the file is taken', { skip: noConsul }, async (t) => {
  const consul = await Consul.start(t, crypto.randomUUID());
  const token = () => consul.tokenFor(`pillion-${crypto.randomUUID()}`, 'service "pillion" { policy = "write" } service_prefix "" { policy = "read" } node_prefix "" { policy = "read" }');
  const first = await token();
  const file = path.join(tempDir(t), 'token');
  fs.writeFileSync(file, `${first.SecretID}\n`);
  const helper = await startHelper(t, { env: env(consul.registry, { CONSUL_HTTP_TOKEN_FILE: file, PILLION_LOG: 'debug' }) });
  await waitState(helper, 'registered');
  assert.strictEqual((await consul.entries())[0].status, 'passing');

  await consul.json('DELETE', `/v1/acl/token/${first.AccessorID}`);
  await waitState(helper, 'failing', 60000);
  t.diagnostic(`revoked: ${(await registryOf(helper)).last_error}`);
  assert.match((await registryOf(helper)).last_error, /403/);
  const before = (await registryOf(helper)).registrations;
  const second = await token();
  fs.writeFileSync(file, `${second.SecretID}\n`);
  await waitState(helper, 'registered', 75000);
  await consul.waitEntries('passing', (all) => all.length === 1 && all[0].status === 'passing', 40000);
  t.diagnostic(`registrations ${before} -> ${(await registryOf(helper)).registrations}`);
  const pages = await Promise.all(['/', '/status', '/config', '/metrics'].map(async (p) => (await helper.get(p)).body));
  await helper.stop();
  assert.deepStrictEqual(await consul.entries(), []);
  for (const text of [...pages, helper.stderr]) assert.ok(!text.includes(first.SecretID) && !text.includes(second.SecretID));
});

test('P40 Consul with ACLs: without a token, one registration a minute at most', { skip: noConsul }, async (t) => {
  const consul = await Consul.start(t, crypto.randomUUID());
  const helper = await startHelper(t, { env: env(consul.registry) });
  await waitState(helper, 'failing');
  t.diagnostic(`no token: ${(await registryOf(helper)).last_error}`);
  const failed = (await registryOf(helper)).failures;
  await pause(15000);
  assert.strictEqual((await registryOf(helper)).failures, failed);
});

test('P66 Consul over TLS with certificates of both, and over a Unix socket; check says what is wrong', { skip: noConsul || noOpenssl }, async (t) => {
  const dir = tempDir(t);
  const certs = makeCertificates(dir);
  const secure = await freePorts(1);
  const socket = path.join(dir, 'consul.sock');
  const extra = path.join(dir, 'extra.hcl');
  fs.writeFileSync(extra, `addresses { http = "127.0.0.1 unix://${socket}" }
ports { https = ${secure} }
tls { https { cert_file = "${certs.file('good.pem')}" key_file = "${certs.file('good.key')}" ca_file = "${certs.file('ca.pem')}" verify_incoming = true } }
`);
  const consul = await Consul.start(t, '', extra);
  const [a, b] = quickInstances(APP);
  const tls = { CONSUL_CACERT: certs.file('ca.pem'), CONSUL_CLIENT_CERT: certs.file('client.pem'), CONSUL_CLIENT_KEY: certs.file('client.key') };
  const one = await startHelper(t, { env: env(`consul+https://localhost:${secure}`, { PILLION_INSTANCE: a, ...tls }) });
  const two = await startHelper(t, { env: env('consul:', { PILLION_INSTANCE: b, CONSUL_HTTP_ADDR: `unix://${socket}` }) });
  await waitState(one, 'registered');
  await waitState(two, 'registered');
  assert.deepStrictEqual((await consul.entries()).map((e) => e.status), ['passing', 'passing']);
  const at = { PILLION_REGISTRY: `consul+https://127.0.0.1:${secure}` };
  assert.match((await check(t, { ...at, ...tls })).registry, /^ok .*Consul 1\.22\.3, node test in dc1/);
  assert.match((await check(t, { ...at, ...tls, CONSUL_CACERT: certs.file('other.pem') })).registry, /^fail .*not signed by an authority known here/);
  assert.match((await check(t, { ...at, CONSUL_CACERT: certs.file('ca.pem') })).registry, /^fail .*(did not take our certificate|was cut)/);
  assert.match((await check(t, { ...at, ...tls, CONSUL_TLS_SERVER_NAME: 'elsewhere.example' })).registry, /^fail .*for another name than elsewhere\.example/);
  assert.match((await check(t, { PILLION_REGISTRY: `consul+https://127.0.0.1:${consul.port}`, ...tls })).registry, /^fail .*does not speak TLS/);
  assert.match((await check(t, { PILLION_REGISTRY: `consul+unix://${socket}` })).registry, /^ok .*Consul 1\.22\.3/);
  await Promise.all([one.stop(), two.stop()]);
  assert.deepStrictEqual(await consul.entries(), []);
});

test('P66 check asks a real Consul what a token may: all, nothing, only the service, unknown, none; nothing is registered by it', { skip: noConsul }, async (t) => {
  const management = crypto.randomUUID();
  const consul = await Consul.start(t, management);
  const open = await Consul.start(t);
  const only = await consul.tokenFor('pillion', 'service "pillion" { policy = "write" }');
  const other = await consul.tokenFor('other', 'service "shop" { policy = "write" }');
  const say = (token, sink = 'none') => check(t, { PILLION_REGISTRY: consul.registry, PILLION_SINK: sink, CONSUL_HTTP_TOKEN: token });
  const all = await say(management, 'hub:');
  assert.match(all.registry, /^ok .*Consul 1\.22\.3, node test in dc1/);
  assert.match(all['registry-token'], /^ok the token may register the service pillion and look for hubs/);
  assert.match(all.hubs, /^warn no healthy instance of pillion-hub/);
  assert.match(all.advertise, /service pillion, id shop-web-1/);
  assert.match((await say(only.SecretID))['registry-token'], /^ok the token may register the service pillion$/);
  assert.match((await say(only.SecretID, 'hub:'))['registry-token'], /^fail the token may not see nodes/);
  assert.match((await say(other.SecretID))['registry-token'], /^fail the token may not register the service pillion/);
  assert.match((await say(crypto.randomUUID()))['registry-token'], /^fail the token is refused: HTTP status 403: ACL not found/);
  assert.match((await say(undefined))['registry-token'], /^fail the anonymous token \(none is given\) may not register/);
  assert.match((await check(t, { PILLION_REGISTRY: open.registry }))['registry-token'], /^ok Consul has no ACLs/);
  assert.deepStrictEqual([...await consul.entries(), ...await open.entries()], []);
});

test('P41 P42 Consul: hubs are found by blocking query, and another one is taken when one is gone', { skip: noConsul }, async (t) => {
  const consul = await Consul.start(t);
  const hubs = [];
  for (let i = 0; i < 3; i++) {
    const hub = await new FakeServer().listen();
    hub.answer = () => ({ status: 200, body: '{}' });
    defer(t, () => hub.close());
    hubs.push(hub);
  }
  const enlist = (hub, i) => consul.json('PUT', '/v1/agent/service/register', { body: { ID: `hub-${i}`, Name: 'pillion-hub', Address: '127.0.0.1', Port: hub.port, Check: { CheckID: `hub-${i}`, TTL: '10m', Status: 'passing' } } });
  await enlist(hubs[0], 0);
  const helper = await startHelper(t, { env: env(consul.registry, { PILLION_SINK: 'hub:' }) });
  await waitFor('batches at the only hub', () => hubs[0].requests.length > 0, 60000);
  const changed = Date.now();
  await enlist(hubs[1], 1);
  await enlist(hubs[2], 2);
  await waitFor('all three are known', async () => (await registryOf(helper)).discovery.hubs.length === 3, 60000);
  t.diagnostic(`three hubs known ${Date.now() - changed} ms after they came`);
  // the one that it uses now goes
  const busy = async () => {
    const counts = hubs.map((h) => h.requests.length);
    await waitFor('a further batch', () => hubs.some((h, i) => h.requests.length > counts[i]), 60000);
    return hubs.findIndex((h, i) => h.requests.length > counts[i]);
  };
  const used = await busy();
  const others = () => hubs.filter((_, i) => i !== used).reduce((n, h) => n + h.requests.length, 0);
  const had = others();
  await hubs[used].close();
  const gone = Date.now();
  await waitFor('another one has it', () => others() > had, 60000);
  t.diagnostic(`another hub has batches ${Date.now() - gone} ms after the first was gone (one a second is sent)`);
  assert.ok((await helper.counters()).hub_failovers >= 1);
  assert.ok((await registryOf(helper)).discovery.hubs.some((h) => h.state === 'failed'));
});

test(`P45 ${HELPERS} helpers that start at once: spread over 30 s, one connection each, loop lag of each`, { skip: noConsul, timeout: 600000 }, async (t) => {
  const consul = await Consul.start(t);
  const helpers = [];
  const began = Date.now();
  for (let i = 0; i < HELPERS; i++) {
    helpers.push(start(t, ['agent'], { env: { PILLION_APP: APP, PILLION_INSTANCE: `web-${i}`, PILLION_REGISTRY: consul.registry, PILLION_SINK: 'none' } }));
  }
  await Promise.all(helpers.map((h) => h.waitReady()));
  const up = Date.now();
  const firstSeen = new Map();
  await waitFor('all are there', async () => {
    for (const e of await consul.entries()) if (!firstSeen.has(e.id)) firstSeen.set(e.id, Date.now());
    return firstSeen.size === HELPERS;
  }, 120000);
  const seconds = new Array(40).fill(0);
  // from the start of each, by its own clock: on a busy machine they do not all begin in the same moment
  for (const h of helpers) {
    const asked = Date.now();
    const { uptime, registry } = await h.json('/status');
    seconds[Math.max(0, Math.min(39, Math.floor((firstSeen.get(registry.id) - (asked - uptime * 1000)) / 1000)))]++;
  }
  const expected = new Array(30).fill(0);
  for (let i = 0; i < HELPERS; i++) expected[Math.floor(spread(APP, `web-${i}`) / 1000)]++;
  t.diagnostic(`all up after ${up - began} ms; registrations a second: ${seconds.join(' ')}; by the schedule: ${expected.join(' ')}`);
  assert.ok(Math.max(...seconds) <= Math.max(6, HELPERS / 5));
  await pause(11000); // each has passed once more
  const connections = execFileSync('ss', ['-Htn', 'state', 'established', 'dport', `= :${consul.port}`]).toString().split('\n').filter(Boolean).length;
  const states = await Promise.all(helpers.map((h) => h.json('/status')));
  const lag = states.map((s) => s.helper.loop_lag_max_seconds * 1000).sort((a, b) => a - b);
  const memory = states.map((s) => s.helper.memory_bytes / 1048576).sort((a, b) => a - b);
  t.diagnostic(`connections to Consul: ${connections}; longest turn of a loop: median ${lag[HELPERS >> 1].toFixed(1)} ms, longest ${lag.at(-1).toFixed(1)} ms; RSS median ${memory[HELPERS >> 1].toFixed(1)} MiB`);
  for (const s of states) {
    assert.strictEqual(s.registry.state, 'registered');
    assert.strictEqual(s.registry.connections, 1);
  }
  assert.strictEqual((await consul.entries()).filter((e) => e.status === 'passing').length, HELPERS);
  // all of them are forgotten in the same moment
  consul.kill();
  consul.start();
  const back = Date.now();
  await consul.waitEntries('all are passing again', (all) => all.filter((e) => e.status === 'passing').length === HELPERS, 30000);
  t.diagnostic(`all ${HELPERS} passing again ${Date.now() - back} ms after Consul was back`);
  const asked = Date.now();
  helpers.forEach((h) => h.signal('SIGTERM'));
  await consul.waitEntries('all are gone', (all) => all.length === 0, 20000);
  t.diagnostic(`all gone ${Date.now() - asked} ms after SIGTERM`);
});

test('P43 Eureka: registered, renewed, there again within 30 s of a restart, gone on stop', { skip: noEureka, timeout: 300000 }, async (t) => {
  const eureka = new Server(t, 'eureka', await freePorts());
  const instances = async () => {
    const r = await eureka.request('GET', '/eureka/apps/PILLION');
    return r.status === 200 ? [JSON.parse(r.text).application.instance].flat() : [];
  };
  const run = await startRun(t, [process.execPath, path.join(APPS, 'cluster.js')], { env: env(`eureka+http://127.0.0.1:${eureka.port}/eureka`, { PILLION_ADVERTISE: '10.1.2.3:7468' }) });
  await waitState(run, 'registered', 60000);
  const [entry] = await waitFor('it is there', async () => {
    const all = await instances();
    return all.length === 1 && all;
  });
  assert.strictEqual(entry.status, 'UP');
  assert.strictEqual(entry.ipAddr, '10.1.2.3');
  assert.strictEqual(entry.port.$, 7468);
  assert.strictEqual(entry.metadata.app, APP);
  assert.strictEqual(entry.leaseInfo.renewalIntervalInSecs, 30);
  await waitFor('renewed', async () => (await registryOf(run)).passes >= 1, 45000);
  await waitFor('the meta follows the workers', async () => Number((await instances())[0]?.metadata.workers) >= 3, 90000);
  eureka.kill();
  eureka.start();
  const back = Date.now();
  await waitFor('it is there again', async () => (await instances()).length === 1, 60000);
  t.diagnostic(`there again ${Date.now() - back} ms after Eureka was back`);
  assert.ok(Date.now() - back <= 31000);
  const asked = Date.now();
  run.signal('SIGTERM');
  await waitFor('gone', async () => (await instances()).length === 0, 10000);
  t.diagnostic(`gone ${Date.now() - asked} ms after SIGTERM`);
  assert.ok(Date.now() - asked <= 1500);
});

test('P41 Eureka: hubs are found among its apps; check tries it for real', { skip: noEureka, timeout: 300000 }, async (t) => {
  const eureka = new Server(t, 'eureka', await freePorts());
  const hub = await new FakeServer().listen();
  hub.answer = () => ({ status: 200, body: '{}' });
  defer(t, () => hub.close());
  const r = await eureka.request('POST', '/eureka/apps/PILLION-HUB', { body: { instance: { instanceId: 'hub-1', hostName: 'localhost', app: 'PILLION-HUB', ipAddr: '127.0.0.1', status: 'UP', port: { $: hub.port, '@enabled': 'true' }, dataCenterInfo: { '@class': 'com.netflix.appinfo.InstanceInfo$DefaultDataCenterInfo', name: 'MyOwn' } } } });
  assert.strictEqual(r.status, 204);
  await startHelper(t, { env: env(`eureka+http://127.0.0.1:${eureka.port}/eureka`, { PILLION_SINK: 'hub:' }) });
  await waitFor('a batch at the hub', () => hub.of('POST', '/v1/batches').length > 0, 90000);
  const at = `eureka+http://127.0.0.1:${eureka.port}`;
  const found = await check(t, { PILLION_REGISTRY: at, PILLION_SINK: 'hub:' });
  assert.match(found.registry, /^ok .*Eureka/);
  assert.match(found.hubs, /^ok 1 healthy/);
  assert.match((await check(t, { PILLION_REGISTRY: `${at}/wrong` })).registry, /^fail .*no Eureka behind this path/);
});
});
