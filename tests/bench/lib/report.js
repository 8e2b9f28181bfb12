'use strict';
// report.js - tables, for the terminal and for docs/BENCHMARKS.md.

const number = (x, digits = 2) => (x === null || x === undefined || Number.isNaN(x) ? 'n/a' : x.toFixed(digits));
const mib = (kb) => (kb === null || kb === undefined ? 'n/a' : (kb / 1024).toFixed(2));
const signed = (x, digits = 2) => (x >= 0 ? '+' : '−') + Math.abs(x).toFixed(digits);
const percent = (ci) => (ci ? `${signed(ci.mean)} % ± ${Number.isFinite(ci.half) ? ci.half.toFixed(2) : '?'}` : 'n/a');

function table(header, rows) {
  const cells = [header, ...rows].map((r) => r.map(String));
  const width = header.map((_, i) => Math.max(3, ...cells.map((r) => [...r[i]].length)));
  const line = (r) => `| ${r.map((c, i) => c + ' '.repeat(width[i] - [...c].length)).join(' | ')} |`;
  return [line(cells[0]), `| ${width.map((w) => '-'.repeat(w)).join(' | ')} |`, ...cells.slice(1).map(line)].join('\n');
}

// The median of paired differences with its interval.
const middle = (ci) => (Number.isFinite(ci.low) ? `${signed(ci.median)} % (${signed(ci.low)} … ${signed(ci.high)})` : `${signed(ci.median)} % (?)`);

// One promise with its budget: met or missed; with an interval { low, high } only where all of it lies on one side, else what the
// figure itself says, and that the noise of this run is wider than that.
function budget(what, value, limit, unit, { digits = 2, low = value, high = value } = {}) {
  if (value === null || value === undefined || Number.isNaN(value)) return [what, `≤ ${limit} ${unit}`, 'n/a', 'not measured'];
  const range = low === high ? '' : Number.isFinite(low) ? ` (${number(low, digits)} … ${number(high, digits)})` : ' (?)';
  const verdict = value <= limit ? 'met' : 'MISSED';
  const sure = high <= limit || low > limit;
  return [what, `≤ ${limit} ${unit}`, `${number(value, digits)}${range} ${unit}`, sure ? verdict : `${verdict} by the median, within noise`];
}

module.exports = { number, mib, signed, percent, middle, table, budget };
