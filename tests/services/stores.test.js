// The stores against the real thing: an S3 server that verifies signatures, nginx and Apache with WebDAV, all on loopback.
//
//   PILLION_BIN=… node --test tests/services/stores.test.js       builds the S3 server once, and the driver (tests/unit/store_driver.c)
'use strict';

const assert = require('node:assert');
const { execFileSync, spawn, spawnSync } = require('node:child_process');
const crypto = require('node:crypto');
const fs = require('node:fs');
const net = require('node:net');
const path = require('node:path');
const { before, test } = require('node:test');
const { BIN, defer, tempDir, waitFor } = require('../integration/lib/harness');

const ROOT = path.join(__dirname, '..', '..');
const BUILD = path.dirname(path.resolve(BIN));
const DRIVER = path.join(BUILD, 'tests', 'unit', 'store_driver');
const BIG_BYTES = 70e6; // nine parts
const PARTS = 9;
const KEYS = { AWS_ACCESS_KEY_ID: 'testkey', AWS_SECRET_ACCESS_KEY: 'testsecret' };

const script = (name, ...args) => execFileSync(path.join(__dirname, name), args, { stdio: ['ignore', 'ignore', 'inherit'] });

async function freePorts() {
  const listen = (port) => new Promise((resolve) => {
    const s = net.createServer().once('error', () => resolve(null)).listen(port, '127.0.0.1', () => resolve(s));
  });
  for (;;) {
    const base = 20000 + Math.floor(Math.random() * 20000);
    const servers = await Promise.all([listen(base), listen(base + 1)]);
    await Promise.all(servers.filter(Boolean).map((s) => new Promise((resolve) => s.close(resolve))));
    if (servers.every(Boolean)) return base;
  }
}

async function startServer(t, name) {
  const dir = path.join(tempDir(t), name);
  const port = await freePorts();
  fs.chmodSync(path.dirname(dir), 0o755); // Apache gives up root
  const server = { dir, port, start: () => script(`${name}/start.sh`, dir, String(port)), stop: () => script('stop.sh', dir) };
  server.start();
  defer(t, server.stop);
  const at = `127.0.0.1:${port}`;
  server.spec = { s3: 's3://test/pre', webdav: `webdav+http://test:secret@${at}/dav/a/b/`, apache: `webdav+http://test:secret@${at}/dav/a/b/` }[name];
  server.env = name === 's3' ? { ...KEYS, AWS_ENDPOINT_URL: `http://${at}` } : {};
  return server;
}

const sha256 = (data) => crypto.createHash('sha256').update(data).digest('hex');

function makeFile(t, bytes) {
  const file = path.join(tempDir(t), 'file');
  const data = crypto.randomBytes(bytes);
  fs.writeFileSync(file, data);
  return { file, sha256: sha256(data), bytes };
}

// One run of the driver; `files`: [[file, kind, job], …]. Its lines come in `lines`, as they are written.
function drive(t, server, data, files, { seconds = 120, env = {} } = {}) {
  const child = spawn(DRIVER, [server.spec, data, String(seconds), ...files.flat()], { env: { ...process.env, ...server.env, ...env }, stdio: ['ignore', 'pipe', 'pipe'] });
  const run = { child, lines: [], errors: '' };
  let rest = '';
  child.stdout.setEncoding('utf8').on('data', (text) => {
    const parts = (rest + text).split('\n');
    rest = parts.pop();
    run.lines.push(...parts);
  });
  child.stderr.setEncoding('utf8').on('data', (text) => { run.errors += text; });
  run.ended = new Promise((resolve) => { child.on('close', (code, signal) => resolve({ code, signal })); });
  run.ready = () => run.lines.filter((l) => l.startsWith('ready ')).map((l) => JSON.parse(l.slice(l.indexOf('{'))));
  run.sent = () => Math.max(0, ...run.lines.filter((l) => l.startsWith('sent ')).map((l) => Number(l.slice(5))));
  defer(t, () => child.kill('SIGKILL'));
  return run;
}

const dataDir = (t) => {
  const dir = path.join(tempDir(t), 'data');
  fs.mkdirSync(dir, { mode: 0o700 });
  return dir;
};

// All files below, without what the S3 server keeps for itself.
const below = (dir) => fs.readdirSync(dir, { recursive: true }).filter((f) => !f.startsWith('.') && fs.statSync(path.join(dir, f)).isFile()).map((f) => path.join(dir, f));

const stored = (server, job) => below(path.join(server.dir, 'data')).filter((f) => f.includes(`-${job}.`));

function checkStored(server, job, file) {
  const found = stored(server, job);
  assert.strictEqual(found.length, 1, `one file and nothing beside it: ${found}`);
  assert.ok(found[0].endsWith(`-${job}.heapsnapshot.gz`), found[0]);
  assert.strictEqual(sha256(fs.readFileSync(found[0])), file.sha256);
}

// Uploads in parts that nobody has ended.
function orphans(server) {
  const r = spawnSync('curl', ['-sS', '--aws-sigv4', 'aws:amz:us-east-1:s3', '-u', 'testkey:testsecret', '-H', 'x-amz-content-sha256: UNSIGNED-PAYLOAD', `${server.env.AWS_ENDPOINT_URL}/test?uploads=`], { encoding: 'utf8' });
  assert.match(r.stdout, /<ListMultipartUploadsResult/, r.stdout + r.stderr);
  return r.stdout.split('<UploadId>').length - 1;
}

