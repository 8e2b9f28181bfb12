// The environment as people write it, with the real program: what stops the helper, what it says, and that the application of
// `pillion run` never notices.
'use strict';

const assert = require('node:assert');
const { execFileSync, spawnSync } = require('node:child_process');
const fs = require('node:fs');
const path = require('node:path');
const { test } = require('node:test');
const { BIN, cleanEnv, start, startHelper, tempDir, waitFor } = require('./lib/harness');

// name, value, what the line says beside both
const mistakes = [
  ['PILLION_APP', '', /is empty; accepted: 1 to 255 bytes/],
  ['PILLION_INSTANCE', 'a\tb', /accepted: 1 to 255 bytes/],
  ['PILLION_DATA_DIR', 'data', /accepted: an absolute path/],
  ['PILLION_SAMPLE_INTERVAL', '50ms', /out of range; accepted: 100ms to 60s/],
  ['PILLION_SAMPLE_INTERVAL', 'often', /not a duration.*accepted: 100ms to 60s/],
  ['PILLION_FLUSH_INTERVAL', '1', /not a duration.*accepted: 1s to 5m/],
  ['PILLION_BATCH_MAX', '1GiB', /out of range; accepted: 16KiB to 16MiB/],
  ['PILLION_SINK', 'file', /accepted: none, or a list/],
  ['PILLION_BLOCKED_AFTER', '-1s', /not a duration.*accepted: 500ms to 10m/],
  ['PILLION_MEMORY_ALARM', '90', /not a percentage.*accepted: 1% to 100%/],
  ['PILLION_STOP_TIMEOUT', '2h', /out of range; accepted: 1s to 1h/],
  ['PILLION_LOG', 'verbose', /accepted: error, warn, info or debug/],
  ['PILLION_LOG_FORMAT', 'xml', /accepted: text or json/],
  ['PILLION_REGISTRY', 'consul:8500', /accepted: none/],
  ['PILLION_STORE', 'ftp://host/', /not a file store that this version has; accepted: file:/],
  ['PILLION_LISTEN', '0.0.0.0:7468', /PILLION_TOKEN is not set; accepted: a loopback address/],
  ['PILLION_CAPTURE_LIMIT', '6', /not a number an hour such as 6.h; accepted: 1.h to 60.h/],
  ['PILLION_KEEP', '1GiB', /accepted: SIZE,DURATION/],
  ['PILLION_SNIK', 'none', /did you mean PILLION_SINK \(accepted: none/],
  ['PILLION_WHATEVER_THIS_IS', '1', /accepted: those of `pillion --help`/],
];

test('P54 each mistake ends the helper with 78 and one line: name, value, what is accepted', async (t) => {
  for (const [name, value, says] of mistakes) {
    const helper = start(t, ['agent'], { env: { [name]: value } });
    assert.deepStrictEqual(await helper.ended, { code: 78, signal: null }, `${name}=${value}`);
    const lines = helper.stderr.trimEnd().split('\n');
    assert.strictEqual(lines.length, 1, helper.stderr);
    assert.ok(lines[0].includes(`${name}="${value.replace('\t', '?')}"`), lines[0]);
    assert.match(lines[0], says);
  }
});

test('P54 under run the application starts all the same, with its own exit code, and the line is in status', async (t) => {
  for (const [name, value] of mistakes.filter((m) => m[1] !== '')) {
    const run = start(t, ['run', '--', process.execPath, '-e', 'console.log("served"); process.exitCode = 7'], { env: { [name]: value } });
    assert.deepStrictEqual(await run.ended, { code: 7, signal: null }, `${name}=${value}: ${run.stderr}`);
    assert.strictEqual(run.stdout, 'served\n');
  }
  const run = start(t, ['run', '--', process.execPath, '-e', 'setInterval(() => {}, 1000)'], { env: { PILLION_SAMPLE_INTERVAL: 'often' } });
  await waitFor('the helper has said why it does not start', () => /PILLION_SAMPLE_INTERVAL="often"/.test(run.stderr));
  const env = cleanEnv({ PILLION_RUNTIME_DIR: run.runtime });
  const status = await waitFor('status repeats it', () => {
    const r = spawnSync(BIN, ['status'], { env, encoding: 'utf8' });
    return /PILLION_SAMPLE_INTERVAL="often" is not a duration/.test(r.stdout + r.stderr) && r;
  });
  assert.notStrictEqual(status.status, 0);
  assert.strictEqual(run.stderr.match(/PILLION_SAMPLE_INTERVAL/g).length, 1, 'said once, not at every attempt');
  assert.strictEqual(run.exit, null, 'the application runs');
});

test('P54 what Kubernetes says of a service with our name stops nothing', async (t) => {
  const helper = await startHelper(t, {
    env: { PILLION_HUB_SERVICE_HOST: '10.0.0.1', PILLION_HUB_SERVICE_PORT: '80', PILLION_HUB_PORT: 'tcp://10.0.0.1:80', PILLION_HUB_PORT_80_TCP_ADDR: '10.0.0.1' },
  });
  assert.strictEqual(helper.exit, null);
});

test('/config tells each variable, its value and where it comes from', async (t) => {
  const helper = await startHelper(t, { env: { PILLION_MEMORY_ALARM: '70%', OTEL_SERVICE_NAME: 'shop' } });
  const config = await helper.json('/config');
  assert.deepStrictEqual(config.PILLION_MEMORY_ALARM, { value: '70%', source: 'environment' });
  assert.deepStrictEqual(config.PILLION_BATCH_MAX, { value: '1MiB', source: 'default' });
  assert.strictEqual(config.PILLION_APP.value, 'shop');
  assert.strictEqual(config.PILLION_RUNTIME_DIR.value, helper.runtime);
});

test('P64 a secret is in no line, file, page or process title', async (t) => {
  const secret = 'hunter2-hunter2';
  for (const [name, value] of [['PILLION_TOKEN', secret], ['PILLION_TOKN', secret], ['PILLION_SINK', `es+https://user:${secret}@host/?key=${secret}`]]) {
    const run = start(t, ['run', '--', process.execPath, '-e', 'setInterval(() => {}, 1000)'], { env: { [name]: value } });
    await waitFor('the line', () => run.stderr.includes(name));
    const titles = fs.readdirSync('/proc').filter((n) => /^\d+$/.test(n)).map((n) => {
      try {
        return fs.readFileSync(`/proc/${n}/cmdline`, 'latin1');
      } catch {
        return ''; // it has ended meanwhile
      }
    });
    const status = spawnSync(BIN, ['status'], { env: cleanEnv({ PILLION_RUNTIME_DIR: run.runtime }), encoding: 'utf8' });
    const files = fs.readdirSync(run.runtime).filter((n) => !/\.sock$/.test(n)).map((n) => fs.readFileSync(path.join(run.runtime, n), 'latin1'));
    await run.stop();
    for (const text of [run.stderr, run.stdout, status.stdout, status.stderr, ...titles, ...files]) assert.ok(!text.includes(secret), `${name}: ${text}`);
  }
});

test('--help fits a terminal, and knows the same variables as the page for people', () => {
  const help = execFileSync(BIN, ['--help'], { env: cleanEnv(), encoding: 'utf8' });
  const table = execFileSync(BIN, ['help', '--markdown'], { env: cleanEnv(), encoding: 'utf8' });
  assert.ok(help.split('\n').every((line) => [...line].length <= 80), help);
  const names = [...table.matchAll(/`(PILLION_[A-Z_]+)`/g)].map((m) => m[1]);
  assert.ok(names.length >= 13);
  for (const name of names) assert.ok(help.includes(name), name);
});

test('P63 a directory that is somebody\'s is not closed to those who use it', async (t) => {
  const dir = tempDir(t);
  const data = path.join(dir, 'data');
  fs.mkdirSync(data);
  fs.chmodSync(data, 0o755);
  fs.writeFileSync(path.join(data, 'theirs'), '');
  const helper = start(t, ['agent'], { dir });
  const end = await helper.ended;
  assert.notStrictEqual(end.code, 0);
  assert.match(helper.stderr, /open to others .* and not empty/);
  assert.strictEqual(fs.statSync(data).mode & 0o777, 0o755);
});
