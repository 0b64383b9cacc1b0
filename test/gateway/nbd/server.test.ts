/** The server's side of the protocol where nothing goes wrong, its bounds, and how it stops. */
import { linkSync, statSync } from 'node:fs';
import { connect, createServer, type Socket } from 'node:net';
import { join } from 'node:path';
import { describe, expect, it, onTestFinished } from 'vitest';
import { ArchipelagoError, silentLog } from '../../../src/base/index.ts';
import * as nbd from '../../../src/gateway/nbd/protocol.ts';
import { NbdServer } from '../../../src/gateway/nbd/server.ts';
import type { VolumeIo } from '../../../src/volume/index.ts';
import { RamDirectory, RamVolume } from './ram-device.ts';
import { lengthAnd, noise, optionHeader, RawClient, requestHeader, scratchDirectory, serve, turns, uint32, until } from './support.ts';

const MIB = 1024 * 1024;

/** A schedule that holds every I/O back until it is told to go on. */
function gate() {
  let held: (() => void)[] = [];
  let isOpen = false;
  return {
    schedule: (run: () => void) => {
      if (isOpen) run();
      else held.push(run);
    },
    open: () => {
      isOpen = true;
      const released = held;
      held = [];
      for (const run of released) run();
    },
  };
}

describe('the handshake', () => {
  it('lists all names', async () => {
    const { path } = await serve({ one: new RamVolume(1), 'zwei ä': new RamVolume(1) });
    const client = new RawClient(path);
    await client.greet();
    const replies = await client.ask(nbd.OPT_LIST);
    expect(replies.map(({ data }) => data.toString('utf8', 4))).toEqual(['one', 'zwei ä', '']);
  });

  it('describes an export, and INFO attaches nobody', async () => {
    const volume = new RamVolume(123_456);
    const { path } = await serve({ v: volume });
    const client = new RawClient(path);
    await client.greet();
    const request = Buffer.concat([lengthAnd('v'), Buffer.from([0, 1, 0, nbd.INFO_NAME])]);
    const [info, name, sizes, end] = await client.ask(nbd.OPT_INFO, request);
    expect(info?.data.readBigUInt64BE(2)).toBe(123_456n);
    expect(name?.data.toString('utf8', 2)).toBe('v');
    expect([2, 6, 10].map((at) => sizes?.data.readUInt32BE(at))).toEqual([1, 4096, 32 * MIB]);
    expect(end?.type).toBe(nbd.REP_ACK);
    expect(volume.attached).toBe(0);
  });

  it('EXPORT_NAME starts the transmission phase, with or without the padding', async () => {
    const { path } = await serve({ v: new RamVolume(MIB) });
    for (const flags of [nbd.FLAG_FIXED_NEWSTYLE, nbd.FLAG_FIXED_NEWSTYLE | nbd.FLAG_NO_ZEROES]) {
      const client = new RawClient(path);
      await client.greet(flags);
      client.send(optionHeader(nbd.OPT_EXPORT_NAME, 1), Buffer.from('v'), requestHeader({ command: nbd.CMD_FLUSH, cookie: 3n }));
      const reply = await client.read((flags & nbd.FLAG_NO_ZEROES) === 0 ? 134 : 10);
      expect(reply.readBigUInt64BE(0)).toBe(BigInt(MIB));
      expect(await client.simpleReply()).toEqual({ errno: 0, cookie: 3n });
    }
  });

  it('offers what a volume takes, and less for a snapshot', async () => {
    const { path } = await serve({ v: new RamVolume(1), s: new RamVolume(1, { readOnly: true }) });
    const flagsOf = async (name: string, structured: boolean) => {
      const client = new RawClient(path);
      await client.greet();
      if (structured) await client.ask(nbd.OPT_STRUCTURED_REPLY);
      const [info] = await client.ask(nbd.OPT_GO, Buffer.concat([lengthAnd(name), Buffer.alloc(2)]));
      return info?.data.readUInt16BE(10);
    };
    const both = nbd.TRANSMIT_HAS_FLAGS | nbd.TRANSMIT_SEND_FLUSH | nbd.TRANSMIT_SEND_FUA | nbd.TRANSMIT_CAN_MULTI_CONN;
    expect(await flagsOf('v', true)).toBe(both | nbd.TRANSMIT_SEND_TRIM | nbd.TRANSMIT_SEND_WRITE_ZEROES | nbd.TRANSMIT_SEND_DF);
    expect(await flagsOf('s', false)).toBe(both | nbd.TRANSMIT_READ_ONLY);
  });

  it('a context holds for the export that it was chosen for only', async () => {
    const { path } = await serve({ v: new RamVolume(MIB), w: new RamVolume(MIB) });
    const statusOf = async (name: string) => {
      const client = new RawClient(path);
      await client.greet();
      await client.ask(nbd.OPT_STRUCTURED_REPLY);
      const query = Buffer.concat([lengthAnd('v'), uint32(2), lengthAnd('other:thing'), lengthAnd('base:allocation')]);
      expect((await client.ask(nbd.OPT_SET_META_CONTEXT, query)).map(({ type }) => type)).toEqual([nbd.REP_META_CONTEXT, nbd.REP_ACK]);
      await client.ask(nbd.OPT_GO, Buffer.concat([lengthAnd(name), Buffer.alloc(2)]));
      client.send(requestHeader({ command: nbd.CMD_BLOCK_STATUS, length: MIB }));
      return (await client.chunk()).type;
    };
    expect(await statusOf('v')).toBe(nbd.REPLY_BLOCK_STATUS);
    expect(await statusOf('w')).toBe(nbd.REPLY_ERROR);
  });

  it('serves requests that were sent along with the options', async () => {
    const { path } = await serve({ v: new RamVolume(MIB) });
    const client = new RawClient(path);
    client.send(
      uint32(3),
      optionHeader(nbd.OPT_INFO, 7),
      Buffer.concat([lengthAnd('v'), Buffer.alloc(2)]),
      optionHeader(nbd.OPT_GO, 7),
      Buffer.concat([lengthAnd('v'), Buffer.alloc(2)]),
      requestHeader({ command: nbd.CMD_WRITE, length: 2, cookie: 5n }),
      Buffer.from('hi'),
      requestHeader({ command: nbd.CMD_READ, length: 2, cookie: 6n }),
    );
    await client.read(18);
    await client.optionReplies();
    await client.optionReplies();
    expect(await client.simpleReply()).toEqual({ errno: 0, cookie: 5n });
    expect(await client.simpleReply()).toEqual({ errno: 0, cookie: 6n });
    expect((await client.read(2)).toString()).toBe('hi');
  });

  it('ABORT is acknowledged, then the connection ends', async () => {
    const { path } = await serve({});
    const client = new RawClient(path);
    await client.greet();
    expect((await client.ask(nbd.OPT_ABORT))[0]?.type).toBe(nbd.REP_ACK);
    await client.closed();
  });

  it('a client that leaves while its device is being attached leaves nothing behind', async () => {
    const volume = new RamVolume(MIB);
    const { path, directory, server } = await serve({ v: volume });
    const attach = directory.attach.bind(directory);
    const allowed = Promise.withResolvers<void>();
    let asked = false;
    directory.attach = async (name) => {
      asked = true;
      await allowed.promise;
      return attach(name);
    };
    const client = new RawClient(path);
    await client.greet();
    client.send(optionHeader(nbd.OPT_GO, 7), lengthAnd('v'), Buffer.alloc(2));
    await until(() => asked);
    client.socket.destroy();
    await turns(3);
    const closing = server.close();
    allowed.resolve();
    await closing;
    expect(volume.attached).toBe(0);
  });
});

