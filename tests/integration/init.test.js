'use strict';
// `pillion run`: exit status, signals, stopping, reaping, the helper's life; as pid 1 and as a subreaper.

const { test } = require('node:test');
const assert = require('node:assert');
const { spawnSync } = require('node:child_process');
const fs = require('node:fs');
const os = require('node:os');
const path = require('node:path');
const h = require('./lib/harness');
const { WAYS, initTool, processes, childrenOf, initPid, helperOf } = require('./lib/init');

const NODE = process.execPath;
// A wrong variable: the helper ends with 78 and stays away. What a test has to say is then about init alone, and quick.
const ALONE = { PILLION_SINKK: 'x', PILLION_LOG: 'error' };
const TERMINAL_SIGNALS = ['SIGINT', 'SIGQUIT', 'SIGTSTP', 'SIGTTIN', 'SIGTTOU', 'SIGCONT', 'SIGCHLD', 'SIGSTOP', 'SIGURG', 'SIGWINCH', 'SIGIO', 'SIGPOLL', 'SIGIOT'];

async function parallel(width, items, fn) {
  const queue = [...items];
  await Promise.all(Array.from({ length: width }, async () => {
    while (queue.length > 0) await fn(queue.shift());
  }));
}

// Ends with what `sh -c script` ends with under `run`.
async function statusOf(t, way, script, env) {
  const r = h.start(t, ['run', '--', 'sh', '-c', script], { before: way.before, env });
  const { code, signal } = await r.ended;
  return signal ?? code;
}

