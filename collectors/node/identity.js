/* node:coverage disable */ // this is no part of what a test runner looks at; nothing enables it again down to the end
/* identity.js - who this process is: its role, its names, and whether it is a package manager, which is left alone.
 *
 * The first part of what preload.js describes; nothing in it runs after the process has made itself known. Each answer has a
 * value for the case that there is no /proc, that the permission model forbids it or that the working directory is gone. */
'use strict';

function pillionIdentity(main) {
  const fs = require('fs');
  const path = require('path');
  let script = process.argv[1]; // in a thread it comes later

  function answer(other, fn) {
    try {
      const value = fn();
      return value === undefined || value !== value ? other : value;
    } catch (e) {
      return other;
    }
  }

  function once(fn) {
    let value;
    return () => (value === undefined ? (value = fn()) : value);
  }

  // The nearest package.json at or above `directory`.
  function packageOf(directory) {
    for (let at = directory; ; at = path.dirname(at)) {
      const file = path.join(at, 'package.json');
      if (fs.existsSync(file)) return JSON.parse(fs.readFileSync(file, 'utf8'));
      if (path.dirname(at) === at) return {};
    }
  }

  // By the package that the started file is part of, so that an application's own bin/yarn.js is none.
  function isPackageManager() {
    if (!script || !main) return false;
    const real = fs.realpathSync(script);
    if (!/^(npm|npx|pnpm|pnpx|yarn|yarnpkg|corepack)([-.][\w.-]*)?$/.test(path.basename(real))) return false;
    if (/[\\/]\.yarn[\\/]releases[\\/]/.test(real) || fs.existsSync(path.join(path.dirname(real), '.corepack'))) return true;
    return /^(npm|pnpm|@pnpm\/exe|yarn|@yarnpkg\/cli(-dist)?|corepack)$/.test(packageOf(path.dirname(real)).name);
  }

  // `primary` is seen later, when it forks.
  function findRole() {
    if (!main) return 'thread';
    // Node has taken NODE_UNIQUE_ID out of the environment by now; only a forked process can be a cluster's worker.
    if (process.connected && require('cluster').isWorker) return 'worker';
    return /[\\/](egg-cluster|@eggjs[\\/]cluster|egg)[\\/].*agent_worker\.[cm]?[jt]s$/.test(script || '') ? 'agent' : 'process';
  }

  // Field 22; the second one may hold anything, spaces and brackets as well.
  function startTicks() {
    const stat = fs.readFileSync('/proc/self/stat', 'latin1');
    return parseInt(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19], 10);
  }

  return {
    // false for a thread without one: up to Node 20 nothing else tells that it is Node's own, for the module loader's hooks.
    script() {
      if (!main) script = process.argv[1];
      return main || script !== undefined;
    },
    packageManager: answer(false, isPackageManager),
    role: answer('process', findRole),
    start: once(() => answer(0, startTicks)),
    app: once(() => answer('', () => packageOf(script ? path.dirname(script) : process.cwd()).name)),
    // What the application calls itself, else program and script; no arguments, they may hold secrets.
    title: () => answer(process.title, () => {
      if (process.title !== process.argv0 && process.title !== process.execPath) return process.title;
      const inside = script && path.relative(process.cwd(), script);
      return path.basename(process.execPath) + (script ? ` ${inside.startsWith('..') ? script : inside}` : '');
    }),
  };
}
