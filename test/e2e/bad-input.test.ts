/** What users, scripts and clients get wrong: each gets an error that names it, and nothing is lost or changed by it. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { beforeAll, expect, it } from 'vitest';
import { requireTools } from '../support/tools.ts';
import { nbdsh, pipeline, qemuIo } from './support/clients.ts';
import { type CliResult, type Cluster, shareCluster, type VolumeInfo } from './support/cluster.ts';
import { fioVerify } from './support/fio.ts';
import { LAUNCHER, runToEnd } from './support/processes.ts';
import { eventually } from './support/wait.ts';

const MIB = 1024 ** 2;

const suite = requireTools(['fio', 'qemu-io', 'nbdcopy', 'nbdinfo', 'nbdsh', 'python3-libnbd']);

/** Exit status, code and text of a failure with `--json`, which has the form that scripts rely on. */
function failureOf({ status, stdout, stderr }: CliResult): [number | null, string, string] {
  expect(stdout).toBe('');
  const { error } = JSON.parse(stderr) as { error: { code: string; message: string; hint: string | null } };
  expect(Object.keys(error)).toEqual(['code', 'message', 'hint']);
  expect(error.hint === null || typeof error.hint === 'string').toBe(true);
  return [status, error.code, error.message];
}

suite('commands that cannot be done', () => {
  const cluster = shareCluster();
  const failing = async (...args: string[]) => failureOf(await cluster().cli(args));
  beforeAll(async () => {
    await cluster().createVolume('disk', '8M', 'n1');
    await qemuIo(cluster().uri('disk', 'n1'), 'write -P 1 0 8M');
    await cluster().json('volume', 'snapshot', 'disk', 'then');
  });

  const bad = 'invalid-argument';
  const long = 'x'.repeat(256);
  it.each<[string[], number, string, RegExp]>([
    [['create', 'disk', '--size', '1G'], 4, 'exists', /disk/],
    [['create', 'then', '--size', '1G'], 4, 'exists', /then/],
    [['create', 'new', '--size', '0'], 2, bad, /'0'.*more than 0/],
    [['create', 'new', '--size', '1000'], 2, bad, /'1000'.*multiple of 512/],
    [['create', 'new', '--size', '-1'], 2, bad, /-1/],
    [['create', 'new', '--size', '10X'], 2, bad, /'10X'/],
    [['create', 'new', '--size', '1.5G'], 2, bad, /'1.5G'/],
    [['create', 'new', '--size', '99999999P'], 2, bad, /99999999P/],
    [['create', 'new'], 2, bad, /--size/],
    [['create', 'new', '--size', '1G', '--block-size', '3M'], 2, bad, /'3M'.*power of two/],
    [['create', 'new', '--size', '1G', '--block-size', '32K'], 2, bad, /'32K'/],
    [['create', 'new', '--size', '1G', '--block-size', '128M'], 2, bad, /'128M'/],
    [['create', '', '--size', '1G'], 2, bad, /is empty/],
    [['create', long, '--size', '1G'], 2, bad, /256 bytes; at most 255/],
    [['create', 'ü'.repeat(128), '--size', '1G'], 2, bad, /256 bytes; at most 255/],
    [['create', 'a/b', '--size', '1G'], 2, bad, /'a\/b' holds a '\/'/],
    [['create', 'a\nb', '--size', '1G'], 2, bad, /control character/],
    [['create', 'a\u007fb', '--size', '1G'], 2, bad, /control character/],
    [['create', 'a\u0085b', '--size', '1G'], 2, bad, /control character/],
    [['clone', 'then', 'new', '--size', '4M'], 2, bad, /smaller|4M|4194304/],
    [['clone', 'disk', 'new'], 2, bad, /disk.*snapshot/],
    [['clone', 'then', 'disk'], 4, 'exists', /disk/],
    [['snapshot', 'disk', 'then'], 4, 'exists', /then/],
    [['snapshot', 'then', 'new'], 4, 'read-only', /then/],
    [['resize', 'disk', '--size', '4M'], 4, 'conflict', /disk|shrink|smaller/i],
    [['resize', 'then', '--size', '16M'], 4, 'read-only', /then/],
    [['resize', 'disk', '--size', '9000001'], 2, bad, /multiple of 512/],
    [['rename', 'disk', 'then'], 4, 'exists', /then/],
    [['rename', 'disk', 'a/b'], 2, bad, /holds a '\/'/],
    [['migrate', 'disk', '--to', 'n9'], 3, 'not-found', /'n9'/],
    [['migrate', 'then', '--to', 'n2'], 4, 'read-only', /then/],
    [['uri', 'disk', '--node', 'n9'], 3, 'not-found', /n9/],
    [['label', 'disk', 'no-value'], 2, bad, /'no-value'/],
    [['label', 'disk', '=x'], 2, bad, /'=x'/],
    [['ls', '--label', 'x'], 2, bad, /'x'/],
    [['frobnicate', 'disk'], 2, bad, /frobnicate/],
    [['info', 'disk', '--frobnicate'], 2, bad, /--frobnicate/],
    [['info'], 2, bad, /volume/],
    [['info', 'disk', 'extra'], 2, bad, /too many arguments|extra/i],
    [['info', 'disk', '--node', 'n9'], 3, 'not-found', /'n9'/],
  ])('volume %j', async (args, status, code, message) => {
    expect(await failing('volume', ...args)).toEqual([status, code, expect.stringMatching(message)]);
  });

  it('have changed nothing', async () => {
    const volumes = await cluster().json<VolumeInfo[]>('volume', 'ls');
    expect(volumes.map(({ name, size }) => [name, size])).toEqual([
      ['disk', 8 * MIB],
      ['first', 10 * 1024 ** 3],
      ['then', 8 * MIB],
    ]);
    await qemuIo(cluster().uri('disk', 'n2'), 'read -P 1 0 8M');
    await qemuIo(cluster().uri('then', 'n3'), 'read -P 1 0 8M');
  });

  it('say to people what is wrong and what to do', async () => {
    const { status, stderr, stdout } = await runToEnd(process.execPath, [LAUNCHER, 'volume', 'info', 'nothing'], {
      environment: { ARCHIPELAGO_SOCKET: cluster().node('n1').adminSocket },
    });
    expect([status, stdout]).toEqual([3, '']);
    expect(stderr).toBe("error: there is no volume or snapshot 'nothing'\nhint: list them with `archipelago volume ls`\n");
  });

  it('are told apart from names that only look bad', async () => {
    const odd = [
      'with blanks',
      'ünïcödé ✓ 卷',
      '100%',
      'what?',
      '#1',
      '.',
      '..',
      '$(reboot)',
      '%2F',
      'a&b=c',
      `it's "quoted"`,
      '@+:,;[]',
      'ü'.repeat(127),
    ];
    for (const [place, name] of odd.entries()) {
      const node = cluster().names[place % 3]!;
      expect(await cluster().json('volume', 'create', name, '--size', '1M')).toMatchObject({ name });
      const { uri } = await cluster().json<{ uri: string }>('volume', 'uri', name, '--node', node);
      await qemuIo(uri, 'write -P 5 0 4k', 'read -P 5 0 4k');
      expect((await nbdsh(uri, 'print(h.get_export_name())')).trimEnd()).toBe(name);
      expect(await cluster().json('volume', 'rm', name)).toMatchObject({ name });
    }
    const script = 'archipelago volume create --size 1M -- "$1" && archipelago volume rm --json -- "$1"';
    expect(JSON.parse((await pipeline(cluster(), script, '--dash')).stdout.split('\n')[1]!)).toMatchObject({ name: '--dash' });
  });

  it('remove a volume or snapshot with a client attached, on whatever node', async () => {
    for (const volume of ['disk', 'then']) {
      for (const node of ['n1', 'n2']) {
        const { leave } = await attached(cluster(), volume, node);
        expect((await cluster().info(volume)).clients).toBe(1);
        const [status, code, message] = await failing('volume', 'rm', volume);
        expect([volume, node, status, code]).toEqual([volume, node, 4, 'in-use']);
        expect(message).toContain(volume);
        await leave();
        await eventually('the client is gone', async () => (await cluster().info(volume)).clients === 0);
      }
    }
    await qemuIo(cluster().uri('disk', 'n2'), 'read -P 1 0 8M');
  });
});

