// Many containers that start in the same second: what a registry and a hub see of them. The schedule of a thousand is in
// tests/unit/test_schedule.c; here are real helpers.
'use strict';

const assert = require('node:assert');
const { test } = require('node:test');
const { defer, start, waitFor } = require('./lib/harness');
const { FakeConsul, FakeServer, spread } = require('./lib/registry');

const APP = 'shop';
const HELPERS = 50;
const WINDOW_S = 30;

const perSecond = (times) => {
  const seconds = new Array(WINDOW_S + 10).fill(0);
  for (const at of times) seconds[Math.max(0, Math.min(seconds.length - 1, Math.floor(at / 1000)))]++;
  return seconds;
};

test(`P45 ${HELPERS} helpers that start together: first registrations and first deliveries are spread over 30 s, each at the place of its name`, async (t) => {
  const consul = await new FakeConsul().listen();
  const hub = await new FakeServer().listen();
  hub.answer = () => ({ status: 200, body: '{}' });
  defer(t, () => Promise.all([consul.close(), hub.close()]));
  const names = Array.from({ length: HELPERS }, (_, i) => `web-${i}`);
  const spawned = Date.now();
  const began = new Map();
  // nice: other tests run beside this one
  const helpers = names.map((instance) => start(t, ['agent'], {
    before: ['nice', '-n', '10'],
    env: { PILLION_APP: APP, PILLION_INSTANCE: instance, PILLION_REGISTRY: `consul+http://127.0.0.1:${consul.port}`, PILLION_SINK: `hub+http://127.0.0.1:${hub.port}` },
  }));
  const boots = new Map(await Promise.all(helpers.map(async (h, i) => {
    await h.waitReady();
    const asked = Date.now();
    const { boot, uptime } = await h.json('/status');
    began.set(names[i], asked - uptime * 1000); // on a busy machine they do not begin in the same moment
    return [boot, names[i]];
  })));
  const registered = new Map();
  const delivered = new Map();
  await waitFor('each has registered, and delivered', () => {
    for (const r of consul.of('PUT', '/v1/agent/service/register')) if (!registered.has(r.body.Meta.instance)) registered.set(r.body.Meta.instance, r.at);
    for (const r of hub.of('POST', '/v1/batches')) {
      const name = boots.get((r.headers['idempotency-key'] ?? '').split('-')[0]);
      if (name && !delivered.has(name)) delivered.set(name, r.at);
    }
    return registered.size === HELPERS && delivered.size === HELPERS;
  }, 90000);
  for (const [occasion, seen] of [['registration', registered], ['delivery', delivered]]) {
    const times = names.map((n) => seen.get(n) - began.get(n));
    const planned = names.map((n) => spread(APP, n, occasion));
    names.forEach((n, i) => assert.ok(seen.get(n) - spawned >= planned[i], `${occasion} of ${n} after ${seen.get(n) - spawned} ms, its place is ${planned[i]} ms`));
    const seconds = perSecond(times);
    t.diagnostic(`${occasion}: ${seconds.join(' ')} a second; by the schedule ${perSecond(planned).join(' ')}`);
    assert.ok(Math.max(...seconds) <= HELPERS / 5, 'no second has a fifth of them');
    assert.ok(seconds.filter((n) => n > 0).length >= WINDOW_S / 2, 'they use the whole window');
  }
  // Nobody asks for more than his share while the others come.
  assert.strictEqual(consul.services.size, HELPERS);
  assert.ok(consul.connections <= HELPERS, `one connection each: ${consul.connections}`);
  assert.ok(consul.of('PUT', '/v1/agent/service/register').length <= HELPERS, 'once each');
});
