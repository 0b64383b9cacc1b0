/** What scripts rely on: the JSON of every command, key by key, and its exit status. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { requireTools } from '../support/tools.ts';
import { checksum, pipeline, qemuIo, temporaryDirectory } from './support/clients.ts';
import { type CliResult, shareCluster } from './support/cluster.ts';

const MIB = 1024 ** 2;
const VOLUME = {
  name: 'string',
  id: 'string',
  kind: 'string',
  size: 'number',
  blockSize: 'number',
  origin: 'null',
  owner: 'null',
  clients: 'number',
  allocatedBytes: 'number',
  createdAt: 'time',
  labels: {},
};
const OWNED = { ...VOLUME, owner: { node: 'string', epoch: 'string' } };

/** The types of all keys; of lists, that of their first element. */
function shapeOf(value: unknown): unknown {
  if (value === null) return 'null';
  if (Array.isArray(value)) return value.length === 0 ? [] : [shapeOf(value[0])];
  if (typeof value === 'object') return Object.fromEntries(Object.entries(value).map(([key, each]) => [key, shapeOf(each)]));
  if (typeof value === 'string' && /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/.test(value)) return 'time';
  return typeof value;
}

const suite = requireTools(['qemu-io', 'nbdcopy']);

suite('with --json', () => {
  const cluster = shareCluster();
  const cli = (...args: string[]): Promise<CliResult> => cluster().cli(args);

  // In this order: later ones work on what earlier ones made.
  it.each<[string[], unknown, object]>([
    [['volume', 'create', 'disk', '--size', '8M'], VOLUME, { name: 'disk', kind: 'volume', size: 8 * MIB, blockSize: 4 * MIB, allocatedBytes: 0 }],
    [['volume', 'create', 'fine', '--size', '1G', '--block-size', '64K'], VOLUME, { size: 1024 * MIB, blockSize: 65_536 }],
    [
      ['volume', 'migrate', 'disk', '--to', 'n2'],
      { name: 'string', from: 'string', to: 'string', epoch: 'string', pauseMs: 'number' },
      { name: 'disk', to: 'n2' },
    ],
    [
      ['volume', 'migrate', 'disk', '--to', 'n3'],
      { name: 'string', from: 'string', to: 'string', epoch: 'string', pauseMs: 'number' },
      { from: 'n2', to: 'n3' },
    ],
    [['volume', 'info', 'disk'], OWNED, { owner: { node: 'n3', epoch: '2' }, clients: 0 }],
    [['volume', 'snapshot', 'disk', 'then'], { ...VOLUME, origin: 'string' }, { name: 'then', kind: 'snapshot', origin: 'disk', owner: null }],
    [
      ['volume', 'clone', 'then', 'clone', '--size', '9M'],
      { ...VOLUME, origin: 'string' },
      { name: 'clone', kind: 'volume', origin: 'then', size: 9 * MIB },
    ],
    [
      ['volume', 'label', 'disk', 'owner=web', 'tier=fast'],
      { ...OWNED, labels: { owner: 'string', tier: 'string' } },
      { labels: { owner: 'web', tier: 'fast' } },
    ],
    [['volume', 'label', 'disk', 'tier-'], { ...OWNED, labels: { owner: 'string' } }, { labels: { owner: 'web' } }],
    [['volume', 'ls', '--label', 'owner=web'], [{ ...OWNED, labels: { owner: 'string' } }], [{ name: 'disk' }]],
    [['volume', 'ls', '--label', 'owner=nobody'], [], []],
    [
      ['volume', 'ls'],
      [{ ...VOLUME, origin: 'string' }],
      [{ name: 'clone' }, { name: 'disk' }, { name: 'fine' }, { name: 'first' }, { name: 'then' }],
    ],
    [['volume', 'resize', 'disk', '--size', '16M'], { ...OWNED, labels: { owner: 'string' } }, { size: 16 * MIB }],
    [['volume', 'resize', 'disk', '--size', '8M', '--shrink'], { ...OWNED, labels: { owner: 'string' } }, { size: 8 * MIB }],
    [['volume', 'rename', 'disk', 'renamed'], { ...OWNED, labels: { owner: 'string' } }, { name: 'renamed' }],
    [['volume', 'uri', 'renamed', '--node', 'n2'], { uri: 'string' }, {}],
    [
      ['volume', 'check', 'renamed'],
      { name: 'string', ok: 'boolean', blocks: 'number', pages: 'number', problems: [] },
      { name: 'renamed', ok: true },
    ],
    [['volume', 'rm', 'clone'], { ...VOLUME, origin: 'string' }, { name: 'clone' }],
    [['volume', 'rm', 'renamed'], { ...OWNED, labels: { owner: 'string' } }, { name: 'renamed' }],
    [['volume', 'info', 'then'], VOLUME, { kind: 'snapshot', origin: null }],
    [['node', 'drain', 'n3'], { node: 'string', moved: 'number' }, { node: 'n3' }],
    [['completion', 'bash'], { shell: 'string', script: 'string' }, { shell: 'bash' }],
  ])('%j', async (args, shape, values) => {
    const { status, stdout, stderr, value } = await cli(...args);
    expect([status, stderr]).toEqual([0, '']);
    // One value, on one line.
    expect(stdout.trimEnd().split('\n')).toHaveLength(1);
    expect(shapeOf(value)).toEqual(shape);
    expect(value).toMatchObject(values);
  });

  it('import and export', async () => {
    const image = join(temporaryDirectory(), 'image.raw');
    writeFileSync(image, Buffer.alloc(MIB, 'image'));
    const made = (await cli('volume', 'import', image, 'imported')).value;
    expect(shapeOf(made)).toEqual(OWNED);
    expect(made).toMatchObject({ name: 'imported', size: MIB, allocatedBytes: 4 * MIB });
    const destination = join(temporaryDirectory(), 'out');
    const done = (await cli('volume', 'export', 'imported', destination)).value;
    expect(done).toEqual({ name: 'imported', destination, size: MIB });
    // Standard output is the image, and nothing but the image.
    const piped = await pipeline(cluster(), 'archipelago volume export imported - --json | sha256sum');
    expect([piped.status, piped.stderr]).toEqual([0, '']);
    expect(piped.stdout.slice(0, 64)).toBe(await checksum(cluster().uri('imported', 'n1')));
  });

  it('cluster status, from every node', async () => {
    for (const name of cluster().names) {
      const value = await cluster().status(name);
      expect(shapeOf(value)).toEqual({
        leader: 'string',
        term: 'number',
        quorum: 'boolean',
        nodes: [
          {
            name: 'string',
            peerId: 'string',
            role: 'string',
            up: 'boolean',
            lease: 'boolean',
            volumes: 'number',
            version: 'string',
            pids: { control: 'number', data: ['number'] },
          },
        ],
        volumes: 'number',
        store: { kind: 'string', location: 'string', usedBytes: 'number', availableBytes: 'number' },
      });
      expect(value).toMatchObject({ quorum: true, nodes: ['n1', 'n2', 'n3'].map((each) => ({ name: each, role: 'voter', up: true, lease: true })) });
      expect(cluster().nodes.map(({ pid }) => pid)).toEqual(value.nodes.map(({ pids }) => pids.control));
    }
  });

  it('volume uri is one that clients open, whatever the name', async () => {
    await cluster().createVolume('a b?c#d%e', '1M');
    const { uri } = await cluster().json<{ uri: string }>('volume', 'uri', 'a b?c#d%e', '--node', 'n3');
    expect(uri).toBe(`nbd+unix:///a%20b%3Fc%23d%25e?socket=${cluster().node('n3').nbdSocket}`);
    await qemuIo(uri, 'write -P 1 0 1M', 'read -P 1 0 1M');
  });

  it('up and down', async () => {
    const again = await cli('up', '--data', cluster().directory, '--detach');
    expect([again.status, again.error?.code, again.stdout]).toEqual([4, 'already-running', '']);
    const before = cluster().nodes;
    const stopped = await cli('down', '--data', cluster().directory);
    expect(stopped.value).toEqual({ stopped: before.map(({ name, pid }) => ({ name, pid, killed: false })) });
    expect((await cli('down', '--data', cluster().directory)).value).toEqual({ stopped: [] });
    const started = (await cli('up', '--data', cluster().directory, '--detach')).value;
    const file = { nodes: cluster().nodes };
    expect(started).toEqual(file);
    const node = { name: 'string', peerId: 'string', pid: 'number', adminSocket: 'string', nbdSocket: 'string', httpUrl: 'null', listen: 'string' };
    expect(shapeOf(file)).toEqual({ nodes: [node] });
    expect(file.nodes.map(({ pid: _, ...rest }) => rest)).toEqual(before.map(({ pid: _, ...rest }) => rest));
  });
});
