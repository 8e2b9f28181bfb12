// main.js - what people do: pointer, touch, keys, search, buttons, and the state in the address behind '#'.

const MATCHES = 5000; // that "next" walks through
const DRAG_PX = 6;
const DOUBLE_TAP_MS = 350;

const $ = (id) => document.getElementById(id);

class Page {
  constructor(profile) {
    this.p = profile;
    this.merged = new MergedLayout(profile);
    this.view = new View(profile, $('canvas'), $('scroll'), $('space'));
    this.pointers = new Map();
    this.found = [];
    this.foundAt = -1;
    if (profile.runs.n === 0) $('order').hidden = true;
    this.legend();
    this.view.show(this.merged);
    this.listen();
    this.restore();
  }

  // ---- what is said

  describe(box) {
    const { p } = this;
    const f = p.frames[p.frame[box.node]];
    const lines = [];
    const inTime = this.view.layout !== this.merged;
    const total = p.total[box.node];
    if (inTime) lines.push(`this time ${weightText(p.unit, box.to - box.from)}`);
    lines.push(`total ${weightText(p.unit, total)}, ${shareText(total, p.total[0])}`);
    lines.push(`self ${weightText(p.unit, p.self[box.node])}, ${shareText(p.self[box.node], p.total[0])}`);
    if (p.compare) {
      const change = 100 * (total / (p.total[0] || 1) - p.baseTotal[box.node] / (p.baseTotal[0] || 1));
      lines.push(`before ${weightText(p.unit, p.baseTotal[box.node])}, ${shareText(p.baseTotal[box.node], p.baseTotal[0])}; ` +
        `now ${change >= 0 ? '+' : '−'}${Math.abs(change).toFixed(2)} points`);
    }
    return { name: f.name, place: placeText(f), origin: f.package ? `package ${f.package}` : ORIGINS[f.origin], lines };
  }

  tip(box, x, y) {
    const tip = $('tip');
    tip.hidden = !box;
    if (!box) return;
    const d = this.describe(box);
    tip.textContent = '';
    const add = (tag, text) => text && tip.appendChild(Object.assign(document.createElement(tag), { textContent: text }));
    add('b', d.name);
    add('span', d.place);
    for (const line of d.lines) add('div', line);
    add('span', d.origin);
    const r = tip.getBoundingClientRect();
    tip.style.left = `${Math.max(4, Math.min(x + 14, innerWidth - r.width - 6))}px`;
    tip.style.top = `${y + 18 + r.height > innerHeight ? Math.max(4, y - r.height - 12) : y + 18}px`;
  }

  say(text) {
    $('status').textContent = text;
  }

  tell(box) {
    const d = this.describe(box);
    this.say([d.name, ...d.lines, d.place, d.origin].filter(Boolean).join(' · '));
  }

  legend() {
    const dark = matchMedia('(prefers-color-scheme: dark)').matches;
    const add = (text, colour) => {
      const li = document.createElement('li');
      const i = document.createElement('i');
      i.style.background = colour;
      li.append(i, text);
      $('legend').append(li);
    };
    if (this.p.compare) {
      add('larger share than before', 'hsl(4 85% 62%)');
      add('smaller share', 'hsl(212 85% 62%)');
      return;
    }
    const sums = new Float64Array(ORIGINS.length);
    for (let i = 1; i <= this.p.n; i++) sums[this.p.frames[this.p.frame[i]].origin] += this.p.self[i];
    sums.forEach((sum, o) => {
      const [h, s, l] = HUES[o];
      if (o > 0 && sum > 0) add(`${ORIGINS[o]} ${shareText(sum, this.p.total[0])}`, `hsl(${h} ${s}% ${l - (dark ? 10 : 0)}%)`);
    });
  }

  // ---- what is seen

  select(box) {
    this.view.selected = box;
    if (box) {
      this.view.reveal(box);
      this.tell(box);
    }
    this.view.draw();
  }

  zoom(box) {
    this.view.selected = box;
    this.view.range(box.from, box.to);
    this.view.reveal(box);
    this.tell(box);
    this.changed();
  }

  reset() {
    this.view.selected = null;
    this.view.range(0, this.view.layout.size);
    this.view.toRoot();
    this.say('');
    this.changed();
  }

  turn() {
    this.view.flame = !this.view.flame;
    this.view.toRoot();
    this.view.draw();
    this.changed();
  }

