'use strict';
// flamegraph_page.test.js - the flame graph's page in a real Chromium: zoom, search, keys, turning, time order, comparison, size.
// What it shows is read from its status line, its address and what it says of the last picture (data-… of the canvas).

const assert = require('node:assert');
const { spawnSync } = require('node:child_process');
const fs = require('node:fs');
const path = require('node:path');
const { pathToFileURL } = require('node:url');
const { test } = require('node:test');

const { BIN, APPS, defer, tempDir, waitFor } = require('./lib/harness');
const { find, Chromium } = require('./lib/chromium');
const bench = require('../bench/lib/cpuprofile');

const program = find();
const skip = program ? false : 'no Chromium here (CHROMIUM=program, or chromium, chromium-headless-shell, google-chrome)';

const BIG_BYTES = 150e6;

function pillion(...args) {
  const r = spawnSync(BIN, ['flamegraph', ...args], { encoding: 'utf8' });
  assert.strictEqual(r.status, 0, r.stderr);
}

function profiled(dir, name, rounds) {
  const r = spawnSync(process.execPath, ['--cpu-prof', `--cpu-prof-name=${name}`, `--cpu-prof-dir=${dir}`, path.join(APPS, 'profiled.js'), rounds]);
  assert.strictEqual(r.status, 0, `${r.stderr}`);
  return path.join(dir, name);
}

async function opened(t, html, flags) {
  const browser = new Chromium(program, tempDir(t), flags);
  defer(t, () => browser.close());
  await browser.open(pathToFileURL(html).href);
  await waitFor('the page is ready', () => browser.evaluate('document.documentElement.dataset.ready === "1" && document.getElementById("canvas").dataset.boxes > 0'));
  const page = {
    browser,
    status: () => browser.evaluate('document.getElementById("status").textContent'),
    found: () => browser.evaluate('document.getElementById("found").textContent'),
    text: (id) => browser.evaluate(`document.getElementById(${JSON.stringify(id)}).textContent`),
    range: () => browser.evaluate('(({ from, to }) => [Number(from), Number(to)])(document.getElementById("canvas").dataset)'),
    press: async (id) => browser.evaluate(`document.getElementById(${JSON.stringify(id)}).click()`),
    until: (what, probe) => waitFor(what, probe),
  };
  await browser.evaluate('document.getElementById("canvas").focus()');
  return page;
}

test('flame graph page: keys move, zoom and reset; the picture follows', { skip }, async (t) => {
  const dir = tempDir(t);
  pillion(profiled(dir, 'a.cpuprofile', '4'), '-o', path.join(dir, 'a.html'));
  const page = await opened(t, path.join(dir, 'a.html'));
  const whole = await page.range();
  assert.strictEqual(whole[0], 0);
  await page.browser.key('ArrowUp');
  await page.until('a function is told', async () => /total .* · self /.test(await page.status()));
  const first = await page.status();
  await page.browser.key('ArrowRight');
  await page.until('its neighbour is told', async () => (await page.status()) !== first);
  await page.browser.key('Enter');
  await page.until('it is zoomed into', async () => (await page.range())[0] > 0);
  await page.until('the address tells', () => page.browser.evaluate('/z=\\d+-\\d+/.test(location.hash)'));
  await page.browser.key('Escape');
  await page.until('all is seen again', async () => (await page.range())[1] === whole[1] && (await page.range())[0] === 0);
  await page.browser.key('f');
  assert.strictEqual(await page.text('orientation'), 'Flame');
  await page.browser.key('f');
  assert.strictEqual(await page.text('orientation'), 'Icicle');
  await page.browser.key('+', 'Equal');
  await page.until('half is seen', async () => { const [a, b] = await page.range(); return Math.abs((b - a) * 2 - whole[1]) < 2; });
  await page.press('reset');
  await page.until('all is seen again', async () => (await page.range())[1] === whole[1]);
  assert.deepStrictEqual(page.browser.complaints(), []);
});

test('flame graph page: a click zooms, the tooltip tells function, place, self and total', { skip }, async (t) => {
  const dir = tempDir(t);
  pillion(profiled(dir, 'a.cpuprofile', '4'), '-o', path.join(dir, 'a.html'));
  const page = await opened(t, path.join(dir, 'a.html'));
  const [x, y] = await page.browser.evaluate('(() => { const r = document.getElementById("canvas").getBoundingClientRect(); return [r.left + 40, r.bottom - 18 * 1.5]; })()');
  await page.browser.send('Input.dispatchMouseEvent', { type: 'mouseMoved', x, y });
  await page.until('the tooltip', () => page.browser.evaluate('!document.getElementById("tip").hidden'));
  assert.match(await page.text('tip'), /^\(anonymous\)node:internal\/main\/run_main_module:1:1total .*self .*Node\.js$/);
  const whole = (await page.range())[1];
  await page.browser.click(x, y);
  await page.until('zoomed', async () => (await page.range())[1] < whole);
  assert.strictEqual(await page.browser.evaluate('document.getElementById("reset").disabled'), false);
  assert.deepStrictEqual(page.browser.complaints(), []);
});

