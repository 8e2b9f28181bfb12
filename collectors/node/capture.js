/* capture.js - what is done on an order: profiles, heap snapshots, where the program is, the diagnostic report.
 *
 * The third part of what preload.js describes; until an order comes nothing in it runs, except that Node's inspector signal is given
 * a port of its own. What an order yields is written into a FIFO that the helper made in our directory and reads already; the
 * connection carries short answers only:
 *   {"order":n,"action":"cpu_profile","seconds":10,"interval_us":1000,"fifo":"name"}
 *   {"order":n,"state":"started"}   then one of   {"order":n,"state":"done","bytes":n,…}   {"order":n,"state":"failed","reason":…}
 *   {"order":n,"action":"cancel","which":m}           no answer
 *   {"order":n,"action":"settle","after_ms":n}        no answer; closes an inspector that the helper's signal has opened
 * The FIFO is never waited for without an end: it is opened and written without blocking, and a helper that does not read for
 * STALL_MS has lost what it asked for. Profiles leave in portions, with the application's turns in between. */
'use strict';

function pillionCapture(host) {
  const { setTimeout, clearTimeout, Array, Atomics, Buffer, Float64Array, Int32Array, JSON, Map, Math } = globalThis;
  const { Number, Object, SharedArrayBuffer } = globalThis;
  const { now, guard, attempt } = host;
  const { openSync, writeSync, closeSync, constants } = require('fs');
  const getReport = process.report && process.report.getReport;
  const cells = new Int32Array(new SharedArrayBuffer(4)); // to wait on

  const STALL_MS = 5000;
  const CHUNK = 32768;
  const TURN_MS = 8; // of writing, then the application has its turn
  const RUNNING_MAX = 2;
  const GCS_MAX = 4096;
  const STACKS_MAX = 5;
  const FRAMES_MAX = 64;
  const STACK_MS = 500;

  const running = new Map();
  let highest = 0; // order number that came last

  // --- one order ----------------------------------------------------------------------------------------------------------------

  function answer(order, rest) {
    host.answer(`{"order":${order},${rest}}`);
  }

  function failed(order, reason) {
    answer(order, `"state":"failed","reason":${host.text(reason, 250)}`);
  }

  function reasonOf(e) {
    const code = e && e.code;
    if (code === 'ENXIO' || code === 'EPIPE' || code === 'ENOENT') return 'the helper does not read any more';
    if (code === 'ERR_ACCESS_DENIED') return "Node's permission model forbids it";
    return e && typeof e.message === 'string' ? e.message : 'failed';
  }

  // Everything that a job holds goes, whatever state it is in.
  function release(job) {
    running.delete(job.order);
    clearTimeout(job.timer);
    for (const fn of job.undo.splice(0).reverse()) attempt(fn);
    if (job.fd >= 0) attempt(() => closeSync(job.fd));
    job.fd = -1;
    job.over = true;
  }

  function fail(job, reason) {
    if (job.over) return;
    release(job);
    failed(job.order, reason);
  }

  function done(job) {
    if (job.over) return;
    release(job);
    const stalls = `"start_ms":${job.startMs.toFixed(1)},"stop_ms":${job.stopMs.toFixed(1)}`;
    answer(job.order, `"state":"done","bytes":${job.bytes},${stalls}`);
  }

  function step(job, fn) {
    return function stepOfJob() {
      if (job.over) return;
      try {
        fn();
      } catch (e) {
        attempt(() => fail(job, reasonOf(e)), () => release(job));
      }
    };
  }

  function wait(job, ms, fn) {
    job.timer = setTimeout(step(job, fn), ms);
    job.timer.unref();
  }

  function timed(job, name, fn) {
    const t = now();
    const value = fn();
    job[name] += now() - t;
    return value;
  }

  function begin(message) {
    const action = actions[message.action];
    if (typeof action !== 'function') return failed(message.order, 'this worker does not know the action');
    if (running.size >= RUNNING_MAX) return failed(message.order, 'two other captures of this worker are running');
    if (!/^[A-Za-z0-9][\w.-]*$/.test(message.fifo)) return failed(message.order, 'the order names no file to write to');
    const job = { order: message.order, message, fd: -1, bytes: 0, timer: null, undo: [], over: false, startMs: 0, stopMs: 0 };
    running.set(job.order, job);
    step(job, () => {
      // A FIFO that nobody reads is an error here (ENXIO), not a wait.
      job.fd = openSync(host.path(message.fifo), constants.O_WRONLY | constants.O_NONBLOCK | constants.O_NOFOLLOW);
      answer(job.order, '"state":"started"');
      action(job, Math.min(300, Math.max(1, message.seconds | 0)) * 1000);
    })();
  }

  // --- writing ------------------------------------------------------------------------------------------------------------------

  // Bytes taken; 0: the pipe is full.
  function put(job, bytes, at) {
    try {
      const n = writeSync(job.fd, bytes, at, bytes.length - at);
      job.bytes += n;
      return n;
    } catch (e) {
      if (e.code === 'EAGAIN') return 0;
      throw e;
    }
  }

  // For what cannot be interrupted: waits for the reader, but not for ever.
  function putAll(job, bytes) {
    let since = now();
    for (let at = 0; at < bytes.length; ) {
      const n = put(job, bytes, at);
      if (n > 0) since = now();
      else if (now() - since > STALL_MS) throw new Error('the helper does not read');
      else Atomics.wait(cells, 0, 0, 2);
      at += n;
    }
  }

  // Writes what `next` gives, until it gives null, in short turns; then the job is done.
  function pour(job, next) {
    let bytes = null;
    let at = 0;
    let since = now();
    const turn = () => {
      const begun = now();
      for (;;) {
        if (bytes === null || at === bytes.length) {
          bytes = next();
          at = 0;
          if (bytes === null) return done(job);
        }
        const n = put(job, bytes, at);
        at += n;
        const t = now();
        if (n > 0) since = t;
        else if (t - since > STALL_MS) throw new Error('the helper does not read');
        if (n === 0 || t - begun > TURN_MS) return wait(job, n === 0 ? 2 : 1, turn);
      }
    };
    turn();
  }

  function ofString(string) {
    let from = 0;
    return () => {
      if (from >= string.length) return null;
      let to = Math.min(string.length, from + CHUNK);
      const last = string.charCodeAt(to - 1);
      if (to < string.length && last >= 0xd800 && last < 0xdc00) to--; // a character of two halves stays whole
      const bytes = Buffer.from(string.slice(from, to));
      from = to;
      return bytes;
    };
  }

  // JSON of a profile: its arrays in portions, and what was written is let go.
  function ofProfile(profile) {
    const keys = Object.keys(profile);
    let key = 0;
    let from = 0;
    return () => {
      if (key > keys.length) return null;
      if (key === keys.length) {
        key++;
        return Buffer.from('}');
      }
      const value = profile[keys[key]];
      const name = `${key === 0 ? '{' : ','}${JSON.stringify(keys[key])}:`;
      if (!Array.isArray(value)) {
        profile[keys[key++]] = null;
        return Buffer.from(name + JSON.stringify(value));
      }
      const to = Math.min(value.length, from + (typeof value[from] === 'number' ? 4096 : 128));
      const part = JSON.stringify(value.slice(from, to)).slice(1, -1);
      const text = `${from === 0 ? `${name}[` : ','}${part}${to === value.length ? ']' : ''}`;
      value.fill(null, from, to);
      from = to;
      if (to === value.length) {
        profile[keys[key++]] = null;
        from = 0;
      }
      return Buffer.from(text);
    };
  }

  // --- the inspector's session in this thread -----------------------------------------------------------------------------------

  function session(job) {
    const { Session } = require('inspector');
    const s = new Session();
    s.connect();
    job.undo.push(() => s.disconnect());
    // The answer to what is used here comes before post() returns.
    return (method, params) => {
      let error = null;
      let result = null;
      s.post(method, params || {}, (e, r) => {
        error = e;
        result = r;
      });
      if (error) throw new Error(`${method}: ${error.message}`);
      return result;
    };
  }

  // Calls `fn` with the end of a CPU profile of so many milliseconds: a function that gives the profile, as an object or as a string.
  function profileCpu(job, ms, us, asString, fn) {
    const v8 = require('v8');
    // Node 24.12 and later: a quarter of the stall at the end and a third of the memory; its interval is V8's own, 1 ms.
    if (asString && us === 1000 && typeof v8.startCpuProfile === 'function') {
      const handle = timed(job, 'startMs', () => v8.startCpuProfile());
      let ended = false;
      const end = () => {
        if (ended) return '';
        ended = true;
        return handle.stop();
      };
      job.undo.push(end);
      return wait(job, ms, () => fn(timed(job, 'stopMs', end)));
    }
    const post = session(job);
    timed(job, 'startMs', () => {
      post('Profiler.enable');
      post('Profiler.setSamplingInterval', { interval: us });
      post('Profiler.start');
    });
    wait(job, ms, () => fn(timed(job, 'stopMs', () => post('Profiler.stop')).profile));
  }

  // --- where it is: the stacks that took most of half a second ------------------------------------------------------------------

  function stackOf(node, parents) {
    const frames = [];
    for (let at = node; at && frames.length < FRAMES_MAX; at = parents.get(at.id)) {
      const f = at.callFrame;
      if (f.functionName === '(root)') break;
      frames.push({ function: f.functionName, url: f.url, line: f.lineNumber + 1, column: f.columnNumber + 1 });
    }
    return frames;
  }

  function hottest(profile) {
    const byId = new Map();
    const parents = new Map();
    const weights = new Map();
    for (const node of profile.nodes) byId.set(node.id, node);
    for (const node of profile.nodes) for (const child of node.children || []) parents.set(child, node);
    let total = 0;
    let idle = 0;
    for (let i = 0; i + 1 < profile.samples.length; i++) {
      const weight = Math.max(0, profile.timeDeltas[i + 1]);
      const node = byId.get(profile.samples[i]);
      total += weight;
      if (node.callFrame.functionName === '(idle)') idle += weight;
      else weights.set(node, (weights.get(node) || 0) + weight);
    }
    const share = (weight) => (total > 0 ? Math.round(weight / total * 1000) / 1000 : null);
    const top = [...weights].sort((a, b) => b[1] - a[1]).slice(0, STACKS_MAX);
    return { idle: share(idle), stacks: top.map(([node, weight]) => ({ share: share(weight), frames: stackOf(node, parents) })) };
  }

  // --- garbage collections ------------------------------------------------------------------------------------------------------

  function traceGc(job, ms) {
    const { PerformanceObserver, performance, constants: kinds } = require('perf_hooks');
    const v8 = require('v8');
    const names = new Map([[kinds.NODE_PERFORMANCE_GC_MINOR, 'minor'], [kinds.NODE_PERFORMANCE_GC_MAJOR, 'major'],
      [kinds.NODE_PERFORMANCE_GC_INCREMENTAL, 'incremental'], [kinds.NODE_PERFORMANCE_GC_WEAKCB, 'weakcb']]);
    const seen = new Float64Array(GCS_MAX * 3);
    const kindOf = [];
    const total = {};
    const begun = performance.now();
    const before = v8.getHeapStatistics().used_heap_size;
    let n = 0;
    const take = (entries) => {
      for (const entry of entries) {
        const kind = names.get(entry.detail ? entry.detail.kind : entry.kind) || 'other';
        const sum = total[kind] || (total[kind] = { count: 0, ms: 0, longest_ms: 0 });
        sum.count++;
        sum.ms += entry.duration;
        sum.longest_ms = Math.max(sum.longest_ms, entry.duration);
        if (n++ >= GCS_MAX) continue;
        seen[n * 3 - 3] = entry.startTime - begun;
        seen[n * 3 - 2] = entry.duration;
        kindOf.push(kind);
      }
    };
    const observer = new PerformanceObserver(guard('gc_trace', (list) => take(list.getEntries())));
    observer.observe({ entryTypes: ['gc'] });
    job.undo.push(() => observer.disconnect());
    wait(job, ms, () => {
      take(observer.takeRecords());
      const gcs = kindOf.map((kind, i) => ({ at_ms: +seen[i * 3].toFixed(1), ms: +seen[i * 3 + 1].toFixed(3), kind }));
      const after = v8.getHeapStatistics().used_heap_size;
      pour(job, ofProfile({ seconds: (performance.now() - begun) / 1e3, collections: n, left_out: Math.max(0, n - GCS_MAX), by_kind: total,
        heap_used_before_bytes: before, heap_used_after_bytes: after, gcs }));
    });
  }

  // --- actions ------------------------------------------------------------------------------------------------------------------

  const actions = Object.assign(Object.create(null), {
    cpu_profile(job, ms) {
      const us = Math.min(100000, Math.max(100, job.message.interval_us | 0));
      profileCpu(job, ms, us, true, (profile) => pour(job, typeof profile === 'string' ? ofString(profile) : ofProfile(profile)));
    },

    heap_profile(job, ms) {
      const post = session(job);
      let theirs = true;
      attempt(() => post('HeapProfiler.getSamplingProfile'), () => (theirs = false));
      if (theirs) throw new Error('the application samples its heap itself; there is one such sampler in a process');
      timed(job, 'startMs', () => post('HeapProfiler.startSampling'));
      job.undo.push(() => attempt(() => post('HeapProfiler.stopSampling')));
      wait(job, ms, () => pour(job, ofProfile(timed(job, 'stopMs', () => post('HeapProfiler.getSamplingProfile')).profile)));
    },

    // V8's own way: nothing else runs here until it is written.
    heap_snapshot(job) {
      const { Session } = require('inspector');
      const s = new Session();
      s.connect();
      job.undo.push(() => s.disconnect());
      let error = null;
      s.on('HeapProfiler.addHeapSnapshotChunk', (message) => {
        if (error !== null) return; // V8 cannot be stopped
        attempt(() => putAll(job, Buffer.from(message.params.chunk)), () => (error = 'the helper does not read'));
      });
      wait(job, 10, () => { // first the answer has to leave
        const t = now();
        const whole = step(job, () => {
          job.stopMs = now() - t;
          if (error === null) done(job);
          else fail(job, error);
        });
        // V8 12 and later begin with it in a turn of their own.
        s.post('HeapProfiler.takeHeapSnapshot', { reportProgress: false }, (e) => {
          if (e && error === null) error = e.message;
          whole();
        });
      });
    },

    gc_trace: traceGc,

    report(job) {
      const report = process.report;
      if (!report || !('excludeNetwork' in report)) {
        throw new Error('this Node.js asks the name server for each connection in its report, which can stop it for minutes');
      }
      const kept = [report.excludeNetwork, report.excludeEnv];
      const value = timed(job, 'stopMs', () => {
        report.excludeNetwork = true;
        if ('excludeEnv' in report) report.excludeEnv = true;
        try {
          return getReport.call(report);
        } finally {
          report.excludeNetwork = kept[0];
          if ('excludeEnv' in report) report.excludeEnv = kept[1];
        }
      });
      delete value.environmentVariables;
      pour(job, ofProfile(value));
    },

    stack(job) {
      profileCpu(job, STACK_MS, 1000, false, (profile) => {
        const where = hottest(profile);
        let waits = [];
        attempt(() => (waits = process.getActiveResourcesInfo()));
        const counts = {};
        for (const kind of waits) counts[kind] = (counts[kind] || 0) + 1;
        pour(job, ofString(JSON.stringify({ state: 'running', how: `sampled for ${STACK_MS} ms`, idle: where.idle,
          stacks: where.stacks, waits_for: counts })));
      });
    },
  });

  // --- the inspector's signal ---------------------------------------------------------------------------------------------------

  /* A helper that finds the loop stuck sends SIGUSR1, and Node opens its inspector on process.debugPort, by default on 9229, which
   * is one for all processes: so it becomes 0, a free one. Where the application has a wish of its own nothing is touched, and each
   * helper is told. Node writes the port that it opened into process.debugPort: that is how the application's own is noticed. */
  const DEFAULT_PORT = 9229;
  let portIsOurs = false;
  let refused = ''; // why not
  let settling = []; // timers that are to close what the signal opened
  let odd = 0; // times that the port was found changed

  function stepBack(why) {
    if (portIsOurs && process.debugPort === 0) process.debugPort = DEFAULT_PORT;
    portIsOurs = false;
    refused = why;
    host.tell(`{"event":"note","what":"inspector","why":${host.text(why, 250)}}`);
  }

  function prepare() {
    if (!host.main || portIsOurs) return;
    if (refused) return stepBack(refused);
    if (!process.features.inspector) return stepBack('this Node.js has no inspector');
    if (process.listenerCount('SIGUSR1') > 0) return stepBack('the application handles SIGUSR1 itself');
    const inspect = /--(inspect|debug-port)/.test(`${process.execArgv.join(' ')} ${process.env.NODE_OPTIONS}`);
    if (inspect || process.debugPort !== DEFAULT_PORT) return stepBack('the application uses the inspector itself');
    process.debugPort = 0;
    portIsOurs = true;
  }

  // With each sample. What the helper's signal opened is followed by its order to settle, in the same turn or the next.
  function watch() {
    if (!portIsOurs || settling.length > 0 || process.debugPort === 0) odd = 0;
    else if (++odd > 1) stepBack('the application uses the inspector itself');
  }

  function settle(after) {
    settling.forEach(clearTimeout);
    settling = [0, 50, 500, 2000].map((ms, i) => {
      const timer = setTimeout(guard('inspector', () => {
        if (i === 3) settling = [];
        const inspector = require('inspector');
        if (!portIsOurs || process.debugPort === 0) return;
        if (inspector.url() !== undefined) inspector.close();
        process.debugPort = 0;
      }), after + ms);
      timer.unref();
      return timer;
    });
  }

  // --- what the rest of the preload calls ---------------------------------------------------------------------------------------

  function cancelAll() {
    for (const job of [...running.values()]) attempt(() => release(job));
  }

  return {
    prepare: guard('inspector', prepare),
    watch,
    taken: () => host.main && stepBack('the application handles SIGUSR1 itself'),
    order(message) {
      const order = message.order;
      if (!(Number.isSafeInteger(order) && order > 0)) return;
      if (order <= highest) return failed(order, 'an order of this number was given already');
      highest = order;
      if (message.action === 'cancel') {
        const job = running.get(message.which);
        if (job) release(job);
      } else if (message.action === 'settle') {
        settle(Math.min(600000, Math.max(0, message.after_ms | 0)));
      } else {
        begin(message);
      }
    },
    // The connection or the process ends.
    lost() {
      cancelAll();
      highest = 0;
    },
    stop() {
      cancelAll();
      if (portIsOurs) process.debugPort = DEFAULT_PORT;
      portIsOurs = false;
    },
  };
}
