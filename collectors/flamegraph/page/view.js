// view.js - the picture: what part of the axis is seen, drawn on a canvas that is as large as the screen, whatever the profile.

const ROW = 18;
const FONT = '12px system-ui, sans-serif';
// By origin: hue, saturation, lightness on white; the name moves it a little, so that neighbours differ.
const HUES = [[0, 0, 85], [34, 88, 66], [207, 68, 72], [130, 42, 70], [268, 48, 79], [2, 78, 76], [230, 6, 82]];

function hash(text) {
  let h = 2166136261;
  for (let i = 0; i < text.length; i++) h = Math.imul(h ^ text.charCodeAt(i), 16777619);
  return h >>> 0;
}

function colourOf(frame, dark) {
  const [hue, saturation, lightness] = HUES[frame.origin];
  const h = hash(frame.package || frame.name + frame.url);
  return `hsl(${hue + (h % 17) - 8} ${saturation - (dark ? 18 : 0)}% ${lightness - (dark ? 10 : 0) + ((h >> 8) % 9) - 4}%)`;
}

// Red: a larger share than before; blue: a smaller one. The same for people who see no difference of red and green.
function changeColour(p, node, dark) {
  const now = p.total[0] > 0 ? p.total[node] / p.total[0] : 0;
  const before = p.baseTotal[0] > 0 ? p.baseTotal[node] / p.baseTotal[0] : 0;
  const strength = Math.min(1, Math.sqrt(Math.abs(now - before) * 4));
  const [near, far] = dark ? [72, 55] : [92, 62];
  return `hsl(${now > before ? 4 : 212} ${Math.round(85 * strength)}% ${Math.round(near - (near - far) * strength)}%)`;
}

class View {
  constructor(profile, canvas, scroll, space) {
    Object.assign(this, { profile, canvas, scroll, space, flame: true, matches: null, selected: null, asked: false });
    this.media = matchMedia('(prefers-color-scheme: dark)');
    this.media.addEventListener('change', () => this.recolour());
    this.recolour();
    new ResizeObserver(() => this.resize()).observe(scroll);
    scroll.addEventListener('scroll', () => this.draw());
  }

  show(layout) {
    this.layout = layout;
    this.selected = null;
    this.range(0, layout.size);
    this.resize();
    this.toRoot();
  }

  recolour() {
    const dark = this.media.matches;
    this.colours = this.profile.frames.map((f) => colourOf(f, dark));
    this.changes = new Map();
    this.draw();
  }

  colour(node) {
    if (!this.profile.compare) return this.colours[this.profile.frame[node]];
    let c = this.changes.get(node);
    if (!c) this.changes.set(node, c = changeColour(this.profile, node, this.media.matches));
    return c;
  }

  resize() {
    if (!this.layout) return;
    this.width = Math.max(1, this.scroll.clientWidth);
    this.height = Math.max(1, this.scroll.clientHeight);
    const dots = devicePixelRatio || 1;
    this.canvas.width = Math.round(this.width * dots);
    this.canvas.height = Math.round(this.height * dots);
    this.canvas.style.height = `${this.height}px`;
    this.full = Math.max(this.height, (this.layout.deepest + 1) * ROW);
    this.space.style.height = `${this.full}px`;
    this.context = this.canvas.getContext('2d');
    this.context.setTransform(dots, 0, 0, dots, 0, 0);
    this.draw();
  }

  toRoot() {
    this.scroll.scrollTop = this.flame ? this.full : 0;
  }

  // Never beyond the ends, never narrower than a millionth.
  range(from, to) {
    const size = this.layout.size || 1;
    const width = Math.min(size, Math.max(to - from, size / 1e6));
    this.from = Math.max(0, Math.min(from, size - width));
    this.to = this.from + width;
    this.draw();
  }

  zoomAround(v, factor) {
    this.range(v - (v - this.from) * factor, v + (this.to - v) * factor);
  }

  get zoomed() {
    return this.to - this.from < (this.layout.size || 1) * (1 - 1e-9);
  }

  valueAt(x) {
    return this.from + ((x - this.canvas.getBoundingClientRect().left) / this.width) * (this.to - this.from);
  }

  top(depth) {
    const y = this.flame ? this.full - (depth + 1) * ROW : depth * ROW;
    return y - this.scroll.scrollTop;
  }

