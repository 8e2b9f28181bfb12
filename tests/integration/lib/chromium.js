'use strict';
// chromium.js - a headless Chromium, driven over its debugging pipe (file descriptors 3 and 4, JSON between NULs): no port, no
// WebSocket, no package.

const { spawn, spawnSync } = require('node:child_process');

const NAMES = ['chromium-headless-shell', 'chromium', 'chromium-browser', 'google-chrome'];
const ANSWER_MS = 60000;
const CLOSE_MS = 5000;

// The program, or null.
function find() {
  const names = process.env.CHROMIUM ? [process.env.CHROMIUM] : NAMES;
  return names.find((name) => spawnSync(name, ['--version'], { timeout: 20000 }).status === 0) || null;
}

class Chromium {
  constructor(program, dir, flags = []) {
    this.child = spawn(program, ['--headless', '--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage', '--no-first-run',
      '--remote-debugging-pipe', '--window-size=1200,800', `--user-data-dir=${dir}`, ...flags, 'about:blank'],
    { stdio: ['ignore', 'ignore', 'ignore', 'pipe', 'pipe'], env: { PATH: process.env.PATH, HOME: dir } });
    this.waiting = new Map();
    this.events = [];
    this.last = 0;
    this.text = '';
    this.child.stdio[4].setEncoding('utf8');
    this.child.stdio[4].on('data', (text) => this.take(text));
    this.child.stdio[3].on('error', () => {});
    this.ended = new Promise((resolve) => this.child.on('exit', resolve));
    this.ended.then(() => this.waiting.forEach(({ reject, timer }) => {
      clearTimeout(timer);
      reject(new Error('Chromium has ended'));
    }));
  }

  take(text) {
    const parts = (this.text + text).split('\0');
    this.text = parts.pop();
    for (const part of parts) {
      const message = JSON.parse(part);
      const call = this.waiting.get(message.id);
      if (!call) {
        this.events.push(message);
        continue;
      }
      this.waiting.delete(message.id);
      clearTimeout(call.timer);
      if (message.error) call.reject(new Error(`${call.method}: ${message.error.message}`));
      else call.resolve(message.result);
    }
  }

  send(method, params = {}) {
    return new Promise((resolve, reject) => {
      const id = ++this.last;
      const timer = setTimeout(() => reject(new Error(`${method}: no answer in ${ANSWER_MS} ms`)), ANSWER_MS);
      this.waiting.set(id, { resolve, reject, timer, method });
      this.child.stdio[3].write(`${JSON.stringify({ id, method, params, sessionId: this.session })}\0`);
    });
  }

  async open(url) {
    const { targetId } = await this.send('Target.createTarget', { url: 'about:blank' });
    this.session = (await this.send('Target.attachToTarget', { targetId, flatten: true })).sessionId;
    await this.send('Page.enable');
    await this.send('Runtime.enable');
    await this.send('Log.enable');
    await this.send('Page.navigate', { url });
  }

  async evaluate(expression) {
    const r = await this.send('Runtime.evaluate', { expression, returnByValue: true, awaitPromise: true });
    if (r.exceptionDetails) throw new Error(r.exceptionDetails.exception?.description || r.exceptionDetails.text);
    return r.result.value;
  }

  // What the page complained of.
  complaints() {
    return this.events.filter((e) => e.method === 'Runtime.exceptionThrown' || (e.method === 'Log.entryAdded' && e.params.entry.level === 'error'))
      .map((e) => JSON.stringify(e.params).slice(0, 400));
  }

  async key(key, code = key, modifiers = 0) {
    const text = key.length === 1 ? key : key === 'Enter' ? '\r' : undefined;
    await this.send('Input.dispatchKeyEvent', { type: 'keyDown', key, code, modifiers, text });
    await this.send('Input.dispatchKeyEvent', { type: 'keyUp', key, code, modifiers });
  }

  async click(x, y) {
    await this.send('Input.dispatchMouseEvent', { type: 'mouseMoved', x, y });
    await this.send('Input.dispatchMouseEvent', { type: 'mousePressed', x, y, button: 'left', clickCount: 1 });
    await this.send('Input.dispatchMouseEvent', { type: 'mouseReleased', x, y, button: 'left', clickCount: 1 });
  }

  // Orderly, so that its other processes go, too; they may hold the pipes for longer.
  async close() {
    const late = setTimeout(() => this.child.kill('SIGKILL'), CLOSE_MS);
    this.session = undefined;
    this.send('Browser.close').catch(() => {});
    await this.ended;
    clearTimeout(late);
    for (const pipe of this.child.stdio) if (pipe) pipe.destroy();
  }
}

module.exports = { find, Chromium };
