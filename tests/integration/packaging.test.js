'use strict';
// packaging.test.js - what is put beside the program on a machine: completions of the shells, the systemd unit.

const assert = require('node:assert');
const { execFileSync, spawnSync } = require('node:child_process');
const fs = require('node:fs');
const path = require('node:path');
const { test } = require('node:test');

const { ROOT, BIN, tempDir } = require('./lib/harness');

const COMPLETIONS = path.join(ROOT, 'packaging/completions');
const UNIT = path.join(ROOT, 'packaging/systemd/pillion.service');

const there = (tool) => spawnSync('sh', ['-c', `command -v ${tool}`]).status === 0;
const missing = (tool) => (there(tool) ? false : `${tool} is not installed`);
const env = { ...process.env, PATH: `${path.dirname(BIN)}:${process.env.PATH}` };
const commands = () => [...execFileSync(BIN, ['--help'], { encoding: 'utf8' }).matchAll(/^ {2}pillion ([a-z][a-z-]*)/gm)].map((m) => m[1]);

// What bash offers for the last of these words.
function bash(...words) {
  const script = `source "$1"; shift; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _pillion pillion; printf '%s\\n' "\${COMPREPLY[@]}"`;
  return execFileSync('bash', ['-c', script, 'bash', path.join(COMPLETIONS, 'pillion.bash'), ...words], { env, encoding: 'utf8' }).split('\n');
}

function fish(line) {
  const script = 'source $argv[1]; complete -C "$argv[2]"';
  return execFileSync('fish', ['-c', script, path.join(COMPLETIONS, 'pillion.fish'), line], { env, encoding: 'utf8' })
    .split('\n').map((l) => l.split('\t')[0]);
}

const includes = (offers, wanted) => wanted.forEach((w) => assert.ok(offers.includes(w), `${w} is not among ${offers.join(' ')}`));

test('bash completes every command, its options, and the command line of the application', () => {
  assert.ok(commands().length >= 8);
  includes(bash('pillion', ''), commands());
  assert.deepStrictEqual(bash('pillion', 'stat').filter(Boolean), ['status']);
  includes(bash('pillion', 'top', '-'), ['-d', '-n', '--once', '--json']);
  includes(bash('pillion', 'run', '-'), ['--workers', '--group']);
  includes(bash('pillion', 'run', '--workers', ''), ['auto']);
  includes(bash('pillion', 'run', '--', 'nod'), ['node']);
});

test('fish completes every command and its options', { skip: missing('fish') }, () => {
  includes(fish('pillion '), commands());
  includes(fish('pillion top -'), ['-d', '-n', '--once', '--json']);
  includes(fish('pillion run --w'), ['--workers']);
});

test('zsh can read its completion', { skip: missing('zsh') }, () => {
  execFileSync('zsh', ['-n', path.join(COMPLETIONS, '_pillion')]);
});

test('systemd finds no fault with the unit', { skip: missing('systemd-analyze') }, (t) => {
  const unit = path.join(tempDir(t), 'pillion.service');
  fs.writeFileSync(unit, fs.readFileSync(UNIT, 'utf8').replace('/usr/bin/pillion', BIN));
  const r = spawnSync('systemd-analyze', ['verify', '--man=no', unit], { encoding: 'utf8' });
  assert.strictEqual(`${r.stdout}${r.stderr}`, '');
  assert.strictEqual(r.status, 0);
});
