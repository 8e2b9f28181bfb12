'use strict';
// versions.js - tests on each Node.js version of tests/nodes.js, and short runs of Node with the preload.

const { spawn } = require('node:child_process');
const fs = require('node:fs');
const path = require('node:path');
const { test } = require('node:test');
const { APPS, Running, cleanEnv, defer, tempDir } = require('./harness');
const { Peer } = require('./peer');
const nodes = require('../../nodes');

const versions = nodes.list();

// One test for each version; those that are not in the cache are skipped with the reason. fn(t, node, major). Two at a time, more
// for those that mostly wait.
function eachVersion(name, fn, concurrency = 2) {
  test(name, { concurrency }, (all) => Promise.all(versions.map((v) => (
    all.test(`${name} [Node ${v.major}]`, { skip: v.node ? false : v.reason }, (t) => fn(t, v.node, v.major))))));
}

// A listening peer in a directory of its own.
async function startPeer(t, options) {
  const peer = new Peer(tempDir(t), options);
  defer(t, () => peer.stop());
  return peer.listen();
}

// A node process with the preload of `peer`: a Running, of which `ended` resolves to { code, signal }. Killed at the test's end.
function startApp(t, node, args, peer, { env = {}, cwd = peer.dir, input, options = '' } = {}) {
  const child = spawn(node, args.map((a) => a.replace(/^@/, `${APPS}${path.sep}`)), {
    env: cleanEnv({ NODE_OPTIONS: `${options} --require=${peer.preload}`.trim(), ...env }),
    cwd,
    stdio: [input === undefined ? 'ignore' : 'pipe', 'pipe', 'pipe'],
  });
  if (input !== undefined) child.stdin.end(input);
  const running = new Running(child, peer.dir);
  defer(t, async () => {
    if (running.exit === null) child.kill('SIGKILL');
    await running.ended;
  });
  return running;
}

// Runs it to its end: { code, signal, stdout, stderr, pid }. One that does not end is killed after half a minute.
async function runApp(t, node, args, peer, options) {
  const app = startApp(t, node, args, peer, options);
  const timer = setTimeout(() => app.child.kill('SIGKILL'), 30000);
  const end = await app.ended;
  clearTimeout(timer);
  return { ...end, stdout: app.stdout, stderr: app.stderr, pid: app.pid };
}

// How often its threads have gone to sleep so far: its wake-ups.
function switches(pid) {
  return fs.readdirSync(`/proc/${pid}/task`).reduce((sum, tid) => (
    sum + Number(/\nvoluntary_ctxt_switches:\s+(\d+)/.exec(fs.readFileSync(`/proc/${pid}/task/${tid}/status`, 'utf8'))[1])), 0);
}

module.exports = { versions, switches, eachVersion, startPeer, startApp, runApp };
