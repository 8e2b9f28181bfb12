'use strict';
// slow_end.js NAME SECONDS LOG - on each SIGTERM writes "NAME term <time>" into LOG, and ends SECONDS after the first ("NAME end").
// Further arguments are JSON: {"name":…,"seconds":…,"detached":…} of children, started first.
const fs = require('node:fs');
const { spawn } = require('node:child_process');
const [name, seconds, log, children = '[]'] = process.argv.slice(2);
const note = (what) => fs.appendFileSync(log, `${name} ${what} ${Date.now()}\n`);
let told = false;
process.on('SIGTERM', () => {
  note('term');
  if (told) return;
  told = true;
  setTimeout(() => {
    note('end');
    process.exit(0);
  }, seconds * 1000);
});
for (const c of JSON.parse(children)) {
  spawn(process.execPath, [__filename, c.name, String(c.seconds), log, JSON.stringify(c.children || [])], { stdio: 'inherit', detached: !!c.detached });
}
setInterval(() => {}, 1e6);
note('up');
