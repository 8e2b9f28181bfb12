// init.js - `pillion run` as pid 1 of a namespace of its own and, elsewhere, as a subreaper.
'use strict';

const { spawnSync, execFileSync } = require('node:child_process');
const fs = require('node:fs');
const os = require('node:os');
const path = require('node:path');
const h = require('./harness');

const UNSHARE = process.getuid() === 0
  ? ['unshare', '--pid', '--fork', '--mount-proc', '--kill-child']
  : ['unshare', '--user', '--map-root-user', '--pid', '--fork', '--mount-proc', '--kill-child'];
const noUnshare = spawnSync(UNSHARE[0], [...UNSHARE.slice(1), 'true']).status === 0 ? false : 'unshare makes no pid namespace here';

// Both ways to be an init; `before` goes in front of the program, `skip` is for node:test.
const WAYS = [
  { name: 'as pid 1', before: UNSHARE, skip: noUnshare },
  { name: 'as a subreaper', before: [], skip: false },
];

// Compiles lib/inittool.c once for this process.
let tool;
function initTool() {
  if (!tool) {
    const dir = fs.mkdtempSync(path.join(os.tmpdir(), 'pillion-tool-'));
    process.on('exit', () => fs.rmSync(dir, { recursive: true, force: true }));
    tool = path.join(dir, 'inittool');
    execFileSync(process.env.CC || 'cc', ['-D_GNU_SOURCE', '-O1', '-o', tool, path.join(__dirname, 'inittool.c')], { stdio: 'pipe' });
    fs.chmodSync(dir, 0o755);
  }
  return tool;
}

// [{ pid, ppid, state, name, start }] of this machine, seen from here.
function processes() {
  const all = [];
  for (const name of fs.readdirSync('/proc')) {
    if (!/^\d+$/.test(name)) continue;
    try {
      const text = fs.readFileSync(`/proc/${name}/stat`, 'latin1');
      const rest = text.slice(text.lastIndexOf(')') + 2).split(' ');
      all.push({ pid: Number(name), state: rest[0], ppid: Number(rest[1]), start: Number(rest[19]), name: text.slice(text.indexOf('(') + 1, text.lastIndexOf(')')) });
    } catch {} // it has gone
  }
  return all;
}

const childrenOf = (pid) => processes().filter((p) => p.ppid === pid);
const cmdline = (pid) => fs.readFileSync(`/proc/${pid}/cmdline`, 'latin1').split('\0');

// The pid, as we see it, of the `pillion run` that `running` stands for: behind unshare it is a child.
async function initPid(running, way) {
  if (way.before.length === 0) return running.pid;
  return h.waitFor('init runs', () => childrenOf(running.pid).map((p) => p.pid)[0]);
}

const isHelper = (pid) => {
  try {
    return cmdline(pid)[1] === 'agent';
  } catch {
    return false;
  }
};
const helperOf = (init) => childrenOf(init).map((p) => p.pid).find(isHelper);

module.exports = { WAYS, UNSHARE, noUnshare, initTool, processes, childrenOf, cmdline, initPid, helperOf };
