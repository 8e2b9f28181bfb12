'use strict';
/* master.js - what `pillion run --workers N SCRIPT` starts: node master.js <workers> <stop ms> SCRIPT [ARG …]
 *
 * Forks N cluster workers with SCRIPT and keeps them running.
 *   A worker that dies   is replaced: at once when it lived for 10 s, else after 1 s, 2 s, 4 s … 30 s.
 *   A worker that ends   with code 0 before it ever listened has finished its work and is not replaced; when all have, so do we.
 *   Nobody gets ready    and 10 workers have died (4 for one worker, 8 for two): we end with the last one's exit code.
 *   SIGHUP               replaces them one by one: the new one listens (or, if it never does, has lived for a second), then the
 *                        old one takes no new connection, finishes its requests and ends. A new one that dies ends the reload.
 *   SIGTERM, SIGINT      stop all in that orderly way. Exit code 0, after SIGINT 130.
 * To end a worker in order: in a reload, for a second each of its answers is the last on its connection; disconnect; SIGTERM when its connections are closed, or in the last quarter (2 s at most) of the stop
 * time; SIGKILL when that is over. No step is taken twice.
 *
 * Loaded into a worker (--require) the same file is the worker's side of it: it answers what is under way with "Connection: close"
 * and closes idle connections, because a kept-alive connection would otherwise never end. It changes nothing before that. */
const cluster = require('node:cluster');

const FIRST_DELAY_MS = 1000;
const MOST_DELAY_MS = 30000;
const WELL_MS = 10000; // a worker that lived for so long starts again at once
const READY_MS = 1000; // without a listening socket
const DRAIN = 'NODE_PILLION_DRAIN';
const DRAIN_MS = 1000; // between that and closing what is idle: a client that is about to ask would get a reset
const LINGER_MS = 200; // between its last connection and SIGTERM: what can end by itself does
const GIVE_UP_DEATHS = 10;
const GIVE_UP_DEATHS_EACH = 4;
const GIVE_UP_WITHIN_MS = 60000;

/* --- in a worker ------------------------------------------------------------------------------------------------------------- */

function workerSide() {
  const channel = require('node:diagnostics_channel');
  const servers = new Set(); // WeakRef of each http.Server that has had a request
  const known = new WeakSet();
  const open = new Set(); // responses that are not finished
  let draining = false; // each answer is the last one of its connection
  let closing = false;

  // What was added to start this file is not the application's: its own children are not to have it.
  const at = process.execArgv.findIndex((arg, i) => arg === '--require' && process.execArgv[i + 1] === __filename);
  if (at >= 0) process.execArgv.splice(at, 2);

  const lastAnswer = (response) => {
    try {
      if (!response.headersSent) response.shouldKeepAlive = false;
    } catch {} // a foreign response object: its connection ends by time-out
  };
  channel.subscribe('http.server.request.start', ({ response, server }) => {
    if (!known.has(server)) {
      known.add(server);
      servers.add(new WeakRef(server));
    }
    if (draining) return lastAnswer(response);
    open.add(response);
    response.once('close', () => open.delete(response));
  });
  const closeIdle = () => {
    for (const ref of servers) {
      const server = ref.deref();
      if (server === undefined) servers.delete(ref);
      else if (typeof server.closeIdleConnections === 'function') server.closeIdleConnections();
    }
  };
  const drain = () => {
    draining = true;
    for (const response of open) lastAnswer(response);
    open.clear();
  };
  // Node.js keeps messages whose cmd begins with NODE_ from the application.
  process.on('internalMessage', (message) => {
    if (closing || !message) return;
    if (message.cmd === DRAIN) drain();
    if (message.cmd !== 'NODE_CLUSTER' || message.act !== 'disconnect') return;
    closing = true;
    drain();
    closeIdle();
    setInterval(closeIdle, 200).unref();
  });
}

/* --- the master -------------------------------------------------------------------------------------------------------------- */

function say(text) {
  try {
    process.stderr.write(`pillion master: ${text}\n`);
  } catch {} // nobody reads it any more
}

function howItDied(code, signal) {
  return signal ? `was ended by ${signal}` : `ended with code ${code}`;
}

