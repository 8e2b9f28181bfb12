'use strict';
// packages.js - what we are compared with, from npm by name, into the cache outside the checkout. What is there is not asked for
// again; what cannot be had carries the reason. xprofiler is an add-on and is compiled when no binary fits (some minutes).

const { spawnSync } = require('node:child_process');
const fs = require('node:fs');
const os = require('node:os');
const path = require('node:path');

const WANTED = { 'prom-client': '15.1.3', xprofiler: '3.1.0', xtransit: '3.1.0' };
const INSTALL_MS = 900000;

const root = path.join(
  process.env.PILLION_CACHE || path.join(process.env.XDG_CACHE_HOME || path.join(os.homedir(), '.cache'), 'pillion'),
  'bench',
);

function works(dir, name) {
  const r = spawnSync(process.execPath, ['-e', 'require(process.argv[1])', path.join(dir, 'node_modules', name)], { timeout: 20000 });
  return r.status === 0;
}

function fetch(name, version, dir) {
  fs.mkdirSync(root, { recursive: true });
  const temp = fs.mkdtempSync(path.join(root, '.new-'));
  try {
    const r = spawnSync('npm', ['install', '--prefix', temp, '--no-save', '--no-audit', '--no-fund', '--loglevel=error', `${name}@${version}`],
      { encoding: 'utf8', timeout: INSTALL_MS });
    if (r.status !== 0) return r.error ? r.error.message : r.stderr.split('\n').find((l) => /err/i.test(l)) || 'npm failed';
    if (!works(temp, name)) return 'it was installed but does not load';
    fs.rmSync(dir, { recursive: true, force: true });
    fs.renameSync(temp, dir);
    return null;
  } finally {
    fs.rmSync(temp, { recursive: true, force: true });
  }
}

// { name: { version, dir } | { version, reason } }
function get({ install }) {
  const found = {};
  for (const [name, version] of Object.entries(WANTED)) {
    // An add-on fits one ABI.
    const dir = path.join(root, `${name}-${version}-abi${process.versions.modules}-${process.arch}`);
    let reason = null;
    if (!fs.existsSync(dir)) reason = install ? fetch(name, version, dir) : 'not in the cache (make bench fetches it)';
    found[name] = reason ? { version, reason } : { version, dir };
  }
  return found;
}

module.exports = { get };
