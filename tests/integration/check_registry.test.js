// `pillion check` tries the registry for real, and Consul's own variables hold as they do for Consul's own programs, or are refused.
// Against servers that answer as they are told; tests/services/ asks the real ones.
'use strict';

const assert = require('node:assert');
const fs = require('node:fs');
const path = require('node:path');
const { describe, test } = require('node:test');
const { defer, start, startHelper, tempDir, waitFor } = require('./lib/harness');
const { makeCertificates, noOpenssl } = require('./lib/certificates');
const { FakeConsul, FakeEureka, quickInstance } = require('./lib/registry');

const APP = 'shop';
const AUTHORIZE = '/v1/internal/acl/authorize';
const SELF = '/v1/agent/self';

// A Consul that also tells of itself, and says what tokens may do: `allow` are the answers to what is asked, in order; null: no ACLs.
async function fakeConsul(t, { allow = null, ...options } = {}) {
  const consul = await new FakeConsul(options).listen();
  defer(t, () => consul.close());
  consul.script = (rq) => {
    if (rq.path === SELF) return { body: { Config: { Version: '1.22.3', NodeName: 'here', Datacenter: 'dc1' } } };
    if (rq.path !== AUTHORIZE) return undefined;
    return allow === null ? { status: 401, body: 'ACL support disabled' } : { body: rq.body.map((x, i) => ({ ...x, Allow: allow[i] })) };
  };
  return consul;
}

async function fakeEureka(t) {
  const eureka = await new FakeEureka().listen();
  defer(t, () => eureka.close());
  eureka.script = (rq) => (rq.path === '/eureka/apps' ? { body: { applications: { application: [] } } } : undefined);
  return eureka;
}

const at = (server, scheme = 'consul+http') => `${scheme}://127.0.0.1:${server.port}`;

// What it says of `names`, one after the other: { check, result, text, advice }.
async function check(t, env, names = ['registry', 'registry-token', 'hubs', 'advertise']) {
  const run = start(t, ['check', '--json'], { env: { PILLION_APP: APP, PILLION_INSTANCE: 'web-1', PILLION_SINK: 'none', ...env } });
  const { code } = await run.ended;
  const all = JSON.parse(run.stdout).checks;
  return { code, text: run.stdout, list: all.filter((c) => names.includes(c.check)) };
}

const brief = ({ list }) => list.map((c) => `${c.check}: ${c.result}`);