suite('clients that send nonsense', () => {
  const cluster = shareCluster({ nodes: 3 });

  it('do not disturb fio on the same volume', async () => {
    await cluster().createVolume('disk', '64M', 'n1');
    const fio = [fioVerify({ uri: cluster().uri('disk', 'n1'), seconds: 8, size: '32m', queueDepth: 4, rate: 400 })];
    const pids = (await cluster().status()).nodes.flatMap((node) => node.pids.data);
    const bad: [string, (socket: Socket) => Promise<void> | void][] = [
      ['another protocol', (socket) => void socket.write('GET / HTTP/1.1\r\nHost: x\r\n\r\n'.repeat(20))],
      ['noise', (socket) => void socket.write(noise(100_000))],
      ['an option of 4 GiB', (socket) => void socket.write(Buffer.concat([u32(3), option(7, 0xffff_ffff)]))],
      ['half an option', (socket) => void socket.end(Buffer.concat([u32(3), option(7, 20), Buffer.alloc(5)]))],
      ['noise for requests', (socket) => enter(socket, 'disk', noise(50_000))],
      ['a write of 4 GiB', (socket) => enter(socket, 'disk', Buffer.concat([request(1, 40 * MIB, 0xffff_ffff), Buffer.alloc(MIB)]))],
      ['a read of 4 GiB', (socket) => enter(socket, 'disk', request(0, 0, 0xffff_ffff))],
      ['half a write, and the end', (socket) => enter(socket, 'disk', Buffer.concat([request(1, 40 * MIB, 65_536), Buffer.alloc(1000, 1)]), true)],
      ['half a header, and the end', (socket) => enter(socket, 'disk', request(1, 40 * MIB, 65_536).subarray(0, 11), true)],
      ['a write past the end', (socket) => enter(socket, 'disk', Buffer.concat([request(1, 64 * MIB - 512, 4096), Buffer.alloc(4096)]))],
      ['a write at 2^63', (socket) => enter(socket, 'disk', Buffer.concat([request(1, 2n ** 63n, 4096), Buffer.alloc(4096)]))],
    ];
    for (let round = 0; round < 3; round++) {
      for (const [, misbehave] of bad) {
        const socket = connect(cluster().node(cluster().names[round]!).nbdSocket);
        socket.on('error', () => undefined);
        await once(socket, 'connect');
        await misbehave(socket);
        // It may be cut off at once, or left alone; a while later it is gone.
        await Promise.race([once(socket, 'close'), eventually('it was heard', () => socket.bytesRead > 18, 300).catch(() => undefined)]);
        socket.resume().destroy();
      }
    }
    for (const each of await Promise.all(fio)) expect([each.status, each.stderr]).toEqual([0, '']);
    expect((await Promise.all(fio))[0]!.writes).toBeGreaterThan(100);
    // Where only nonsense was sent there is nothing, and nobody had to be started anew.
    for (const node of cluster().names) await qemuIo(cluster().uri('disk', node), 'read -P 0 32M 32M');
    expect((await cluster().status()).nodes.flatMap((node) => node.pids.data)).toEqual(pids);
    await eventually('all have been let go', async () => (await cluster().info('disk')).clients === 0);
  });

  it('in great numbers, and silent, leave room for others', async () => {
    const sockets = Array.from({ length: 200 }, () => connect(cluster().node('n1').nbdSocket).on('error', () => undefined));
    await Promise.all(sockets.map((socket) => once(socket, 'connect')));
    await qemuIo(cluster().uri('disk', 'n1'), 'write -P 8 40M 64k', 'read -P 8 40M 64k');
    for (const socket of sockets) socket.destroy();
  });
});

