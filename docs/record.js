// record.js - makes docs/top.svg: the demonstration's shop under load, recorded for some seconds in a terminal of its own
// (script(1)), each second one picture, as an SVG that plays by itself. Nothing is drawn that `pillion top` did not write.
//
//   node docs/record.js PROGRAM [OUT]
'use strict';

const { spawn, spawnSync } = require('node:child_process');
const fs = require('node:fs');
const os = require('node:os');
const path = require('node:path');

const COLUMNS = 100;
const ROWS = 13;
const SECONDS = 12;
const WARM_MS = 20000; // so that the lines of history have something to tell
const CELL = { width: 8.4, height: 17, size: 14 };
const COLOURS = ['#3b4252', '#bf616a', '#a3be8c', '#ebcb8b', '#81a1c1', '#b48ead', '#88c0d0', '#e5e9f0'];
const BRIGHT = ['#616e88', '#d57780', '#b6d19c', '#f2dca0', '#9bb9d8', '#c9a4c3', '#9fd3e0', '#ffffff'];
const PAPER = '#1e222a';
const INK = '#d8dee9';

const program = path.resolve(process.argv[2]);
const out = path.resolve(process.argv[3] || path.join(__dirname, 'top.svg'));
const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

// A terminal of which we know only what `top` uses: cursor movement, erasing, colours.
class Screen {
  constructor() {
    this.cells = Array.from({ length: ROWS }, () => this.blank());
    this.x = this.y = 0;
    this.style = {};
  }

  blank() {
    return Array.from({ length: COLUMNS }, () => ({ c: ' ', s: {} }));
  }

