// certificates.js - an authority of our own and what it signs, and everything that can be wrong with such a certificate.
'use strict';

const { execFileSync } = require('node:child_process');
const fs = require('node:fs');
const path = require('node:path');

// false, or why tests with certificates are skipped.
const noOpenssl = (() => {
  try {
    execFileSync('openssl', ['version']);
    return false;
  } catch {
    return 'openssl is not installed';
  }
})();

// In `dir`, as PEM files: ca, other (authorities); good, name (for elsewhere.example alone), expired, foreign (signed by other),
// client. `pair(name)` is { key, cert }, `file(name.pem)` the path of one.
function makeCertificates(dir) {
  const run = (...args) => execFileSync('openssl', args, { cwd: dir, stdio: ['ignore', 'ignore', 'pipe'] });
  const key = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes'];
  const authority = (name) => run('req', '-x509', ...key, '-keyout', `${name}.key`, '-out', `${name}.pem`, '-days', '2', '-subj', `/CN=${name}`);
  const leaf = (name, { names = 'IP:127.0.0.1,DNS:localhost', days = '2', ca = 'ca' } = {}) => {
    fs.writeFileSync(path.join(dir, `${name}.ext`), `subjectAltName=${names}\n`);
    run('req', ...key, '-keyout', `${name}.key`, '-out', `${name}.csr`, '-subj', `/CN=${name}`);
    run('x509', '-req', '-in', `${name}.csr`, '-CA', `${ca}.pem`, '-CAkey', `${ca}.key`, '-CAcreateserial', '-out', `${name}.pem`, '-days', days, '-extfile', `${name}.ext`);
  };
  authority('ca');
  authority('other');
  leaf('good');
  leaf('name', { names: 'DNS:elsewhere.example' });
  leaf('expired', { days: '-1' });
  leaf('foreign', { ca: 'other' });
  leaf('client');
  const pair = (name) => ({ key: fs.readFileSync(path.join(dir, `${name}.key`)), cert: fs.readFileSync(path.join(dir, `${name}.pem`)) });
  return { pair, file: (name) => path.join(dir, name) };
}

module.exports = { makeCertificates, noOpenssl };
