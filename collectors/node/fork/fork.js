/* fork.js - a heap snapshot from a forked child: loads the native part (snapshot.c; README.md says how and why), chooses the moment,
 * looks after the child, and says what became of it. A part of the preload: what it calls later is taken at load.
 *
 *   const fork = pillionFork();                       at load, in the main thread
 *   const running = fork.start(addon, fd, options, done);
 *   running.cancel();                                 done comes with code "cancelled"
 *
 * addon: path of the .node file. fd: where the snapshot goes (a FIFO that is read, or a file); the caller's, open until done has been
 * called. options, all may be missing:
 *   roomBytes    what the container has left; the child's budget is made of it, and the kernel enforces that (none: no budget)
 *   oomGroup     one process out of memory ends them all (cgroup v2 memory.oom.group): the budget leaves room for what the child's
 *                existence makes the worker copy
 *   deadlineMs   for each child; otherwise by the size of the heap
 *   anyNode, anyArch   also on what the tests have not been run on
 * done(result) is called once, never from inside start(): { ok, code, reason, attempts, bytes, pauseMs, pausesMs, budgetBytes,
 * elapsedMs }. ok says that the child has ended well; whether the snapshot is whole says its reader. code: "ok", "unknown" (ended,
 * somebody else took its exit code: the bytes decide), or why not; reason: for people, with what to do. bytes: what the child wrote.
 * A failure with bytes > 0 has left half a snapshot behind: the reader begins anew. Otherwise several children may have been tried.
 * Nothing here throws, waits, prints or keeps the process alive. */
'use strict';

