'use strict';
// profiled.js - work of several kinds for a profile: own functions, recursion, a package, a regular expression, garbage, Node's own
// modules, idle time; and a name that would end a <script>.

const zlib = require('node:zlib');

const fib = (n) => (n < 2 ? n : fib(n - 1) + fib(n - 2));
class Tree {
  constructor(depth) {
    if (depth > 0) {
      this.left = new Tree(depth - 1);
      this.right = new Tree(depth - 1);
    }
  }

  sum() {
    return 1 + (this.left ? this.left.sum() + this.right.sum() : 0);
  }
}
// Not computed: V8 names a computed one after the variable.
const nasty = { '</script><b onclick="x">&\\ \u2028é😀'(n) {
  let s = 0;
  for (let i = 0; i < n; i++) s += Math.sqrt(i);
  return s;
} };

const keep = [];
const rounds = Number(process.argv[2] || 4);
for (let i = 0; i < rounds; i++) {
  fib(25);
  const tree = new Tree(13);
  keep.push(tree.sum(), tree);
  Object.values(nasty)[0](2e6);
  zlib.gzipSync(Buffer.alloc(5e5, `abc${i}`));
  keep.push(JSON.parse(JSON.stringify(Array.from({ length: 10000 }, (_, k) => ({ k, name: `n${k}` })))));
  /(a+)+b/.test('a'.repeat(20));
}
setTimeout(() => keep.length, 50);