describe('requests', () => {
  it.each(['end', 'destroy'] as const)('what a client has left behind is known as such: its socket %ss', async (how) => {
    const later: (() => void)[] = [];
    const volume = new RamVolume(MIB, { schedule: (work) => later.push(work) });
    const { path, directory, server } = await serve({ v: volume });
    const attach = directory.attach.bind(directory);
    const ios: VolumeIo[] = [];
    directory.attach = async (name) => {
      const device = await attach(name);
      const submit = device.submit.bind(device);
      device.submit = (io) => {
        ios.push(io);
        submit(io);
      };
      return device;
    };
    const client = new RawClient(path);
    await client.attach('v');
    client.send(requestHeader({ command: nbd.CMD_WRITE, length: 1 }), Buffer.from('x'));
    await until(() => ios.length > 0);
    expect(ios[0]?.isAbandoned()).toBe(false);
    client.socket[how]();
    await until(() => ios[0]?.isAbandoned() === true);
    for (const work of later.splice(0)) work();
    await server.close();
    expect(volume.attached).toBe(0);
  });

  it('FUA reaches the device with writes and zeros', async () => {
    const volume = new RamVolume(MIB);
    const { path } = await serve({ v: volume });
    const client = new RawClient(path);
    await client.attach('v');
    const flags = nbd.CMD_FLAG_FUA;
    client.send(requestHeader({ command: nbd.CMD_WRITE, length: 1, flags }), Buffer.from('x'));
    client.send(requestHeader({ command: nbd.CMD_WRITE_ZEROES, length: 1, flags: flags | nbd.CMD_FLAG_NO_HOLE }));
    client.send(requestHeader({ command: nbd.CMD_TRIM, length: 1, flags }), requestHeader({ command: nbd.CMD_FLUSH, flags }));
    client.send(requestHeader({ command: nbd.CMD_WRITE, length: 1 }), Buffer.from('x'));
    for (let i = 0; i < 5; i++) expect((await client.simpleReply()).errno).toBe(0);
    expect({ fuas: volume.fuas, flushes: volume.flushes }).toEqual({ fuas: 4, flushes: 1 });
  });

  it('a structured read comes in one chunk with its offset', async () => {
    const volume = new RamVolume(MIB);
    volume.bytes.set(noise(MIB, 4));
    const { path } = await serve({ v: volume });
    const client = new RawClient(path);
    await client.attach('v', { structured: true });
    client.send(requestHeader({ command: nbd.CMD_READ, offset: 777, length: 200_000, cookie: 8n, flags: nbd.CMD_FLAG_DF }));
    const { flags, type, cookie, payload } = await client.chunk();
    expect({ flags, type, cookie }).toEqual({ flags: nbd.REPLY_FLAG_DONE, type: nbd.REPLY_OFFSET_DATA, cookie: 8n });
    expect(payload.readBigUInt64BE(0)).toBe(777n);
    expect(payload.subarray(8).equals(volume.bytes.subarray(777, 200_777))).toBe(true);
  });

  it('a volume that grew takes I/O beyond its old end', async () => {
    const directory = new RamDirectory({ v: new RamVolume(MIB) });
    const { path, directory: served } = await serve({ v: new RamVolume(MIB) });
    served.attach = async (name) => {
      const device = await directory.attach(name);
      return Object.defineProperty(device, 'sizeBytes', { get: () => size });
    };
    let size = MIB / 2;
    const client = new RawClient(path);
    await client.attach('v');
    client.send(requestHeader({ command: nbd.CMD_READ, offset: MIB - 4, length: 4 }));
    expect((await client.simpleReply()).errno).toBe(nbd.EINVAL);
    size = MIB;
    client.send(requestHeader({ command: nbd.CMD_READ, offset: MIB - 4, length: 4 }));
    expect((await client.simpleReply()).errno).toBe(0);
  });
});

