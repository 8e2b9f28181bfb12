'use strict';
// `pillion run` at a terminal: everything is typed into an interactive shell on a pseudo-terminal, once without us and once with us.

const { test } = require('node:test');
const assert = require('node:assert');
const { spawn, spawnSync } = require('node:child_process');
const fs = require('node:fs');
const path = require('node:path');
const h = require('./lib/harness');
const { noUnshare, UNSHARE, processes } = require('./lib/init');

const noScript = spawnSync('script', ['--version']).status === 0 ? false : 'script (util-linux) is not there';
const noBash = spawnSync('bash', ['--version']).status === 0 ? false : 'bash is not there';

const PROMPT = /bash-[\d.]+[$#] /;

// Says what it hears; reads lines from the terminal.
const APP = `
  const say = (s) => console.log('<' + s + '>');
  let ints = 0;
  process.on('SIGINT', () => { say('int ' + ++ints); if (ints === 3) process.exit(42); });
  process.on('SIGCONT', () => say('continued'));
  require('readline').createInterface({ input: process.stdin }).on('line', (l) => { say('line ' + l); if (l === 'quit') process.exit(5); });
  setInterval(() => {}, 1e6);
  say('up ' + process.pid);
`;

// A terminal with `command` in it: type() writes, see() waits for text that is new since the last see().
class Terminal {
  constructor(t, command, dir) {
    const env = h.cleanEnv({ PILLION_RUNTIME_DIR: path.join(dir, 'run'), PILLION_DATA_DIR: path.join(dir, 'data'), TERM: 'dumb' });
    this.child = spawn('script', ['-qfec', command, '/dev/null'], { env, cwd: dir, stdio: ['pipe', 'pipe', 'pipe'] });
    this.text = '';
    this.seen = 0;
    this.child.stdout.on('data', (d) => { this.text += d; });
    this.ended = new Promise((resolve) => this.child.on('close', (code) => resolve(code)));
    this.child.stdin.on('error', () => {});
    h.defer(t, async () => {
      this.child.kill('SIGKILL');
      await this.ended;
    });
  }

  type(text) {
    this.child.stdin.write(text);
  }

  async see(pattern) {
    const m = await h.waitFor(`${pattern} on the terminal`, () => pattern.exec(this.text.slice(this.seen)), 15000).catch((e) => {
      throw new Error(`${e.message}\n${this.text.slice(this.seen)}\n--- before:\n${this.text.slice(0, this.seen)}`);
    });
    this.seen += m.index + m[0].length;
    return m;
  }
}

async function shell(t) {
  const dir = h.tempDir(t);
  fs.writeFileSync(path.join(dir, 'app.js'), APP);
  const term = new Terminal(t, 'bash --norc --noprofile -i', dir);
  await term.see(PROMPT);
  return term;
}

for (const [name, run] of [['without us', ''], ['with us', `${h.BIN} run -- `]]) {
  const opt = { skip: noScript || noBash };

  test(`P05 Ctrl-Z, jobs, fg, Ctrl-C at a terminal, ${name}`, opt, async (t) => {
    const term = await shell(t);
    term.type(`${run}node app.js\n`);
    const pid = Number((await term.see(/<up (\d+)>/))[1]);
    term.type('hello\n');
    await term.see(/<line hello>/);
    for (let i = 1; i <= 3; i++) {
      term.type('\x1a');
      await term.see(/Stopped/);
      await term.see(PROMPT);
      assert.strictEqual(processes().find((p) => p.pid === pid).state, 'T');
      term.type('jobs\n');
      await term.see(/\[1\]\+ +Stopped/);
      term.type('fg\n');
      await term.see(/<continued>/);
      term.type(`again ${i}\n`);
      await term.see(new RegExp(`<line again ${i}>`));
    }
    for (let i = 1; i <= 3; i++) {
      term.type('\x03');
      await term.see(new RegExp(`<int ${i}>`)); // each once: the third one ends it
      await h.pause(200);
      assert.strictEqual(term.text.split('<int ').length - 1, i);
    }
    await term.see(PROMPT);
    term.type('echo "code $?"\n');
    await term.see(/code 42/);
    term.type('exit\n');
    await term.ended;
  });

  test(`P05 a job in the background: reading stops it, fg gives it the terminal, ${name}`, opt, async (t) => {
    const term = await shell(t);
    term.type(`${run}cat &\n`);
    await term.see(PROMPT);
    await h.pause(300);
    term.type('\n');
    await term.see(/Stopped[^\n]*cat/);
    term.type('fg\n');
    await term.see(/cat/);
    await h.pause(300);
    term.type('hello\n');
    await term.see(/hello\r\n(.*\r\n)*hello/);
    term.type('\x04');
    await term.see(PROMPT);
    term.type('echo "code $?"\n');
    await term.see(/code 0/);
  });

  test(`P05 fg of a job that runs in the background, then Ctrl-C, ${name}`, opt, async (t) => {
    const term = await shell(t);
    term.type(`${run}node app.js </dev/null & sleep 1; fg\n`);
    await term.see(/<up/);
    await h.pause(1200);
    for (let i = 1; i <= 3; i++) {
      term.type('\x03');
      await term.see(new RegExp(`<int ${i}>`));
      await h.pause(200);
      assert.strictEqual(term.text.split('<int ').length - 1, i);
    }
    term.type('echo "code $?"\n');
    await term.see(/code 42/);
  });

  test(`P05 death by Ctrl-C and a shell script in between, ${name}`, opt, async (t) => {
    const term = await shell(t);
    term.type(`sh -c '${run}sleep 100; echo "script $?"'\n`);
    await h.pause(700);
    term.type('\x1a');
    await term.see(/Stopped/);
    term.type('fg\n');
    await h.pause(300);
    term.type('\x03');
    await term.see(PROMPT);
    term.type(`${run}sleep 100\n`);
    await h.pause(700);
    term.type('\x03');
    await term.see(PROMPT);
    term.type('echo "code $?"\n');
    await term.see(/code 130/);
  });
}

test('P05 as pid 1 with a terminal: Ctrl-Z does not hang the container, Ctrl-C arrives once, a shell has job control', { skip: noScript || noBash || noUnshare }, async (t) => {
  const dir = h.tempDir(t);
  fs.writeFileSync(path.join(dir, 'app.js'), APP);
  const inside = (command) => `${UNSHARE.join(' ')} ${h.BIN} run -- ${command}`;
  const term = new Terminal(t, inside('node app.js'), dir);
  await term.see(/<up/);
  term.type('\x1a');
  await term.see(/<continued>/);
  term.type('hello\n');
  await term.see(/<line hello>/);
  term.type('\x03');
  await term.see(/<int 1>/);
  term.type('quit\n');
  assert.strictEqual(await term.ended, 5);

  const sh = new Terminal(t, inside('bash --norc --noprofile -i'), dir);
  await sh.see(PROMPT);
  sh.type('node app.js\n');
  await sh.see(/<up/);
  sh.type('\x1a');
  await sh.see(/Stopped/);
  sh.type('fg\n');
  await sh.see(/<continued>/);
  sh.type('quit\n');
  await sh.see(PROMPT);
  sh.type('exit 9\n');
  assert.strictEqual(await sh.ended, 9);
  assert.ok(!/no job control/.test(sh.text), sh.text);
});
