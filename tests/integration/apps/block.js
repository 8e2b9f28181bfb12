'use strict';
// An HTTP server that blocks its event loop on demand: /<kind>/<milliseconds>, kind is while, regexp, atomics, microtasks or exec.
// Prints {"port":N}.
const { execSync } = require('child_process');
const http = require('http');

const until = (ms) => Date.now() + Number(ms);
const kinds = {
  while(ms) {
    for (const end = until(ms); Date.now() < end; );
  },
  regexp(ms) { // doubles with each letter, until one match takes long enough
    for (let n = 20, end = until(ms); Date.now() < end; n++) /^(a+)+$/.test(`${'a'.repeat(n)}b`);
  },
  atomics(ms) {
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, Number(ms));
  },
  microtasks(ms) {
    const end = until(ms);
    const again = () => Date.now() < end && queueMicrotask(again);
    again();
  },
  exec(ms) {
    execSync(`sleep ${Number(ms) / 1000}`, { env: { PATH: process.env.PATH } });
  },
};

const server = http.createServer((request, response) => {
  const [, kind, ms] = request.url.split('/');
  if (kinds[kind]) kinds[kind](ms);
  response.end('done\n');
}).listen(Number(process.env.PORT) || 0, '127.0.0.1', () => console.log(JSON.stringify({ port: server.address().port })));
