/** What clients may do wrong, sent byte by byte: each gets its error or loses its connection, and nobody else notices. */
import { describe, expect, it } from 'vitest';
import { ArchipelagoError } from '../../../src/base/index.ts';
import * as nbd from '../../../src/gateway/nbd/protocol.ts';
import { RamVolume } from './ram-device.ts';
import { lengthAnd, noise, optionHeader, RawClient, requestHeader, serve, uint32, until } from './support.ts';

const MIB = 1024 * 1024;

async function serveOne(size = MIB) {
  const volume = new RamVolume(size);
  const served = await serve({ v: volume });
  return { ...served, volume };
}

describe('in the handshake', () => {
  it.each([
    ['words of another protocol', Buffer.from('GET / HTTP/1.1\r\nHost: x\r\n\r\n')],
    ['noise', noise(5000, 1)],
    ['flags that nobody knows', uint32(0x8001)],
    ['an option without its magic', Buffer.concat([uint32(3), noise(64, 2)])],
    ['an option of 4 GiB', Buffer.concat([uint32(3), optionHeader(nbd.OPT_GO, 0xffff_ffff)])],
  ])('%s ends the connection', async (_what, bytes) => {
    const { path, lines } = await serveOne();
    const client = new RawClient(path);
    await client.read(18);
    client.send(bytes);
    expect(await client.closed()).toHaveLength(0);
    expect(lines.filter(({ level }) => level === 'warn')).toHaveLength(1);
  });

  it('an option that is too long is refused, and the next one is answered', async () => {
    const { path } = await serveOne();
    const client = new RawClient(path);
    await client.greet();
    expect((await client.ask(nbd.OPT_LIST, Buffer.alloc(500_000)))[0]?.type).toBe(nbd.REP_ERR_TOO_BIG);
    expect((await client.ask(nbd.OPT_LIST)).map(({ type }) => type)).toEqual([nbd.REP_SERVER, nbd.REP_ACK]);
  });

  it.each([
    ['an unknown option', 4711, Buffer.from('x'), nbd.REP_ERR_UNSUP],
    ['STARTTLS', nbd.OPT_STARTTLS, Buffer.alloc(0), nbd.REP_ERR_UNSUP],
    ['EXTENDED_HEADERS', 11, Buffer.alloc(0), nbd.REP_ERR_UNSUP],
    ['LIST with data', nbd.OPT_LIST, Buffer.from('x'), nbd.REP_ERR_INVALID],
    ['STRUCTURED_REPLY with data', nbd.OPT_STRUCTURED_REPLY, Buffer.from('x'), nbd.REP_ERR_INVALID],
    ['GO without data', nbd.OPT_GO, Buffer.alloc(0), nbd.REP_ERR_INVALID],
    ['GO with a name longer than the option', nbd.OPT_GO, Buffer.concat([uint32(500), Buffer.from('v\0\0')]), nbd.REP_ERR_INVALID],
    ['GO with fewer requests than announced', nbd.OPT_GO, Buffer.concat([lengthAnd('v'), Buffer.from([0, 2, 0, 3])]), nbd.REP_ERR_INVALID],
    ['GO for the empty name', nbd.OPT_GO, Buffer.concat([lengthAnd(''), Buffer.alloc(2)]), nbd.REP_ERR_UNKNOWN],
    ['GO for an unknown name', nbd.OPT_GO, Buffer.concat([lengthAnd('w'), Buffer.alloc(2)]), nbd.REP_ERR_UNKNOWN],
    ['GO for a name over 4096 bytes', nbd.OPT_GO, Buffer.concat([lengthAnd('x'.repeat(5000)), Buffer.alloc(2)]), nbd.REP_ERR_INVALID],
    ['INFO for an unknown name', nbd.OPT_INFO, Buffer.concat([lengthAnd('w'), Buffer.alloc(2)]), nbd.REP_ERR_UNKNOWN],
    ['a context without structured replies', nbd.OPT_SET_META_CONTEXT, Buffer.concat([lengthAnd('v'), uint32(0)]), nbd.REP_ERR_INVALID],
    ['more queries than bytes', nbd.OPT_SET_META_CONTEXT, Buffer.concat([lengthAnd('v'), uint32(0xffff_ffff)]), nbd.REP_ERR_INVALID],
  ])('%s is answered with its error, and the next option is served', async (_what, option, data, expected) => {
    const { path, volume } = await serveOne();
    const client = new RawClient(path);
    await client.greet();
    expect((await client.ask(option, data)).map(({ type }) => type)).toEqual([expected]);
    expect((await client.ask(nbd.OPT_GO, Buffer.concat([lengthAnd('v'), Buffer.alloc(2)]))).at(-1)?.type).toBe(nbd.REP_ACK);
    expect(volume.attached).toBe(1);
  });

  it('EXPORT_NAME for an unknown name ends the connection, having no other answer', async () => {
    const { path } = await serveOne();
    const client = new RawClient(path);
    await client.greet();
    client.send(optionHeader(nbd.OPT_EXPORT_NAME, 1), Buffer.from('w'));
    expect(await client.closed()).toHaveLength(0);
  });

  it('a directory that cannot attach now says so', async () => {
    const { path, directory } = await serveOne();
    directory.attach = async () => {
      throw new ArchipelagoError('unavailable', 'no owner in time');
    };
    const client = new RawClient(path);
    await client.greet();
    const [reply] = await client.ask(nbd.OPT_GO, Buffer.concat([lengthAnd('v'), Buffer.alloc(2)]));
    expect(reply?.type).toBe(nbd.REP_ERR_SHUTDOWN);
    expect(reply?.data.toString()).toBe('no owner in time');
  });
});