  reorder() {
    if (this.p.runs.n === 0) return;
    const inTime = this.view.layout === this.merged;
    if (inTime && !this.time) this.time = new TimeLayout(this.p);
    this.view.show(inTime ? this.time : this.merged);
    const cut = inTime && this.time.cut ? ` Stacks are drawn to a depth of ${this.time.deepest}: more are too many boxes.` : '';
    const step = inTime && this.p.step ? ` One step is ${weightText(this.p.unit, this.p.step)}.` : '';
    this.say(inTime ? `In time order, from left to right.${step}${cut}` : 'Merged: the same stacks are one box, the heaviest first.');
    this.changed();
  }

  // Buttons, the share that matches, the address.
  changed() {
    const v = this.view;
    const inTime = v.layout !== this.merged;
    $('reset').disabled = !v.zoomed && !v.selected;
    $('orientation').textContent = v.flame ? 'Icicle' : 'Flame';
    $('order').setAttribute('aria-pressed', String(inTime));
    if (v.matches) {
      const sum = v.layout.matched(v.from, v.to, v.matches);
      $('found').textContent = `${shareText(sum, v.to - v.from)} matched (${weightText(this.p.unit, Math.round(sum))}), ` +
        `${this.functions} function${this.functions === 1 ? '' : 's'}`;
    } else {
      $('found').textContent = '';
    }
    $('before').disabled = $('after').disabled = !v.matches;
    clearTimeout(this.later);
    this.later = setTimeout(() => this.keep(), 150);
  }

  keep() {
    const v = this.view;
    const state = new URLSearchParams();
    if (v.zoomed) state.set('z', `${Math.round(v.from)}-${Math.round(v.to)}`);
    if ($('query').value) state.set('q', $('query').value);
    if (!v.flame) state.set('o', 'icicle');
    if (v.layout !== this.merged) state.set('m', 'time');
    try {
      history.replaceState(null, '', `#${state}`);
    } catch {
      // Not allowed in a sandboxed frame; then the address stays.
    }
  }

  restore() {
    const state = new URLSearchParams(location.hash.slice(1));
    if (state.get('o') === 'icicle') this.turn();
    if (state.get('m') === 'time') this.reorder();
    const z = /^(\d+)-(\d+)$/.exec(state.get('z') || '');
    if (z && Number(z[2]) > Number(z[1])) this.view.range(Number(z[1]), Number(z[2]));
    if (state.get('q')) {
      $('query').value = state.get('q');
      this.search();
    }
    this.changed();
  }

  // ---- search

  pattern(text) {
    try {
      return new RegExp(text, 'i');
    } catch {
      return new RegExp(text.replace(/[.*+?^${}()|[\]\\]/g, '\\$&'), 'i');
    }
  }

  search() {
    const text = $('query').value;
    const v = this.view;
    v.matches = null;
    this.found = [];
    this.foundAt = -1;
    if (text) {
      const pattern = this.pattern(text);
      v.matches = Uint8Array.from(this.p.frames, (f, i) => (i > 0 && (pattern.test(f.name) || pattern.test(f.url) || pattern.test(f.package)) ? 1 : 0));
      this.functions = v.matches.reduce((a, b) => a + b, 0);
    }
    v.draw();
    this.changed();
  }

  step(by) {
    const v = this.view;
    if (!v.matches) return;
    if (this.foundAt < 0) this.found = v.layout.matches(v.matches, MATCHES);
    if (this.found.length === 0) return;
    this.foundAt = this.foundAt < 0 && by < 0 ? this.found.length - 1 : (this.foundAt + by + this.found.length) % this.found.length;
    this.select(this.found[this.foundAt]);
    this.changed();
  }

  // ---- keys and pointers

  move(kind) {
    const { layout, selected } = this.view;
    const inward = this.view.flame ? 'ArrowUp' : 'ArrowDown';
    let box;
    if (!selected) box = layout.callee(null);
    else if (kind === 'ArrowLeft') box = layout.beside(selected, -1);
    else if (kind === 'ArrowRight') box = layout.beside(selected, 1);
    else box = kind === inward ? layout.callee(selected) : layout.caller(selected);
    if (box) this.select(box);
    this.changed();
  }

  key(e) {
    if (e.ctrlKey || e.metaKey || e.altKey) return;
    const typing = e.target === $('query');
    if (typing && e.key === 'Escape') {
      $('query').value = '';
      this.search();
      $('canvas').focus();
      e.preventDefault();
      return;
    }
    if (typing || (e.target.closest && e.target.closest('button, summary') && (e.key === 'Enter' || e.key === ' '))) return;
    const v = this.view;
    const middle = v.selected ? (v.selected.from + v.selected.to) / 2 : (v.from + v.to) / 2;
    const onCanvas = e.target === $('canvas') || e.target === document.body;
    const actions = {
      Escape: () => this.reset(), 0: () => this.reset(), f: () => this.turn(), t: () => this.reorder(),
      n: () => this.step(1), N: () => this.step(-1), '/': () => $('query').focus(),
      '+': () => this.free(middle, 0.5), '=': () => this.free(middle, 0.5), '-': () => this.free(middle, 2),
    };
    if (onCanvas) {
      for (const k of ['ArrowLeft', 'ArrowRight', 'ArrowUp', 'ArrowDown']) actions[k] = () => this.move(k);
      actions.Enter = actions[' '] = () => v.selected && this.zoom(v.selected);
    }
    if (!actions[e.key]) return;
    e.preventDefault();
    actions[e.key]();
  }

