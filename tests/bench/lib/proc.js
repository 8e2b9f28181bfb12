'use strict';
// proc.js - what the kernel says of a process and its threads. null: the process is gone or may not be looked at.

const fs = require('node:fs');

function read(file) {
  try {
    return fs.readFileSync(file, 'utf8');
  } catch {
    return null;
  }
}

// Run time (ns) and voluntary context switches (= wake-ups from sleep) of all threads that are alive.
function cost(pid) {
  let tasks;
  try {
    tasks = fs.readdirSync(`/proc/${pid}/task`);
  } catch {
    return null;
  }
  let ns = 0n;
  let wakeups = 0;
  for (const tid of tasks) {
    const sched = read(`/proc/${pid}/task/${tid}/schedstat`);
    const status = read(`/proc/${pid}/task/${tid}/status`);
    if (!sched || !status) continue;
    ns += BigInt(sched.split(' ')[0]);
    wakeups += Number(/^voluntary_ctxt_switches:\s+(\d+)/m.exec(status)[1]);
  }
  return { at: process.hrtime.bigint(), ns, wakeups };
}

// Between two calls of cost(): CPU as a share of one core in per cent, wake-ups a second.
function rate(before, after) {
  const ns = Number(after.at - before.at);
  return { cpu: (Number(after.ns - before.ns) / ns) * 100, wakeups: ((after.wakeups - before.wakeups) / ns) * 1e9 };
}

// KiB. Private is what would come back if the process ended: Private_Clean + Private_Dirty. Pages of a program file that was
// just written are still dirty and would count wrongly: call settle() (sync) before.
function memory(pid) {
  const text = read(`/proc/${pid}/smaps_rollup`);
  if (!text) return null;
  const kb = (name) => Number(new RegExp(`^${name}:\\s+(\\d+)`, 'm').exec(text)[1]);
  return { rss: kb('Rss'), pss: kb('Pss'), private: kb('Private_Clean') + kb('Private_Dirty'), dirty: kb('Private_Dirty') };
}

function parent(pid) {
  const stat = read(`/proc/${pid}/stat`);
  return stat && Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[1]);
}

const commandLine = (pid) => (read(`/proc/${pid}/cmdline`) || '').split('\0').slice(0, -1);

function all() {
  return fs.readdirSync('/proc').filter((n) => /^\d+$/.test(n)).map(Number);
}

// The process and everything below it.
function tree(root) {
  const children = new Map();
  for (const pid of all()) {
    const p = parent(pid);
    if (p !== null) children.set(p, [...(children.get(p) || []), pid]);
  }
  const found = [];
  for (const queue = [root]; queue.length;) {
    const pid = queue.shift();
    found.push(pid);
    queue.push(...(children.get(pid) || []));
  }
  return found;
}

const load = () => read('/proc/loadavg').split(' ').slice(0, 3).map(Number);

// Share of all cores that was in use, in per cent, between two calls.
function machine() {
  const v = read('/proc/stat').split('\n')[0].trim().split(/\s+/).slice(1).map(Number);
  return { busy: v.reduce((s, x) => s + x, 0) - v[3] - v[4], total: v.reduce((s, x) => s + x, 0) };
}
const busy = (a, b) => ((b.busy - a.busy) / Math.max(1, b.total - a.total)) * 100;

module.exports = { read, cost, rate, memory, parent, commandLine, tree, load, machine, busy };
