// The remote sinks against the real OpenSearch, Elasticsearch and OpenTelemetry Collector, on loopback.
//
//   PILLION_BIN=… node --test tests/services/sinks.test.js       builds the servers once (tests/services/NAME/build.sh)
'use strict';

const assert = require('node:assert');
const fs = require('node:fs');
const path = require('node:path');
const { describe, test } = require('node:test');
const zlib = require('node:zlib');
const { APPS, pause, start, startRun, waitFor } = require('../integration/lib/harness');
const bad = require('../integration/lib/bad-server');
const { missing, script, startServer } = require('./lib/servers');

const CLUSTER = path.join(APPS, 'cluster.js');
const SLOW_MS = 120000; // a Java server on a busy machine
const without = Object.fromEntries(['opensearch', 'elasticsearch', 'otlp'].map((name) => [name, missing(name)]));

async function call(url, method = 'GET', body = undefined, type = 'application/json') {
  const r = await fetch(url, { method, body, headers: body ? { 'content-type': type } : {} });
  return { status: r.status, body: await r.json().catch(() => null) };
}

// All documents of an index pattern.
async function documents(server, pattern, query = { match_all: {} }) {
  await call(`${server.url}/${pattern}/_refresh`, 'POST');
  const r = await call(`${server.url}/${pattern}/_search?ignore_unavailable=true&allow_no_indices=true`, 'POST', JSON.stringify({ size: 10000, query }));
  return r.body?.hits?.hits ?? [];
}

const sinkOf = async (run) => (await run.json('/status')).sinks[0];

const runCluster = (t, sink, env = {}) => startRun(t, [process.execPath, CLUSTER], { env: { WORKERS: '2', PILLION_SINK: sink, PILLION_APP: 'shop', ...env } });