test('flame graph page: search says the share that matches and walks through the matches', { skip }, async (t) => {
  const dir = tempDir(t);
  const file = profiled(dir, 'a.cpuprofile', '4');
  pillion(file, '-o', path.join(dir, 'a.html'));
  const reader = require('./lib/profile');
  const stacks = reader.stacksOfCpu(JSON.parse(fs.readFileSync(file, 'utf8')));
  const all = [...stacks.values()].reduce((a, b) => a + b, 0);
  const hit = [...stacks].filter(([k]) => /profiled\.js/.test(k)).reduce((a, [, v]) => a + v, 0);
  const page = await opened(t, path.join(dir, 'a.html'));
  await page.browser.key('/', 'Slash');
  assert.strictEqual(await page.browser.evaluate('document.activeElement.id'), 'query');
  await page.browser.send('Input.insertText', { text: 'profiled\\.js' });
  await page.until('the share', async () => /matched/.test(await page.found()));
  assert.ok(Math.abs(parseFloat(await page.found()) - (100 * hit) / all) < 0.1, `${await page.found()} for ${(100 * hit) / all}`);
  await page.browser.key('Enter');
  await page.until('a match is told', async () => /profiled\.js/.test(await page.status()));
  await page.until('the address tells', () => page.browser.evaluate('/q=profiled/.test(location.hash)'));
  // The name that would end a script is found, shown, and has done nothing.
  await page.browser.evaluate('(() => { const q = document.getElementById("query"); q.value = "</script><b onclick"; q.dispatchEvent(new Event("input")); })()');
  await page.until('found', async () => / 1 function$/.test(await page.found()));
  await page.press('after');
  await page.until('told', async () => (await page.status()).startsWith('</script><b onclick="x">&\\'));
  assert.strictEqual(await page.browser.evaluate('document.querySelectorAll("b[onclick]").length'), 0);
  await page.browser.key('Escape');
  await page.until('search is over', async () => (await page.found()) === '' || page.browser.evaluate('document.getElementById("query").value !== ""'));
  assert.deepStrictEqual(page.browser.complaints(), []);
});

test('flame graph page: time order has the same sum of a search, and the table has the figures', { skip }, async (t) => {
  const dir = tempDir(t);
  pillion(profiled(dir, 'a.cpuprofile', '4'), '-o', path.join(dir, 'a.html'), '--idle');
  const page = await opened(t, path.join(dir, 'a.html'));
  await page.browser.evaluate('(() => { const q = document.getElementById("query"); q.value = "fib|Tree"; q.dispatchEvent(new Event("input")); })()');
  await page.until('the share', async () => /matched/.test(await page.found()));
  const merged = await page.found();
  await page.browser.key('t');
  await page.until('time order', () => page.browser.evaluate('document.getElementById("order").getAttribute("aria-pressed") === "true"'));
  assert.strictEqual(await page.found(), merged);
  await page.browser.key('ArrowUp');
  await page.until('told', async () => /this time .* · total /.test(await page.status()));
  assert.ok(await page.browser.evaluate('document.querySelectorAll("#table tbody tr").length') > 10);
  assert.match(await page.text('table'), /\(garbage collector\)/);
  assert.deepStrictEqual(page.browser.complaints(), []);
});

test('flame graph page: a comparison tells before and now', { skip }, async (t) => {
  const dir = tempDir(t);
  pillion(profiled(dir, 'b.cpuprofile', '6'), '--base', profiled(dir, 'a.cpuprofile', '2'), '-o', path.join(dir, 'a.html'));
  const page = await opened(t, path.join(dir, 'a.html'));
  await page.browser.key('ArrowUp');
  await page.until('told', async () => /before .* %; now [+−]\d/.test(await page.status()));
  assert.match(await page.text('legend'), /larger share than before/);
  assert.deepStrictEqual(page.browser.complaints(), []);
});

test('flame graph page: 600,000 nodes open, and only what can be seen is drawn', { skip }, async (t) => {
  const dir = tempDir(t);
  const made = bench.write(path.join(dir, 'big.cpuprofile'), BIG_BYTES);
  assert.ok(made.nodes > 600000);
  pillion(path.join(dir, 'big.cpuprofile'), '-o', path.join(dir, 'big.html'));
  const page = await opened(t, path.join(dir, 'big.html'));
  const ready = await page.browser.evaluate('performance.getEntriesByType("navigation")[0].domContentLoadedEventEnd');
  t.diagnostic(`${made.nodes} nodes, ${fs.statSync(path.join(dir, 'big.html')).size} bytes: ready after ${Math.round(ready)} ms`);
  assert.ok(await page.browser.evaluate('Number(document.getElementById("canvas").dataset.boxes)') < 100000);
  await page.browser.key('t');
  await page.until('time order', () => page.browser.evaluate('document.getElementById("order").getAttribute("aria-pressed") === "true"'));
  assert.deepStrictEqual(page.browser.complaints(), []);
});