  write(text) {
    const pieces = text.match(/\x1b\[[?>0-9;]*[@-~]|\x1b[()][0-9A-B]|\x1b.|[\s\S]/gu) || [];
    for (const p of pieces) {
      if (p.startsWith('\x1b[')) this.sequence(p.slice(2, -1), p.at(-1));
      else if (p === '\n') this.y = Math.min(this.y + 1, ROWS - 1);
      else if (p === '\r') this.x = 0;
      else if (!p.startsWith('\x1b') && p >= ' ') this.put(p);
    }
  }

  put(c) {
    if (this.x < COLUMNS) this.cells[this.y][this.x] = { c, s: { ...this.style } };
    this.x++;
  }

  erase(y, from, to) {
    for (let x = from; x < to; x++) this.cells[y][x] = { c: ' ', s: {} };
  }

  sequence(args, end) {
    const n = args.split(';').map((a) => parseInt(a, 10) || 0);
    const far = Math.max(n[0], 1);
    if (end === 'H' || end === 'f') [this.y, this.x] = [Math.min(far, ROWS) - 1, Math.max(n[1] || 1, 1) - 1];
    else if (end === 'A') this.y = Math.max(this.y - far, 0);
    else if (end === 'B') this.y = Math.min(this.y + far, ROWS - 1);
    else if (end === 'C') this.x += far;
    else if (end === 'D') this.x = Math.max(this.x - far, 0);
    else if (end === 'G') this.x = far - 1;
    else if (end === 'K') this.erase(this.y, n[0] === 0 ? Math.min(this.x, COLUMNS) : 0, COLUMNS);
    else if (end === 'J') for (let y = n[0] === 0 ? this.y : 0; y < ROWS; y++) this.erase(y, n[0] === 0 && y === this.y ? Math.min(this.x, COLUMNS) : 0, COLUMNS);
    else if (end === 'm') this.colours(n);
  }

  colours(n) {
    for (let i = 0; i < n.length; i++) {
      const v = n[i];
      if (v === 0) this.style = {};
      else if (v === 1) this.style.bold = true;
      else if (v === 2) this.style.dim = true;
      else if (v === 7) this.style.reverse = true;
      else if (v === 22) this.style.bold = this.style.dim = false;
      else if (v === 27) this.style.reverse = false;
      else if (v >= 30 && v <= 37) this.style.ink = COLOURS[v - 30];
      else if (v >= 90 && v <= 97) this.style.ink = BRIGHT[v - 90];
      else if (v === 38 && n[i + 1] === 5) [this.style.ink, i] = [n[i + 2] < 8 ? COLOURS[n[i + 2]] : BRIGHT[n[i + 2] % 8], i + 2];
      else if (v === 39) delete this.style.ink;
    }
  }

  // Runs of one style, as SVG.
  svg() {
    const esc = (s) => s.replace(/&/g, '&amp;').replace(/</g, '&lt;');
    const key = (s) => JSON.stringify([s.bold, s.dim, s.reverse, s.ink]);
    const parts = [];
    this.cells.forEach((row, y) => {
      for (let x = 0; x < COLUMNS;) {
        let to = x + 1;
        while (to < COLUMNS && key(row[to].s) === key(row[x].s)) to++;
        const text = row.slice(x, to).map((cell) => cell.c).join('');
        const s = row[x].s;
        const left = (x * CELL.width + 14).toFixed(1);
        if (s.reverse) {
          parts.push(`<rect x="${left}" y="${(y * CELL.height + 36).toFixed(1)}" width="${((to - x) * CELL.width).toFixed(1)}" height="${CELL.height}" fill="${s.ink || INK}"/>`);
        }
        if (text.trim() !== '') {
          const more = [s.bold ? ' font-weight="bold"' : '', s.dim ? ' opacity=".6"' : '', s.reverse ? ` fill="${PAPER}"` : s.ink ? ` fill="${s.ink}"` : ''].join('');
          const lead = text.length - text.trimStart().length;
          const body = text.trim();
          parts.push(`<text x="${((x + lead) * CELL.width + 14).toFixed(1)}" y="${(y + 1) * CELL.height + 32}" textLength="${([...body].length * CELL.width).toFixed(1)}" xml:space="preserve"${more}>${esc(body)}</text>`);
        }
        x = to;
      }
    });
    return parts.join('\n');
  }
}

function picture(frames) {
  const width = Math.ceil(COLUMNS * CELL.width + 28);
  const height = ROWS * CELL.height + 50;
  const each = 100 / frames.length;
  const groups = frames.map((f, i) => `<g class="f${i === 0 ? ' first' : `" style="animation-delay:${i}s`}">\n${f}\n</g>`).join('\n');
  return `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}" viewBox="0 0 ${width} ${height}" role="img" aria-label="pillion top, recorded">
<style>
.f { visibility: hidden; animation: show ${frames.length}s step-end infinite }
.first { visibility: visible }
@keyframes show { 0% { visibility: visible } ${each.toFixed(3)}% { visibility: hidden } }
</style>
<rect width="100%" height="100%" rx="8" fill="${PAPER}"/>
<circle cx="20" cy="17" r="6" fill="#bf616a"/><circle cx="40" cy="17" r="6" fill="#ebcb8b"/><circle cx="60" cy="17" r="6" fill="#a3be8c"/>
<text x="${width / 2}" y="22" text-anchor="middle" fill="#7b8494" font-family="monospace" font-size="13">$ pillion top</text>
<g font-family="ui-monospace, 'DejaVu Sans Mono', Menlo, Consolas, monospace" font-size="${CELL.size}" fill="${INK}">
${groups}
</g>
</svg>
`;
}

async function main() {
  const dir = fs.mkdtempSync(path.join(os.tmpdir(), 'shop-'));
  const env = Object.fromEntries(Object.entries(process.env).filter(([k]) => !/^PILLION_|^NODE_OPTIONS$/.test(k)));
  Object.assign(env, {
    PILLION_APP: 'shop', PILLION_INSTANCE: 'shop-7d4f', PILLION_RUNTIME_DIR: path.join(dir, 'run'), PILLION_DATA_DIR: path.join(dir, 'data'),
    TERM: 'xterm-256color', LC_ALL: 'C.UTF-8', PORT: '38517',
  });
  const demo = path.join(__dirname, '../demo');
  fs.copyFileSync(path.join(demo, 'shop.js'), path.join(dir, 'shop.js')); // the picture shall not show where this checkout lies
  const run = spawn(program, ['run', '--workers', '3', 'shop.js'], { env, cwd: dir, stdio: 'ignore' });
  const load = spawn(process.execPath, [path.join(demo, 'load.js'), env.PORT, '240'], { env, stdio: 'ignore' });
  await pause(WARM_MS);
  const order = `stty rows ${ROWS} cols ${COLUMNS}; exec ${program} top`;
  const recording = spawn('script', ['-qfec', order, '/dev/null'], { env, stdio: ['pipe', 'pipe', 'inherit'] });
  const screen = new Screen();
  const frames = [];
  recording.stdout.setEncoding('utf8');
  recording.stdout.on('data', (text) => screen.write(text));
  for (let i = 0; i < SECONDS; i++) {
    await pause(1000);
    frames.push(screen.svg());
  }
  recording.stdin.write('q');
  await pause(300);
  recording.kill();
  load.kill();
  run.kill('SIGTERM');
  await new Promise((resolve) => run.on('exit', resolve));
  spawnSync('rm', ['-rf', dir]);
  fs.writeFileSync(out, picture(frames));
  console.log(`${out}: ${frames.length} pictures, ${fs.statSync(out).size} bytes`);
}

main();
