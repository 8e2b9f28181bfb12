'use strict';
// switch.js - loaded before our preload (NODE_OPTIONS): catches what the preload hooks into, so that GET /off and /on on the port
// in BENCH_SWITCH_PORT can take it out of the running process and put it back.
//
// Two equal server processes differ by some per cent on one machine (memory layout, timing of the compiler); one process that is
// switched to and fro does not. What stays in while it is off: the sample itself, once in each interval.

const channels = require('node:diagnostics_channel');
const http = require('node:http');
const hooks = require('node:perf_hooks');

const SHORT_MS = 100; // intervals up to this are the preload's measuring, not its sampling
const port = Number(process.env.BENCH_SWITCH_PORT);
const actions = []; // { off(), on() }
let on = true;
let catching = true; // until the first switch, and not inside of a call that is caught already

function catchChannel(owner, name, channelOf) {
  const original = owner[name];
  owner[name] = function (...args) {
    if (!catching) return original.apply(this, args);
    const fn = args[args.length - 1];
    const channel = channelOf(this, args);
    actions.push({ off: () => channel.unsubscribe(fn), on: () => channel.subscribe(fn) });
    catching = false;
    try {
      return original.apply(this, args);
    } finally {
      catching = true;
    }
  };
}

// The preload's short interval (event-loop delay) comes and goes as the loop's use changes: what it wants holds again after "on".
function catchIntervals() {
  const { setInterval, clearInterval } = globalThis;
  const running = new Map(); // what the preload holds: what really runs now, or null
  globalThis.setInterval = (fn, ms, ...rest) => {
    const handle = setInterval(fn, ms, ...rest);
    if (ms > SHORT_MS) return handle;
    const again = () => setInterval(fn, ms, ...rest).unref();
    running.set(handle, { now: handle, again });
    if (!on) stop(running.get(handle));
    return handle;
  };
  globalThis.clearInterval = (handle) => {
    const r = running.get(handle);
    running.delete(handle);
    clearInterval(r ? r.now : handle);
  };
  const stop = (r) => {
    clearInterval(r.now);
    r.now = null;
  };
  actions.push({
    off: () => running.forEach(stop),
    on: () => running.forEach((r) => (r.now = r.again())),
  });
  // The application itself gets Node's own.
  return () => Object.assign(globalThis, { setInterval, clearInterval });
}

function catchObserver() {
  const { observe } = hooks.PerformanceObserver.prototype;
  hooks.PerformanceObserver.prototype.observe = function (options) {
    if (!catching) return observe.call(this, options);
    actions.push({ off: () => this.disconnect(), on: () => observe.call(this, options) });
    return observe.call(this, options);
  };
}

if (port && require('node:worker_threads').isMainThread) {
  catchChannel(channels, 'subscribe', (_, args) => channels.channel(args[0]));
  catchChannel(channels.Channel.prototype, 'subscribe', (self) => self);
  const restore = catchIntervals();
  catchObserver();
  // After the application has begun: this server is not to be its first.
  setImmediate(() => {
    restore();
    http.createServer((rq, rs) => {
      const wanted = rq.url === '/on' ? true : rq.url === '/off' ? false : on;
      if (wanted !== on) {
        on = wanted;
        catching = false;
        for (const a of actions) a[on ? 'on' : 'off']();
      }
      rs.end(String(actions.length));
    }).listen(port, '127.0.0.1').unref();
  });
}