describe('in the transmission phase', () => {
  it.each([
    ['a read past the end', { command: nbd.CMD_READ, offset: MIB - 10, length: 11 }, nbd.EINVAL],
    ['a read far past the end', { command: nbd.CMD_READ, offset: 2n ** 64n - 1n, length: 1 }, nbd.EINVAL],
    ['a read of nothing', { command: nbd.CMD_READ, length: 0 }, nbd.EINVAL],
    ['a read of 4 GiB', { command: nbd.CMD_READ, length: 0xffff_ffff }, nbd.EINVAL],
    ['a trim past the end', { command: nbd.CMD_TRIM, offset: MIB, length: 1 }, nbd.EINVAL],
    ['zeros past the end', { command: nbd.CMD_WRITE_ZEROES, offset: MIB, length: 1 }, nbd.ENOSPC],
    ['zeros for 4 GiB', { command: nbd.CMD_WRITE_ZEROES, length: 0xffff_ffff }, nbd.ENOSPC],
    ['an unknown command', { command: 99 }, nbd.EINVAL],
    ['a command between the known ones', { command: 5 }, nbd.EINVAL],
    ['an unknown flag', { command: nbd.CMD_READ, length: 1, flags: 64 }, nbd.EINVAL],
    ['a flag of another command', { command: nbd.CMD_READ, length: 1, flags: nbd.CMD_FLAG_NO_HOLE }, nbd.EINVAL],
    ['block status without its context', { command: nbd.CMD_BLOCK_STATUS, length: 1 }, nbd.EINVAL],
  ])('%s is refused, and the next request is served', async (_what, request, errno) => {
    const { path, volume } = await serveOne();
    const client = new RawClient(path);
    await client.attach('v');
    client.send(requestHeader({ ...request, cookie: 0xfedc_ba98_7654_3210n }), requestHeader({ command: nbd.CMD_FLUSH, cookie: 2n }));
    expect(await client.simpleReply()).toEqual({ errno, cookie: 0xfedc_ba98_7654_3210n });
    expect(await client.simpleReply()).toEqual({ errno: 0, cookie: 2n });
    expect(volume.submitted).toBe(1);
  });

  it.each([
    ['past the end', MIB - 1, 300_000, nbd.ENOSPC],
    ['far past the end', 2n ** 63n, 10, nbd.ENOSPC],
    ['longer than the limit', 0, 40 * MIB, nbd.EINVAL],
    ['of nothing', 0, 0, nbd.EINVAL],
  ])('a write %s is refused without its payload being taken for requests', async (_what, offset, length, errno) => {
    const { path, volume } = await serveOne();
    const client = new RawClient(path);
    await client.attach('v');
    client.send(requestHeader({ command: nbd.CMD_WRITE, offset, length, cookie: 1n }));
    for (let at = 0; at < length; at += MIB)
      client.send(Buffer.alloc(Math.min(MIB, length - at), requestHeader({ command: nbd.CMD_TRIM, length: 1 })));
    client.send(requestHeader({ command: nbd.CMD_FLUSH, cookie: 2n }));
    expect(await client.simpleReply()).toEqual({ errno, cookie: 1n });
    expect(await client.simpleReply()).toEqual({ errno: 0, cookie: 2n });
    expect(volume.submitted).toBe(1);
  });

  it('a write of 4 GiB ends the connection, and no memory is set aside for it', async () => {
    const { path, volume, lines } = await serveOne();
    const client = new RawClient(path);
    await client.attach('v');
    const before = process.memoryUsage().arrayBuffers;
    client.send(requestHeader({ command: nbd.CMD_WRITE, length: 0xffff_ffff }), Buffer.alloc(100));
    await client.closed();
    expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(8 * MIB);
    expect(lines.some(({ level, message }) => level === 'warn' && message.includes('longer than'))).toBe(true);
    await until(() => volume.attached === 0);
  });

  it('noise instead of a request ends the connection; what came before it is served', async () => {
    const { path, volume, lines } = await serveOne();
    const client = new RawClient(path);
    await client.attach('v');
    client.send(requestHeader({ command: nbd.CMD_WRITE, offset: 5, length: 3, cookie: 9n }), Buffer.from('abc'), noise(1000, 3));
    expect(await client.simpleReply()).toEqual({ errno: 0, cookie: 9n });
    expect(await client.closed()).toHaveLength(0);
    expect(Buffer.from(volume.bytes.subarray(5, 8)).toString()).toBe('abc');
    expect(lines.some(({ message }) => message.includes('no NBD request'))).toBe(true);
    await until(() => volume.attached === 0);
  });

  it.each([
    ['header', requestHeader({ command: nbd.CMD_WRITE, length: 4096 }).subarray(0, 17)],
    ['small payload', Buffer.concat([requestHeader({ command: nbd.CMD_WRITE, length: 4096 }), Buffer.alloc(4095, 1)])],
    ['large payload', Buffer.concat([requestHeader({ command: nbd.CMD_WRITE, length: 500_000 }), Buffer.alloc(400_000, 1)])],
    ['refused payload', Buffer.concat([requestHeader({ command: nbd.CMD_WRITE, offset: MIB, length: 500_000 }), Buffer.alloc(400_000, 1)])],
  ])('a client that goes away within a %s changes nothing', async (_what, bytes) => {
    const { path, volume, lines } = await serveOne();
    const client = new RawClient(path);
    await client.attach('v');
    client.send(requestHeader({ command: nbd.CMD_FLUSH }), bytes);
    await client.simpleReply();
    client.socket.end();
    await client.closed();
    await until(() => volume.attached === 0);
    expect(volume.bytes.every((byte) => byte === 0)).toBe(true);
    expect(lines.some(({ message }) => message.includes('in the middle of a message'))).toBe(true);
  });

  it('changes of a snapshot are refused', async () => {
    const volume = new RamVolume(MIB, { readOnly: true });
    const { path } = await serve({ snap: volume });
    const client = new RawClient(path);
    await client.attach('snap');
    client.send(requestHeader({ command: nbd.CMD_WRITE, length: 3, cookie: 1n }), Buffer.from('abc'));
    client.send(
      requestHeader({ command: nbd.CMD_TRIM, length: 3, cookie: 2n }),
      requestHeader({ command: nbd.CMD_WRITE_ZEROES, length: 3, cookie: 3n }),
    );
    for (const cookie of [1n, 2n, 3n]) expect(await client.simpleReply()).toEqual({ errno: nbd.EPERM, cookie });
    expect(volume.submitted).toBe(0);
  });

  it.each([
    ['no-space', nbd.ENOSPC],
    ['read-only', nbd.EPERM],
    ['invalid-argument', nbd.EINVAL],
    ['io-error', nbd.EIO],
    ['corrupt', nbd.EIO],
    ['timeout', nbd.EIO],
    ['unavailable', nbd.EIO],
  ] as const)('a device that fails with %s is heard, in both kinds of reply', async (code, errno) => {
    const { path, volume } = await serveOne();
    const plain = new RawClient(path);
    await plain.attach('v');
    const structured = new RawClient(path);
    await structured.attach('v', { structured: true });
    volume.failure = new ArchipelagoError(code, 'because');
    plain.send(requestHeader({ command: nbd.CMD_READ, length: 512, cookie: 1n }), requestHeader({ command: nbd.CMD_FLUSH, cookie: 2n }));
    expect(await plain.simpleReply()).toEqual({ errno, cookie: 1n });
    expect(await plain.simpleReply()).toEqual({ errno, cookie: 2n });
    structured.send(requestHeader({ command: nbd.CMD_READ, length: 512, cookie: 3n }));
    const { flags, type, cookie, payload } = await structured.chunk();
    expect({ flags, type, cookie }).toEqual({ flags: nbd.REPLY_FLAG_DONE, type: nbd.REPLY_ERROR, cookie: 3n });
    expect({ errno: payload.readUInt32BE(0), message: payload.toString('utf8', 6) }).toEqual({ errno, message: 'because' });
    volume.failure = null;
    structured.send(requestHeader({ command: nbd.CMD_READ, length: 512, cookie: 4n }));
    expect((await structured.chunk()).type).toBe(nbd.REPLY_OFFSET_DATA);
  });
});
