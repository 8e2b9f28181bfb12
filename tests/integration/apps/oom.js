'use strict';
// Fills its heap until V8 gives up; use --max-old-space-size. Begins after WAIT_MS (500).
const kept = [];
setTimeout(() => {
  for (;;) kept.push(new Array(1000).fill(kept.length));
}, Number(process.env.WAIT_MS) || 500);