const partsSent = (server) => fs.readFileSync(path.join(server.dir, 'access.log'), 'utf8').split('\n').filter((l) => /PUT /.test(l) && /partNumber=/.test(l)).length;

before(() => {
  script('s3/build.sh');
  const r = spawnSync('make', ['-s', `B=${BUILD}`, DRIVER], { cwd: ROOT, encoding: 'utf8' });
  assert.strictEqual(r.status, 0, r.stdout + r.stderr);
}, { timeout: 900000 });

for (const name of ['s3', 'webdav', 'apache']) {
  test(`P29 ${name}: small and big files arrive whole, the message says where, how long and which SHA-256`, async (t) => {
    const server = await startServer(t, name);
    const small = makeFile(t, 300000);
    const big = makeFile(t, BIG_BYTES);
    const run = drive(t, server, dataDir(t), [[small.file, 'cpu_profile', 'j1'], [big.file, 'heap_snapshot', 'j2']]);
    assert.deepStrictEqual(await run.ended, { code: 0, signal: null }, run.errors);
    const messages = run.ready();
    assert.deepStrictEqual(messages.map((m) => [m.job, m.bytes, m.sha256]), [['j1', small.bytes, small.sha256], ['j2', big.bytes, big.sha256]]);
    for (const m of messages) {
      assert.match(m.url, /^(s3:\/\/test\/pre|http:\/\/127\.0\.0\.1:\d+\/dav\/a\/b)\/shop\/host_1\/\d{4}-\d\d-\d\d\/[a-z_]+-42-/);
      assert.doesNotMatch(m.url, /secret/);
    }
    checkStored(server, 'j1', small);
    checkStored(server, 'j2', big);
    if (name === 's3') assert.strictEqual(orphans(server), 0);
  });

  test(`P29 ${name}: killed at 1, 50 and 99 %, then it goes on: the SHA-256 is right, the final name never shows a part`, async (t) => {
    const server = await startServer(t, name);
    const big = makeFile(t, BIG_BYTES);
    const data = dataDir(t);
    let files = [[big.file, 'heap_snapshot', 'j1']];
    let watching = true;
    const sizes = new Set();
    const watch = (async () => {
      while (watching) {
        for (const f of stored(server, 'j1')) if (f.endsWith('.gz') && fs.existsSync(f)) sizes.add(fs.statSync(f).size);
        await new Promise((resolve) => { setTimeout(resolve, 5); });
      }
    })();
    for (const share of [0.01, 0.5, 0.99]) {
      const run = drive(t, server, data, files);
      files = [];
      await waitFor(`${share * 100} % sent`, () => run.sent() >= share * BIG_BYTES || run.ready().length > 0 || run.child.exitCode !== null, 60000);
      run.child.kill('SIGKILL');
      await run.ended;
    }
    const last = drive(t, server, data, files);
    assert.deepStrictEqual(await last.ended, { code: 0, signal: null }, last.errors);
    watching = false;
    await watch;
    checkStored(server, 'j1', big);
    assert.deepStrictEqual([...sizes].filter((n) => n !== BIG_BYTES), []);
    assert.deepStrictEqual(below(path.join(data, 'outgoing')), []);
    if (name === 's3') {
      assert.strictEqual(orphans(server), 0);
      assert.ok(partsSent(server) <= PARTS + 3, `${partsSent(server)} parts were sent for ${PARTS}: more than one again for each kill`);
    }
  });
}

test('P29 s3: the store is restarted in the middle', async (t) => {
  const server = await startServer(t, 's3');
  const big = makeFile(t, BIG_BYTES);
  const run = drive(t, server, dataDir(t), [[big.file, 'heap_snapshot', 'j1']]);
  await waitFor('something was sent', () => run.sent() > 10e6, 60000);
  server.stop();
  server.start();
  assert.deepStrictEqual(await run.ended, { code: 0, signal: null }, run.errors);
  checkStored(server, 'j1', big);
  assert.strictEqual(orphans(server), 0);
  assert.strictEqual(run.ready().length, 1);
});

test('P29 s3: what is wrong is said: secret, key, bucket, region', async (t) => {
  const server = await startServer(t, 's3');
  const probe = (spec, env) => spawnSync(DRIVER, [spec, dataDir(t), 'probe'], { env: { ...process.env, ...server.env, ...env }, encoding: 'utf8' });
  const good = probe('s3://test/x', {});
  assert.strictEqual(good.status, 0, good.stdout + good.stderr);
  assert.match(probe('s3://test/x', { AWS_SECRET_ACCESS_KEY: 'wrong' }).stdout, /^failed .*AWS_SECRET_ACCESS_KEY is wrong/);
  assert.match(probe('s3://test/x', { AWS_ACCESS_KEY_ID: 'nobody' }).stdout, /^failed .*AWS_ACCESS_KEY_ID is not known/);
  assert.match(probe('s3://nothere/x', {}).stdout, /^failed .*no such bucket/);
  assert.match(probe('s3://test/x', { AWS_REGION: 'eu-west-9' }).stdout, /^failed .*AWS_REGION/);
});

test('P29 webdav: a wrong password is said, not repeated', async (t) => {
  const server = await startServer(t, 'webdav');
  const r = spawnSync(DRIVER, [server.spec.replace('secret', 'geheim'), dataDir(t), 'probe'], { encoding: 'utf8' });
  assert.strictEqual(r.status, 1);
  assert.match(r.stdout, /401/);
  assert.doesNotMatch(r.stdout + r.stderr, /geheim/);
});
