/* preload.js - the part of Pillion that runs inside each Node.js process and worker thread (NODE_OPTIONS=--require).
 *
 * The program embeds identity.js (who this process is), sampler.js (what is measured), capture.js (what is done on an order) and
 * this file (how it gets to the helper) as one script, in this order. It connects to `workers.sock` in its own directory, takes a sample each interval and sends it;
 * ipc/PROTOCOL.md is the format.
 * Rules: never throw into the application, never keep it alive, never print, never wait, hold 256 KiB at most. Until a helper
 * has said welcome it is one timer that tries to connect; listeners and measurements begin with the first welcome.
 *
 * How it does so:
 * - What it calls later is taken at load, before a test library or an APM replaces it. Syntax is that of 2018, so that an older
 *   Node.js reads the file and leaves it alone instead of dying of it.
 * - A write that the kernel does not take at once would keep the process alive until somebody reads, so there is no such write:
 *   the connection is given up, the samples stay, and the next connection sends them. Backlog goes out in small portions.
 * - Milliseconds here, seconds in frames; all times are CLOCK_MONOTONIC. */
'use strict';

function pillion() {
  if (!(parseInt(process.versions.node, 10) >= 18) || process.versions.bun || process.versions.electron) return;

  // --- taken at load ----------------------------------------------------------------------------------------------------------

  const { setTimeout, clearTimeout, setInterval, clearInterval, Buffer, JSON, Math, Object, Reflect, String } = globalThis;
  const { Map, WeakSet, Float64Array, Uint32Array, Uint8Array } = globalThis;
  const threads = require('worker_threads');
  const fs = require('fs');
  const path = require('path');

  const MAIN = threads.isMainThread;
  if (!MAIN && threads.isInternalThread === true) return; // it runs the module loader's hooks
  const identity = pillionIdentity(MAIN);
  if (identity.packageManager || require('os').endianness() !== 'LE') return;

  const net = require('net');
  const connectSocket = net.Socket.prototype.connect;
  const random = Math.random;
  const { subscribe, unsubscribe } = require('diagnostics_channel');
  const sampler = pillionSampler({ main: MAIN, note, guard });
  const { frame, now } = sampler;

  const DIRECTORY = __dirname;
  const SOCKET = path.join(DIRECTORY, 'workers.sock');

  const PROTOCOL = 1;
  const [HELLO, SAMPLE, EVENT, BEAT, ANSWER] = [1, 2, 3, 4, 5];
  const [WELCOME, ACK, LATER, REFUSED, ORDER] = [0x81, 0x82, 0x83, 0x84, 0x85];
  const FRAME_MAX = 65528;
  const CONTROL_MAX = 4096; // a longer welcome, later or refused is nobody's we know
  const HOLD_MAX = 262144; // everything that waits here: ring, outgoing buffer, events
  const OUT_BYTES = 16384;
  const EVENTS_MAX = 32; // of 600 bytes at most
  const RESERVE = OUT_BYTES + EVENTS_MAX * 600;
  const BURST = 32768; // of backlog in one turn
  const BURST_PAUSE_MS = 50;
  const RECEIVE_MAX = 65536; // between two samples; who sends more is not a helper
  const RETRY_FIRST_MS = 50;
  const RETRY_MAX_MS = 2000;
  const SETTLED_MS = 1000; // a connection that lived for so long makes the next retry a first one
  const WELCOME_FIRST_MS = 10000; // a helper that hangs is asked again after 10, 20, 40, 60, 60 … s
  const WELCOME_MAX_MS = 60000;

  // The frame that the sampler fills: one word of header, number, clock, slots.
  const WORDS = frame.length;
  const FRAME_BYTES = WORDS * 8;
  const frame32 = new Uint32Array(frame.buffer);
  frame32[0] = FRAME_BYTES - 8;
  frame32[1] = SAMPLE;

  // --- the ring of samples that are not acknowledged ---------------------------------------------------------------------------

  let ring = new Float64Array(16 * WORDS);
  let ringBytes = new Uint8Array(ring.buffer);
  let capacity = 16;
  let most = Math.floor((HOLD_MAX - RESERVE) / FRAME_BYTES);
  let head = 0; // where sample number `first` is
  let first = 1;
  let next = 1;
  let sent = 1; // the next one to go out on this connection
  let dropped = 0;
  let droppedTold = 0;

  function keep(t) {
    frame32[2] = next % 4294967296;
    frame32[3] = Math.floor(next / 4294967296);
    frame[2] = (t + sampler.ZERO_MS) / 1e3;
    if (next - first >= most) {
      forget(first);
      dropped++;
    }
    if (next - first >= capacity) grow();
    ring.set(frame, ((head + next - first) % capacity) * WORDS);
    next++;
  }

  function grow() {
    const larger = Math.min(most, capacity * 2);
    const to = new Float64Array(larger * WORDS);
    const tail = Math.min(next - first, capacity - head);
    to.set(ring.subarray(head * WORDS, (head + tail) * WORDS));
    to.set(ring.subarray(0, (next - first - tail) * WORDS), tail * WORDS);
    ring = to;
    ringBytes = new Uint8Array(ring.buffer);
    capacity = larger;
    head = 0;
  }

  // All samples up to and including `number`, which is below `next`.
  function forget(number) {
    if (number < first) return;
    head = number + 1 === next ? 0 : (head + number + 1 - first) % capacity;
    first = number + 1;
    if (sent < first) sent = first;
  }

  // --- events ------------------------------------------------------------------------------------------------------------------

  const events = []; // frames that wait for a connection
  const noted = new Map();

  // Text for JSON: no control characters (NUL is refused), no half characters, at most `limit` bytes of UTF-8.
  function text(value, limit) {
    const clean = String(value).slice(0, limit).replace(/[\u0000-\u001f\u007f]/g, ' ');
    let bytes = Buffer.from(clean);
    for (let n = clean.length; bytes.length > limit; ) bytes = Buffer.from(clean.slice(0, --n));
    return JSON.stringify(bytes.toString());
  }

  function jsonFrame(type, json) {
    const body = Buffer.from(json);
    const whole = Buffer.alloc(8 + body.length);
    whole.writeUInt32LE(body.length, 0);
    whole[4] = type;
    body.copy(whole, 8);
    return whole;
  }

  function tell(json, type) {
    if (state === OVER) return;
    if (events.length >= EVENTS_MAX) events.shift();
    events.push(jsonFrame(type || EVENT, json));
    pump(false);
  }

  function note(what, why) {
    if (noted.has(what)) return;
    noted.set(what, true);
    tell(`{"event":"note","what":${text(what, 60)},"why":${text(why, 250)}}`);
  }

  // Nothing of ours may reach the application: what fails three times in a row is switched off, and said.
  function guard(what, fn) {
    let failed = 0;
    return function guarded(a, b, c) {
      if (failed >= 3 || state === OVER) return;
      try {
        fn(a, b, c);
        failed = 0;
      } catch (e) {
        if (++failed === 3) attempt(() => note(what, e instanceof Error ? e.message : 'failed'));
      }
    };
  }

  function attempt(fn, otherwise) {
    try {
      fn();
    } catch (e) {
      if (otherwise) attempt(otherwise);
    }
  }

  const capture = pillionCapture({
    main: MAIN, now, guard, attempt, text, tell, path: (name) => path.join(DIRECTORY, name),
    answer: (json) => state === LIVE && tell(json, ANSWER),
  });

  // --- connection --------------------------------------------------------------------------------------------------------------

  const [WAITING, CONNECTING, GREETED, LIVE, OVER] = [0, 1, 2, 3, 4];
  const out = Buffer.alloc(OUT_BYTES);
  const outOne = out.subarray(0, FRAME_BYTES);
  const received = Buffer.alloc(4096);
  const incoming = Buffer.alloc(8 + CONTROL_MAX); // header and payload of the frame that is coming
  let state = WAITING;
  let socket = null;
  let retryTimer = null;
  let retryMs = RETRY_FIRST_MS;
  let welcomeTimer = null;
  let welcomeMs = WELCOME_FIRST_MS;
  let paceTimer = null;
  let liveSince = 0;
  let incomingBytes = 0;
  let skipBytes = 0;
  let receivedBytes = 0;

  function later(ms) {
    if (state === OVER || retryTimer !== null) return;
    retryTimer = setTimeout(connect, ms);
    retryTimer.unref();
  }

  const connect = guard('connect', () => {
    retryTimer = null;
    if (!identity.script()) return stop();
    state = CONNECTING;
    incomingBytes = skipBytes = receivedBytes = 0;
    const options = Object.assign(Object.create(null), { path: SOCKET, onread: { buffer: received, callback: onRead } });
    const s = new net.Socket(options);
    socket = s;
    s.on('error', guard('error', (e) => {
      if (e && e.code === 'ERR_ACCESS_DENIED') stop(); // the permission model; it will not change its mind
    }));
    s.on('close', guard('close', () => {
      if (socket === s) lost();
    }));
    s.on('connect', () => {
      if (socket === s) attempt(greet, lost);
    });
    try {
      Reflect.apply(connectSocket, s, [options]);
      s.unref();
    } catch (e) {
      if (e && e.code === 'ERR_ACCESS_DENIED') stop();
      else lost();
    }
  });

  // Gives up the connection; `ms` is when the helper wants us back, where it said so.
  function lost(ms) {
    const s = socket;
    socket = null;
    if (s !== null) s.destroy();
    if (state === LIVE) capture.lost();
    clearTimeout(welcomeTimer);
    clearTimeout(paceTimer);
    welcomeTimer = paceTimer = null;
    if (state === OVER) return;
    if (state === LIVE && now() - liveSince > SETTLED_MS) retryMs = RETRY_FIRST_MS;
    state = WAITING;
    if (ms > 0) return later(ms * (1 + random() / 4));
    later(retryMs * (0.5 + random() / 2));
    retryMs = Math.min(RETRY_MAX_MS, retryMs * 2);
  }

  // false: the connection is gone. See the head of the file for why nothing may be left to be written.
  function send(bytes) {
    socket.write(bytes);
    if (socket !== null && socket.writableLength === 0 && !socket.destroyed) return true;
    lost();
    return false;
  }

  function greet() {
    state = GREETED;
    sent = first;
    if (!send(jsonFrame(HELLO, hello()))) return;
    welcomeTimer = setTimeout(guard('welcome', () => {
      welcomeMs = Math.min(WELCOME_MAX_MS, welcomeMs * 2);
      lost();
    }), welcomeMs);
    welcomeTimer.unref();
  }

  // Everything that waits and fits: samples first, then events, so that "exit" is the last word. `all`: now or never.
  function pump(all) {
    if (state !== LIVE) return;
    for (let budget = all ? HOLD_MAX : BURST; budget > 0; ) {
      let n = 0;
      while (sent < next && n + FRAME_BYTES <= OUT_BYTES) {
        const at = ((head + sent - first) % capacity) * FRAME_BYTES;
        out.set(ringBytes.subarray(at, at + FRAME_BYTES), n);
        n += FRAME_BYTES;
        sent++;
      }
      while (sent === next && events.length > 0 && n + events[0].length <= OUT_BYTES) {
        events[0].copy(out, n);
        n += events.shift().length;
      }
      if (n === 0) return;
      if (!send(n === FRAME_BYTES ? outOne : out.subarray(0, n))) return;
      budget -= n;
    }
    if (paceTimer !== null || (sent === next && events.length === 0)) return;
    paceTimer = setTimeout(guard('pace', () => {
      paceTimer = null;
      pump(false);
    }), BURST_PAUSE_MS);
    paceTimer.unref();
  }

  function onRead(nread, buffer) {
    if (this === socket) attempt(() => takeAll(this, buffer, nread), lost);
    return true;
  }

  function takeAll(from, buffer, nread) {
    receivedBytes += nread;
    for (let at = 0; at < nread && socket === from; ) at = takeBytes(buffer, at, nread);
    if (socket === from && receivedBytes > RECEIVE_MAX) lost();
  }

  function takeBytes(buffer, at, to) {
    if (skipBytes > 0) {
      const n = Math.min(skipBytes, to - at);
      skipBytes -= n;
      return at + n;
    }
    const want = incomingBytes < 8 ? 8 : 8 + incoming.readUInt32LE(0);
    const n = Math.min(want - incomingBytes, to - at);
    buffer.copy(incoming, incomingBytes, at, at + n);
    incomingBytes += n;
    if (incomingBytes === 8) {
      const length = incoming.readUInt32LE(0);
      const known = incoming[4] >= WELCOME && incoming[4] <= ORDER;
      if (length < 1 || length > FRAME_MAX || (known && length > CONTROL_MAX)) {
        lost();
      } else if (!known) {
        skipBytes = length;
        incomingBytes = 0;
      }
    } else if (incomingBytes === want) {
      incomingBytes = 0;
      takeFrame(incoming[4], incoming.subarray(8, want));
    }
    return at + n;
  }

  function takeFrame(type, payload) {
    if (type === ACK) {
      const number = payload.length === 8 ? payload.readUInt32LE(4) * 4294967296 + payload.readUInt32LE(0) : Infinity;
      if (state !== LIVE || number >= next) lost(); // of a sample that was never made
      else forget(number);
      return;
    }
    const message = JSON.parse(payload.toString());
    if (type === REFUSED) stop();
    else if (type === ORDER) state === LIVE ? capture.order(message) : lost();
    else if (type === LATER) lost(clamp(message.after_ms, 100, 60000, 1000));
    else if (state === GREETED && message.protocol === PROTOCOL) welcomed(message);
    else lost();
  }

  function clamp(value, low, high, other) {
    return typeof value === 'number' && value === value ? Math.min(high, Math.max(low, value)) : other;
  }

  function welcomed(message) {
    clearTimeout(welcomeTimer);
    welcomeTimer = null;
    welcomeMs = WELCOME_FIRST_MS;
    const stored = Math.floor(clamp(message.stored, 0, 2 ** 52, 0));
    if (stored >= next) {
      // Another program ran under this pid and start time before us (execve): its numbers are taken.
      forget(next - 1);
      first = next = sent = stored + 1;
    } else {
      forget(stored);
    }
    most = Math.max(1, Math.floor((clamp(message.hold_bytes, 0, HOLD_MAX, HOLD_MAX) - RESERVE) / FRAME_BYTES));
    if (next - first > most) {
      dropped += next - first - most;
      forget(next - 1 - most);
    }
    state = LIVE;
    liveSince = now();
    instrument();
    capture.prepare();
    setTimers(clamp(message.interval_ms, 100, 60000, 1000), clamp(message.beat_ms, 0, 60000, 0));
    pump(false);
  }

  // --- sampling ----------------------------------------------------------------------------------------------------------------

  let sampleTimer = null;
  let beatTimer = null;
  let intervalMs = 0;
  let beatMs = 0;
  const beatFrame = new Float64Array(2);
  const beatBytes = Buffer.from(beatFrame.buffer);
  new Uint32Array(beatFrame.buffer).set([8, BEAT]);

  function setTimers(interval, beat) {
    if (interval !== intervalMs) {
      clearInterval(sampleTimer);
      intervalMs = interval;
      sampler.every(interval);
      sampleTimer = setInterval(guard('sample', () => tick(false)), interval);
      sampleTimer.unref();
    }
    if (beat !== beatMs) {
      clearInterval(beatTimer);
      beatMs = beat;
      beatTimer = beat > 0 ? setInterval(guard('beat', () => {
        beatFrame[1] = (now() + sampler.ZERO_MS) / 1e3;
        if (state === LIVE) send(beatBytes);
      }), Math.max(100, beat)) : null;
      if (beatTimer !== null) beatTimer.unref();
    }
  }

  function tick(last) {
    const t = now();
    receivedBytes = 0;
    sampler.sample(t);
    frame[sampler.DROPPED] = dropped;
    frame[sampler.HELD] = (next - first) * FRAME_BYTES;
    keep(t);
    sampler.sampled();
    if (last) return;
    if (dropped !== droppedTold && state === LIVE) {
      droppedTold = dropped;
      tell(`{"event":"dropped","samples":${dropped}}`);
    }
    lookForWorkers();
    watchReport();
    capture.watch();
    pump(false);
    sampler.spent(now() - t);
  }

  // --- who we are --------------------------------------------------------------------------------------------------------------

  let role = identity.role;

  function hello() {
    const app = identity.app();
    attempt(lookForWorkers);
    return `{"protocol":[${PROTOCOL}],"pid":${process.pid},"start":${identity.start()},"ppid":${process.ppid},`
      + `"thread":${threads.threadId},"role":"${role}","title":${text(identity.title(), 250)},"node":"${process.version}",`
      + `${app ? `"app":${text(app, 250)},` : ''}"next":${first},"fields":[${sampler.fields.join(',')}]}`;
  }

  // --- children ----------------------------------------------------------------------------------------------------------------

  /* Node tells of each new child by a channel from 20 on. Cluster workers are found in any version, with the next sample; that is
   * also how a primary knows itself. A listener for 'exit' changes nothing for the application; one for 'error' would. */
  const children = new WeakSet();
  let lookAgain = true;

  function watchChild(child) {
    if (children.has(child)) return;
    children.add(child);
    child.once('exit', guard('child_exit', (code, signal) => {
      const how = signal ? `"signal":${text(signal, 20)}` : `"code":${code | 0}`;
      if (child.pid > 0) tell(`{"event":"child_exit","pid":${child.pid},${how}}`);
    }));
  }

  const onChild = guard('child_exit', (message) => {
    lookAgain = true; // it has no pid yet, and nothing says what it is going to be
    watchChild(message.process);
  });

  function lookForWorkers() {
    if (!MAIN || role === 'agent' || role === 'worker' || !(lookAgain || sampler.children)) return;
    lookAgain = false;
    // Whoever has not loaded it has no workers, and shall not load it because of us.
    if (process.moduleLoadList && process.moduleLoadList.indexOf('NativeModule cluster') < 0) return;
    const workers = require('cluster').workers || {};
    const ids = Object.keys(workers);
    for (let i = 0; i < ids.length; i++) watchChild(workers[ids[i]].process);
    if (ids.length === 0 || role === 'primary') return;
    role = 'primary';
    if (state === LIVE) tell('{"event":"role","role":"primary"}');
  }

  // --- the end -----------------------------------------------------------------------------------------------------------------

  let fatal = null; // [reason, message, when]
  let exited = false;

  const onFatal = guard('exit', (error, origin) => {
    let message = '';
    try {
      message = typeof error === 'object' && error !== null ? error.message : String(error);
    } catch (e) {
      // a getter of the application's own
    }
    fatal = [origin, typeof message === 'string' ? message : '', now()];
  });

  const onExit = guard('exit', (code) => {
    if (exited || state !== LIVE) return;
    exited = true;
    capture.lost();
    tick(true);
    // An application may survive it, or take a few seconds to log it before it ends.
    const why = fatal !== null && code !== 0 && now() - fatal[2] < 10000
      ? `,"reason":${text(fatal[0], 60)},"message":${text(fatal[1], 250)}` : '';
    events.push(jsonFrame(EVENT, `{"event":"exit","code":${code | 0}${why}}`));
    pump(true);
  });

  // One listener of ours more would make Node warn of too many one earlier: then ours goes, before that one comes.
  const onListener = guard('exit', (name) => {
    if (name === 'SIGUSR1') capture.taken();
    if (name !== 'exit' && name !== 'uncaughtExceptionMonitor') return;
    const limit = process.getMaxListeners();
    if (limit > 0 && process.listenerCount(name) >= limit) process.removeListener(name, name === 'exit' ? onExit : onFatal);
  });

  function watchEnd() {
    for (const [name, fn] of [['exit', onExit], ['uncaughtExceptionMonitor', onFatal]]) {
      const limit = process.getMaxListeners();
      if (limit === 0 || process.listenerCount(name) < limit) process.on(name, fn);
      else note('exit', `the application has ${limit} listeners for ${name}`);
    }
    process.on('newListener', onListener);
  }

  // --- the diagnostic report of a fatal error ----------------------------------------------------------------------------------

  /* Goes into our directory, unless the application or its command line has a wish of its own, now or later; for its own reports
   * everything is as without us. Not in Node 18: its report asks the name server for each peer, and that can take minutes. */
  const OURS = { directory: DIRECTORY, compact: true, excludeNetwork: true, excludeEnv: true, reportOnFatalError: true };
  let theirs = null; // what OURS replaced

  function setReport(to) {
    const keys = Object.keys(to);
    for (let i = 0; i < keys.length; i++) if (keys[i] in process.report) process.report[keys[i]] = to[keys[i]];
  }

  function takeReport() {
    const report = process.report;
    if (!MAIN || !report || report.reportOnFatalError || report.directory || report.filename) return;
    if (report.reportOnSignal || report.reportOnUncaughtException) return;
    if (/--(report-|diagnostic-dir)/.test(`${process.execArgv.join(' ')} ${process.env.NODE_OPTIONS}`)) return;
    if (!('excludeNetwork' in report)) return;
    fs.accessSync(DIRECTORY, fs.constants.W_OK); // throws: then there is none
    theirs = {};
    for (const key of Object.keys(OURS)) if (key in report) theirs[key] = report[key];
    for (const name of ['writeReport', 'getReport']) {
      const original = report[name];
      report[name] = function () {
        const mine = theirs !== null && report.directory === DIRECTORY;
        if (mine) setReport(theirs);
        try {
          return Reflect.apply(original, this, arguments);
        } finally {
          if (mine) setReport(OURS);
        }
      };
    }
    setReport(OURS);
  }

  function watchReport() {
    if (theirs === null) return;
    const report = process.report;
    if (report.directory === DIRECTORY && !report.filename && !report.reportOnSignal && !report.reportOnUncaughtException) return;
    if (report.directory !== DIRECTORY) delete theirs.directory;
    setReport(theirs);
    theirs = null;
  }

  // --- beginning and end of all this -------------------------------------------------------------------------------------------

  let instrumented = false;

  function instrument() {
    if (instrumented) return;
    instrumented = true;
    sampler.start();
    watchEnd();
    attempt(takeReport); // fails where the directory is not ours to write into
  }

  // For good: refused, or not allowed to connect.
  function stop() {
    state = OVER;
    lost();
    for (const timer of [sampleTimer, beatTimer, retryTimer]) clearTimeout(timer);
    capture.stop();
    sampler.stop();
    unsubscribe('child_process', onChild);
    process.removeListener('exit', onExit);
    process.removeListener('uncaughtExceptionMonitor', onFatal);
    process.removeListener('newListener', onListener);
    if (theirs !== null) setReport(theirs);
    theirs = null;
    events.length = 0;
    ring = new Float64Array(0);
    ringBytes = new Uint8Array(0);
  }

  if (Buffer.byteLength(SOCKET) > 107) return; // libuv would cut it and connect to something else
  if (MAIN) subscribe('child_process', onChild);
  later(1);
  return stop;
}

try {
  const stop = pillion();
  // For `pillion attach --detach`; whoever requires it anew gets a new one.
  module.exports.detach = () => stop && (stop(), delete require.cache[__filename]);
} catch (e) {
  // then without us
}
