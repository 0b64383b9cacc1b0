/** Each command by a real process: what it asks of the node, its JSON, its text and its exit status. */
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { ArchipelagoError, ERROR_CODES } from '../../../src/base/index.ts';
import { type Served, serve } from '../http/serve.ts';
import { cli, type RunOptions } from './run.ts';

const GIB = 1024 ** 3;

let node: Served;
beforeEach(async () => {
  node = await serve();
  await node.admin.createVolume({ name: 'd', size: 10 * GIB, labels: { tier: 'fast' } });
  await node.admin.snapshotVolume('d', { name: 'd@1' });
  node.admin.calls.length = 0;
});
afterEach(() => node.stop());

const run = (line: string, options: RunOptions = {}) => cli(line.split(' '), { socket: node.socketPath, ...options });

describe('a command', () => {
  it.each([
    ['volume create v --size 1G', 'createVolume', [{ name: 'v', size: GIB }], { name: 'v', kind: 'volume', size: GIB }, "Made volume 'v', 1G."],
    ['volume create v --size 512 --block-size 64K', 'createVolume', [{ name: 'v', size: 512, blockSize: 65536 }], { blockSize: 65536 }, 'Made'],
    ['volume create --size 1K -- -v', 'createVolume', [{ name: '-v', size: 1024 }], { name: '-v' }, "'-v'"],
    ['volume clone d@1 c', 'cloneSnapshot', ['d@1', { name: 'c' }], { name: 'c', origin: 'd@1' }, "Made volume 'c', 10G."],
    ['volume clone d@1 c --size 11G', 'cloneSnapshot', ['d@1', { name: 'c', size: 11 * GIB }], { size: 11 * GIB }, '11G'],
    ['volume snapshot d s', 'snapshotVolume', ['d', { name: 's' }], { name: 's', kind: 'snapshot' }, "Made snapshot 's', 10G."],
    ['volume ls --label tier=fast', 'listVolumes', [{ label: { key: 'tier', value: 'fast' } }], [{ name: 'd' }], 'tier=fast'],
    ['volume info d@1', 'volumeInfo', ['d@1'], { name: 'd@1', origin: 'd' }, 'origin:     d'],
    ['volume resize d --size 20G', 'resizeVolume', ['d', { size: 20 * GIB, shrink: false }], { size: 20 * GIB }, "Resized volume 'd', 20G."],
    ['volume resize d --size 1G --shrink', 'resizeVolume', ['d', { size: GIB, shrink: true }], { size: GIB }, '1G'],
    ['volume rename d e', 'renameVolume', ['d', { name: 'e' }], { name: 'e' }, "Renamed volume 'e'"],
    [
      'volume label d a=1 b=x=y tier-',
      'labelVolume',
      ['d', { a: '1', b: 'x=y', tier: null }],
      { labels: { a: '1', b: 'x=y' } },
      'labels:     a=1 b=x=y',
    ],
    ['volume rm d', 'removeVolume', ['d'], { name: 'd' }, "Removed volume 'd'"],
    ['volume uri d', 'volumeUri', ['d', null], { uri: 'nbd+unix:///d?socket=/nowhere/n1/nbd.sock' }, 'nbd+unix:///d?socket=/nowhere/n1/nbd.sock'],
    [
      'volume migrate d --to n2',
      'migrateVolume',
      ['d', { to: 'n2' }],
      { name: 'd', from: 'n1', to: 'n2', epoch: '7', pauseMs: 3.25 },
      'from n1 to n2, epoch 7',
    ],
    ['volume check d', 'checkVolume', ['d'], { name: 'd', ok: true, blocks: 12, pages: 3, problems: [] }, "'d' is sound"],
    [
      'cluster status',
      'clusterStatus',
      [],
      { leader: 'n1', term: 3, quorum: true, nodes: [{ name: 'n1' }, { name: 'n2' }, { name: 'n3' }] },
      'leader:  n1, term 3',
    ],
    [
      'cluster remove n2',
      'removeNode',
      ['n2', { force: false }],
      { node: 'n2', voters: ['n1'], learners: ['n3'] },
      'Removed n2. Voters: n1; learners: n3.',
    ],
    ['cluster remove n2 --force', 'removeNode', ['n2', { force: true }], { node: 'n2' }, 'Removed n2.'],
    ['cluster transfer-leader n2', 'transferLeader', [{ to: 'n2' }], { from: 'n1', to: 'n2', term: 4 }, 'n2 leads now, term 4.'],
    ['node drain n2', 'drainNode', ['n2'], { node: 'n2', moved: 2 }, 'Moved 2 volumes off n2.'],
  ])('%s', async (line, method, args, json, text) => {
    const words = line.split(' -- ');
    const asJson = await cli([...words[0]!.split(' '), '--json', ...(words[1] === undefined ? [] : ['--', words[1]])], { socket: node.socketPath });
    expect([asJson.stderr, asJson.status]).toEqual(['', 0]);
    expect(asJson.json).toMatchObject(json);
    expect(asJson.stdout.trimEnd().split('\n')).toHaveLength(1);
    expect(node.admin.calls).toEqual([{ method, args }]);
    // The same again would be refused where it changed a name.
    for (const name of ['v', '-v', 'c', 's', 'e']) node.admin.volumes.delete(name);
    if (!node.admin.volumes.has('d')) await node.admin.createVolume({ name: 'd', size: 512 });
    const forEyes = await run(line);
    expect([forEyes.stderr, forEyes.status]).toEqual(['', 0]);
    expect(forEyes.stdout).toContain(text);
  });

  it('cluster invite prints the token alone on standard output, and on the other what to do with it', async () => {
    const asJson = await cli(['cluster', 'invite', '--json'], { socket: node.socketPath });
    expect([asJson.stderr, asJson.json]).toEqual(['', { token: 'abc', expiresAt: '1970-01-01T01:00:00.000Z' }]);
    const forEyes = await run('cluster invite --expires 30m');
    expect([forEyes.status, forEyes.stdout]).toEqual([0, 'abc\n']);
    expect(forEyes.stderr).toContain('Good once, until 1970-01-01T00:30:00.000Z');
    expect(node.admin.calls.map(({ args }) => args)).toEqual([[{ expiresMs: null }], [{ expiresMs: 1_800_000 }]]);
    for (const time of ['soon', '1', '1y', '-1h']) expect((await run(`cluster invite --expires=${time}`)).status).toBe(2);
    expect((await run('cluster invite --expires 8d')).status).toBe(2);
  });

  it('takes odd names through the shell, the URL and back', async () => {
    for (const name of ['50% "of" it', 'a?b#c', 'ä€𝄞', '..', '--', '$(reboot)']) {
      const made = await cli(['volume', 'create', '--size', '512', '--json', '--', name], { socket: node.socketPath });
      expect(made.json).toMatchObject({ name });
      expect((await cli(['volume', 'rm', '--json', '--', name], { socket: node.socketPath })).json).toMatchObject({ name });
    }
  });

  it('aligns its tables', async () => {
    expect((await run('volume ls')).stdout).toBe(
      [
        'NAME  KIND      SIZE  ALLOCATED  OWNER  CLIENTS  ORIGIN  LABELS',
        'd     volume     10G          0  -            0  -       tier=fast',
        'd@1   snapshot   10G          0  -            0  d       -',
        '',
      ].join('\n'),
    );
  });

  it('says that there is no quorum, and answers all the same', async () => {
    node.admin.cluster = { ...node.admin.cluster, quorum: false, leader: null };
    const { status, stdout } = await run('cluster status');
    expect(status).toBe(0);
    expect(stdout).toMatch(/^quorum: +NO/);
    expect((await run('cluster status --json')).json).toMatchObject({ quorum: false, leader: null });
  });

  it('fails with 1 when the check finds damage, and reports it all the same', async () => {
    node.admin.checkProblems = ['block 3: checksum'];
    const forEyes = await run('volume check d');
    expect([forEyes.status, forEyes.stdout]).toEqual([1, expect.stringContaining('  block 3: checksum')]);
    const asJson = await run('volume check d --json');
    expect([asJson.status, asJson.json.problems]).toEqual([1, ['block 3: checksum']]);
  });

  it('takes --json, --socket and --node before its name as well', async () => {
    const { status, json } = await cli(['--json', '--socket', node.socketPath, 'volume', 'info', 'd']);
    expect([status, json.name]).toEqual([0, 'd']);
    const uri = await cli(['volume', 'uri', 'd', '--node', 'n3', '--json', '--socket', node.socketPath]);
    expect(uri.json.uri).toContain('/n3/');
  });

  it('does not complain when its reader leaves', async () => {
    for (let i = 0; i < 2000; i++) node.admin.volumes.set(`v${i}`, { ...node.admin.volumes.get('d')!, name: `v${i}` });
    const { stderr } = await run('volume ls', { onStart: (child) => child.stdout?.once('data', () => child.stdout?.destroy()) });
    expect(stderr).toBe('');
  });
});

