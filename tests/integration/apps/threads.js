'use strict';
// Two worker threads that live for LIVE_MS (1) and end by themselves; the process ends with code 6.
const { Worker, isMainThread, threadId } = require('worker_threads');

if (isMainThread) {
  let open = 2;
  for (let i = 0; i < 2; i++) {
    new Worker(__filename).on('message', (id) => console.log(`thread ${id > 0}`)).on('exit', () => {
      if (--open === 0) process.exitCode = 6;
    });
  }
} else {
  setTimeout(() => require('worker_threads').parentPort.postMessage(threadId), Number(process.env.LIVE_MS) || 1);
}