for (const way of WAYS) {
  const opt = { skip: way.skip };

  test(`P02 every exit code, without a helper, ${way.name}`, opt, async (t) => {
    const wrong = [];
    await parallel(3, Array.from({ length: 256 }, (_, i) => i), async (code) => {
      const got = await statusOf(t, way, `exit ${code}`, ALONE);
      if (got !== code) wrong.push([code, got]);
    });
    assert.deepStrictEqual(wrong, []);
  });

  test(`P02 every fatal signal, ${way.name}`, opt, async (t) => {
    const wrong = [];
    const notFatal = new Set(TERMINAL_SIGNALS.filter((s) => !['SIGINT', 'SIGQUIT', 'SIGIO', 'SIGPOLL', 'SIGIOT'].includes(s)).map((s) => os.constants.signals[s]));
    const fatal = Array.from({ length: 64 }, (_, i) => i + 1).filter((n) => !notFatal.has(n) && n !== 32 && n !== 33);
    await parallel(3, fatal, async (n) => {
      const got = await statusOf(t, way, `ulimit -c 0; kill -${n} $$; sleep 5`, ALONE);
      if (got !== 128 + n) wrong.push([n, got]);
    });
    assert.deepStrictEqual(wrong, []);
    assert.ok(fatal.length > 50);
  });

  test(`P02 not found 127, not executable 126, wrong usage 64, ${way.name}`, opt, async (t) => {
    const dir = h.tempDir(t);
    fs.writeFileSync(path.join(dir, 'plain'), 'x', { mode: 0o644 });
    const run = async (args) => {
      const r = h.start(t, ['run', ...args], { before: way.before, dir });
      return [(await r.ended).code, r.stderr.trim().split('\n').length, r.stderr];
    };
    for (const [args, code] of [
      [['--', 'no-such-command'], 127], [['--', './no/such'], 127], [['--', './plain'], 126], [['--', '/'], 126],
      [[], 64], [['--'], 64], [['--workers'], 64], [['--workers', '0', 'x.js'], 64], [['--workers', 'many', 'x.js'], 64],
      [['--workers=2'], 64], [['--nonsense', 'true'], 64],
    ]) {
      const [got, lines, text] = await run(args);
      assert.strictEqual(got, code, `${args.join(' ')}: ${text}`);
      assert.strictEqual(lines, 1, `one line: ${text}`);
    }
  });

  test(`P02 with the helper alive and with the helper just killed, ${way.name}`, opt, async (t) => {
    for (const [script, want] of [['exit 7', 7], ['kill -9 $$', 137]]) {
      for (const kill of ['', 'kill -9 $(cat "$PILLION_RUNTIME_DIR/helper.lock"); ']) {
        const r = h.start(t, ['run', '--', 'sh', '-c', `until [ -s "$PILLION_RUNTIME_DIR/helper.lock" ]; do sleep 0.05; done; ${kill}${script}`], { before: way.before });
        assert.strictEqual((await r.ended).code, want, r.stderr);
      }
    }
  });

  // main ends at once; one needs 1 s, its sibling 3 s, and of the sibling there is a child, in a session of its own, that needs 20 s.
  test(`P03 those who can, finish; the last is killed a second before the stop timeout; nobody is told twice, ${way.name}`, opt, async (t) => {
    const dir = h.tempDir(t);
    const log = path.join(dir, 'log');
    const tree = [{ name: 'one', seconds: 1 }, { name: 'three', seconds: 3, children: [{ name: 'twenty', seconds: 20, detached: true }] }];
    const r = h.start(t, ['run', '--', NODE, path.join(h.APPS, 'slow_end.js'), 'main', '0', log, JSON.stringify(tree)],
      { before: way.before, dir, env: { PILLION_STOP_TIMEOUT: '10s' } });
    await r.waitReady();
    await h.waitFor('all are up', () => fs.readFileSync(log, 'utf8').split(' up ').length === 5);
    const init = await initPid(r, way);
    const begin = Date.now();
    process.kill(init, 'SIGTERM');
    await r.ended;
    const took = Date.now() - begin;
    const text = fs.readFileSync(log, 'utf8');
    const count = (what) => text.split('\n').filter((l) => l.startsWith(what)).length;
    for (const name of ['main', 'one', 'three', 'twenty']) assert.strictEqual(count(`${name} term`), 1, `${name} is told once\n${text}`);
    for (const name of ['main', 'one', 'three']) assert.strictEqual(count(`${name} end`), 1, `${name} finishes\n${text}`);
    assert.strictEqual(count('twenty end'), 0);
    assert.ok(took >= 8950 && took < 10000, `killed at 9 s; all was over after ${took} ms`);
    t.diagnostic(`over after ${took} ms`);
    assert.deepStrictEqual(r.exit, { code: 0, signal: null });
    assert.ok(!processes().some((p) => p.ppid === init), 'nobody is left');
  });

  test(`P03 the end comes with the last descendant, not with the timeout; a main process that goes leaves nobody behind, ${way.name}`, opt, async (t) => {
    const dir = h.tempDir(t);
    const log = path.join(dir, 'log');
    const tree = JSON.stringify([{ name: 'half', seconds: 0.5, detached: true }]);
    const r = h.start(t, ['run', '--', 'sh', '-c', `${NODE} ${path.join(h.APPS, 'slow_end.js')} up 1 ${log} '${tree}' & until grep -q 'half up' ${log} 2>/dev/null; do sleep 0.05; done; exit 3`],
      { before: way.before, dir, env: { PILLION_STOP_TIMEOUT: '1m' } });
    const exit = await r.ended;
    const over = Date.now();
    assert.deepStrictEqual(exit, { code: 3, signal: null }, r.stderr);
    const lines = fs.readFileSync(log, 'utf8').trim().split('\n').map((l) => l.split(' '));
    assert.deepStrictEqual(lines.map((l) => `${l[0]} ${l[1]}`).sort(), ['half end', 'half term', 'half up', 'up end', 'up term', 'up up']);
    const last = Math.max(...lines.filter((l) => l[1] === 'end').map((l) => Number(l[2])));
    t.diagnostic(`${over - last} ms after the last descendant`);
    assert.ok(over - last < 2000, `ended ${over - last} ms after the last`);
  });

  test(`P04 5,000 orphans at once: no zombie stays, no status is lost, ${way.name}`, opt, async (t) => {
    const dir = h.tempDir(t);
    const file = path.join(dir, 'stderr');
    const fd = fs.openSync(file, 'w'); // a file takes every line; a pipe would drop some
    const r = h.start(t, ['run', '--', initTool(), 'orphans', '5000'], { before: way.before, dir, env: { PILLION_LOG: 'debug' }, stdio: ['ignore', 'pipe', fd] });
    fs.closeSync(fd);
    await h.waitFor('5,000 orphans', () => r.stdout.includes('ready'), 60000);
    const init = await initPid(r, way);
    assert.ok(childrenOf(init).length > 5000);
    const app = Number(fs.readFileSync(`/proc/${init}/task/${init}/children`, 'latin1').split(' ')[0]); // in order of birth
    process.kill(app, 'SIGUSR1');
    await h.waitFor('they are released', () => r.stdout.includes('released'));
    const begin = Date.now();
    await h.waitFor('they are gone', () => childrenOf(init).length <= 2);
    t.diagnostic(`gone after ${Date.now() - begin} ms`);
    assert.ok(!childrenOf(init).some((p) => p.state === 'Z'));
    process.kill(init, 'SIGTERM');
    await r.ended;
    const codes = new Array(200).fill(0);
    for (const m of fs.readFileSync(file, 'utf8').matchAll(/orphan \d+ ended: code (\d+), signal 0/g)) codes[m[1]]++;
    codes[0] = Math.min(codes[0], 25); // the one in between ends with 0 as well, when its parent is slow
    assert.deepStrictEqual(codes, new Array(200).fill(25));
  });

  test(`P05 each signal that can be forwarded arrives once, ${way.name}`, opt, async (t) => {
    const r = h.start(t, ['run', '--', initTool(), 'signals'], { before: way.before, env: ALONE });
    await h.waitFor('the application waits', () => r.stdout.includes('ready'));
    const init = await initPid(r, way);
    const C = os.constants.signals;
    const without = new Set([C.SIGKILL, C.SIGSTOP, C.SIGCHLD, 32, 33, C.SIGTERM]);
    const all = [...Array.from({ length: 64 }, (_, i) => i + 1).filter((n) => !without.has(n)), C.SIGTERM];
    for (const n of all) {
      spawnSync('kill', [`-${n}`, String(init)]);
      await h.waitFor(`signal ${n}`, () => r.stdout.includes(`got ${n}\n`), 5000);
    }
    assert.strictEqual((await r.ended).code, 0);
    assert.deepStrictEqual(r.stdout.trim().split('\n').slice(1).map((l) => Number(l.slice(4))), all);
  });

  test(`P05 P65 the application's state is the one it has without us, ${way.name}`, opt, async (t) => {
    // Directly, without a shell, which has a signal mask of its own mind.
    const looks = [
      ['grep', '-E', '^(Umask|Groups|Uid|Gid|Sig(Blk|Ign|Cgt)|Cap|NoNewPrivs|Seccomp:|Cpus_allowed_list|THP)', '/proc/self/status'],
      ['cat', '/proc/self/limits', '/proc/self/oom_score_adj'], ['ls', '/proc/self/fd'], ['pwd'],
    ];
    for (const [ignored, blocked] of [['-', '-'], ['1,13,17,20,21,22', '10,12,14,40'], ['15,2', '17,15,2,1,64']]) {
      const dir = h.tempDir(t);
      const extra = fs.openSync(path.join(dir, 'extra'), 'w'); // a descriptor that is passed on
      const start = [...way.before, initTool(), 'with', ignored, blocked];
      const run = (command) => {
        const env = h.cleanEnv({ PILLION_RUNTIME_DIR: `${dir}/run`, PILLION_DATA_DIR: `${dir}/data`, PILLION_LOG: 'error' });
        const r = spawnSync(start[0], [...start.slice(1), ...command], { cwd: dir, encoding: 'utf8', env, stdio: ['ignore', 'pipe', 'pipe', extra] });
        assert.strictEqual(r.status, 0, r.stderr);
        return r.stdout;
      };
      for (const look of looks) {
        const plain = run(look);
        assert.strictEqual(run([h.BIN, 'run', '--', ...look]), plain);
        if (look[0] === 'grep') assert.match(plain, blocked === '-' ? /SigBlk:\s+0+\n/ : /SigBlk:\s+0*[1-9a-f][0-9a-f]*\n/);
      }
      fs.closeSync(extra);
    }
  });

  test(`the end is written down, ${way.name}`, opt, async (t) => {
    const r = h.start(t, ['run', '--', 'sh', '-c', 'kill -SEGV $$'], { before: way.before });
    await r.ended;
    const record = JSON.parse(fs.readFileSync(path.join(r.data, 'exit.json'), 'utf8'));
    assert.strictEqual(record.signal, 11);
    assert.strictEqual(record.code, null);
    assert.strictEqual(record.helper_restarts, 0);
    assert.ok(record.peak_rss_bytes > 100000);
    assert.match(r.stderr, /ended by signal 11/);
  });
}