describe('exit statuses and errors', () => {
  const EXPECTED: Record<string, number> = {
    'invalid-argument': 2,
    'not-found': 3,
    exists: 4,
    'in-use': 4,
    'stale-epoch': 4,
    'read-only': 4,
    conflict: 4,
    'already-running': 4,
    unavailable: 5,
    timeout: 5,
  };

  it.each(ERROR_CODES)('%s', async (code) => {
    node.admin.failure = new ArchipelagoError(code, 'what happened', { hint: 'what to do' });
    const { status, json, stdout } = await run('volume info d --json');
    expect(status).toBe(EXPECTED[code] ?? 1);
    expect(stdout).toBe('');
    expect(json).toEqual({ error: { code, message: 'what happened', hint: 'what to do' } });
  });

  it('are for eyes without --json', async () => {
    const { status, stdout, stderr } = await run('volume info nothing');
    expect([status, stdout, stderr]).toEqual([3, '', "error: there is no volume 'nothing'\nhint: `archipelago volume ls` lists them\n"]);
  });

  it.each([
    ['volume rm d', 4, (served: Served) => void Object.assign(served.admin.volumes.get('d')!, { clients: 1 })],
    ['volume create d --size 1G', 4, () => undefined],
    ['volume resize d --size 1G', 4, () => undefined],
    ['volume resize d@1 --size 20G', 4, () => undefined],
    ['volume clone d@1 c --size 1G', 2, () => undefined],
    ['volume clone nothing c', 3, () => undefined],
    ['volume migrate d --to n9', 3, () => undefined],
  ])('%s ends with %i', async (line, status, prepare) => {
    prepare(node);
    expect((await run(line)).status).toBe(status);
  });

  it('tells a node that is not there from one that leaves', async () => {
    const nowhere = await run('volume ls --json', { socket: '/nowhere/admin.sock' });
    expect([nowhere.status, nowhere.json.error]).toMatchObject([5, { code: 'unavailable', message: expect.stringContaining('/nowhere/admin.sock') }]);
    let open = () => {};
    node.admin.gate = new Promise((resolve) => {
      open = resolve;
    });
    const [asked, changed] = [run('volume ls --json'), run('volume rename d e --json')];
    while (node.admin.calls.length < 2) await new Promise((resolve) => setTimeout(resolve, 5));
    await node.server.close();
    open();
    const message = expect.stringContaining('ended the connection');
    expect([(await asked).status, (await asked).json.error]).toMatchObject([5, { code: 'unavailable', message }]);
    // It was asked for, and may have been done.
    expect([(await changed).status, (await changed).json.error]).toMatchObject([5, { code: 'timeout', message }]);
  });
});
