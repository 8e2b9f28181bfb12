'use strict';
// load.js - wrk on its own core.

const { execFile, execFileSync } = require('node:child_process');
const os = require('node:os');

const SERVER_CORE = '0';
const LOAD_CORE = String(Math.min(1, os.cpus().length - 1));

function missing() {
  for (const tool of ['wrk', 'taskset']) {
    try {
      execFileSync('sh', ['-c', `command -v ${tool}`], { stdio: 'ignore' });
    } catch {
      return `${tool} is not installed`;
    }
  }
  return os.cpus().length < 2 ? 'one core alone: server and load would share it' : null;
}

const UNITS = { us: 1e-3, ms: 1, s: 1e3, m: 6e4 };

// { requests, rps, p50, p99 (ms), errors }
function wrk(url, seconds, connections = 32) {
  const args = ['-c', LOAD_CORE, 'wrk', '-t1', `-c${connections}`, `-d${seconds}s`, '--latency', url];
  return new Promise((resolve, reject) => {
    execFile('taskset', args, (err, out) => {
      if (err) return reject(err);
      const ms = (q) => {
        const m = new RegExp(`^\\s+${q}%\\s+([0-9.]+)(us|ms|s|m)`, 'm').exec(out);
        return m ? Number(m[1]) * UNITS[m[2]] : NaN;
      };
      const bad = /Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)/.exec(out);
      const status = /Non-2xx or 3xx responses: (\d+)/.exec(out);
      resolve({
        requests: Number(/(\d+) requests in/.exec(out)[1]),
        rps: Number(/Requests\/sec:\s+([0-9.]+)/.exec(out)[1]),
        p50: ms(50),
        p99: ms(99),
        errors: (bad ? bad.slice(1).reduce((s, x) => s + Number(x), 0) : 0) + (status ? Number(status[1]) : 0),
      });
    });
  });
}

module.exports = { SERVER_CORE, LOAD_CORE, missing, wrk };
