'use strict';
// A clustered HTTP server with WORKERS workers (2); prints {"port":N} when all of them listen. /end/3 ends a worker with code 3.
const cluster = require('cluster');

if (cluster.isPrimary) {
  const workers = Number(process.env.WORKERS) || 2;
  let listening = 0;
  cluster.on('listening', (worker, address) => {
    if (++listening === workers) console.log(JSON.stringify({ port: address.port }));
  });
  process.on('SIGTERM', () => {
    for (const worker of Object.values(cluster.workers)) worker.kill();
    cluster.disconnect(() => process.exit(0));
  });
  for (let i = 0; i < workers; i++) cluster.fork();
} else {
  require('http').createServer((request, response) => {
    const [, what, value] = request.url.split('/');
    if (what === 'end') process.exit(Number(value));
    response.end(`${process.pid}\n`);
  }).listen(Number(process.env.PORT) || 0, '127.0.0.1');
}
