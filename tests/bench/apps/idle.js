'use strict';
// idle.js - a server that nobody calls: what an idle worker costs is measured on it.
require('node:http').createServer((rq, rs) => rs.end()).listen(0, '127.0.0.1');
