'use strict';
// bench_stats.test.js - the statistics behind docs/BENCHMARKS.md, against values from tables of Student's t.

const assert = require('node:assert');
const { test } = require('node:test');

const { interval, median, pairedPercent, quantile, t95 } = require('../bench/lib/stats');
const { budget } = require('../bench/lib/report');

const near = (a, b, by = 0.001) => assert.ok(Math.abs(a - b) <= by, `${a} is not ${b}`);

test('P12 quantiles of t agree with the table, within and beyond 30 degrees of freedom', () => {
  near(t95(1), 12.706);
  near(t95(10), 2.228);
  near(t95(30), 2.042);
  near(t95(40), 2.021);
  near(t95(60), 2.0, 0.002);
  near(t95(120), 1.98);
});

test('P12 paired differences are relative to their own partner', () => {
  const d = pairedPercent([100, 200, 300], [99, 196, 291]);
  near(d.mean, -2);
  near(d.half, (4.303 * 1) / Math.sqrt(3));
  assert.equal(interval([5]).half, Infinity);
  near(median([4, 1, 3, 2]), 2.5);
  near(quantile([1, 2, 3, 4, 5], 0.95), 4.8);
});

test('P12 the median has the interval that the binomial distribution gives it', () => {
  const ranks = { 6: [1, 6], 8: [1, 8], 10: [2, 9], 20: [6, 15], 24: [7, 18], 40: [14, 27] }; // as in published tables
  for (const [n, [low, high]] of Object.entries(ranks)) {
    const with_ = Array.from({ length: Number(n) }, (_, i) => 101 + i); // +1 %, +2 %, …
    const d = pairedPercent(with_.map(() => 100), with_.reverse());
    near(d.low, low);
    near(d.high, high);
  }
  assert.equal(pairedPercent([1, 1, 1, 1, 1], [1, 2, 3, 4, 5]).high, Infinity, 'five values say nothing at 95 %');
});

test('P12 a budget is met or missed only where the interval allows to say so', () => {
  assert.equal(budget('x', 0.2, 1, '%', { low: -0.3, high: 0.7 })[3], 'met');
  assert.equal(budget('x', 0.2, 1, '%')[3], 'met');
  assert.equal(budget('x', 0.8, 1, '%', { low: 0.3, high: 1.3 })[3], 'met by the median, within noise');
  assert.equal(budget('x', 1.8, 1, '%', { low: 1.3, high: 2.3 })[3], 'MISSED');
  assert.equal(budget('x', 1.2, 1, '%', { low: -Infinity, high: Infinity })[3], 'MISSED by the median, within noise');
  assert.equal(budget('x', NaN, 1, '%')[3], 'not measured');
});
