'use strict';
// A plain HTTP server on PORT (any, when not given); prints {"port":N}. /status/404 answers so, /after/50 in 50 ms, /never not
// at all, /end/3 ends the process with code 3.
const http = require('http');

const server = http.createServer((request, response) => {
  const [, what, value] = request.url.split('/');
  if (what === 'never') return;
  if (what === 'end') process.exit(Number(value));
  if (what === 'status') response.statusCode = Number(value);
  setTimeout(() => response.end('hello\n'), what === 'after' ? Number(value) : 0);
});

server.listen(Number(process.env.PORT) || 0, '127.0.0.1', () => console.log(JSON.stringify({ port: server.address().port })));
