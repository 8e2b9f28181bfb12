'use strict';
// pillion.js - starts the program, or the same without it, and looks at it from outside. The means are those of the integration
// tests (tests/integration/lib/harness.js).

const { spawn } = require('node:child_process');
const fs = require('node:fs');
const path = require('node:path');

const harness = require('../../integration/lib/harness');
const proc = require('./proc');

const READY_MS = 120000;
const BUILDS = {
  dynamic: harness.BIN,
  static: process.env.PILLION_STATIC_BIN || path.join(harness.ROOT, 'build/static/pillion'),
};

// The programs that there are to measure.
const builds = () => Object.entries(BUILDS).filter(([, file]) => fs.existsSync(file)).map(([name, file]) => ({ name, file }));

// In place of a test of node:test: what has to be undone at the end.
class Scope {
  after(fn) {
    this.end = fn;
  }
}

// pillion run -- COMMAND; `before` (for example taskset) goes in front and becomes the program by exec.
class Run {
  constructor(file, command, { env = {}, before = [] } = {}) {
    this.scope = new Scope();
    this.running = harness.start(this.scope, ['run', '--', ...command], {
      command: file, before, env: { PILLION_FLUSH_INTERVAL: undefined, PILLION_APP: 'bench', ...env },
    });
    this.init = this.running.pid;
  }

  get output() {
    return this.running.stdout + this.running.stderr;
  }

  status() {
    return this.running.json('/status');
  }

  scrape() {
    return this.running.get('/metrics');
  }

  helper() {
    return proc.tree(this.init).find((pid) => pid !== this.init && proc.commandLine(pid)[1] === 'agent');
  }

  // The workers, once n of them are sampled.
  async workers(n) {
    try {
      await this.running.waitReady();
      return await this.running.waitWorkers(`${n} sampled workers`, (all) => {
        const live = all.filter((w) => w.state === 'live' && w.last_sample);
        return live.length >= n && live;
      }, READY_MS);
    } catch (e) {
      throw new Error(`${e.message}\n${this.output}`);
    }
  }

  stop() {
    return this.scope.end();
  }
}

// The same command without us, in a process group of its own.
class Plain {
  constructor(command, { env = {}, before = [] } = {}) {
    const argv = [...before, ...command];
    const child = spawn(argv[0], argv.slice(1), { stdio: ['ignore', 'pipe', 'pipe'], env: harness.cleanEnv(env), detached: true });
    this.running = new harness.Running(child, '');
    this.init = child.pid;
  }

  get output() {
    return this.running.stdout + this.running.stderr;
  }

  async stop() {
    try {
      process.kill(-this.init, 'SIGKILL');
    } catch {
      // It has ended by itself; what was wrong with it is in its output.
    }
    await this.running.ended;
  }
}

module.exports = { ROOT: harness.ROOT, pause: harness.pause, waitFor: harness.waitFor, builds, Run, Plain };