describe('check', { concurrency: 6 }, () => {
test('P66 check says that a registry can be used, and what would stand in it; nothing is changed there', async (t) => {
  const consul = await fakeConsul(t);
  const found = await check(t, { PILLION_REGISTRY: at(consul), PILLION_ADVERTISE: '10.1.2.3:7000' });
  assert.deepStrictEqual(brief(found), ['registry: ok', 'registry-token: ok', 'advertise: ok']);
  assert.match(found.list[0].text, /Consul 1\.22\.3, node here in dc1/);
  assert.match(found.list[1].text, /no ACLs/);
  assert.match(found.list[2].text, /service pillion, id shop-web-1, address 10\.1\.2\.3, port 7000/);
  assert.deepStrictEqual(consul.requests.map((r) => `${r.method} ${r.path}`), [`GET ${SELF}`, `POST ${AUTHORIZE}`]);
  assert.strictEqual(consul.services.size, 0);
});

test('P66 check says what a token may not, and what its policy needs', async (t) => {
  const consul = await fakeConsul(t, { allow: [false, true, false] });
  const token = { PILLION_REGISTRY: at(consul), CONSUL_HTTP_TOKEN: 's3cr3t-token' };
  const alone = await check(t, token);
  assert.strictEqual(alone.code, 1);
  assert.deepStrictEqual(brief(alone), ['registry: ok', 'registry-token: fail', 'advertise: ok'], 'nodes are of no interest without hubs');
  assert.match(alone.list[1].text, /the token may not register the service pillion/);
  assert.match(alone.list[1].advice, /service "pillion" \{ policy = "write" \}/);
  assert.strictEqual(consul.requests[0].headers['x-consul-token'], 's3cr3t-token');
  assert.ok(!alone.text.includes('s3cr3t'));
  consul.setHubs([{ Address: '10.7.7.7', Port: 80 }, { Address: '10.7.7.8', Port: 80, status: 'critical' }]);
  const hubs = await check(t, { ...token, PILLION_SINK: 'hub:' });
  assert.deepStrictEqual(brief(hubs), ['registry: ok', 'registry-token: fail', 'registry-token: fail', 'hubs: ok', 'advertise: ok']);
  assert.match(hubs.list[3].text, /1 healthy, the first is http:\/\/10\.7\.7\.7/);
  const anonymous = await check(t, { PILLION_REGISTRY: at(consul) });
  assert.match(anonymous.list[1].text, /anonymous token/);
  assert.match(anonymous.list[1].advice, /CONSUL_HTTP_TOKEN/);
});

test('P66 check says that a token is not known, that ACLs hide the agent, and that an old version cannot be asked', async (t) => {
  const consul = await fakeConsul(t);
  consul.script = () => ({ status: 403, body: 'ACL not found' });
  const unknown = await check(t, { PILLION_REGISTRY: at(consul), CONSUL_HTTP_TOKEN: 'x' });
  assert.deepStrictEqual(brief(unknown), ['registry: ok', 'registry-token: fail', 'advertise: ok']);
  assert.match(unknown.list[1].text, /refused: HTTP status 403: ACL not found/);
  consul.script = (rq) => (rq.path === SELF ? { body: { Config: { Version: '1.4.0' } } } : { status: 404, body: 'no such page' });
  const old = await check(t, { PILLION_REGISTRY: at(consul) });
  assert.deepStrictEqual(brief(old), ['registry: ok', 'registry-token: warn', 'advertise: ok']);
});

test('P66 check says that somebody else answers, has trouble, or nobody', async (t) => {
  const consul = await fakeConsul(t);
  const say = async (script, words) => {
    consul.script = script;
    const found = await check(t, { PILLION_REGISTRY: at(consul) }, ['registry']);
    assert.strictEqual(found.code, 1);
    assert.deepStrictEqual(brief(found), ['registry: fail']);
    assert.match(found.list[0].text, words);
    assert.ok(found.list[0].advice.length > 10);
  };
  await say(() => ({ body: '<html>' }), /is not Consul/);
  await say(() => ({ body: '{}' }), /is not Consul/);
  await say(() => ({ status: 500, body: 'No cluster leader' }), /500: No cluster leader/);
  await say(() => 'destroy', /cut before the answer/);
  await consul.close();
  await say(null, /Connection refused/);
});

test('P66 check and helper: TLS of a registry: unknown authority, wrong name, expired, plain where https is configured, no certificate of ours', { skip: noOpenssl }, async (t) => {
  const certs = makeCertificates(tempDir(t));
  const ca = { CONSUL_CACERT: certs.file('ca.pem') };
  const of = (name, extra = {}) => fakeConsul(t, { tls: { ...certs.pair(name), ...extra } });
  const mutual = { ca: fs.readFileSync(certs.file('ca.pem')), requestCert: true, rejectUnauthorized: true };
  const client = { CONSUL_CLIENT_CERT: certs.file('client.pem'), CONSUL_CLIENT_KEY: certs.file('client.key') };
  const both = async (consul, env, result, words, scheme = 'consul+https') => {
    const full = { ...ca, ...env, PILLION_REGISTRY: at(consul, scheme) };
    const found = await check(t, full, ['registry']);
    assert.deepStrictEqual(brief(found), [`registry: ${result}`]);
    assert.match(found.list[0].text, words);
    if (result === 'fail') assert.ok(found.list[0].advice.length > 10);
    const helper = await startHelper(t, { env: { PILLION_SINK: 'none', PILLION_APP: APP, PILLION_INSTANCE: quickInstance(APP), ...full } });
    const r = await waitFor('a word on it', async () => {
      const { registry } = await helper.json('/status');
      return (registry.state === 'registered' || registry.last_error) && registry;
    });
    if (result === 'ok') assert.strictEqual(r.state, 'registered');
    else assert.match(r.last_error, words);
    await helper.stop();
  };
  await both(await of('good'), {}, 'ok', /Consul 1\.22\.3/);
  await both(await of('foreign'), {}, 'fail', /not signed by an authority known here.*ca\.pem/);
  await both(await of('expired'), {}, 'fail', /has expired/);
  const named = await of('name');
  await both(named, {}, 'fail', /for another name than 127\.0\.0\.1/);
  await both(named, { CONSUL_TLS_SERVER_NAME: 'elsewhere.example' }, 'ok', /Consul 1\.22\.3/);
  assert.strictEqual(named.requests.at(-1).headers.host, `127.0.0.1:${named.port}`, 'only the certificate is looked at for that name');
  await both(named, { CONSUL_TLS_SERVER_NAME: 'nowhere.example' }, 'fail', /for another name than nowhere\.example/);
  await both(await fakeConsul(t), {}, 'fail', /does not speak TLS/);
  await both(await of('good'), {}, 'fail', /does not speak HTTP|was cut/, 'consul+http');
  const asks = await of('good', mutual);
  await both(asks, {}, 'fail', /did not take our certificate|was cut/);
  await both(asks, client, 'ok', /Consul 1\.22\.3/);
});

test('P66 check: Eureka: each server, and why it cannot be used', async (t) => {
  const good = await fakeEureka(t);
  const locked = await fakeEureka(t);
  locked.script = (rq) => (rq.headers.authorization ? { body: { applications: {} } } : { status: 401, body: '' });
  const one = await check(t, { PILLION_REGISTRY: at(good, 'eureka+http') });
  assert.deepStrictEqual(brief(one), ['registry: ok', 'advertise: ok']);
  assert.deepStrictEqual(good.requests.map((r) => `${r.method} ${r.path}`), ['GET /eureka/apps']);
  const path404 = await check(t, { PILLION_REGISTRY: `${at(good, 'eureka+http')}/wrong` });
  assert.deepStrictEqual(brief(path404), ['registry: fail', 'advertise: ok']);
  assert.match(path404.list[0].text, /no Eureka behind this path/);
  assert.deepStrictEqual(brief(await check(t, { PILLION_REGISTRY: at(locked, 'eureka+http') }, ['registry'])), ['registry: fail']);
  assert.deepStrictEqual(brief(await check(t, { PILLION_REGISTRY: `eureka+http://u:p@127.0.0.1:${locked.port}` }, ['registry'])), ['registry: ok']);
  // of several one is enough
  const list = `${at(good, 'eureka+http')},http://127.0.0.1:1/eureka`;
  const several = await check(t, { PILLION_REGISTRY: list, PILLION_SINK: 'hub:' });
  assert.deepStrictEqual(brief(several), ['registry: ok', 'registry: warn', 'hubs: warn', 'advertise: ok']);
  const none = await check(t, { PILLION_REGISTRY: 'eureka+http://127.0.0.1:1,http://127.0.0.1:2' }, ['registry']);
  assert.deepStrictEqual(brief(none), ['registry: warn', 'registry: warn', 'registry: fail']);
});

test('P66 check: hub: without a registry, and a configuration that the helper refuses', async (t) => {
  const none = await check(t, { PILLION_SINK: 'hub:' });
  assert.deepStrictEqual(brief(none), ['registry: fail']);
  assert.match(none.list[0].text, /hub: asks the registry, and there is none/);
  assert.deepStrictEqual(brief(await check(t, {})), [], 'and nothing where none is wanted');
});

test('P54 P66 variables of Consul that cannot be followed are refused in a line, by helper and check alike', async (t) => {
  const dir = tempDir(t);
  fs.writeFileSync(path.join(dir, 'plain.pem'), 'x');
  const refused = async (env, words) => {
    const full = { PILLION_SINK: 'none', PILLION_REGISTRY: 'consul+https://127.0.0.1:1', ...env };
    const helper = start(t, ['agent'], { env: full });
    assert.strictEqual((await helper.ended).code, 78, JSON.stringify(env));
    assert.match(helper.stderr, words);
    const found = await check(t, full, ['registry']);
    assert.deepStrictEqual(brief(found), ['registry: fail']);
    assert.match(found.list[0].text, words);
  };
  await refused({ CONSUL_HTTP_SSL_VERIFY: 'false' }, /CONSUL_HTTP_SSL_VERIFY=false: .*refused; accepted: true, with the authority in CONSUL_CACERT/);
  await refused({ CONSUL_HTTP_SSL_VERIFY: 'no' }, /CONSUL_HTTP_SSL_VERIFY="no" is neither true nor false/);
  await refused({ CONSUL_HTTP_SSL: 'yes' }, /CONSUL_HTTP_SSL="yes" is neither true nor false/);
  await refused({ PILLION_REGISTRY: 'consul+http://127.0.0.1:1', CONSUL_HTTP_SSL: 'true' }, /it says http:\/\/ where CONSUL_HTTP_SSL asks for TLS/);
  await refused({ CONSUL_CAPATH: dir }, /CONSUL_CAPATH=".*" has no files that are named by their hash/);
  await refused({ CONSUL_CACERT: path.join(dir, 'none.pem') }, /CONSUL_CACERT=".*none\.pem": No such file/);
  await refused({ CONSUL_CLIENT_KEY: path.join(dir, 'plain.pem') }, /CONSUL_CLIENT_KEY is given without CONSUL_CLIENT_CERT/);
  await refused({ CONSUL_HTTP_TOKEN_FILE: path.join(dir, 'none') }, /CONSUL_HTTP_TOKEN_FILE=".*none": No such file/);
  await refused({ CONSUL_HTTP_TOKEN: 'a b' }, /CONSUL_HTTP_TOKEN="\(hidden\)" has blanks/);
  await refused({ CONSUL_PARTITION: 'p'.repeat(64) }, /CONSUL_PARTITION is longer than 63 bytes/);
});

test('P40 P64 Consul\'s variables that are followed: the token\'s file goes before the token, http becomes https, verify=true is the rule', { skip: noOpenssl }, async (t) => {
  const dir = tempDir(t);
  const certs = makeCertificates(dir);
  const consul = await fakeConsul(t, { tls: certs.pair('good') });
  fs.writeFileSync(path.join(dir, 'token'), 'of-the-file\n');
  const found = await check(t, {
    PILLION_REGISTRY: 'consul:', CONSUL_HTTP_ADDR: `http://127.0.0.1:${consul.port}`, CONSUL_HTTP_SSL: 'TRUE', CONSUL_HTTP_SSL_VERIFY: '1',
    CONSUL_CACERT: certs.file('ca.pem'), CONSUL_HTTP_TOKEN: 'of-the-variable', CONSUL_HTTP_TOKEN_FILE: path.join(dir, 'token'),
  });
  assert.deepStrictEqual(brief(found), ['registry: ok', 'registry-token: ok', 'advertise: ok']);
  assert.strictEqual(consul.requests[0].headers['x-consul-token'], 'of-the-file');
  assert.ok(!found.text.includes('of-the-'));
});
});
