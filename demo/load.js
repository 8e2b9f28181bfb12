// load.js - visitors for the shop: a steady stream of requests with waves in it. node load.js PORT [requests a second]
'use strict';

const http = require('node:http');

const port = Number(process.argv[2]);
const rate = Number(process.argv[3] || 150);
const TICK_MS = 50;
const WAVE_S = 8;
const agent = new http.Agent({ keepAlive: true, maxSockets: 32, scheduling: 'fifo' });
const began = Date.now();
let owed = 0;

function visit(path) {
  const rq = http.get({ port, host: '127.0.0.1', path, agent }, (rs) => rs.resume());
  rq.on('error', () => {}); // the shop may be gone already: the demo is about to end
}

setInterval(() => {
  const wave = 1 + 0.7 * Math.sin(((Date.now() - began) / 1000 / WAVE_S) * 2 * Math.PI);
  for (owed += (rate * wave * TICK_MS) / 1000; owed >= 1; owed--) {
    const dice = Math.random();
    visit(dice < 0.7 ? '/' : dice < 0.85 ? '/search?q=Saddel%20f00' : dice < 0.98 ? '/health' : '/nothing');
  }
}, TICK_MS);
