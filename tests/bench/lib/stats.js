'use strict';
// stats.js - the little statistics that the benchmarks need.
//
// Differences are always paired: run n of "with" against run n of "without", made one after the other, so that what drifts on
// the machine is in both. The interval is Student's t at 95 %.

const sum = (a) => a.reduce((s, x) => s + x, 0);
const mean = (a) => sum(a) / a.length;

function quantile(a, q) {
  const s = [...a].sort((x, y) => x - y);
  const at = (s.length - 1) * q;
  const low = Math.floor(at);
  return s[low] + (s[Math.min(low + 1, s.length - 1)] - s[low]) * (at - low);
}
const median = (a) => quantile(a, 0.5);

function deviation(a) {
  const m = mean(a);
  return Math.sqrt(sum(a.map((x) => (x - m) ** 2)) / (a.length - 1));
}

// Two-sided 95 % quantile of Student's t. Up to 30 degrees of freedom the table, beyond it an expansion (error below 0.001).
const T95 = [12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.16, 2.145, 2.131, 2.12, 2.11,
  2.101, 2.093, 2.086, 2.08, 2.074, 2.069, 2.064, 2.06, 2.056, 2.052, 2.048, 2.045, 2.042];
function t95(df) {
  if (df < 1) return Infinity;
  if (df <= T95.length) return T95[df - 1];
  const z = 1.959964;
  return z + (z ** 3 + z) / (4 * df) + (5 * z ** 5 + 16 * z ** 3 + 3 * z) / (96 * df * df);
}

// Mean and half width of its 95 % interval; the half width of a single value is unknown (Infinity).
function interval(a) {
  return { n: a.length, mean: mean(a), half: a.length < 2 ? Infinity : (t95(a.length - 1) * deviation(a)) / Math.sqrt(a.length) };
}

// Relative paired differences with/without - 1, in per cent: mean and interval, the median with its own 95 % interval, and how many
// differ by more than `outlier` times the median absolute deviation. Those stay in: a machine that is shared makes them, and
// throwing them away would flatter. The median's interval goes by rank (binomial, normal approximation) and so bears them.
function pairedPercent(without, withUs, outlier = 5) {
  const d = without.map((w, i) => (withUs[i] / w - 1) * 100);
  const m = median(d);
  const mad = median(d.map((x) => Math.abs(x - m))) || 1e-9;
  return { ...interval(d), median: m, ...ranks(d), outliers: d.filter((x) => Math.abs(x - m) > outlier * 1.4826 * mad).length };
}

// { low, high } of the median; infinite where there are too few values for any interval at 95 %.
function ranks(a) {
  if (a.length < 6) return { low: -Infinity, high: Infinity };
  const s = [...a].sort((x, y) => x - y);
  const k = Math.max(0, Math.floor((s.length - 1.96 * Math.sqrt(s.length)) / 2 - 0.5));
  return { low: s[k], high: s[s.length - 1 - k] };
}

module.exports = { sum, mean, median, quantile, deviation, t95, interval, pairedPercent };