function exitCode(code, signal) {
  return signal ? 128 + (require('node:os').constants.signals[signal] || 0) : code;
}

class Master {
  constructor(count, stopMs, script, args) {
    this.slots = Array.from({ length: count }, (_, i) => ({ number: i + 1, worker: null, next: null, delay: 0, timer: null, finished: false }));
    this.stopMs = stopMs;
    this.script = script;
    this.alive = new Set(); // cluster.workers forgets a worker as soon as it is told to disconnect
    this.deaths = []; // times, until somebody was ready
    this.anyReady = false;
    this.stopping = null; // the signal
    this.reloading = false;
    this.reloadAgain = false;
    const execArgv = __filename.startsWith('/') ? ['--require', __filename] : [];
    cluster.setupPrimary({ exec: script, args, execArgv });
  }

  /* A worker and what we know of it, until it has exited. */
  fork(slot) {
    const state = { worker: cluster.fork(), since: performance.now(), ready: false, listened: false, timer: null, retiring: false, onReady: null, onExit: null };
    this.alive.add(state);
    const ready = () => {
      clearTimeout(state.timer);
      if (state.ready) return;
      state.ready = true;
      this.anyReady = true;
      this.deaths.length = 0;
      if (state.onReady) state.onReady();
    };
    state.worker.on('online', () => {
      state.timer = setTimeout(ready, READY_MS);
    });
    state.worker.on('listening', () => {
      state.listened = true;
      ready();
    });
    state.worker.on('error', (err) => say(`worker ${slot.number}: ${err.message}`));
    // A fork that failed (no memory, no process) has no pid and never exits.
    const gone = (code, signal) => {
      clearTimeout(state.timer);
      if (state.gone) return;
      state.gone = true;
      this.alive.delete(state);
      if (state.onExit) state.onExit(code, signal);
      this.exited(slot, state, code, signal);
    };
    state.worker.on('exit', gone);
    if (!state.worker.process.pid) setImmediate(gone, 1, null);
    return state;
  }

  start(slot) {
    slot.timer = null;
    if (!this.stopping) slot.worker = this.fork(slot);
  }

  exited(slot, state, code, signal) {
    if (slot.next === state) { // of a reload, which hears of it by onExit
      slot.next = null;
      return this.checkEnd();
    }
    if (slot.worker !== state) return this.checkEnd();
    slot.worker = null;
    if (this.stopping || state.retiring) return this.checkEnd();
    if (code === 0 && !signal && !state.listened && !state.worker.exitedAfterDisconnect) {
      slot.finished = true;
      return this.checkEnd();
    }
    if (slot.next) return undefined; // a reload is replacing it at this moment
    this.replace(slot, state, code, signal);
  }

  replace(slot, state, code, signal) {
    const now = performance.now();
    if (!this.anyReady) {
      this.deaths = this.deaths.filter((t) => now - t < GIVE_UP_WITHIN_MS);
      this.deaths.push(now);
      if (this.deaths.length >= Math.min(GIVE_UP_DEATHS, GIVE_UP_DEATHS_EACH * this.slots.length)) {
        say(`${this.script}: ${this.deaths.length} workers died and none ever got ready; the last one ${howItDied(code, signal)}. Giving up`);
        this.end = exitCode(code, signal) || 1;
        return this.stop('SIGTERM');
      }
    }
    const well = now - state.since >= WELL_MS;
    slot.delay = well ? 0 : Math.min(MOST_DELAY_MS, slot.delay ? slot.delay * 2 : FIRST_DELAY_MS);
    say(`worker ${slot.number} (pid ${state.worker.process.pid}) ${howItDied(code, signal)}; a new one ${slot.delay ? `in ${slot.delay / 1000} s` : 'starts'}`);
    slot.timer = setTimeout(() => this.start(slot), slot.delay);
    return undefined;
  }

