/** Our client where servers misbehave; how it gets on with good ones is in clients.test.ts and random.test.ts. */
import { createServer, type Socket } from 'node:net';
import { join } from 'node:path';
import { expect, it, onTestFinished } from 'vitest';
import { ArchipelagoError } from '../../../src/base/index.ts';
import { NbdClient } from '../../../src/gateway/nbd/client.ts';
import * as nbd from '../../../src/gateway/nbd/protocol.ts';
import { RamVolume } from './ram-device.ts';
import { noise, scratchDirectory, serve, uint32, until } from './support.ts';

const MIB = 1024 * 1024;
const GREETING = Buffer.concat([Buffer.from('NBDMAGICIHAVEOPT'), Buffer.from([0, 3])]);

/** A server of which the test writes every byte. `answers` are sent one by one, each when something has come in. */
async function actor(answers: readonly Buffer[]): Promise<{ socket: string; exportName: string }> {
  const socket = join(scratchDirectory(), 's');
  const clients: Socket[] = [];
  const server = createServer((client) => {
    clients.push(client);
    client.on('error', () => client.destroy());
    client.write(GREETING);
    const left = [...answers];
    client.on('data', () => {
      const next = left.shift();
      if (next === undefined) client.end();
      else client.write(next);
    });
  });
  await new Promise<void>((resolve) => server.listen(socket, resolve));
  onTestFinished(() => {
    for (const client of clients) client.destroy();
    server.close();
  });
  return { socket, exportName: 'v' };
}

const optionReply = (option: number, type: number, data: Uint8Array = new Uint8Array(0)): Buffer =>
  Buffer.concat([uint32(nbd.OPTION_REPLY_MAGIC_HIGH), uint32(nbd.OPTION_REPLY_MAGIC_LOW), uint32(option), uint32(type), uint32(data.length), data]);

const EXPORT = optionReply(nbd.OPT_GO, nbd.REP_INFO, Buffer.concat([Buffer.alloc(2 + 4), uint32(MIB), Buffer.from([0, nbd.TRANSMIT_HAS_FLAGS])]));
const PLAIN = [
  // The client's flags and its first option may come together or apart: this answers the option in both cases.
  optionReply(nbd.OPT_STRUCTURED_REPLY, nbd.REP_ERR_UNSUP),
  Buffer.concat([EXPORT, optionReply(nbd.OPT_GO, nbd.REP_ACK)]),
];

it.each([
  ['another protocol', Buffer.from('SSH-2.0-OpenSSH_9.2p1 Debian'), 'unavailable', /is no NBD server/],
  ['the old handshake', Buffer.from('NBDMAGIC\0\0\x42\x02\x81\x86\x12\x53\0\0'), 'unsupported-version', /older than fixed newstyle/],
] as const)('%s is told apart', async (_what, greeting, code, message) => {
  const socket = join(scratchDirectory(), 's');
  const server = createServer((client) => client.end(greeting));
  await new Promise<void>((resolve) => server.listen(socket, resolve));
  onTestFinished(() => {
    server.close();
  });
  const error = await NbdClient.connect({ socket, exportName: 'v' }).catch((failure: unknown) => failure);
  expect(error).toMatchObject({ code, message: expect.stringMatching(message) });
});

it.each([
  ['unknown', nbd.REP_ERR_UNKNOWN, 'not-found'],
  ['refused by policy', nbd.REP_ERR_POLICY, 'forbidden'],
  ['for TLS only', nbd.REP_ERR_TLS_REQD, 'forbidden'],
  ['shutting down', nbd.REP_ERR_SHUTDOWN, 'unavailable'],
  ['too old for GO', nbd.REP_ERR_UNSUP, 'unsupported-version'],
  ['failing otherwise', 0x8000_1234, 'io-error'],
])('an export that is %s gets its own error', async (_what, type, code) => {
  const target = await actor([PLAIN[0]!, optionReply(nbd.OPT_GO, type, Buffer.from('said so'))]);
  await expect(NbdClient.connect(target)).rejects.toMatchObject({ code, message: expect.stringContaining('said so') });
});

it.each([
  ['a wrong magic', Buffer.alloc(16), /magic 0/],
  ['a structured reply that was not agreed on', Buffer.concat([uint32(nbd.STRUCTURED_REPLY_MAGIC), Buffer.alloc(16)]), /magic 668e33ef/],
  ['an answer to nothing', Buffer.concat([uint32(nbd.SIMPLE_REPLY_MAGIC), Buffer.alloc(4), Buffer.alloc(8, 9)]), /no request/],
])('%s breaks the connection, and all requests fail', async (_what, reply, message) => {
  const client = await NbdClient.connect(await actor([...PLAIN, reply]));
  const failures = await Promise.all([client.read(0, 10), client.read(10, 10)].map((each) => each.catch((error: unknown) => error)));
  for (const failure of failures) expect(failure).toMatchObject({ code: 'io-error', message: expect.stringMatching(message) });
  await expect(client.read(0, 1)).rejects.toMatchObject({ code: 'io-error' });
  await client.close();
});

it('a server that goes away fails what is under way', async () => {
  const client = await NbdClient.connect(await actor(PLAIN));
  await expect(client.read(0, 10)).rejects.toMatchObject({ code: 'unavailable', message: expect.stringContaining('closed the connection') });
});

it('nobody listening, and a signal that aborts, are clear', async () => {
  const socket = join(scratchDirectory(), 'none');
  await expect(NbdClient.connect({ socket, exportName: 'v' })).rejects.toMatchObject({ code: 'unavailable' });
  await expect(NbdClient.connect({ socket, exportName: 'v' }, { signal: AbortSignal.abort() })).rejects.toMatchObject({ code: 'unavailable' });
  let answer: () => void = () => undefined;
  const volume = new RamVolume(MIB, {
    schedule: (work) => {
      answer = work;
    },
  });
  const { uri } = await serve({ v: volume });
  const abort = new AbortController();
  const client = await NbdClient.connect(uri('v'), { signal: abort.signal });
  const reading = client.read(0, 10).catch((error: unknown) => error);
  await until(() => volume.underWay === 1);
  abort.abort();
  expect(await reading).toMatchObject({ code: 'unavailable', message: 'stopped' });
  answer();
});

it('requests longer than the server takes are split', async () => {
  const volume = new RamVolume(80 * MIB);
  const { uri } = await serve({ v: volume });
  const client = await NbdClient.connect(uri('v'));
  const data = noise(70 * MIB + 5, 3);
  await client.write(3, data);
  expect(volume.submitted).toBe(3);
  expect(data.equals(await client.read(3, data.length))).toBe(true);
});

it('errors of the device come back with their code and its message', async () => {
  const volume = new RamVolume(MIB);
  const { uri } = await serve({ v: volume });
  const client = await NbdClient.connect(uri('v'));
  volume.failure = new ArchipelagoError('no-space', 'the store is full');
  await expect(client.read(0, 1)).rejects.toMatchObject({ code: 'no-space', message: expect.stringContaining('the store is full') });
  await expect(client.write(0, Buffer.alloc(1))).rejects.toMatchObject({ code: 'no-space' });
  await expect(client.extents(0, 1)).rejects.toMatchObject({ code: 'no-space' });
  volume.failure = null;
  await client.write(0, Buffer.alloc(1));
});
