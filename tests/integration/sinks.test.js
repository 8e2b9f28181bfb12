// The remote sinks against ends that answer in every way: what the one table (uploader/answer.h) promises.
'use strict';

const assert = require('node:assert');
const { spawnSync } = require('node:child_process');
const dgram = require('node:dgram');
const fs = require('node:fs');
const path = require('node:path');
const { describe, test } = require('node:test');
const zlib = require('node:zlib');
const { defer, pause, start, startHelper, startRun, tempDir, waitFor } = require('./lib/harness');
const bad = require('./lib/bad-server');
const { makeCertificates, noOpenssl } = require('./lib/certificates');

const STALL_MS = 15000; // of the helper: an answer that does not come for so long

// A helper with one remote sink, and the server behind it.
async function startPair(t, script, { scheme = 'hub', address = (url) => url, env = {}, ...options } = {}) {
  const server = await bad.startBadServer(t, script, options);
  const helper = await startHelper(t, { env: { PILLION_SINK: `${scheme}+${address(server.url)}`, PILLION_STOP_TIMEOUT: '2s', ...env } });
  return { server, helper };
}

const sinkOf = async (running, i = 0) => (await running.json('/status')).sinks[i];

// { name, lines } of each parked file.
function parked(running) {
  const dir = path.join(running.data, 'parked');
  if (!fs.existsSync(dir)) return [];
  return fs.readdirSync(dir).sort().map((name) => ({
    name,
    lines: zlib.gunzipSync(fs.readFileSync(path.join(dir, name))).toString().trimEnd().split('\n').map((l) => JSON.parse(l)),
  }));
}

// `n` at a time: the machine is small and the waits are long.
async function inTurns(n, list, fn) {
  const queue = [...list];
  await Promise.all([...Array(n)].map(async () => {
    while (queue.length > 0) await fn(queue.shift());
  }));
}

