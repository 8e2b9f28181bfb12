// A worker that has something to show: it spins for a part of its time; "block": for good after a second; "exhaust": until V8 has
// no memory left.
'use strict';

// A generator, and spread: V8 puts a plain function into the timer's own sooner or later, and its profile then names that alone.
function* spinForTheProfile() {
  const end = Date.now() + 30;
  let n = 0;
  while (Date.now() < end) n += Math.sqrt(n + 1);
  yield n;
}

function blockForTheStack() {
  const end = Date.now() + 60000;
  let n = 0;
  while (Date.now() < end) n += Math.sqrt(n + 1);
  return n;
}

function exhaust() {
  const held = [];
  for (;;) held.push(new Array(1000).fill({}).map((_, i) => ({ i, text: `x${i}` })));
}

setInterval(() => [...spinForTheProfile()], 60);
if (process.argv[2] === 'block') setTimeout(blockForTheStack, 2500);
if (process.argv[2] === 'exhaust') setTimeout(exhaust, 2500);