  free(v, factor) {
    this.view.zoomAround(v, factor);
    this.changed();
  }

  wheel(e) {
    if (e.ctrlKey || e.metaKey) {
      e.preventDefault();
      this.free(this.view.valueAt(e.clientX), Math.exp(Math.max(-1, Math.min(1, e.deltaY / 200))));
    } else if (Math.abs(e.deltaX) > Math.abs(e.deltaY) || e.shiftKey) {
      e.preventDefault();
      this.pan(-(e.deltaX || e.deltaY));
    }
  }

  pan(px) {
    const v = this.view;
    const by = (px / v.width) * (v.to - v.from);
    v.range(v.from - by, v.to - by);
    this.changed();
  }

  down(e) {
    this.pointers.set(e.pointerId, { x: e.clientX, y: e.clientY, fromX: e.clientX, fromY: e.clientY });
    this.dragged = this.pointers.size > 1;
    this.tip(null);
  }

  moved(e) {
    const last = this.pointers.get(e.pointerId);
    if (!last) {
      const box = e.pointerType === 'touch' ? null : this.view.boxAt(e.clientX, e.clientY);
      this.tip(box, e.clientX, e.clientY);
      return;
    }
    const before = [...this.pointers.values()].map((q) => q.x);
    const by = e.clientX - last.x;
    last.x = e.clientX;
    last.y = e.clientY;
    if (this.pointers.size === 2) {
      const now = [...this.pointers.values()].map((q) => q.x);
      const spread = Math.max(10, Math.abs(now[0] - now[1]));
      this.free(this.view.valueAt((now[0] + now[1]) / 2), Math.max(10, Math.abs(before[0] - before[1])) / spread);
    } else if (this.dragged || Math.abs(e.clientX - last.fromX) > DRAG_PX) {
      this.dragged = true;
      this.pan(by);
    }
  }

  up(e) {
    const p = this.pointers.get(e.pointerId);
    this.pointers.delete(e.pointerId);
    if (!p || this.dragged || Math.abs(e.clientY - p.fromY) > DRAG_PX || e.type === 'pointercancel') return;
    const box = this.view.boxAt(e.clientX, e.clientY);
    if (!box) return;
    const again = this.tapped && this.tapped.node === box.node && e.timeStamp - this.tappedAt < DOUBLE_TAP_MS;
    this.tapped = box;
    this.tappedAt = e.timeStamp;
    if (e.pointerType !== 'touch' || again) {
      this.tip(null);
      this.zoom(box);
    } else {
      this.select(box);
      this.tip(box, e.clientX, e.clientY);
      this.changed();
    }
  }

  listen() {
    const c = $('canvas');
    document.addEventListener('keydown', (e) => this.key(e));
    c.addEventListener('pointerdown', (e) => this.down(e));
    c.addEventListener('pointermove', (e) => this.moved(e));
    c.addEventListener('pointerup', (e) => this.up(e));
    c.addEventListener('pointercancel', (e) => this.up(e));
    c.addEventListener('pointerleave', (e) => {
      this.pointers.delete(e.pointerId);
      if (e.pointerType !== 'touch') this.tip(null);
    });
    c.addEventListener('wheel', (e) => this.wheel(e), { passive: false });
    $('reset').addEventListener('click', () => this.reset());
    $('orientation').addEventListener('click', () => this.turn());
    $('order').addEventListener('click', () => this.reorder());
    $('before').addEventListener('click', () => this.step(-1));
    $('search').addEventListener('submit', (e) => {
      e.preventDefault();
      this.step(1);
    });
    $('query').addEventListener('input', () => {
      clearTimeout(this.typing);
      this.typing = setTimeout(() => this.search(), 80);
    });
  }
}

function start() {
  const element = $('data');
  try {
    const profile = readProfile(decodeBase64(element.textContent));
    element.remove();
    new Page(profile);
    document.documentElement.dataset.ready = '1';
  } catch (e) {
    $('status').textContent = `The profile in this page cannot be shown: ${e.message}`;
    throw e;
  }
}