  boxAt(x, y) {
    const r = this.canvas.getBoundingClientRect();
    const inside = y - r.top + this.scroll.scrollTop;
    const depth = Math.floor((this.flame ? this.full - inside : inside) / ROW);
    const v = this.valueAt(x);
    const level = this.drawn && this.drawn[depth];
    if (!level) return null;
    let a = 0;
    let b = level.length;
    while (a < b) {
      const m = (a + b) >> 1;
      if (level[m].to > v) b = m;
      else a = m + 1;
    }
    return level[a] && level[a].from <= v ? level[a] : null;
  }

  reveal(box) {
    if (box.to <= this.from || box.from >= this.to || (box.to - box.from) / (this.to - this.from) * this.width < 3) {
      const width = Math.max(this.to - this.from, 0);
      const fit = Math.min(width, Math.max((box.to - box.from) * 20, this.layout.size / 1e6));
      this.range((box.from + box.to - fit) / 2, (box.from + box.to + fit) / 2);
    }
    const y = this.top(box.depth);
    if (y < 0 || y + ROW > this.height) this.scroll.scrollTop += y - this.height / 2;
    this.draw();
  }

  draw() {
    if (this.asked || !this.layout || !this.context) return;
    this.asked = true;
    requestAnimationFrame(() => {
      this.asked = false;
      this.paint();
    });
  }

  paint() {
    const c = this.context;
    const style = getComputedStyle(this.canvas);
    this.ink = style.getPropertyValue('--ink');
    this.mark = style.getPropertyValue('--mark');
    c.fillStyle = style.getPropertyValue('--paper');
    c.fillRect(0, 0, this.width, this.height);
    c.font = FONT;
    c.textBaseline = 'middle';
    this.letter = this.letter || c.measureText('abcdefghij').width / 10;
    this.drawn = [];
    this.boxes = 0;
    this.paintRoot();
    const lowest = Math.ceil((this.flame ? this.full - this.scroll.scrollTop : this.scroll.scrollTop + this.height) / ROW);
    this.layout.visible(this.from, this.to, this.width, lowest, (node, from, to, depth, at = node) => {
      (this.drawn[depth] = this.drawn[depth] || []).push({ node, from, to, depth, at });
      this.paintBox(node, from, to, depth);
    });
    if (this.selected) this.paintSelected();
    this.canvas.dataset.boxes = this.boxes;
    this.canvas.dataset.from = this.from;
    this.canvas.dataset.to = this.to;
  }

  paintRoot() {
    const y = this.top(0);
    this.context.fillStyle = this.media.matches ? '#3a3b42' : '#e4e4ea';
    this.context.fillRect(0, y, this.width, ROW - 1);
    this.context.fillStyle = this.ink;
    this.context.fillText(`all: ${weightText(this.profile.unit, this.layout.size)}`, 6, y + ROW / 2);
  }

  paintBox(node, from, to, depth) {
    const y = this.top(depth);
    if (y + ROW < 0 || y > this.height) return;
    const scale = this.width / (this.to - this.from);
    const x = Math.max(0, (from - this.from) * scale);
    const w = Math.min(this.width, (to - this.from) * scale) - x;
    const c = this.context;
    const frame = this.profile.frame[node];
    this.boxes++;
    c.globalAlpha = this.matches && !this.matches[frame] ? 0.35 : 1;
    c.fillStyle = this.colour(node);
    c.fillRect(x, y, w > 2 ? w - 0.6 : Math.max(w, 0.5), ROW - 1);
    if (this.matches && this.matches[frame]) {
      c.fillStyle = this.mark;
      c.fillRect(x, y + ROW - 4, Math.max(w - 0.6, 0.6), 3);
    }
    if (w > 3 * this.letter) {
      const name = this.profile.frames[frame].name;
      const room = Math.floor((w - 8) / this.letter);
      c.fillStyle = '#141416';
      if (room > 1) c.fillText(name.length > room ? `${name.slice(0, room - 1)}…` : name, x + 4, y + ROW / 2, w - 6);
    }
    c.globalAlpha = 1;
  }

  paintSelected() {
    const b = this.selected;
    const scale = this.width / (this.to - this.from);
    const x = Math.max(1, (b.from - this.from) * scale);
    const w = Math.max(2, Math.min(this.width - 1, (b.to - this.from) * scale) - x);
    this.context.strokeStyle = this.mark;
    this.context.lineWidth = 2;
    this.context.strokeRect(x, this.top(b.depth), w, ROW - 1);
  }
}