test('P01 the helper is killed again and again under load: the application does not notice', async (t) => {
  const kills = Number(process.env.PILLION_TEST_KILLS || 40);
  const server = path.join(h.tempDir(t), 'server.js');
  fs.writeFileSync(server, "require('http').createServer((q, r) => r.end(String(process.pid))).listen(0, function () { console.log(this.address().port); });");
  const r = h.start(t, ['run', '--', NODE, server]);
  await r.waitReady();
  const port = Number(await h.waitFor('the port', () => r.stdout.trim()));
  const app = childrenOf(r.pid).find((p) => p.pid !== helperOf(r.pid));
  let errors = 0, answers = 0, on = true;
  const agent = new (require('node:http').Agent)({ keepAlive: true, maxSockets: 4 });
  const load = Array.from({ length: 2 }, async () => {
    while (on) {
      try {
        const pid = await new Promise((resolve, reject) => {
          require('node:http').get({ port, agent }, (a) => { let s = ''; a.on('data', (d) => { s += d; }); a.on('end', () => resolve(s)); a.on('error', reject); }).on('error', reject);
        });
        if (Number(pid) !== app.pid) errors++;
        answers++;
      } catch {
        errors++;
      }
      await h.pause(5);
    }
  });
  const back = [];
  for (let i = 0; i < kills; i++) {
    const old = await h.waitFor('a helper', () => helperOf(r.pid));
    const begin = Date.now();
    process.kill(old, i % 2 ? 'SIGSEGV' : 'SIGKILL');
    await h.waitFor('a new helper answers', async () => {
      const now = helperOf(r.pid);
      return now && now !== old && h.helperPid(r) === now && (await r.get('/healthz')).status === 200;
    }, 10000);
    back.push(Date.now() - begin);
  }
  on = false;
  await Promise.all(load);
  agent.destroy();
  back.sort((a, b) => a - b);
  t.diagnostic(`${kills} kills, back after ${back[kills >> 1]} ms (median), ${back[kills - 1]} ms (most), ${answers} answers`);
  assert.ok(back[kills >> 1] < 1000, 'back in a second; on a busy machine one or the other may take longer');
  assert.strictEqual(errors, 0);
  assert.ok(answers > kills);
  const still = processes().find((p) => p.pid === app.pid);
  assert.strictEqual(still.start, app.start);
  process.kill(r.pid, 'SIGTERM');
  assert.strictEqual((await r.ended).code, 143);
  assert.strictEqual(JSON.parse(fs.readFileSync(path.join(r.data, 'exit.json'), 'utf8')).helper_restarts, kills);
});