describe('bounds', () => {
  it('a client that has too many requests under way is not read from', async () => {
    const { schedule, open } = gate();
    const volume = new RamVolume(MIB, { schedule });
    const { path } = await serve({ v: volume }, { limits: { maxRequests: 10 } });
    const client = new RawClient(path);
    await client.attach('v');
    const all = Array.from({ length: 40_000 }, (_, i) => requestHeader({ command: nbd.CMD_READ, length: 1, offset: i, cookie: BigInt(i) }));
    client.send(...all);
    await until(() => volume.underWay === 10);
    await turns(20);
    expect(volume.underWay).toBe(10);
    open();
    for (let i = 0n; i < 40_000n; i++) {
      const reply = await client.read(nbd.SIMPLE_REPLY_BYTES + 1);
      if (reply.readBigUInt64BE(8) !== i) expect(reply.readBigUInt64BE(8)).toBe(i);
    }
  });

  it('a client that has too many bytes under way is not read from', async () => {
    const { schedule, open } = gate();
    const volume = new RamVolume(8 * MIB, { schedule });
    const { path } = await serve({ v: volume }, { limits: { maxBytes: 3 * MIB } });
    const client = new RawClient(path);
    await client.attach('v');
    for (let i = 0; i < 8; i++)
      client.send(requestHeader({ command: nbd.CMD_WRITE, offset: i * MIB, length: MIB, cookie: BigInt(i) }), noise(MIB, i));
    await until(() => volume.underWay === 3);
    await turns(20);
    expect(volume.underWay).toBe(3);
    open();
    for (let i = 0n; i < 8n; i++) expect(await client.simpleReply()).toEqual({ errno: 0, cookie: i });
    for (let i = 0; i < 8; i++) expect(noise(MIB, i).equals(volume.bytes.subarray(i * MIB, (i + 1) * MIB))).toBe(true);
  });

  it('a client that does not read its replies is not served more', async () => {
    const volume = new RamVolume(MIB);
    volume.bytes.set(noise(MIB, 5));
    const { path } = await serve({ v: volume }, { limits: { maxBytes: 4 * MIB } });
    const client = new RawClient(path, { paused: true });
    client.send(uint32(3), optionHeader(nbd.OPT_GO, 7), lengthAnd('v'), Buffer.alloc(2));
    client.send(...Array.from({ length: 60 }, (_, i) => requestHeader({ command: nbd.CMD_READ, length: MIB, cookie: BigInt(i) })));
    await until(() => volume.submitted >= 4);
    await turns(50);
    expect(volume.submitted).toBeLessThan(10);
    client.resume();
    await client.read(18);
    await client.optionReplies();
    for (let i = 0n; i < 60n; i++) {
      expect(await client.simpleReply()).toEqual({ errno: 0, cookie: i });
      expect((await client.read(MIB)).equals(volume.bytes)).toBe(true);
    }
  });

  it('more connections than allowed are turned away', async () => {
    const { path, lines } = await serve({ v: new RamVolume(MIB) }, { maxConnections: 2 });
    const clients = [new RawClient(path), new RawClient(path)];
    for (const client of clients) await client.attach('v');
    expect(await new RawClient(path).closed()).toHaveLength(0);
    expect(lines.some(({ message }) => message.includes('too many'))).toBe(true);
    clients[0]!.socket.destroy();
    await clients[0]!.closed();
    await turns(5);
    await new RawClient(path).attach('v');
  });

  it('a client that does not finish its handshake in time is sent away', async () => {
    let expire: () => void = () => undefined;
    const clock = {
      nowMs: () => 0,
      wallMs: () => 0,
      setTimer: (_delayMs: number, callback: () => void) => {
        expire = callback;
        return { cancel: () => undefined };
      },
    };
    const { path } = await serve({ v: new RamVolume(MIB) }, { clock });
    const idle = new RawClient(path);
    await idle.read(18);
    expire();
    await idle.closed();
    const attached = new RawClient(path);
    await attached.attach('v');
    expire();
    attached.send(requestHeader({ command: nbd.CMD_FLUSH }));
    expect((await attached.simpleReply()).errno).toBe(0);
  });

  it('two hundred clients at once each get their own bytes', async () => {
    const volume = new RamVolume(MIB);
    volume.bytes.set(noise(MIB, 6));
    const { path, server } = await serve({ v: volume });
    const clients = Array.from({ length: 200 }, () => new RawClient(path));
    await Promise.all(clients.map((client) => client.attach('v')));
    expect(server.clients).toBe(200);
    await Promise.all(
      clients.map(async (client, i) => {
        client.send(requestHeader({ command: nbd.CMD_READ, offset: i * 512, length: 512, cookie: BigInt(i) }));
        expect((await client.simpleReply()).cookie).toBe(BigInt(i));
        expect((await client.read(512)).equals(volume.bytes.subarray(i * 512, i * 512 + 512))).toBe(true);
        client.send(requestHeader({ command: nbd.CMD_DISC }));
        await client.closed();
      }),
    );
    await until(() => server.clients === 0);
    expect(volume.attached).toBe(0);
  });
});