function pillionFork() {
  const { setTimeout, clearTimeout, Math, Number } = globalThis;
  const v8 = require('v8');
  const write = v8.writeHeapSnapshot;
  const heapStatistics = v8.getHeapStatistics;
  const memoryUsage = process.memoryUsage;
  const dlopen = process.dlopen;
  const report = process.report;
  const now = performance.now.bind(performance);
  const { isMainThread } = require('worker_threads');
  const MAJOR = parseInt(process.versions.node, 10);

  const MAJORS = [18, 20, 22, 24, 26]; // that the tests run on
  const ARCHES = ['x64', 'arm64'];
  const PROVEN = ['x64'];
  const LOCKED_MAX = 10; // children that met a lock, then it is given up
  const LOCKED_MS = 50; // until the next one
  const CRASHED_MAX = 2;
  const BUSY_MS = 5; // until the next look at V8's threads
  const FORCE_MS = 2000; // then whatever they do: a lock ends the child at once
  const LOOK_FIRST_MS = 10;
  const LOOK_MAX_MS = 250;
  const DEADLINE_MS = 60000;
  const DEADLINE_MS_PER_MB = 400;
  const LEAST_BUDGET = 16 * 1024 * 1024; // less does not even hold the description of a small heap
  const NOT_QUIET = -1000;
  const NO_SMAPS = -2000;
  const SIGNALS = { 4: 'SIGILL', 5: 'SIGTRAP', 6: 'SIGABRT', 7: 'SIGBUS', 11: 'SIGSEGV', 15: 'SIGTERM' };

  let native = null;
  let running = null;

  const mib = (bytes) => `${Math.round(bytes / 1048576)} MiB`;
  const no = (code, reason) => ({ code, reason });

  // --- may it be done here? -----------------------------------------------------------------------------------------------------

  const LOADED = {
    '-1': no('no_proc', '/proc is not mounted or not readable here, and the fork needs it'),
    '-2': no('no_slots', 'this build of Node.js does not call its C library in a way that is known: a child of it could hang'),
    '-3': no('thread', 'only the main thread can do it'),
    '-4': no('fork', 'there is no memory for a page that worker and child share'),
  };

  function loadError(e) {
    const code = e && e.code;
    if (code === 'ERR_DLOPEN_DISABLED' || code === 'ERR_ACCESS_DENIED') {
      return no('no_addons', 'add-ons are not allowed in this process (--no-addons, or the permission model without --allow-addons)');
    }
    return no('load', `the native part cannot be loaded: ${e && typeof e.message === 'string' ? e.message : 'no reason given'}`);
  }

  function refusal(options) {
    if (!isMainThread) return LOADED['-3'];
    if (process.platform !== 'linux' || !ARCHES.includes(process.arch)) {
      return no('platform', `the fork knows Linux on x64 and arm64, not ${process.platform} on ${process.arch}`);
    }
    if (!PROVEN.includes(process.arch) && !options.anyArch) {
      return no('platform', `the fork has not been proven on ${process.arch} yet and is off there`);
    }
    if (!MAJORS.includes(MAJOR) && !options.anyNode) {
      return no('node', `the fork has been tried on Node.js ${MAJORS.join(', ')}, and this is ${process.version}`);
    }
    if (typeof write !== 'function') return no('node', 'this Node.js has no v8.writeHeapSnapshot');
    return null;
  }

  // Once in the life of the process; what was refused may be tried again.
  function load(path, options) {
    const refused = refusal(options);
    if (refused !== null || native !== null) return refused;
    const module = { exports: {} };
    try {
      dlopen.call(process, module, path);
    } catch (e) {
      return loadError(e);
    }
    const slots = module.exports.init();
    if (slots < 0) return LOADED[slots] || no('load', `the native part says ${slots}`);
    native = module.exports;
    return null;
  }

  // A copy of every page of ours that either side writes to is not in the child's own count, so it is left free where the kernel
  // would end the whole container. -> bytes; 0: no limit is known; negative: there is no room
  function budgetOf(options) {
    const room = Number(options.roomBytes);
    if (!(room < Infinity)) return 0; // NaN, too
    const budget = Math.floor((room - (options.oomGroup ? memoryUsage.rss() : 0)) * 0.9);
    return budget < LEAST_BUDGET ? -1 : budget;
  }

  // --- one order ----------------------------------------------------------------------------------------------------------------

  function timer(job, fn, ms) {
    job.timer = setTimeout(fn, ms);
    job.timer.unref();
  }

  function finish(job, code, reason) {
    running = null;
    job.over = true;
    clearTimeout(job.timer);
    timer(job, () => job.done({
      ok: code === 'ok' || code === 'unknown',
      code,
      reason,
      attempts: job.pauses.length,
      bytes: job.pauses.length > 0 ? native.bytes() : 0,
      pauseMs: job.pauses.length > 0 ? job.pauses[job.pauses.length - 1] : 0,
      pausesMs: job.pauses,
      budgetBytes: Math.max(job.budget, 0),
      elapsedMs: now() - job.began,
    }), 0);
  }

  // In the child. Nothing of Node's runs any more but this.
  function child(fd) {
    try {
      if (report) report.reportOnFatalError = false; // that it dies is nothing to report
    } catch (e) { /* it has none */ }
    try {
      write(`/proc/self/fd/${fd}`);
      native.exit(0);
    } catch (e) { /* no reader, no room, no permission */ }
    native.exit(3);
  }

  function attempt(job) {
    if (job.over) return;
    const pid = native.fork(job.fd, job.budget, job.deadlineMs, now() - job.waiting > FORCE_MS ? 1 : 0);
    if (pid === 0) child(job.fd);
    if (pid === NOT_QUIET) {
      timer(job, () => attempt(job), BUSY_MS);
    } else if (pid === NO_SMAPS) {
      finish(job, 'no_proc', '/proc/self/smaps cannot be read here, and the fork needs it');
    } else if (pid < 0) {
      finish(job, 'fork', `the kernel makes no child (errno ${-pid}): the limit of processes or the memory of this container is reached`);
    } else {
      job.pid = pid;
      job.pauses.push(native.pause() / 1000);
      look(job, LOOK_FIRST_MS);
    }
  }

  // The child's end is seen here; nobody else reaps it.
  function look(job, ms) {
    timer(job, () => {
      const status = native.wait(job.pid);
      if (status === -1) {
        look(job, Math.min(ms * 1.5, LOOK_MAX_MS));
      } else if (status < -1) {
        job.pid = 0;
        finish(job, 'unknown', 'somebody else took the exit code of the child');
      } else {
        job.pid = 0;
        ended(job, status & 127, status >> 8 & 255);
      }
    }, ms);
  }

  const memory = (job, what) => no('memory', `${what}: ${job.budget > 0 ? `the child may take ${mib(job.budget)} here` : 'it had no budget'}`
    + `, the heap is ${mib(job.heapBytes)}, and a snapshot takes up to 8 times the heap; give the container more memory`);

  // -> what it means; retry: another child may do better, at most so often
  function meaning(job, signal, code) {
    if (job.cancelled) return no('cancelled', 'cancelled');
    if (signal === 0 && code === 0) return no('ok', '');
    if (signal === 0 && code === 3) return no('write', 'the snapshot could not be written: its reader has gone, or no permission');
    if (signal === 0 && code === 94) return no('setup', 'the child could not be set up: a system call it needs is forbidden here');
    if (signal === 0 && code === 96) return memory(job, 'the child ran out of its budget');
    if (signal === 0 && code >= 97 && code <= 99) {
      return { ...no('locked', 'the child met a lock of a thread that it does not have, each time'), retry: LOCKED_MAX };
    }
    if (signal === 9) return memory(job, 'the kernel ended the child, most likely for memory');
    if (signal === 14) return no('deadline', `the snapshot was not written within ${Math.round(job.deadlineMs / 1000)} s`);
    const how = signal > 0 ? SIGNALS[signal] || `signal ${signal}` : `exit code ${code}`;
    return { ...no('crashed', `the child ended by ${how}; the worker was not touched by it`), retry: CRASHED_MAX };
  }

  function ended(job, signal, code) {
    const m = meaning(job, signal, code);
    // Half a snapshot cannot be taken back.
    if (m.retry > job.pauses.length && native.bytes() === 0) {
      job.waiting = now();
      timer(job, () => attempt(job), LOCKED_MS);
    } else {
      finish(job, m.code, m.reason);
    }
  }

  function start(addon, fd, options, done) {
    const job = {
      fd, done, pid: 0, timer: undefined, over: false, cancelled: false, budget: 0, pauses: [], began: now(), waiting: now(),
      heapBytes: heapStatistics().used_heap_size, deadlineMs: 0,
    };
    job.deadlineMs = Math.ceil(options.deadlineMs > 0 ? options.deadlineMs : DEADLINE_MS + DEADLINE_MS_PER_MB * job.heapBytes / 1048576);
    job.cancel = function cancel() {
      if (job.over || job.cancelled) return;
      job.cancelled = true;
      if (job.pid > 0) native.kill(job.pid); // look() sees its end
      else finish(job, 'cancelled', 'cancelled');
    };
    if (running !== null) {
      job.over = true;
      timer(job, () => done({ ok: false, code: 'busy', reason: 'another snapshot of this worker is under way', attempts: 0, bytes: 0,
        pauseMs: 0, pausesMs: [], budgetBytes: 0, elapsedMs: 0 }), 0);
      return job;
    }
    running = job;
    const refused = load(addon, options);
    if (refused !== null) {
      finish(job, refused.code, refused.reason);
      return job;
    }
    job.budget = budgetOf(options);
    if (job.budget < 0) {
      finish(job, 'memory', `the container has ${mib(Math.max(options.roomBytes, 0))} left, which is too little for a snapshot of a heap of ${mib(job.heapBytes)}`);
    } else {
      attempt(job);
    }
    return job;
  }

  return { start, bytes: () => (native !== null ? native.bytes() : 0) };
}