// They mostly wait for answers that come late, or never: side by side.
describe('sinks', { concurrency: 5 }, () => {
test('P25 a 2xx takes the batch: one connection, each batch once, in order, by its name', async (t) => {
  const { server, helper } = await startPair(t, [bad.answer(201), bad.answer(204), bad.ok('')]);
  await waitFor('five batches', () => server.batches().length >= 5);
  const batches = server.batches();
  for (const [i, b] of batches.entries()) {
    assert.strictEqual(b.key, `${b.head.boot}-${b.head.seq}`);
    assert.strictEqual(b.head.seq, batches[0].head.seq + i);
    assert.strictEqual(b.records.length, b.head.records);
    assert.strictEqual(b.request.headers['content-type'], 'application/x-ndjson');
    assert.match(b.request.headers['user-agent'], /^pillion\/\d/);
  }
  assert.strictEqual(server.connections, 1);
  const sink = await sinkOf(helper);
  assert.strictEqual(sink.state, 'ok');
  assert.strictEqual(sink.last_error, null);
});

test('P25 what is about the moment is tried again: the same batch under the same name, then the next', async (t) => {
  const cases = [
    ['408', bad.answer(408)], ['429', bad.answer(429)], ['500', bad.answer(500, { body: 'oops' })], ['502', bad.answer(502)], ['503', bad.answer(503)],
    ['empty', bad.empty()], ['garbage', bad.garbage()], ['1 MiB of headers', bad.bigHeaders(1 << 20)], ['cut inside the header', bad.cutHead()],
    ['cut inside the body', bad.cutBody()], ['reset at 1 %', bad.reset(0.01)], ['reset at 50 %', bad.reset(0.5)], ['reset at 99 %', bad.reset(0.99)],
  ];
  await inTurns(4, cases, async ([name, answer]) => {
    const { server, helper } = await startPair(t, [answer, bad.ok()]);
    await waitFor(`${name}: three batches`, () => new Set(server.batches().map((b) => b.key)).size >= 3);
    const keys = server.batches().map((b) => b.key);
    if (answer.resetAt === undefined) assert.strictEqual(keys[0], keys[1], name);
    assert.strictEqual(server.begun, server.requests.length + (answer.resetAt === undefined ? 0 : 1), name);
    assert.deepStrictEqual([...new Set(keys)].map((k) => Number(k.split('-').pop())), [...new Set(keys)].map((_, i) => i + 1), name);
    const c = await helper.counters();
    assert.strictEqual(c.requests_out_failed, 1, name);
    assert.strictEqual(c.records_parked, 0, name);
    const sink = await sinkOf(helper);
    assert.strictEqual(sink.state, 'ok', name);
    assert.ok(sink.last_error.length > 5, name);
    t.diagnostic(`${name}: ${sink.last_error}`);
    await helper.stop();
  });
});

test('P25 an answer that comes too late, or a byte a second, is given up after a while and the batch goes again', async (t) => {
  const cases = [['never', bad.never()], ['a byte a second', bad.byteASecond()]];
  await Promise.all(cases.map(async ([name, answer]) => {
    const { server, helper } = await startPair(t, [answer, bad.ok()]);
    await waitFor(`${name}: the batch comes again`, () => server.batches().length >= 2, STALL_MS * 4);
    assert.strictEqual(server.batches()[0].key, server.batches()[1].key, name);
    await waitFor('it works again', async () => (await sinkOf(helper)).state === 'ok');
    assert.ok((await helper.json('/status')).helper.loop_lag_max_seconds < 2, 'the loop does not wait for either of 15 s');
  }));
});

test('P25 Retry-After is kept, in seconds and as a date', async (t) => {
  const date = (ms) => new Date(Date.now() + ms).toUTCString();
  const cases = [
    ['503, seconds', bad.answer(503, { headers: { 'Retry-After': '3' } })],
    ['429, seconds', bad.answer(429, { headers: { 'Retry-After': '3' } })],
    // Its own clock is an hour fast: what counts is the difference to its Date.
    ['503, a date', (c, rq) => bad.answer(503, { headers: { Date: date(3600e3), 'Retry-After': date(3604e3) } })(c, rq)],
  ];
  await Promise.all(cases.map(async ([name, answer]) => {
    const { server } = await startPair(t, [answer, bad.ok()]);
    await waitFor(`${name}: the batch comes again`, () => server.batches().length >= 2);
    const [first, second] = server.requests;
    assert.strictEqual(server.batches()[0].key, server.batches()[1].key);
    assert.ok(second.time - first.time >= 2900, `${name}: after ${second.time - first.time} ms`);
  }));
});

test('P25 what is about address or credentials keeps the data, says so and asks rarely', async (t) => {
  const cases = [
    [401, /Unauthorized.*user, password or token/], [403, /Forbidden/], [404, /Not Found.*path/], [301, /address has changed/], [407, /proxy/],
  ];
  await inTurns(3, cases, async ([status, words]) => {
    const { server, helper } = await startPair(t, [bad.answer(status, { headers: status === 301 ? { Location: 'http://127.0.0.1:1/' } : {} })]);
    const sink = await waitFor(`${status}: it fails`, async () => {
      const s = await sinkOf(helper);
      return s.state === 'failing' && s.backlog >= 3 && s;
    });
    assert.match(sink.last_error, words);
    assert.strictEqual(sink.dropped, 0);
    assert.strictEqual(server.requests.length, 1, 'one request, not one a second');
    assert.strictEqual((await helper.counters()).records_parked, 0);
    await helper.stop();
  });
});

test('P25 what it will never take is parked with the reason, and the queue goes on', async (t) => {
  await inTurns(2, [400, 422, 415], async (status) => {
    const { server, helper } = await startPair(t, [bad.answer(status, { body: '{"error":"we do not like it"}' }), bad.ok()]);
    await waitFor(`${status}: two more batches`, () => server.batches().length >= 3);
    const keys = server.batches().map((b) => b.key);
    assert.strictEqual(new Set(keys).size, keys.length, 'no batch twice');
    const [file] = await waitFor('a parked file', () => parked(helper).length === 1 && parked(helper));
    assert.ok(file.name.includes(keys[0]), file.name);
    const [head, why, ...records] = file.lines;
    assert.strictEqual(`${head.boot}-${head.seq}`, keys[0]);
    assert.match(why.reason, new RegExp(`answered ${status}.*we do not like it`));
    assert.strictEqual(records.length, head.records);
    assert.deepStrictEqual(records, server.batches()[0].records);
    assert.strictEqual((await helper.counters()).records_parked, records.length);
    await helper.stop();
  });
});

test('P25 413: in halves until it fits, under names of their own; a single record that does not fit is parked', async (t) => {
  const most = 4;
  const choosy = (c, rq) => {
    const n = rq.text.trimEnd().split('\n').length - 1;
    const giant = rq.text.includes('"event":"connected"');
    (n > most || giant ? bad.answer(413) : bad.ok())(c, rq);
  };
  const server = await bad.startBadServer(t, [choosy]);
  const run = await startRun(t, [process.execPath, '-e', 'setInterval(() => {}, 1000)'], {
    env: { PILLION_SINK: `hub+${server.url}`, PILLION_SAMPLE_INTERVAL: '100ms', PILLION_FLUSH_INTERVAL: '2s' },
  });
  await waitFor('two more batches behind it', () => new Set(server.batches().map((b) => b.head.seq)).size >= 4);
  await waitFor('a parked record', () => parked(run).length >= 1);
  const bySeq = new Map();
  for (const b of server.batches()) {
    assert.ok(!bySeq.has(b.key), 'each name once');
    const name = b.key.match(/^([0-9a-f]{32})-(\d+)(?:\.(\d+)-(\d+))?$/);
    assert.strictEqual(Number(name[2]), b.head.seq);
    if (name[3]) assert.strictEqual(Number(name[4]) - Number(name[3]) + 1, b.records.length);
    bySeq.set(b.key, b);
  }
  // Every record of the first batches is stored or parked, exactly once.
  const first = server.batches().filter((b) => b.head.seq <= 2);
  const whole = first.filter((b) => !b.key.includes('.'));
  for (const w of whole) {
    const taken = first.filter((b) => b.head.seq === w.head.seq && b.records.length <= most && !b.request.text.includes('"event":"connected"')).flatMap((b) => b.records);
    const beside = parked(run).filter((f) => f.lines[0].seq === w.head.seq).flatMap((f) => f.lines.slice(1).filter((l) => !l.parked));
    const sorted = (list) => list.map((r) => JSON.stringify(r)).sort();
    assert.deepStrictEqual(sorted([...taken, ...beside]), sorted(w.records));
  }
  assert.ok((await run.counters()).batches_split >= 2);
});

test('P25 a sink that fails does not hold up the others', async (t) => {
  const dead = await bad.startBadServer(t, [bad.never()]);
  const good = await bad.startBadServer(t, [bad.ok()]);
  const helper = await startHelper(t, { env: { PILLION_SINK: `hub+${dead.url},hub+${good.url},file:`, PILLION_STOP_TIMEOUT: '2s' } });
  await waitFor('five batches at the good one', () => good.batches().length >= 5);
  await waitFor('and on disk', () => helper.batches().headers.length >= 5);
  assert.ok((await sinkOf(helper, 0)).backlog >= 4);
  assert.ok((await sinkOf(helper, 1)).backlog <= 2);
});

test('P25 nobody listens, then somebody does', async (t) => {
  const server = await bad.startBadServer(t, [bad.ok()]);
  const { port } = server;
  await server.close();
  const helper = await startHelper(t, { env: { PILLION_SINK: `hub+http://127.0.0.1:${port}` } });
  const sink = await waitFor('it says why', async () => {
    const s = await sinkOf(helper);
    return s.last_error !== null && s;
  });
  assert.match(sink.last_error, /cannot connect: Connection refused/);
  const late = await bad.startBadServer(t, [bad.ok()], { port });
  await waitFor('batches come', () => late.batches().length >= 2);
  assert.strictEqual(late.batches()[0].head.seq, 1);
});

test('P64 user, password and token reach the end and are shown nowhere', async (t) => {
  const dir = tempDir(t);
  const file = path.join(dir, 'token');
  fs.writeFileSync(file, 'tok3n-s3cret\n');
  const plain = await bad.startBadServer(t, [bad.answer(500, { body: 'for hub+http://user:p4ss@host' }), bad.ok()]);
  const bearer = await bad.startBadServer(t, [bad.ok()]);
  const list = path.join(dir, 'sinks');
  fs.writeFileSync(list, `hub+${plain.url.replace('//', '//us3r:p%40ss-w0rd@')},hub+${bearer.url}/base\n`);
  const helper = await startHelper(t, { env: { PILLION_SINK_FILE: list, PILLION_SINK_TOKEN_FILE: file, PILLION_LOG: 'debug' } });
  await waitFor('batches at both', () => plain.batches().length >= 2 && bearer.batches().length >= 1);
  assert.strictEqual(plain.requests[0].headers.authorization, `Basic ${Buffer.from('us3r:p@ss-w0rd').toString('base64')}`);
  assert.strictEqual(bearer.requests[0].headers.authorization, 'Bearer tok3n-s3cret');
  assert.strictEqual(bearer.requests[0].url, '/base/v1/batches');
  const seen = [helper.stderr, helper.stdout, (await helper.get('/status')).body, (await helper.get('/config')).body, (await helper.get('/metrics')).body,
    fs.readFileSync(`/proc/${helper.pid}/cmdline`, 'latin1'), plain.requests[0].text].join('\n');
  for (const secret of ['us3r', 'ss-w0rd', 'p4ss', 'tok3n']) assert.ok(!seen.includes(secret), secret);
  const sinks = (await helper.json('/status')).sinks;
  assert.deepStrictEqual(sinks.map((s) => s.sink), [`hub+${plain.url}`, `hub+${bearer.url}/base`]);
});

test('P66 TLS: taken with the right authority; unknown authority, wrong name, expired, plain, client certificate: refused, and why', { skip: noOpenssl }, async (t) => {
  const certs = makeCertificates(tempDir(t));
  const ca = { PILLION_CA_FILE: certs.file('ca.pem') };
  const refused = async (name, options, env, words, address) => {
    const { helper } = await startPair(t, [bad.ok()], { ...options, env, address });
    const sink = await waitFor(`${name}: refused`, async () => {
      const s = await sinkOf(helper);
      return s.last_error !== null && s;
    });
    assert.match(sink.last_error, words, name);
    assert.strictEqual(sink.sent, 0, name);
    t.diagnostic(`${name}: ${sink.last_error}`);
    await helper.stop();
  };
  const { server } = await startPair(t, [bad.ok()], { tls: certs.pair('good'), env: ca });
  await waitFor('batches by TLS', () => server.batches().length >= 2);
  assert.strictEqual(server.connections, 1);
  await refused('unknown authority', { tls: certs.pair('foreign') }, ca, /not signed by an authority known here.*ca\.pem/);
  await refused('system authorities', { tls: certs.pair('good') }, {}, /not signed by an authority known here|no certificates of authorities/);
  await refused('wrong name', { tls: certs.pair('name') }, ca, /for another name than 127\.0\.0\.1/);
  await refused('expired', { tls: certs.pair('expired') }, ca, /has expired/);
  await refused('plain where https is configured', {}, ca, /does not speak TLS/, (url) => url.replace('http:', 'https:'));
  await refused('TLS where http is configured', { tls: certs.pair('good') }, ca, /does not speak HTTP|was cut/, (url) => url.replace('https:', 'http:'));
  const mutual = { ...certs.pair('good'), ca: fs.readFileSync(certs.file('ca.pem')), requestCert: true, rejectUnauthorized: true };
  await refused('no client certificate', { tls: mutual }, ca, /did not take our certificate|was cut/);
  const both = await startPair(t, [bad.ok()], { tls: mutual, env: { ...ca, PILLION_CERT_FILE: certs.file('client.pem'), PILLION_KEY_FILE: certs.file('client.key') } });
  await waitFor('batches with a client certificate', () => both.server.batches().length >= 1);
});

test('P66 check asks each end and says what is wrong with it', { skip: noOpenssl }, async (t) => {
  const certs = makeCertificates(tempDir(t));
  const good = await bad.startBadServer(t, [bad.answer(405)], { tls: certs.pair('good') });
  const expired = await bad.startBadServer(t, [bad.ok()], { tls: certs.pair('expired') });
  const name = await bad.startBadServer(t, [bad.ok()], { tls: certs.pair('name') });
  const foreign = await bad.startBadServer(t, [bad.ok()], { tls: certs.pair('foreign') });
  const plain = await bad.startBadServer(t, [bad.answer(401)]);
  const https = plain.url.replace('http:', 'https:');
  const run = start(t, ['check', '--json'], { env: {
    PILLION_CA_FILE: certs.file('ca.pem'),
    PILLION_SINK: `hub+${good.url},hub+${expired.url},hub+${name.url},hub+${foreign.url},hub+${plain.url.replace('//', '//u:s3cret@')},es+${https},otlp+http://127.0.0.1:1`,
  } });
  assert.strictEqual((await run.ended).code, 1);
  const { checks } = JSON.parse(run.stdout);
  const of = (text) => checks.find((c) => c.check === 'sink' && c.text.includes(text));
  assert.strictEqual(of(good.url).result, 'ok');
  for (const [text, words] of [[expired.url, /has expired/], [name.url, /for another name/], [foreign.url, /not signed by an authority known here/],
    [`hub+${plain.url}`, /401 Unauthorized/], [`es+${https}`, /does not speak TLS/], ['otlp+http://127.0.0.1:1', /Connection refused/]]) {
    assert.strictEqual(of(text).result, 'fail', text);
    assert.match(of(text).text, words);
    assert.ok(of(text).advice.length > 10);
  }
  assert.ok(!run.stdout.includes('s3cret'));
  assert.strictEqual(plain.requests[0].method, 'GET', 'nothing is stored there');
});

test('P25 commands in an answer: counted, and refused as long as nobody takes them; rubbish does no harm', async (t) => {
  const commands = JSON.stringify({ commands: [{ id: 'a', action: 'stack' }, { id: 7 }, 'x', ...Array(20).fill({ id: 'b', action: 'stack' })] });
  const { server, helper } = await startPair(t, [bad.ok(commands), bad.ok('{"commands":'), bad.ok('{"commands":5}'), bad.ok('[]'), bad.bigBody(200000), bad.ok()]);
  await waitFor('six batches', () => server.batches().length >= 6);
  const c = await helper.counters();
  assert.strictEqual(c.hub_commands + c.hub_commands_refused, 23);
  assert.strictEqual(c.requests_out_failed, 0);
});

test('P24 stopping while an end hangs ends in time', async (t) => {
  const { server, helper } = await startPair(t, [bad.never()], { env: { PILLION_STOP_TIMEOUT: '3s' } });
  await waitFor('a request is under way', () => server.requests.length >= 1);
  const started = Date.now();
  assert.deepStrictEqual(await helper.stop(), { code: 0, signal: null });
  assert.ok(Date.now() - started < 8000);
});

test('P26 an end that is too slow: bounded, and the helper stays quick', async (t) => {
  const slow = (c, rq) => setTimeout(() => bad.ok()(c, rq), 1500);
  const server = await bad.startBadServer(t, [slow]);
  const run = await startRun(t, [process.execPath, '-e', 'setInterval(() => {}, 1000)'], {
    env: { PILLION_SINK: `hub+${server.url}`, PILLION_SAMPLE_INTERVAL: '100ms', PILLION_FLUSH_INTERVAL: '1s', PILLION_BATCH_MAX: '16KiB' },
  });
  await waitFor('a backlog', async () => (await sinkOf(run)).backlog >= 5);
  await pause(500);
  assert.ok(server.batches().length >= 1);
  assert.strictEqual(new Set(server.batches().map((b) => b.key)).size, server.batches().length, 'none twice');
  assert.strictEqual((await run.get('/healthz')).status, 200);
});

// A name server on loopback that answers every question with 127.0.0.1, or, when it is told so, not at all.
function startNameServer(t) {
  const socket = dgram.createSocket('udp4');
  const server = { socket, asked: 0, silent: false };
  socket.on('message', (q, from) => {
    server.asked++;
    if (server.silent) return;
    const type = q.readUInt16BE(q.indexOf(0, 12) + 1);
    const answer = type === 1 ? Buffer.from([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 5, 0, 4, 127, 0, 0, 1]) : Buffer.alloc(0);
    const question = q.subarray(0, q.indexOf(0, 12) + 5);
    const reply = Buffer.concat([question, answer]);
    reply.writeUInt16BE(0x8180, 2);
    reply.writeUInt16BE(type === 1 ? 1 : 0, 6);
    reply.writeUInt16BE(0, 8);
    reply.writeUInt16BE(0, 10);
    socket.send(reply, from.port, from.address);
  });
  return new Promise((resolve, reject) => {
    socket.once('error', reject);
    socket.bind(53, '127.0.0.153', () => {
      defer(t, () => socket.close());
      resolve(server);
    });
  });
}

const namespaces = spawnSync('unshare', ['-m', 'true']).status === 0 && process.getuid() === 0 ? false : 'needs root and mount namespaces';

test('P53 the name server dies: the loop is not held up, and the last address is used', { skip: namespaces }, async (t) => {
  const names = await startNameServer(t);
  const dir = tempDir(t);
  fs.writeFileSync(path.join(dir, 'resolv.conf'), 'nameserver 127.0.0.153\noptions timeout:30 attempts:2\n');
  // Each request on a connection of its own: each asks for the name, once what curl knows of it is too old.
  const server = await bad.startBadServer(t, [(c) => c.end('HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}')]);
  const helper = start(t, ['agent'], {
    before: ['unshare', '-m', 'sh', '-c', `mount --bind ${dir}/resolv.conf /etc/resolv.conf && exec "$@"`, 'sh'],
    env: { PILLION_SINK: `hub+http://hub.example.test:${server.port}`, PILLION_STOP_TIMEOUT: '2s' },
  });
  await helper.waitReady();
  await waitFor('batches', () => server.batches().length >= 2);
  assert.ok(names.asked >= 1);
  names.silent = true;
  const sink = await waitFor('a look-up without an answer', async () => {
    const s = await sinkOf(helper);
    return s.last_error !== null && s;
  }, 90000);
  assert.match(sink.last_error, /no answer in time|cannot be looked up/);
  const before = server.batches().length;
  await waitFor('the last address is used', async () => server.batches().length >= before + 4 && (await sinkOf(helper)).state === 'ok');
  const { helper: own, counters } = await helper.json('/status');
  t.diagnostic(`longest turn of the loop ${(own.loop_lag_max_seconds * 1000).toFixed(1)} ms, turns over 10 ms: ${counters.loop_late}`);
  assert.ok(own.loop_lag_max_seconds < 1, 'a look-up of 60 s does not stop the loop');
});

test('P53 a name that does not exist is said', async (t) => {
  const helper = await startHelper(t, { env: { PILLION_SINK: 'hub+http://no-such-host.invalid' } });
  const sink = await waitFor('it says why', async () => {
    const s = await sinkOf(helper);
    return s.last_error !== null && s;
  });
  assert.match(sink.last_error, /no-such-host\.invalid cannot be looked up|no answer in time/);
  assert.strictEqual((await helper.get('/healthz')).status, 200);
});
});
