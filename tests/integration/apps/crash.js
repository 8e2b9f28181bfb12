'use strict';
// Ends after WAIT_MS (500) in the way that its argument says: throw, reject, abort, exit (code 7), or kill (SIGKILL).
setTimeout(() => {
  switch (process.argv[2]) {
    case 'throw': throw new Error('thrown on purpose \u0000 \ud83d');
    case 'reject': return Promise.reject(new Error('rejected on purpose'));
    case 'abort': return process.abort();
    case 'kill': return process.kill(process.pid, 'SIGKILL');
    default: return process.exit(7);
  }
}, Number(process.env.WAIT_MS) || 500);
