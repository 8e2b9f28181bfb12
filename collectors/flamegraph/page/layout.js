// layout.js - where boxes lie: from and to on the axis (in weight), and a depth. Two layouts with the same methods.
//
// A box is { node, from, to, depth, at }; `at` is the layout's own. visible() gives only what is wide enough to be seen, so that what
// is drawn depends on the screen and not on the profile.

const TIME_BOXES = 1500000; // in time order; beyond: the deepest levels are left out
const LEAST_PX = 0.35;

class MergedLayout {
  constructor(p) {
    this.p = p;
    this.size = p.total[0];
    this.deepest = p.deepest;
    this.begin = new Float64Array(p.n + 1);
    const next = new Float64Array(p.deepest + 2); // where the next box of a depth begins
    for (let i = 1; i <= p.n; i++) {
      const d = p.depth[i];
      this.begin[i] = next[d];
      next[d] += p.total[i];
      next[d + 1] = this.begin[i];
    }
  }

  box(i) {
    const p = this.p;
    return i > 0 ? { node: i, from: this.begin[i], to: this.begin[i] + p.total[i], depth: p.depth[i], at: i } : null;
  }

  // Calls put(node, from, to, depth) for each box, callers first, from left to right in each depth.
  visible(from, to, width, lowest, put) {
    const { n, depth, end, total } = this.p;
    const scale = width / (to - from);
    const least = LEAST_PX / scale;
    for (let i = 1; i <= n;) {
      const b = this.begin[i];
      const w = total[i];
      if (w < least || b >= to || b + w <= from) {
        i = end[i];
        continue;
      }
      put(i, b, b + w, depth[i]);
      i = depth[i] >= lowest ? end[i] : i + 1;
    }
  }

  caller(box) {
    return this.box(this.p.parent[box.at]);
  }

  callee(box) {
    const first = box ? box.at + 1 : 1;
    return first <= this.p.n && (!box || first < this.p.end[box.at]) && this.p.total[first] > 0 ? this.box(first) : null;
  }

  beside(box, step) {
    const { parent, end, total } = this.p;
    const up = parent[box.at];
    if (step > 0) {
      const i = end[box.at];
      return i < end[up] && total[i] > 0 ? this.box(i) : null;
    }
    let last = 0;
    for (let i = up + 1; i < box.at; i = end[i]) last = i;
    return last ? this.box(last) : null;
  }

  // What of [from, to) has a match in its stack; `matches` by frame.
  matched(from, to, matches) {
    const { n, frame, end, total } = this.p;
    let sum = 0;
    for (let i = 1; i <= n;) {
      const b = this.begin[i];
      const e = b + total[i];
      if (e <= from || b >= to) {
        i = end[i];
      } else if (matches[frame[i]]) {
        sum += Math.min(e, to) - Math.max(b, from);
        i = end[i];
      } else {
        i++;
      }
    }
    return sum;
  }

  // The boxes that match, outermost only, heaviest first; at most `most`.
  matches(matches, most) {
    const { n, frame, end, total } = this.p;
    const list = [];
    for (let i = 1; i <= n;) {
      if (matches[frame[i]] && total[i] > 0) {
        list.push(i);
        i = end[i];
      } else {
        i++;
      }
    }
    return list.sort((a, b) => total[b] - total[a]).slice(0, most).map((i) => this.box(i));
  }
}

class TimeLayout {
  constructor(p) {
    this.p = p;
    this.size = p.runs.weight.reduce((a, b) => a + b, 0);
    const counts = new Float64Array(p.deepest + 2);
    this.walk(p.deepest, () => {}, (d) => counts[d]++);
    let boxes = 0;
    this.deepest = 0;
    while (this.deepest < p.deepest && boxes + counts[this.deepest + 1] <= TIME_BOXES) boxes += counts[++this.deepest];
    this.cut = this.deepest < p.deepest;
    this.levels = Array.from({ length: this.deepest + 1 }, (_, d) => ({
      n: 0, node: new Uint32Array(counts[d]), from: new Float64Array(counts[d]), to: new Float64Array(counts[d]),
    }));
    this.walk(this.deepest, (d, node, from) => {
      const l = this.levels[d];
      l.node[l.n] = node;
      l.from[l.n] = from;
    }, (d, to) => {
      const l = this.levels[d];
      l.to[l.n++] = to;
    });
  }

