// data.js - the profile out of the page. Its form is described in write_html.c, which writes it.

const ORIGINS = ['', 'app', 'packages', 'Node.js', 'native', 'garbage collector', 'idle'];

function decodeBase64(text) {
  if (Uint8Array.fromBase64) return Uint8Array.fromBase64(text);
  const raw = atob(text);
  const bytes = new Uint8Array(raw.length);
  for (let i = 0; i < raw.length; i++) bytes[i] = raw.charCodeAt(i);
  return bytes;
}

// Numbers up to 2^53, so no shifts beyond the first 28 bits.
class Reader {
  constructor(bytes) {
    this.bytes = bytes;
    this.at = 0;
  }

  next() {
    let b = this.bytes[this.at++];
    if (b < 0x80) return b;
    let v = b & 0x7f;
    let scale = 128;
    do {
      b = this.bytes[this.at++];
      v += (b & 0x7f) * scale;
      scale *= 128;
    } while (b >= 0x80);
    return v;
  }

  strings() {
    const decoder = new TextDecoder();
    const list = new Array(this.next());
    for (let i = 0; i < list.length; i++) {
      const n = this.next();
      list[i] = decoder.decode(this.bytes.subarray(this.at, this.at + n));
      this.at += n;
    }
    return list;
  }
}

function readFrames(r, strings) {
  const n = r.next();
  const frames = [{ name: '(root)', url: '', line: 0, column: 0, origin: 0, package: '' }];
  for (let i = 0; i < n; i++) {
    const name = strings[r.next()];
    const url = strings[r.next()];
    frames.push({ name: name || '(anonymous)', url, line: r.next(), column: r.next(), origin: r.next(), package: strings[r.next()] });
  }
  return frames;
}

// Own weights come with the nodes; totals are added up from the last node to the first, which is callees before their callers.
function readNodes(r, p) {
  const rootSelf = r.next();
  const rootBase = p.compare ? r.next() : 0;
  const n = r.next();
  const frame = new Uint32Array(n + 1);
  const parent = new Uint32Array(n + 1);
  const depth = new Uint16Array(n + 1);
  const end = new Uint32Array(n + 1);
  const self = new Float64Array(n + 1);
  const baseSelf = p.compare ? new Float64Array(n + 1) : null;
  self[0] = rootSelf;
  if (baseSelf) baseSelf[0] = rootBase;
  for (let i = 1; i <= n; i++) {
    frame[i] = r.next();
    const code = r.next();
    let up = code >> 1;
    let caller = i - 1;
    while (up-- > 0) caller = parent[caller];
    parent[i] = caller;
    depth[i] = depth[caller] + 1;
    if (code & 1) {
      self[i] = r.next();
      if (baseSelf) baseSelf[i] = r.next();
    }
  }
  const total = self.slice();
  const baseTotal = baseSelf ? baseSelf.slice() : null;
  let deepest = 0;
  for (let i = n; i > 0; i--) {
    if (end[i] === 0) end[i] = i + 1;
    if (end[i] > end[parent[i]]) end[parent[i]] = end[i];
    total[parent[i]] += total[i];
    if (baseTotal) baseTotal[parent[i]] += baseTotal[i];
    if (depth[i] > deepest) deepest = depth[i];
  }
  end[0] = n + 1;
  Object.assign(p, { n, frame, parent, depth, end, self, total, baseSelf, baseTotal, deepest });
}

function readTimeline(r, p) {
  p.step = r.next();
  const n = r.next();
  const node = new Uint32Array(n);
  const weight = new Float64Array(n);
  let now = 0;
  for (let i = 0; i < n; i++) {
    const z = r.next();
    now += z % 2 === 1 ? -(z + 1) / 2 : z / 2;
    node[i] = now;
    weight[i] = r.next();
  }
  p.runs = { n, node, weight };
}

function readProfile(bytes) {
  const r = new Reader(bytes);
  if (r.next() !== 1) throw new Error('the data of this page are of another version');
  const p = { unit: r.next() };
  const flags = r.next();
  p.compare = (flags & 1) !== 0;
  p.heap = (flags & 4) !== 0;
  p.frames = readFrames(r, r.strings());
  readNodes(r, p);
  readTimeline(r, p);
  return p;
}

function weightText(unit, v) {
  if (unit === 2) return `${v} samples`;
  if (unit === 0) return v >= 1e6 ? `${(v / 1e6).toFixed(2)} s` : v >= 1e3 ? `${(v / 1e3).toFixed(1)} ms` : `${v} µs`;
  if (v < 1024) return `${v} B`;
  const names = ['KiB', 'MiB', 'GiB', 'TiB', 'PiB'];
  let i = 0;
  for (v /= 1024; v >= 1024 && i + 1 < names.length; v /= 1024) i++;
  return `${v.toFixed(1)} ${names[i]}`;
}

const shareText = (part, all) => `${(all > 0 ? (100 * part) / all : 0).toFixed(part > 0 && part * 1000 < all ? 2 : 1)} %`;

function placeText(frame) {
  const file = frame.url.replace(/^file:\/\//, '');
  return file && frame.line ? `${file}:${frame.line}${frame.column ? `:${frame.column}` : ''}` : file;
}
