// shop.js - a small shop to look at: plain node:http, no dependency, nothing in it knows of pillion. It has what real ones have:
// rendering that costs CPU, a search that is slow now and then, and a session store that only ever grows.
'use strict';

const http = require('node:http');
const crypto = require('node:crypto');

const PORT = Number(process.env.PORT || 3000);
const SESSION_BYTES = 2048;
const PRODUCTS = Array.from({ length: 400 }, (_, i) => ({
  id: i,
  name: `${['Saddle', 'Helmet', 'Visor', 'Chain', 'Glove'][i % 5]} ${crypto.createHash('md5').update(`${i}`).digest('hex').slice(0, 6)}`,
  price: 5 + ((i * 37) % 240),
}));

// The leak: nobody ever takes a session out again.
const sessions = new Map();

function remember(req) {
  const id = crypto.randomUUID();
  sessions.set(id, { since: Date.now(), url: req.url, basket: Buffer.alloc(SESSION_BYTES).toString('latin1') });
  return id;
}

function catalogue() {
  const rows = [...PRODUCTS].sort((a, b) => a.price - b.price || a.name.localeCompare(b.name));
  return `<table>${rows.map((p) => `<tr><td>${p.name}</td><td>${p.price.toFixed(2)}</td></tr>`).join('')}</table>`;
}

// Edit distance to every product: the page that makes an event loop late.
function distance(a, b) {
  let row = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      next[j] = Math.min(row[j] + 1, next[j - 1] + 1, row[j - 1] + (a[i - 1] === b[j - 1] ? 0 : 1));
    }
    row = next;
  }
  return row[b.length];
}

const search = (text) => PRODUCTS.map((p) => [distance(text, p.name), p]).sort((a, b) => a[0] - b[0]).slice(0, 10).map(([, p]) => p);

const pages = {
  '/': () => ['text/html', catalogue()],
  '/search': (url) => ['application/json', JSON.stringify(search(url.searchParams.get('q') || ''))],
  '/health': () => ['text/plain', 'ok'],
};

const server = http.createServer((req, res) => {
  const url = new URL(req.url, 'http://shop');
  const page = pages[url.pathname];
  if (!page) {
    res.writeHead(404).end();
    return;
  }
  const [type, body] = page(url);
  res.writeHead(200, { 'content-type': type, 'set-cookie': `session=${remember(req)}` }).end(body);
});

server.listen(PORT, '127.0.0.1');
process.on('SIGTERM', () => {
  server.close(() => process.exit(0));
  server.closeIdleConnections?.();
  setTimeout(() => process.exit(0), 1000).unref();
});