/** A libnbd client that stays attached until `leave`. */
async function attached(cluster: Cluster, volume: string, node: string): Promise<{ leave: () => Promise<void> }> {
  const client = spawn('nbdsh', ['--uri', cluster.uri(volume, node), '-c', "print('attached', flush=True)\nimport sys\nsys.stdin.read()"], {
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  const ended = once(client, 'close');
  await once(client.stdout, 'data');
  return {
    async leave() {
      client.stdin.end();
      await ended;
    },
  };
}

/** Goes through the handshake with EXPORT_NAME, then sends what is no good, and maybe ends its half. */
async function enter(socket: Socket, volume: string, bytes: Buffer, isLast = false): Promise<void> {
  socket.resume();
  socket.write(Buffer.concat([u32(3), option(1, Buffer.byteLength(volume)), Buffer.from(volume)]));
  await eventually('the export is entered', () => socket.bytesRead >= 18 || socket.destroyed);
  await eventually('the export is entered', () => socket.bytesRead >= 28 || socket.destroyed);
  if (isLast) socket.end(bytes);
  else socket.write(bytes);
}

function option(number: number, length: number): Buffer {
  return Buffer.concat([Buffer.from('IHAVEOPT'), u32(number), u32(length)]);
}

function request(command: number, offset: number | bigint, length: number): Buffer {
  const bytes = Buffer.alloc(28);
  bytes.writeUInt32BE(0x25609513, 0);
  bytes.writeUInt16BE(command, 6);
  bytes.writeBigUInt64BE(77n, 8);
  bytes.writeBigUInt64BE(BigInt(offset), 16);
  bytes.writeUInt32BE(length, 24);
  return bytes;
}

function u32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value);
  return bytes;
}

/** Bytes without a pattern, the same in each run. */
function noise(length: number): Buffer {
  const bytes = Buffer.alloc(length);
  let state = 1;
  for (let at = 0; at < length; at++) {
    state = (Math.imul(state, 1_103_515_245) + 12_345) >>> 0;
    bytes[at] = state >>> 16;
  }
  return bytes;
}
