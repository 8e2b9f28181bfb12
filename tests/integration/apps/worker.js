'use strict';
// worker.js PORT [MODE] - an HTTP server whose answers are its pid; /slow takes 1.5 s, /die ends with 3, /version reads VERSION_FILE.
// MODE graceful: has a SIGTERM handler that says what it does.
const fs = require('node:fs');
const http = require('node:http');
const [port, mode] = process.argv.slice(2);
console.log(`worker ${JSON.stringify({ pid: process.pid, argv: process.argv, execArgv: process.execArgv })}`);
if (process.env.BREAK_FILE && fs.existsSync(process.env.BREAK_FILE)) process.exit(9);
const server = http.createServer((q, r) => {
  if (q.url === '/die') process.exit(3);
  setTimeout(() => r.end(String(process.pid)), q.url === '/slow' ? 1500 : 2);
});
server.listen(Number(port));
setInterval(() => {}, 1e6); // like a database connection: it does not end by itself
if (mode === 'graceful') {
  process.on('SIGTERM', () => {
    console.log(`term ${process.pid}`);
    setTimeout(() => process.exit(0), 100);
  });
}
process.on('exit', (code) => console.log(`exit ${process.pid} ${code}`));
