// An ES module that imports a built-in, awaits at top level, and ends by itself with code 5.
import { setTimeout as pause } from 'node:timers/promises';
import { basename } from 'node:path';

await pause(Number(process.env.LIVE_MS) || 1);
console.log(`esm ${basename(import.meta.url)}`);
process.exitCode = 5;