// They mostly wait: two at a time, for each has a Java server of 256 MiB.
describe('sinks', { concurrency: 2 }, () => {
for (const name of ['opensearch', 'elasticsearch']) {
  test(`P28 ${name}: one document a record under its own id, typed by the template; a query shows each worker's heap and loop`, { skip: without[name] }, async (t) => {
    const server = await startServer(t, name);
    const run = await runCluster(t, `es+${server.url}/`);
    const workers = await run.waitWorkers('three workers', (ws) => ws.length === 3 && ws, SLOW_MS);
    await waitFor('documents of all workers', async () => {
      const seen = new Set((await documents(server, 'pillion-*', { term: { kind: 'process' } })).map((h) => h._source.worker));
      return workers.every((w) => seen.has(w.worker));
    }, SLOW_MS);
    const hits = await documents(server, 'pillion-*');
    assert.strictEqual(new Set(hits.map((h) => h._id)).size, hits.length);
    for (const { _id, _index, _source: d } of hits) {
      assert.strictEqual(_id, `${d.boot}-${d.seq}-${d.line}`);
      assert.strictEqual(_index, `pillion-${d['@timestamp'].slice(0, 10).replaceAll('-', '.')}`);
      assert.strictEqual(d.app, 'shop');
    }
    const buckets = await waitFor('heap and loop of each', async () => {
      const r = await call(`${server.url}/pillion-*/_search`, 'POST', JSON.stringify({
        size: 0,
        query: { term: { kind: 'process' } },
        aggs: { worker: { terms: { field: 'worker' }, aggs: { heap: { avg: { field: 'pillion_memory_heap_used' } }, lag: { max: { field: 'nodejs_eventloop_delay_p99' } } } } },
      }));
      const list = r.body.aggregations.worker.buckets;
      return list.every((b) => b.heap.value > 1e6 && b.lag.value > 0) && list;
    }, SLOW_MS);
    assert.deepStrictEqual(buckets.map((b) => b.key).sort(), workers.map((w) => w.worker).sort());
    const [mapping] = Object.values((await call(`${server.url}/pillion-*/_mapping`)).body);
    const p = mapping.mappings.properties;
    assert.strictEqual(p.pillion_memory_heap_used.type, 'double');
    assert.strictEqual(p.worker.type, 'keyword');
    assert.strictEqual(p.seq.type, 'long');
    assert.strictEqual((await run.counters()).requests_out_failed, 0);
    assert.strictEqual((await sinkOf(run)).state, 'ok');
  });

  test(`P28 ${name}: a mapping error parks that record with its reason, the others are stored`, { skip: without[name] }, async (t) => {
    const server = await startServer(t, name);
    await call(`${server.url}/_index_template/strict`, 'PUT', JSON.stringify({
      index_patterns: ['pillion-*'], priority: 500, template: { mappings: { properties: { title: { type: 'date' } } } },
    }));
    const run = await runCluster(t, `es+${server.url}/`);
    await waitFor('records are parked', async () => (await run.counters()).records_parked >= 3, SLOW_MS);
    await waitFor('process records are stored', async () => (await documents(server, 'pillion-*', { match: { kind: 'process' } })).length >= 3, SLOW_MS);
    const dir = path.join(run.data, 'parked');
    const lines = fs.readdirSync(dir).flatMap((f) => zlib.gunzipSync(fs.readFileSync(path.join(dir, f))).toString().trimEnd().split('\n').map((l) => JSON.parse(l)));
    assert.match(lines.find((l) => l.parked).reason, /answered 400 mapper_parsing_exception: .*title/);
    assert.ok(lines.some((l) => l.event === 'connected' && l.title));
    assert.ok(!lines.some((l) => l.kind === 'process'));
    assert.strictEqual((await sinkOf(run)).state, 'ok');
  });
}

test('P28 opensearch: a repeat is not a second document: every answer is lost once', { skip: without.opensearch }, async (t) => {
  const server = await startServer(t, 'opensearch');
  const seen = new Set();
  // In between: hands the request on, and cuts the connection in place of the first answer to each _bulk.
  const lossy = await bad.startBadServer(t, [async (c, rq) => {
    const r = await fetch(server.url + rq.url, { method: rq.method, body: rq.method === 'HEAD' ? undefined : rq.text, headers: { 'content-type': rq.headers['content-type'] ?? 'application/json' } });
    const text = await r.text();
    if (rq.url.startsWith('/_bulk') && !seen.has(rq.text)) {
      seen.add(rq.text);
      c.destroy();
    } else {
      bad.answer(r.status, { body: rq.method === 'HEAD' ? '' : text })(c);
    }
  }]);
  const run = await runCluster(t, `es+${lossy.url}/`);
  await waitFor('some batches went twice', async () => (await run.counters()).records_repeated >= 10, SLOW_MS);
  await run.stop();
  const hits = await documents(server, 'pillion-*');
  const keys = hits.map((h) => `${h._source.worker} ${h._source.sample ?? h._source['@timestamp']} ${h._source.kind} ${h._source.event ?? ''}`);
  assert.strictEqual(new Set(keys).size, hits.length);
  const parts = hits.map((h) => h._source).filter((d) => d.kind === 'process' && d.sample);
  for (const worker of new Set(parts.map((d) => d.worker))) {
    const numbers = parts.filter((d) => d.worker === worker).map((d) => d.sample).sort((a, b) => a - b);
    assert.deepStrictEqual(numbers, numbers.map((_, i) => numbers[0] + i), worker);
  }
});

test('P28 opensearch: a read-only index keeps the data and goes on when it is writable; rollover; a data stream', { skip: without.opensearch }, async (t) => {
  const server = await startServer(t, 'opensearch');
  const run = await runCluster(t, `es+${server.url}/data?kind=stream`);
  await waitFor('documents in the stream', async () => (await documents(server, 'data')).length >= 3, SLOW_MS);
  const stream = await call(`${server.url}/_data_stream/data`);
  assert.strictEqual(stream.body.data_streams.length, 1);
  assert.strictEqual((await call(`${server.url}/data/_rollover`, 'POST')).status, 200);
  const [, second] = (await call(`${server.url}/_data_stream/data`)).body.data_streams[0].indices.map((i) => i.index_name);
  await waitFor('documents behind the rollover', async () => (await documents(server, second)).length >= 3, SLOW_MS);
  await call(`${server.url}/${second}/_settings`, 'PUT', JSON.stringify({ 'index.blocks.write': true }));
  const sink = await waitFor('it says that it cannot write', async () => {
    const s = await sinkOf(run);
    return s.state === 'failing' && s;
  }, SLOW_MS);
  assert.match(sink.last_error, /sent again: answered 403 cluster_block_exception/);
  const before = (await documents(server, 'data')).length;
  await call(`${server.url}/${second}/_settings`, 'PUT', JSON.stringify({ 'index.blocks.write': false }));
  await waitFor('it goes on', async () => (await documents(server, 'data')).length > before + 5 && (await sinkOf(run)).state === 'ok', SLOW_MS);
  assert.strictEqual((await run.counters()).records_parked, 0);
  const parts = (await documents(server, 'data')).map((h) => h._source).filter((d) => d.kind === 'process' && d.sample);
  for (const worker of new Set(parts.map((d) => d.worker))) {
    const numbers = parts.filter((d) => d.worker === worker).map((d) => d.sample).sort((a, b) => a - b);
    assert.deepStrictEqual(numbers, numbers.map((_, i) => numbers[0] + i), 'none is missing, none is there twice');
  }
});

test('P28 opensearch: too busy (429): the batch goes again and nothing is parked', { skip: without.opensearch }, async (t) => {
  const server = await startServer(t, 'opensearch', 'indexing_pressure.memory.limit=2kb');
  const run = await runCluster(t, `es+${server.url}/`);
  const sink = await waitFor('it is refused', async () => {
    const s = await sinkOf(run);
    return s.last_error && s;
  }, SLOW_MS);
  assert.match(sink.last_error, /429/);
  assert.strictEqual((await run.counters()).records_parked, 0);
  assert.strictEqual(sink.dropped, 0);
});

// Everything that the collector has understood.
const received = (server, what) => fs.readFileSync(path.join(server.dir, `${what}.json`), 'utf8').trimEnd().split('\n').filter(Boolean).map((l) => JSON.parse(l));
const attributes = (list = []) => Object.fromEntries(list.map((a) => [a.key, Object.values(a.value)[0]]));

test('the OpenTelemetry Collector: resources, gauges, sums, histograms and logs arrive as they were meant', { skip: without.otlp }, async (t) => {
  const server = await startServer(t, 'otlp');
  const run = await runCluster(t, `otlp+${server.url}`);
  const workers = await run.waitWorkers('three workers with samples', (ws) => ws.length === 3 && ws.every((w) => w.last_sample) && ws, SLOW_MS);
  await waitFor('metrics of all workers, with a histogram', () => {
    const all = received(server, 'metrics').flatMap((r) => r.resourceMetrics);
    const seen = new Set(all.map((r) => attributes(r.resource.attributes)['pillion.worker']));
    return workers.every((w) => seen.has(w.worker)) && all.some((r) => r.scopeMetrics[0].metrics.some((m) => m.histogram));
  }, SLOW_MS);
  await waitFor('logs', () => received(server, 'logs').length >= 1);
  const all = received(server, 'metrics').flatMap((r) => r.resourceMetrics);
  const starts = new Map();
  for (const r of all) {
    const a = attributes(r.resource.attributes);
    assert.strictEqual(a['service.name'], 'shop');
    const w = workers.find((x) => x.worker === a['pillion.worker']);
    if (!w) continue;
    assert.strictEqual(Number(a['process.pid']), w.pid);
    assert.ok(a['service.instance.id'].endsWith(`/${w.worker}`));
    const sums = new Map(r.scopeMetrics[0].metrics.map((m) => [m.name, m]));
    assert.strictEqual(r.scopeMetrics[0].metrics.length, sums.size, 'one metric of a name');
    const cpu = sums.get('process.cpu.time');
    assert.strictEqual(cpu.unit, 's');
    assert.strictEqual(cpu.sum.isMonotonic, true);
    assert.strictEqual(cpu.sum.aggregationTemporality, 2);
    assert.deepStrictEqual(cpu.sum.dataPoints.map((p) => attributes(p.attributes)['cpu.mode']).sort(), ['system', 'user']);
    for (const p of cpu.sum.dataPoints) {
      assert.ok(BigInt(p.startTimeUnixNano) < BigInt(p.timeUnixNano));
      assert.strictEqual(starts.get(w.worker) ?? p.startTimeUnixNano, p.startTimeUnixNano, 'the start stays');
      starts.set(w.worker, p.startTimeUnixNano);
    }
    const age = Date.now() - Number(BigInt([...starts.values()].at(-1)) / 1000000n);
    assert.ok(age > 0 && age < 600e3, `started ${age} ms ago`);
    assert.ok(sums.get('nodejs.eventloop.utilization')?.gauge ?? true);
    assert.ok(!sums.get('process.memory.usage').sum.isMonotonic);
    const gc = sums.get('v8js.gc.duration');
    for (const p of gc?.histogram?.dataPoints ?? []) {
      assert.strictEqual(p.bucketCounts.length, p.explicitBounds.length + 1);
      assert.strictEqual(p.bucketCounts.reduce((n, c) => n + Number(c), 0), Number(p.count));
      assert.ok(p.sum > 0);
    }
    // The values themselves, against what the helper shows.
    const limit = sums.get('pillion.memory.heap.limit').gauge.dataPoints[0].asDouble;
    assert.strictEqual(limit, w.metrics['pillion.memory.heap.limit']);
  }
  const logs = received(server, 'logs').flatMap((r) => r.resourceLogs).flatMap((r) => r.scopeLogs[0].logRecords);
  assert.ok(logs.some((l) => l.eventName === 'connected' && l.severityNumber === 9));
  assert.strictEqual((await run.counters()).points_rejected, 0);
});

test('an honest repeat after the collector was away: everything arrives', { skip: without.otlp }, async (t) => {
  const server = await startServer(t, 'otlp');
  const run = await runCluster(t, `otlp+${server.url}`);
  await waitFor('metrics', () => received(server, 'metrics').length >= 2, SLOW_MS);
  const before = received(server, 'metrics').length;
  script('stop.sh', server.dir);
  await waitFor('it says so', async () => /cannot connect/.test((await sinkOf(run)).last_error ?? ''), SLOW_MS);
  await pause(3000);
  script('otlp/start.sh', server.dir, String(server.port));
  await waitFor('the backlog arrives', async () => (await sinkOf(run)).state === 'ok' && (await sinkOf(run)).backlog <= 1 && received(server, 'metrics').length > before + 2, SLOW_MS);
  const workers = new Map();
  for (const r of received(server, 'metrics').flatMap((x) => x.resourceMetrics)) {
    const worker = attributes(r.resource.attributes)['pillion.worker'];
    const time = r.scopeMetrics[0].metrics[0];
    const point = (time.sum ?? time.gauge ?? time.histogram).dataPoints[0];
    if (worker) workers.set(worker, [...(workers.get(worker) ?? []), Number(BigInt(point.timeUnixNano) / 1000000n)]);
  }
  for (const [worker, times] of workers) {
    const sorted = [...new Set(times)].sort((a, b) => a - b);
    for (let i = 1; i < sorted.length; i++) assert.ok(sorted[i] - sorted[i - 1] < 2500, `${worker}: a gap of ${sorted[i] - sorted[i - 1]} ms`);
  }
});

// `pillion check` writes nothing there.
test('P66 check says which servers are behind the addresses', { skip: without.opensearch || without.elasticsearch || without.otlp }, async (t) => {
  const [opensearch, elasticsearch, otlp] = [await startServer(t, 'opensearch'), await startServer(t, 'elasticsearch'), await startServer(t, 'otlp')];
  const run = start(t, ['check', '--json'], { env: { PILLION_SINK: `es+${opensearch.url},es+${elasticsearch.url}/,otlp+${otlp.url},es+${otlp.url}` } });
  await run.ended;
  const found = JSON.parse(run.stdout).checks.filter((c) => c.check === 'sink').map((c) => `${c.result} ${c.text}`);
  const of = (address) => found.find((text) => text.includes(`${address}:`) || text.includes(`${address}/:`)) ?? found.join('\n');
  assert.match(of(`es+${opensearch.url}`), /^ok .*OpenSearch 2\.19\.4/);
  assert.match(of(`es+${elasticsearch.url}`), /^ok .*Elasticsearch 7\.17\.28/);
  assert.match(of(`otlp+${otlp.url}`), /^ok .*it answers/);
  assert.match(of(`es+${otlp.url}`), /^fail /);
  assert.deepStrictEqual((await (await fetch(`${opensearch.url}/_cat/indices?format=json`)).json()).filter((i) => !i.index.startsWith('.')), []);
  assert.ok(!fs.existsSync(path.join(otlp.dir, 'metrics.json')) || fs.readFileSync(path.join(otlp.dir, 'metrics.json'), 'utf8') === '');
});
});