test('-g: the whole process group is told, and nobody of it a second time', async (t) => {
  const dir = h.tempDir(t);
  const log = path.join(dir, 'log');
  const tree = JSON.stringify([{ name: 'inside', seconds: 1 }, { name: 'outside', seconds: 0, detached: true }]);
  const r = h.start(t, ['run', '-g', '--', NODE, path.join(h.APPS, 'slow_end.js'), 'main', '0.2', log, tree], { dir, env: ALONE });
  await h.waitFor('all are up', () => fs.readFileSync(log, 'utf8').split(' up ').length === 4);
  process.kill(r.pid, 'SIGTERM');
  assert.deepStrictEqual(await r.ended, { code: 0, signal: null });
  const events = fs.readFileSync(log, 'utf8').trim().split('\n').map((l) => l.split(' ').slice(0, 2).join(' ')).filter((e) => !e.endsWith(' up'));
  assert.deepStrictEqual([...events].sort(), ['inside end', 'inside term', 'main end', 'main term', 'outside end', 'outside term']);
  assert.ok(events.indexOf('inside term') < events.indexOf('main end'), 'at once, not when it is an orphan');
});

test('the helper ends when init is killed; the application goes on', async (t) => {
  const r = await h.startRun(t, [NODE, '-e', 'setInterval(() => {}, 1e6)'], { stdio: ['ignore', 'ignore', 'ignore'] });
  const helper = helperOf(r.pid);
  const app = childrenOf(r.pid).find((p) => p.pid !== helper).pid;
  h.defer(t, () => process.kill(app, 'SIGKILL'));
  process.kill(r.pid, 'SIGKILL');
  await h.waitFor('the helper has gone', () => !processes().some((p) => p.pid === helper && p.state !== 'Z'));
  assert.ok(processes().some((p) => p.pid === app && p.state !== 'Z'));
});