  /* Ends a worker in order; `budget` ms until it is killed. */
  retire(state, budget, drain = 0) {
    if (state.retiring || state.gone) return;
    state.retiring = true;
    const { worker } = state;
    let told = false;
    const tell = () => {
      if (told || state.gone) return;
      told = true;
      worker.process.kill('SIGTERM');
    };
    const timers = [
      setTimeout(tell, budget - Math.min(2000, budget / 4)),
      setTimeout(() => {
        say(`worker (pid ${worker.process.pid}) did not end in ${budget / 1000} s and is killed`);
        worker.process.kill('SIGKILL');
      }, budget),
    ];
    worker.once('exit', () => timers.forEach((timer) => clearTimeout(timer)));
    if (!worker.isConnected()) return tell();
    worker.once('disconnect', () => timers.push(setTimeout(tell, Math.min(LINGER_MS, budget / 4))));
    if (drain === 0) return worker.disconnect();
    worker.process.send({ cmd: DRAIN }, () => {}); // an error means that it is ending already
    timers.push(setTimeout(() => worker.isConnected() && worker.disconnect(), drain));
  }

  stop(signal) {
    if (this.stopping) return;
    this.stopping = signal;
    for (const slot of this.slots) {
      clearTimeout(slot.timer);
      slot.timer = null;
      if (slot.worker) this.retire(slot.worker, this.stopMs);
      if (slot.next) this.retire(slot.next, this.stopMs);
    }
    this.checkEnd();
  }

  checkEnd() {
    if (this.alive.size > 0) return;
    if (this.stopping) {
      process.exit(this.end !== undefined ? this.end : this.stopping === 'SIGINT' ? 130 : 0);
    } else if (this.slots.every((slot) => slot.finished)) {
      process.exit(0);
    }
  }

  async reload() {
    if (this.stopping) return;
    if (this.reloading) {
      this.reloadAgain = true;
      return;
    }
    this.reloading = true;
    say('reloading');
    do {
      this.reloadAgain = false;
      for (const slot of this.slots) {
        if (this.stopping) break;
        if (!(await this.reloadSlot(slot))) {
          if (!this.stopping) say('the reload is given up: the new worker died before it was ready, the old ones stay');
          this.reloadAgain = false;
          break;
        }
      }
    } while (this.reloadAgain && !this.stopping);
    this.reloading = false;
    if (!this.stopping) say('reload is over');
  }

  /* True when the slot has a new worker that is ready and the old one has gone. */
  async reloadSlot(slot) {
    clearTimeout(slot.timer);
    slot.timer = null;
    slot.finished = false;
    const old = slot.worker;
    const next = (slot.next = this.fork(slot));
    const ok = await new Promise((resolve) => {
      next.onReady = () => resolve(true);
      next.onExit = () => resolve(false);
    });
    next.onReady = next.onExit = null;
    if (slot.next === next) slot.next = null;
    if (!ok) {
      if (!slot.worker) this.replace(slot, next, 1, null); // the old one died meanwhile
      return false;
    }
    slot.worker = next;
    slot.delay = 0;
    if (old && !old.gone && !this.stopping) {
      await new Promise((resolve) => {
        old.onExit = resolve;
        this.retire(old, this.stopMs, Math.min(DRAIN_MS, this.stopMs / 4));
      });
    }
    return !this.stopping;
  }
}

function main() {
  // With -e, when there is no directory for this file, the first argument stands where the file's name would be.
  const args = process.argv.slice(__filename.startsWith('/') ? 2 : 1);
  const tty = require('node:tty');
  let script = require('node:path').resolve(args[2]);
  try {
    script = require.resolve(script);
  } catch (err) {
    say(`cannot find ${args[2]}`);
    process.exit(1);
  }
  process.title = `pillion master ${args[2]}`;
  const atTerminal = tty.isatty(0);
  const master = new Master(Number(args[0]), Number(args[1]), script, args.slice(3));
  process.on('SIGTERM', () => master.stop('SIGTERM'));
  process.on('SIGINT', () => master.stop('SIGINT'));
  // A terminal that was closed hangs up as well: then nobody wants a reload.
  process.on('SIGHUP', () => (atTerminal && !tty.isatty(0) ? master.stop('SIGTERM') : master.reload()));
  master.slots.forEach((slot) => master.start(slot));
}

if (cluster.isWorker) workerSide();
else main();