describe('the end', () => {
  it('DISC waits for what is under way', async () => {
    const { schedule, open } = gate();
    const volume = new RamVolume(MIB, { schedule });
    const { path } = await serve({ v: volume });
    const client = new RawClient(path);
    await client.attach('v');
    client.send(requestHeader({ command: nbd.CMD_WRITE, length: 1 }), Buffer.from('x'), requestHeader({ command: nbd.CMD_DISC }));
    await until(() => volume.underWay === 1);
    open();
    expect((await client.closed()).length).toBe(nbd.SIMPLE_REPLY_BYTES);
    await until(() => volume.attached === 0);
  });

  it('a client that is gone keeps its device until its I/O is done', async () => {
    const { schedule, open } = gate();
    const volume = new RamVolume(MIB, { schedule });
    const { path, server } = await serve({ v: volume });
    const client = new RawClient(path);
    await client.attach('v');
    client.send(requestHeader({ command: nbd.CMD_WRITE, length: 1 }), Buffer.from('x'), requestHeader({ command: nbd.CMD_READ, length: 9 }));
    await until(() => volume.underWay === 2);
    client.socket.destroy();
    await turns(5);
    expect(volume.attached).toBe(1);
    open();
    await until(() => volume.attached === 0);
    expect(volume.bytes[0]).toBe('x'.charCodeAt(0));
    expect(server.clients).toBe(0);
  });

  it('close lets requests under way end, and begins no new ones', async () => {
    const { schedule, open } = gate();
    const volume = new RamVolume(MIB, { schedule });
    const { path, server } = await serve({ v: volume });
    const client = new RawClient(path);
    await client.attach('v');
    client.send(requestHeader({ command: nbd.CMD_WRITE, length: 1, cookie: 1n }), Buffer.from('x'));
    await until(() => volume.underWay === 1);
    let isClosed = false;
    const closing = server.close().then(() => {
      isClosed = true;
    });
    client.send(requestHeader({ command: nbd.CMD_WRITE, length: 1, offset: 1, cookie: 2n }), Buffer.from('y'));
    await turns(5);
    expect({ isClosed, underWay: volume.underWay }).toEqual({ isClosed: false, underWay: 1 });
    await expect(new RawClient(path).read(18)).rejects.toThrow();
    open();
    expect(await client.simpleReply()).toEqual({ errno: 0, cookie: 1n });
    expect(await client.closed()).toHaveLength(0);
    await closing;
    expect({ attached: volume.attached, second: volume.bytes[1] }).toEqual({ attached: 0, second: 0 });
  });

  it('a device that gives up while the server stops is reported as a shutdown', async () => {
    const { schedule, open } = gate();
    const volume = new RamVolume(MIB, { schedule });
    const { path, server } = await serve({ v: volume });
    const client = new RawClient(path);
    await client.attach('v');
    client.send(requestHeader({ command: nbd.CMD_FLUSH }));
    await until(() => volume.underWay === 1);
    const closing = server.close();
    volume.failure = new ArchipelagoError('unavailable', 'handed over');
    open();
    expect((await client.simpleReply()).errno).toBe(nbd.ESHUTDOWN);
    await closing;
  });

  it('an aborted close still waits for what the device has', async () => {
    const { schedule, open } = gate();
    const volume = new RamVolume(MIB, { schedule });
    const { path, server } = await serve({ v: volume });
    const client = new RawClient(path);
    await client.attach('v');
    client.send(requestHeader({ command: nbd.CMD_WRITE, length: 1 }), Buffer.from('x'), requestHeader({ command: nbd.CMD_READ, length: MIB }));
    await until(() => volume.underWay === 2);
    const closing = server.close({ signal: AbortSignal.abort() });
    await client.closed();
    await turns(5);
    expect({ attached: volume.attached, underWay: volume.underWay }).toEqual({ attached: 1, underWay: 2 });
    open();
    await closing;
    expect({ attached: volume.attached, first: volume.bytes[0] }).toEqual({ attached: 0, first: 'x'.charCodeAt(0) });
  });

  it('an aborted close does not wait for clients that do not read', async () => {
    const volume = new RamVolume(MIB);
    const { path, server } = await serve({ v: volume });
    const client = new RawClient(path, { paused: true });
    client.send(uint32(3), optionHeader(nbd.OPT_GO, 7), lengthAnd('v'), Buffer.alloc(2));
    client.send(...Array.from({ length: 20 }, () => requestHeader({ command: nbd.CMD_READ, length: MIB })));
    await until(() => volume.submitted === 20);
    const abort = new AbortController();
    const closing = server.close({ signal: abort.signal });
    await turns(5);
    expect(volume.attached).toBe(1);
    abort.abort();
    await closing;
    expect(volume.attached).toBe(0);
  });
});

