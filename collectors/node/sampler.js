/* sampler.js - what a worker measures of itself: the layout of its samples, and the values.
 *
 * The program embeds this file and preload.js behind it as one script. `host` is what preload.js lends: `main` (false in a worker
 * thread), `note(what, why)`, `guard(what, fn)`. Nothing runs, and nothing of the application is listened to, before start().
 * Units: seconds and bytes in samples, milliseconds inside. NaN is "not known". Names: OpenTelemetry's where it has one. */
'use strict';

function pillionSampler(host) {
  const { setInterval, clearInterval, Math, Object, Map, Float64Array, NaN } = globalThis;
  const perf = require('perf_hooks');
  const v8 = require('v8');

  // Taken at load: a test library or an APM may replace them later.
  // CLOCK_MONOTONIC less ZERO_MS. performance.now() does without an allocation, but Node 18's asks whatever process.hrtime is then.
  const hrtime = process.hrtime;
  const hrtimeMs = () => {
    const t = hrtime();
    return t[0] * 1e3 + t[1] / 1e6;
  };
  const direct = parseInt(process.versions.node, 10) >= 20;
  const now = direct ? perf.performance.now.bind(perf.performance) : hrtimeMs;
  const ZERO_MS = direct ? hrtimeMs() - now() : 0;
  const utilization = perf.performance.eventLoopUtilization.bind(perf.performance);
  const activeResources = process.getActiveResourcesInfo && process.getActiveResourcesInfo.bind(process);
  const memoryUsage = process.memoryUsage.bind(process);
  const { getHeapStatistics, getHeapSpaceStatistics } = v8;
  const random = Math.random;
  const { PerformanceObserver, constants } = perf;
  const { subscribe, unsubscribe, channel } = require('diagnostics_channel');
  const { main, note, guard } = host;
  let intervalMs = 1000;

  // --- the layout of a sample --------------------------------------------------------------------------------------------------

  const fields = []; // JSON of each field
  let slots = 0;

  function field(kind, unit, name, attribute, value, bounds) {
    const at = slots;
    const attributes = attribute ? `,"attributes":{"${attribute}":"${value}"}` : '';
    const limits = bounds ? `,"bounds":[${bounds.join(',')}]` : '';
    fields.push(`{"name":"${name}"${attributes},"unit":"${unit}","kind":"${kind}"${limits}}`);
    slots += bounds ? bounds.length + 2 : 1;
    return at;
  }
  const gauge = (unit, name, attribute, value) => field('gauge', unit, name, attribute, value);
  const counter = (unit, name, attribute, value) => field('counter', unit, name, attribute, value);

  const CPU_USER = counter('s', 'process.cpu.time', 'cpu.mode', 'user');
  const CPU_SYSTEM = counter('s', 'process.cpu.time', 'cpu.mode', 'system');
  const RSS = gauge('By', 'process.memory.usage');
  const ARRAY_BUFFERS = gauge('By', 'pillion.memory.array_buffers');
  const HEAP = [ // of v8.getHeapStatistics()
    ['pillion.memory.heap.used', 'By', 'used_heap_size'],
    ['pillion.memory.heap.size', 'By', 'total_heap_size'],
    ['pillion.memory.heap.limit', 'By', 'heap_size_limit'],
    ['pillion.memory.external', 'By', 'external_memory'],
    ['pillion.memory.malloced', 'By', 'malloced_memory'],
    ['pillion.memory.malloced_peak', 'By', 'peak_malloced_memory'],
    ['pillion.memory.native_contexts', '{context}', 'number_of_native_contexts'],
    ['pillion.memory.detached_contexts', '{context}', 'number_of_detached_contexts'],
  ].map((row) => ({ slot: gauge(row[1], row[0]), property: row[2] }));

  // Four slots for each heap space; those that V8 reports as empty for ever are left out.
  const unused = (s) => /^(shared|read_only)_/.test(s.space_name) && !s.space_size;
  const spaceNames = getHeapSpaceStatistics().map((s) => (unused(s) ? null : s.space_name));
  const spaceSlots = spaceNames.map((name) => {
    if (name === null) return -1;
    const at = gauge('By', 'v8js.memory.heap.used', 'v8js.heap.space.name', name);
    gauge('By', 'v8js.memory.heap.space.size', 'v8js.heap.space.name', name);
    gauge('By', 'v8js.memory.heap.space.available_size', 'v8js.heap.space.name', name);
    gauge('By', 'v8js.memory.heap.space.physical_size', 'v8js.heap.space.name', name);
    return at;
  });

  const DELAY = slots;
  for (const what of ['min', 'max', 'mean', 'stddev', 'p50', 'p90', 'p99']) gauge('s', `nodejs.eventloop.delay.${what}`);
  const UTILIZATION = gauge('1', 'nodejs.eventloop.utilization');
  const LOOP_ACTIVE = counter('s', 'nodejs.eventloop.time', 'nodejs.eventloop.state', 'active');
  const LOOP_IDLE = counter('s', 'nodejs.eventloop.time', 'nodejs.eventloop.state', 'idle');

  const RESOURCE_TYPES = ['Timeout', 'Immediate', 'TCPServerWrap', 'TCPSocketWrap', 'PipeWrap', 'TTYWrap', 'UDPWrap', 'ProcessWrap',
    'MessagePort', 'FSEventWrap', 'FSReqCallback', 'FSReqPromise', 'GetAddrInfoReqWrap', 'TCPConnectWrap', 'other'];
  const RESOURCES = slots;
  const CHILDREN = RESOURCE_TYPES.indexOf('ProcessWrap');
  for (const type of RESOURCE_TYPES) gauge('{resource}', 'v8js.resource.active', 'v8js.resource.type', type);
  const HANDLES = gauge('{handle}', 'pillion.resource.handles');
  const REQUESTS = gauge('{request}', 'pillion.resource.requests');

  const GC_BOUNDS = [0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 2, 5];
  const GC_TYPES = ['minor', 'major', 'incremental', 'weakcb'];
  const GC = GC_TYPES.map((type) => field('histogram', 's', 'v8js.gc.duration', 'v8js.gc.type', type, GC_BOUNDS));
  const GC_MAX = GC_TYPES.map((type) => gauge('s', 'pillion.gc.duration.max', 'v8js.gc.type', type));

  const HTTP_BOUNDS = [0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10];
  const HTTP_DURATION = field('histogram', 's', 'http.server.request.duration', '', '', HTTP_BOUNDS);
  const HTTP_STATUS = slots; // 1xx to 5xx
  for (let i = 1; i <= 5; i++) counter('{request}', 'pillion.http.server.requests', 'http.response.status_class', `${i}xx`);
  const HTTP_ACTIVE = gauge('{request}', 'pillion.http.server.active_requests');

  const DROPPED = counter('{sample}', 'pillion.worker.samples.dropped');
  const HELD = gauge('By', 'pillion.worker.held_bytes');

  // The sample being made, behind three words for the head of its frame. Counters and histograms live in it.
  const frame = new Float64Array(3 + slots);
  const values = frame.subarray(3);
  for (const at of [CPU_USER, CPU_SYSTEM, RSS, UTILIZATION, HANDLES, REQUESTS].concat(GC_MAX)) values[at] = NaN;
  for (let i = 0; i < 7; i++) values[DELAY + i] = NaN;
  for (let i = 0; i < RESOURCE_TYPES.length; i++) values[RESOURCES + i] = NaN;

  function observe(at, bounds, value, weight) {
    let i = 0;
    while (i < bounds.length && value > bounds[i]) i++;
    values[at + i] += weight;
    values[at + bounds.length + 1] += value * weight;
  }

  // --- event loop: delay and utilisation ---------------------------------------------------------------------------------------

  /* Delay is how late a timer of 20 ms comes. perf_hooks.monitorEventLoopDelay would do, but it forgets its last turn with each
   * reset, so that a block right after a sample is never seen (nodejs/node#34661), and it counts its 20 ms as delay. Ours records
   * into the same kind of histogram, in microseconds. It runs while the loop is in use: from two samples of 2 % on (one
   * may be V8's tidying up of an idle heap) or one of 20 %, until 5 samples below 1 %, both without what sampling itself takes.
   * While it rests, the lateness of the sampler's own timer is the one observation of the interval.
   * Utilisation is wall time: on a crowded machine the timer alone can make 10 % of it and would never rest. So below 20 %, where
   * no loop that blocks for long is, CPU time must agree. */
  const DELAY_MS = 20;
  const DELAY_MOST_US = 3.6e9;
  const BUSY = 0.02;
  const CALM = 0.01;
  const MUCH = 0.2;
  const CALM_SAMPLES = 5;
  const DELAY_COST_MS = 0.06; // one turn of the delay timer, with the wake-up
  const delays = perf.createHistogram({ lowest: 1, highest: DELAY_MOST_US, figures: 2 });
  let delayTimer = null;
  let delayLast = 0;
  let busy = 0;
  let calm = 0;
  let loopActive = NaN;
  let loopIdle = NaN;
  let sampleLast = NaN;
  let cpuLast = NaN;
  let ownMs = 0; // what sampling and sending took since the last sample

  function onDelay() {
    const t = now();
    ownMs += DELAY_COST_MS;
    recordDelay(t - delayLast - DELAY_MS);
    delayLast = t;
  }

  function recordDelay(ms) {
    const us = Math.round(ms * 1000);
    delays.record(us < 1 ? 1 : us > DELAY_MOST_US ? DELAY_MOST_US : us);
  }

  function restDelay() {
    if (delayTimer !== null) clearInterval(delayTimer);
    delayTimer = null;
  }

  function sampleLoop(t) {
    const u = utilization();
    const active = u.active - loopActive;
    const idle = u.idle - loopIdle;
    const used = active + idle > 0 ? Math.min(1, Math.max(0, active / (active + idle))) : NaN;
    loopActive = u.active;
    loopIdle = u.idle;
    const cpu = values[CPU_USER] + values[CPU_SYSTEM]; // NaN in a thread of an old Node.js: then utilisation alone decides
    const theirs = used - ownMs / (active + idle);
    const idleCpu = used < MUCH && (cpu - cpuLast) * 1e3 - ownMs < CALM * (active + idle);
    cpuLast = cpu;
    ownMs = 0;
    values[UTILIZATION] = used;
    values[LOOP_ACTIVE] = u.active / 1e3;
    values[LOOP_IDLE] = u.idle / 1e3;

    if (delayTimer === null) {
      const late = Math.max(0, t - sampleLast - intervalMs) / 1e3; // NaN for the first
      for (let i = 0; i < 7; i++) values[DELAY + i] = late;
      if (late === late) values[DELAY + 3] = 0;
      busy = theirs >= BUSY && !idleCpu ? busy + 1 : 0;
      if (busy >= 2 || used >= MUCH) {
        delayLast = t;
        busy = calm = 0;
        delays.reset();
        delayTimer = setInterval(guard('delay', onDelay), DELAY_MS);
        delayTimer.unref();
      }
    } else {
      if (t - delayLast > 2 * DELAY_MS) onDelay(); // it is due, and this sample is the one to say so
      const any = delays.count > 0;
      values[DELAY] = any ? (delays.min > 1 ? delays.min / 1e6 : 0) : NaN;
      values[DELAY + 1] = any ? delays.max / 1e6 : NaN;
      values[DELAY + 2] = any ? delays.mean / 1e6 : NaN;
      values[DELAY + 3] = any ? delays.stddev / 1e6 : NaN;
      values[DELAY + 4] = any ? delays.percentile(50) / 1e6 : NaN;
      values[DELAY + 5] = any ? delays.percentile(90) / 1e6 : NaN;
      values[DELAY + 6] = any ? delays.percentile(99) / 1e6 : NaN;
      delays.reset();
      calm = theirs >= CALM && !idleCpu ? 0 : calm + 1;
      if (calm >= CALM_SAMPLES) restDelay();
    }
    sampleLast = t;
  }

  // --- CPU and memory ----------------------------------------------------------------------------------------------------------

  // A thread's share of the CPU time is known from Node 22.19 and 23.9 on.
  const cpuUsage = main ? process.cpuUsage.bind(process) : process.threadCpuUsage && process.threadCpuUsage.bind(process);

  function sampleProcess() {
    if (cpuUsage) {
      const cpu = cpuUsage();
      values[CPU_USER] = cpu.user / 1e6;
      values[CPU_SYSTEM] = cpu.system / 1e6;
    }
    const memory = memoryUsage();
    if (main) values[RSS] = memory.rss; // a thread has none of its own
    values[ARRAY_BUFFERS] = memory.arrayBuffers;
    const heap = getHeapStatistics();
    for (let i = 0; i < HEAP.length; i++) values[HEAP[i].slot] = heap[HEAP[i].property];
    const spaces = getHeapSpaceStatistics();
    for (let i = 0; i < spaceSlots.length && i < spaces.length; i++) {
      const at = spaceSlots[i];
      if (at < 0 || spaces[i].space_name !== spaceNames[i]) continue;
      values[at] = spaces[i].space_used_size;
      values[at + 1] = spaces[i].space_size;
      values[at + 2] = spaces[i].space_available_size;
      values[at + 3] = spaces[i].physical_space_size;
    }
  }

  // --- what keeps the loop alive -----------------------------------------------------------------------------------------------

  /* Node makes an array with one string for each timer, handle and request. It is asked so seldom that it takes a thousandth of
   * the time at most; in between the last answer stands. Beyond 50 ms for one answer it is not asked again. */
  const RESOURCE_SHARE = 1000;
  const RESOURCE_MOST_MS = 50;
  const resourceKinds = new Map(); // type -> slot, or its complement for a request
  let resourcesAt = activeResources ? 0 : Infinity;
  RESOURCE_TYPES.forEach((type, i) => learnResource(type, RESOURCES + i));

  function learnResource(type, slot) {
    const request = /^FSReq|Req(uest)?(Wrap)?$|(Connect|Write|Shutdown)Wrap$/.test(type);
    if (resourceKinds.size < 256) resourceKinds.set(type, request ? ~slot : slot);
    return request ? ~slot : slot;
  }

  function sampleResources(t) {
    if (t < resourcesAt) return;
    for (let i = 0; i < RESOURCE_TYPES.length; i++) values[RESOURCES + i] = 0;
    let handles = 0;
    let requests = 0;
    const begun = now();
    const types = activeResources();
    for (let i = 0; i < types.length; i++) {
      let kind = resourceKinds.get(types[i]);
      if (kind === undefined) kind = learnResource(types[i], RESOURCES + RESOURCE_TYPES.length - 1);
      if (kind < 0) requests++;
      else if (kind > RESOURCES + 1) handles++; // timers and immediates are neither
      values[kind < 0 ? ~kind : kind]++;
    }
    values[HANDLES] = handles;
    values[REQUESTS] = requests;
    const cost = now() - begun;
    resourcesAt = t + cost * RESOURCE_SHARE;
    if (cost > RESOURCE_MOST_MS) {
      resourcesAt = Infinity;
      for (let i = 0; i < RESOURCE_TYPES.length + 2; i++) values[RESOURCES + i] = NaN;
      note('resources', `one look at ${types.length} active resources takes ${Math.round(cost)} ms`);
    }
  }

  // --- garbage collection ------------------------------------------------------------------------------------------------------

  let gcObserver = null;

  function watchGc() {
    const c = constants;
    const kinds = [c.NODE_PERFORMANCE_GC_MINOR, c.NODE_PERFORMANCE_GC_MAJOR, c.NODE_PERFORMANCE_GC_INCREMENTAL,
      c.NODE_PERFORMANCE_GC_WEAKCB];
    gcObserver = new PerformanceObserver(guard('gc', (list) => {
      const entries = list.getEntries();
      for (let i = 0; i < entries.length; i++) {
        const kind = kinds.indexOf(entries[i].detail.kind);
        if (kind < 0) continue;
        const duration = entries[i].duration / 1e3;
        observe(GC[kind], GC_BOUNDS, duration, 1);
        if (!(values[GC_MAX[kind]] >= duration)) values[GC_MAX[kind]] = duration;
      }
    }));
    gcObserver.observe({ entryTypes: ['gc'], buffered: false });
  }

  // --- HTTP server -------------------------------------------------------------------------------------------------------------

  /* Requests are counted, each one; that costs next to nothing. To time one means to remember it, which is 2 µs, so that from
   * TIMED a second on only every `stride`th (at random) is timed and stands for `stride` of them in the histogram.
   * In flight is what Node's own list of connections says at the moment of the sample: a request whose client went away cannot
   * leak there. Where there is no such list (sockets handed to a server that does not listen) it is what is being timed, as long
   * as that is all. http2 has channels from Node 22 on; before that its requests are not seen. */
  const TIMED = 500;
  const TIMED_OPEN = 2000;
  const SERVERS_MAX = 16;
  const timed = new Map(); // response or http2 stream -> [start, weight]
  const servers = [];
  const subscriptions = [];
  let lastServer = null;
  let started = 0;
  let untimedAt = -Infinity;
  let stride = 1;
  let skip = 1;
  let timedNow = 0;
  let streams = 0;

  function begin(key) {
    started++;
    if (--skip > 0) return;
    skip = stride === 1 ? 1 : 1 + Math.floor(random() * (2 * stride - 1));
    if (++timedNow > 2 * TIMED) {
      timedNow = TIMED;
      stride *= 2;
    }
    if (timed.size >= TIMED_OPEN) timed.delete(timed.keys().next().value);
    timed.set(key, [now(), stride]);
  }

  function end(key, status) {
    const kind = Math.floor(status / 100);
    if (kind >= 1 && kind <= 5) values[HTTP_STATUS + kind - 1]++;
    if (timed.size === 0) return;
    const one = timed.get(key);
    if (one === undefined) return;
    timed.delete(key);
    observe(HTTP_DURATION, HTTP_BOUNDS, (now() - one[0]) / 1e3, one[1]);
  }

  function onServer(server) {
    lastServer = server;
    if (server && servers.indexOf(server) < 0 && servers.length < SERVERS_MAX) servers.push(server);
  }

  function connectionsOf(server) {
    const key = Object.getOwnPropertySymbols(server).find((s) => s.description === 'http.server.connections');
    return key && server[key] && typeof server[key].all === 'function' ? server[key].all() : null;
  }

  function sampleHttp(t) {
    for (const key of timed.keys()) if (key.destroyed) timed.delete(key); // given up by the client
    let active = streams;
    let listed = true;
    for (let i = servers.length - 1; i >= 0; i--) {
      const all = connectionsOf(servers[i]);
      if (all === null) listed = false;
      for (let k = 0; all !== null && k < all.length; k++) if (all[k].socket && all[k].socket._httpMessage) active++;
      if (all !== null && all.length === 0 && !servers[i].listening) {
        servers.splice(i, 1);
        lastServer = null;
      }
    }
    if (stride > 1) untimedAt = t;
    values[HTTP_ACTIVE] = listed ? active : t - untimedAt > 60000 ? timed.size : NaN;
    stride = Math.max(1, Math.ceil((started / TIMED) * (1000 / intervalMs)));
    started = 0;
    timedNow = 0;
  }

  function watchHttp() {
    listen('http.server.request.start', (message) => {
      if (message.server !== lastServer) onServer(message.server);
      begin(message.response);
    });
    listen('http.server.response.finish', (message) => end(message.response, message.response.statusCode));
    listen('http2.server.stream.start', (message) => {
      streams++;
      begin(message.stream);
    });
    listen('http2.server.stream.close', (message) => {
      if (streams > 0) streams--;
      const headers = message.stream.sentHeaders;
      end(message.stream, headers ? headers[':status'] : 0);
    });
  }

  function listen(name, fn) {
    const safe = guard(name, fn);
    subscribe(name, safe);
    subscriptions.push([name, safe, channel(name)]); // the channel is held, or it can be collected with its subscribers
  }

  // --- all of it ---------------------------------------------------------------------------------------------------------------

  const parts = [ // name, function, its slots
    ['process', sampleProcess, CPU_USER, DELAY],
    ['loop', sampleLoop, DELAY, RESOURCES],
    ['resources', sampleResources, RESOURCES, GC[0]],
    ['http', sampleHttp, HTTP_ACTIVE, HTTP_ACTIVE + 1],
  ].map(([name, fn, from, to]) => ({ name, fn, from, to, failed: 0 }));

  // Measures everything into `frame`; `t` is now(). A part that fails three times is left out from then on.
  function sample(t) {
    for (let i = 0; i < parts.length; i++) {
      const part = parts[i];
      if (part.failed >= 3) continue;
      try {
        part.fn(t);
      } catch (e) {
        part.failed++;
        values.fill(NaN, part.from, part.to);
        if (part.failed === 3) note(part.name, 'cannot be measured here');
      }
    }
  }

  // What belongs to one interval begins anew.
  function sampled() {
    for (let i = 0; i < GC_MAX.length; i++) values[GC_MAX[i]] = NaN;
  }

  function start() {
    guard('http', watchHttp)();
    try {
      watchGc();
    } catch (e) {
      for (const at of GC) values[at] = NaN;
      note('gc', 'the observer of garbage collections cannot be had');
    }
  }

  function stop() {
    restDelay();
    if (gcObserver !== null) gcObserver.disconnect();
    for (const one of subscriptions) unsubscribe(one[0], one[1]);
    subscriptions.length = 0;
  }

  return {
    fields, frame, now, ZERO_MS, start, stop, sample, sampled,
    spent(ms) { // by taking and sending a sample
      ownMs += ms;
    },
    every(ms) { // the interval has changed
      intervalMs = ms;
      sampleLast = NaN;
    },
    get children() { // whether the process has any, as far as the last look at its resources tells
      return values[RESOURCES + CHILDREN] > 0;
    },
    DROPPED: 3 + DROPPED,
    HELD: 3 + HELD,
  };
}