test('a run inside a run has no second helper, and one --require', async (t) => {
  const r = h.start(t, ['run', '--', h.BIN, 'run', '--', NODE, '-e', 'console.log(process.env.NODE_OPTIONS); setInterval(() => {}, 1e6)']);
  await r.waitReady();
  await h.waitFor('the application', () => r.stdout.includes('\n'));
  assert.strictEqual(r.stdout.split('--require').length, 2);
  const all = processes();
  const helpers = all.filter((p) => { try { return fs.readFileSync(`/proc/${p.pid}/cmdline`, 'latin1').split('\0')[1] === 'agent' && fs.readFileSync(`/proc/${p.pid}/environ`, 'latin1').includes(r.runtime); } catch { return false; } });
  assert.strictEqual(helpers.length, 1);
});

test('P07 NODE_OPTIONS: what was there stays first; blanks and quotes in the directory; a malformed one is left alone', async (t) => {
  const dir = path.join(h.tempDir(t), 'a b"c\\d');
  fs.mkdirSync(dir);
  const run = (old) => h.start(t, ['run', '--', NODE, '-p', 'process.title + "|" + process.env.NODE_OPTIONS'], { dir, env: { NODE_OPTIONS: old } });
  const good = run('--title="x y"');
  assert.strictEqual((await good.ended).code, 0, good.stderr);
  assert.ok(good.stdout.startsWith('x y|--title="x y" --require="'), good.stdout);
  const bad = run('--title="x');
  assert.strictEqual((await bad.ended).code, 9, bad.stderr);
  assert.match(bad.stderr, /unterminated string/);
});

test('a package.json further up that makes ES modules of everything does no harm', async (t) => {
  const dir = h.tempDir(t);
  fs.writeFileSync(path.join(dir, 'package.json'), '{"type":"module"}');
  fs.mkdirSync(path.join(dir, 'app'));
  const r = h.start(t, ['run', '--', NODE, '-p', '1+1'], { dir });
  assert.strictEqual((await r.ended).code, 0, r.stderr);
  assert.strictEqual(r.stdout, '2\n');
});

for (const [what, make] of [
  ['a symbolic link', (p, dir) => fs.symlinkSync(dir, p)],
  ['a file', (p) => fs.writeFileSync(p, '')],
  ['a directory open to all', (p) => { fs.mkdirSync(p); fs.chmodSync(p, 0o777); }],
  ['somebody else\'s directory', (p) => { fs.mkdirSync(p); fs.chownSync(p, 12345, 12345); }, process.getuid() !== 0 && 'only root can give a directory away'],
]) {
  test(`P63 ${what} where the runtime directory should be: said in a line, the application starts without us`, { skip: (what.startsWith('somebody') && process.getuid() !== 0) ? 'only root can give a directory away' : false }, async (t) => {
    const dir = h.tempDir(t);
    make(path.join(dir, 'run'), dir);
    const r = h.start(t, ['run', '--', NODE, '-p', 'process.env.NODE_OPTIONS'], { dir });
    assert.strictEqual((await r.ended).code, 0);
    assert.strictEqual(r.stdout, 'undefined\n');
    assert.strictEqual(r.stderr.trim().split('\n').length, 1, r.stderr);
    assert.match(r.stderr, /starts without the helper/);
  });
}

test('P63 a hard link where preload.js should be is replaced, its other name stays as it was', async (t) => {
  const dir = h.tempDir(t);
  fs.mkdirSync(path.join(dir, 'run'), { mode: 0o700 });
  fs.writeFileSync(path.join(dir, 'theirs'), 'process.exit(66)');
  fs.linkSync(path.join(dir, 'theirs'), path.join(dir, 'run/preload.js'));
  const r = h.start(t, ['run', '--', NODE, '-p', '1'], { dir });
  assert.strictEqual((await r.ended).code, 0, r.stderr);
  assert.strictEqual(fs.readFileSync(path.join(dir, 'theirs'), 'utf8'), 'process.exit(66)');
});

test('init sleeps: not one wake-up while nothing happens', async (t) => {
  const r = await h.startRun(t, ['sleep', '1000']);
  const switches = () => Number(/^voluntary_ctxt_switches:\s*(\d+)/m.exec(fs.readFileSync(`/proc/${r.pid}/status`, 'utf8'))[1]);
  await h.pause(300);
  const before = switches();
  await h.pause(3000);
  assert.strictEqual(switches(), before);
});