describe('listening', () => {
  it('keeps the socket from others', async () => {
    const { path } = await serve({});
    expect(statSync(path).mode & 0o777).toBe(0o660);
  });

  it('replaces a socket file that nobody serves, and no other', async () => {
    const { path } = await serve({});
    const options = { directory: new RamDirectory(), log: silentLog };
    await expect(NbdServer.listen({ path }, options)).rejects.toMatchObject({ code: 'exists' });
    const stale = join(scratchDirectory(), 'stale');
    await leaveSocketFile(stale);
    const server = await NbdServer.listen({ path: stale }, options);
    await server.close();
    await expect(NbdServer.listen({ path: join(scratchDirectory(), 'x'.repeat(108)) }, options)).rejects.toMatchObject({ code: 'invalid-argument' });
    await expect(NbdServer.listen({ path: join(scratchDirectory(), 'no', 'such') }, options)).rejects.toMatchObject({ code: 'io-error' });
  });

  it('serves TCP, and says which port', async () => {
    const server = await NbdServer.listen({ host: '127.0.0.1', port: 0 }, { directory: new RamDirectory({ v: new RamVolume(MIB) }), log: silentLog });
    onTestFinished(() => server.close({ signal: AbortSignal.abort() }));
    await expect(
      NbdServer.listen({ host: '127.0.0.1', port: server.port ?? 0 }, { directory: new RamDirectory(), log: silentLog }),
    ).rejects.toMatchObject({ code: 'exists' });
    const greeting = await new Promise<Buffer>((resolve) => connect(server.port ?? 0, '127.0.0.1').once('data', resolve));
    expect(greeting.toString('latin1', 0, 16)).toBe('NBDMAGICIHAVEOPT');
  });
});

/** Makes the file that a killed server leaves behind. */
async function leaveSocketFile(path: string): Promise<void> {
  const server = createServer((socket: Socket) => socket.destroy());
  await new Promise<void>((resolve) => server.listen(`${path}.first`, resolve));
  linkSync(`${path}.first`, path);
  await new Promise<void>((resolve) => server.close(() => resolve()));
}
