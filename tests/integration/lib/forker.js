// forker.js - an application (apps/forker.js) on some Node.js that is told what to do, and heap snapshots read by JSON.parse.
'use strict';

const { spawn } = require('node:child_process');
const fs = require('node:fs');
const path = require('node:path');
const { APPS, BIN, ROOT, cleanEnv, defer } = require('./harness');

const ADDON = path.join(path.dirname(BIN), 'collectors/node/fork/snapshot.node');
const SOURCE = path.join(ROOT, 'collectors/node/fork/fork.js');

class Forker {
  constructor(child) {
    this.child = child;
    this.pid = child.pid;
    this.ids = 0;
    this.waiting = new Map();
    this.stderr = '';
    this.exit = null;
    child.stderr.on('data', (d) => { this.stderr += d; });
    child.on('message', (m) => {
      const resolve = this.waiting.get(m.id);
      this.waiting.delete(m.id);
      if (resolve) resolve.done(m.value);
    });
    this.ended = new Promise((resolve) => {
      child.on('exit', (code, signal) => {
        this.exit = { code, signal };
        for (const w of this.waiting.values()) w.failed(new Error(`the application ended (${code ?? signal}): ${this.stderr}`));
        resolve(this.exit);
      });
    });
    this.ready = this.expect(0);
  }

  expect(id) {
    return new Promise((done, failed) => this.waiting.set(id, { done, failed }));
  }

  ask(command, rest = {}) {
    const id = ++this.ids;
    this.child.send({ id, command, ...rest });
    return this.expect(id);
  }
}

// Killed when the test ends. options: args of node, argv before node (a wrapper), addon.
async function startForker(t, node, { args = [], before = [], addon = ADDON, env = {} } = {}) {
  const argv = [...before, node, '--expose-gc', ...args, path.join(APPS, 'forker.js'), SOURCE, addon];
  const forker = new Forker(spawn(argv[0], argv.slice(1), { env: cleanEnv(env), stdio: ['ignore', 'ignore', 'pipe', 'ipc'] }));
  defer(t, async () => {
    if (forker.exit === null) forker.child.kill('SIGKILL');
    await forker.ended;
  });
  await forker.ready;
  return forker;
}

const LABELS = { hidden: '(system)', code: '(compiled code)', closure: 'Function', regexp: 'RegExp' };

// { class: [count, bytes, detached] } of a snapshot, and that it is one.
function classesOf(file) {
  const s = JSON.parse(fs.readFileSync(file, 'utf8'));
  const fields = s.snapshot.meta.node_fields;
  const at = (name) => fields.indexOf(name);
  const [TYPE, NAME, SIZE, DETACHED] = ['type', 'name', 'self_size', 'detachedness'].map(at);
  const types = s.snapshot.meta.node_types[TYPE];
  const classes = {};
  if (s.nodes.length !== s.snapshot.node_count * fields.length) throw new Error('nodes are missing');
  for (let i = 0; i < s.nodes.length; i += fields.length) {
    const type = types[s.nodes[i + TYPE]];
    const name = type === 'object' || type === 'native' ? s.strings[s.nodes[i + NAME]] : LABELS[type] ?? `(${type})`;
    const c = Object.hasOwn(classes, name) ? classes[name] : (classes[name] = [0, 0, 0]);
    c[0]++;
    c[1] += s.nodes[i + SIZE];
    if (s.nodes[i + DETACHED] === 2) c[2]++;
  }
  return { classes, nodes: s.snapshot.node_count };
}

module.exports = { ADDON, SOURCE, startForker, classesOf };