  // opened(depth, node, at) and closed(depth, at) as the stack changes from run to run.
  walk(deepest, opened, closed) {
    const { runs, parent, depth } = this.p;
    const stack = new Uint32Array(this.p.deepest + 2);
    let top = 0;
    let at = 0;
    for (let r = 0; r < runs.n; r++) {
      let node = runs.node[r];
      while (depth[node] > deepest) node = parent[node];
      const d = depth[node];
      let same = Math.min(top, d);
      let up = node;
      while (depth[up] > same) up = parent[up];
      while (same > 0 && stack[same] !== up) {
        up = parent[up];
        same--;
      }
      for (; top > same; top--) closed(top, at);
      top = d;
      for (let k = d, i = node; k > same; k--, i = parent[i]) stack[k] = i;
      for (let k = same + 1; k <= d; k++) opened(k, stack[k], at);
      at += runs.weight[r];
    }
    for (; top > 0; top--) closed(top, at);
  }

  box(d, i) {
    const l = this.levels[d];
    return l && i >= 0 && i < l.n ? { node: l.node[i], from: l.from[i], to: l.to[i], depth: d, at: i } : null;
  }

  // The first box of the level that ends behind v.
  find(d, v) {
    const { n, to } = this.levels[d];
    let a = 0;
    let b = n;
    while (a < b) {
      const m = (a + b) >> 1;
      if (to[m] > v) b = m;
      else a = m + 1;
    }
    return a;
  }

  visible(from, to, width, lowest, put) {
    const least = (LEAST_PX * (to - from)) / width;
    for (let d = 1; d <= Math.min(this.deepest, lowest); d++) {
      const l = this.levels[d];
      let drawn = -Infinity; // what is too narrow is drawn once for the pixel that it is in
      for (let i = this.find(d, from); i < l.n && l.from[i] < to; i++) {
        if (l.to[i] - drawn < least) continue;
        put(l.node[i], l.from[i], l.to[i], d, i);
        drawn = l.to[i];
      }
    }
  }

  caller(box) {
    return box.depth > 1 ? this.box(box.depth - 1, this.find(box.depth - 1, box.from)) : null;
  }

  callee(box) {
    const d = box ? box.depth + 1 : 1;
    const b = d <= this.deepest ? this.box(d, this.find(d, box ? box.from : 0)) : null;
    return b && (!box || b.from < box.to) ? b : null;
  }

  beside(box, step) {
    return this.box(box.depth, box.at + step);
  }

  inStack(matches) {
    const { n, frame, parent } = this.p;
    const hit = new Uint8Array(n + 1);
    for (let i = 1; i <= n; i++) hit[i] = hit[parent[i]] || matches[frame[i]];
    return hit;
  }

  matched(from, to, matches) {
    const hit = this.inStack(matches);
    const { runs } = this.p;
    let sum = 0;
    let at = 0;
    for (let r = 0; r < runs.n; r++) {
      const end = at + runs.weight[r];
      if (hit[runs.node[r]] && end > from && at < to) sum += Math.min(end, to) - Math.max(at, from);
      at = end;
    }
    return sum;
  }

  matches(matches, most) {
    const hit = this.inStack(matches);
    const list = [];
    for (let d = 1; d <= this.deepest; d++) {
      const l = this.levels[d];
      for (let i = 0; i < l.n; i++) {
        const node = l.node[i];
        if (matches[this.p.frame[node]] && !hit[this.p.parent[node]]) list.push(this.box(d, i));
      }
    }
    return list.sort((a, b) => a.from - b.from).slice(0, most);
  }
}
