'use strict';
// server.js - the application that the benchmarks put under load.
//
//   node server.js PORT hello|json [--cluster N] [--with none|prom-client|xprofiler] [--packages DIR]
//
// hello answers 13 bytes; json reads 4 KB of JSON, works through it and writes it again. Prints "ready" once it listens.
// --with starts what people use today in every process: prom-client's default metrics, aggregated by the cluster's primary on
// PORT+1, or xprofiler's log writer.

const cluster = require('node:cluster');
const http = require('node:http');
const path = require('node:path');

const args = process.argv.slice(2);
const option = (name) => (args.includes(name) ? args[args.indexOf(name) + 1] : undefined);
const port = Number(args[0]);
const workers = Number(option('--cluster') || 0);
const extra = option('--with') || 'none';
const load = (name) => require(path.join(option('--packages'), 'node_modules', name));

const document = JSON.stringify({
  items: Array.from({ length: 48 }, (_, i) => ({ id: i, name: `item ${i}`, price: i * 1.5, tags: ['a', 'b'], stock: i % 7 })),
});

function json() {
  const d = JSON.parse(document);
  let total = 0;
  for (const item of d.items) total += item.price * item.stock;
  return JSON.stringify({ ...d, total });
}

function serve() {
  const answer = args[1] === 'json'
    ? (rq, rs) => rs.setHeader('content-type', 'application/json').end(json())
    : (rq, rs) => rs.end('Hello, world!');
  return http.createServer(answer).listen(port, '127.0.0.1');
}

function startXprofiler() {
  load('xprofiler').start({ log_dir: process.env.XPROFILER_LOG_DIR });
}

function primary() {
  let listening = 0;
  for (let i = 0; i < workers; i++) cluster.fork();
  cluster.on('listening', () => ++listening === workers && console.log('ready'));
  if (extra === 'xprofiler') startXprofiler();
  if (extra !== 'prom-client') return;
  const registry = new (load('prom-client').AggregatorRegistry)();
  http.createServer((rq, rs) => {
    registry.clusterMetrics().then((text) => rs.end(text), () => rs.writeHead(503).end()); // busy workers: it gives up after 5 s
  }).listen(port + 1, '127.0.0.1');
}

function worker() {
  if (extra === 'prom-client') load('prom-client').collectDefaultMetrics();
  if (extra === 'xprofiler') startXprofiler();
  const server = serve();
  if (!cluster.isWorker) server.on('listening', () => console.log('ready'));
}

if (workers && cluster.isPrimary) primary();
else worker();
