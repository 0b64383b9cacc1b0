/** Real clients against our server, and our client against real servers. */
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { NbdClient } from '../../../src/gateway/nbd/client.ts';
import { copyImage } from '../../../src/gateway/nbd/copy.ts';
import { fileSink, nbdSource } from '../../../src/gateway/nbd/images.ts';
import { requireTools } from '../../support/tools.ts';
import { RamVolume } from './ram-device.ts';
import { background, noise, run, scratchDirectory, serve, until } from './support.ts';

// Debian's libnbd belongs to Debian's Python; another one may come first.
process.env['PATH'] = `/usr/bin:${process.env['PATH'] ?? ''}`;

const MIB = 1024 * 1024;

/** A disk with data, zeros and holes. */
function sparseImage(size: number): Buffer {
  const image = Buffer.alloc(size);
  for (let at = 0; at < size; at += 5 * MIB) noise(MIB + 4096, at).copy(image, at + 12_288);
  return image;
}

/** A device that answers at the end of the turn, so that requests overlap. */
const late = { schedule: (work: () => void) => void setImmediate(work) };

requireTools(['nbdinfo', 'nbdcopy'])('libnbd', () => {
  it('nbdinfo lists exports, and shows flags, sizes and extents', async () => {
    const volume = new RamVolume(10 * MIB);
    const { path, uri } = await serve({ v: volume, 'snap ä%/x': new RamVolume(MIB, { readOnly: true }) });
    const listed = JSON.parse(await run('nbdinfo', ['--list', '--json', `nbd+unix://?socket=${path}`]));
    const shown = listed.exports.map((each: Record<string, unknown>) => [each['export-name'], each['export-size'], each['is_read_only']]);
    expect(shown).toEqual([
      ['v', 10 * MIB, false],
      ['snap ä%/x', MIB, true],
    ]);
    expect(listed.exports[0]).toMatchObject({
      can_fua: true,
      can_multi_conn: true,
      can_trim: true,
      can_zero: true,
      can_df: true,
      block_size_maximum: 32 * MIB,
    });
    expect(await run('nbdinfo', ['--size', uri('snap ä%/x')])).toBe(`${MIB}\n`);
    volume.bytes.fill(1, MIB, 2 * MIB);
    const client = await NbdClient.connect(uri('v'));
    await client.write(MIB, Buffer.alloc(MIB, 1));
    await client.close();
    const extents = JSON.parse(await run('nbdinfo', ['--map', '--json', uri('v')]));
    expect(extents.map((each: Record<string, unknown>) => [each['offset'], each['length'], each['type']])).toEqual([
      [0, MIB, 3],
      [MIB, MIB, 0],
      [2 * MIB, 8 * MIB, 3],
    ]);
  });

  it('nbdcopy writes an image and reads it back, sparse both ways', async () => {
    const image = sparseImage(64 * MIB);
    const [source, back] = ['source', 'back'].map((name) => join(scratchDirectory(), name)) as [string, string];
    writeFileSync(source, image);
    const volume = new RamVolume(image.length, late);
    const { uri } = await serve({ v: volume });
    await run('nbdcopy', ['--flush', source, uri('v')]);
    expect(image.equals(volume.bytes)).toBe(true);
    expect(volume.flushes).toBeGreaterThan(0);
    expect(volume.extents(0, image.length).some(({ allocated }) => !allocated)).toBe(true);
    await run('nbdcopy', [uri('v'), back]);
    await run('cmp', [source, back]);
  });
});

requireTools(['python3-libnbd'])("libnbd's Python interface", () => {
  it('sees each kind of request do its work, with and without structured replies', async () => {
    const volume = new RamVolume(MIB, late);
    const { uri } = await serve({ v: volume });
    const script = `
import nbd, sys
for structured in (True, False):
    h = nbd.NBD()
    h.set_request_structured_replies(structured)
    if structured: h.add_meta_context("base:allocation")
    h.connect_uri(sys.argv[1])
    assert h.get_structured_replies_negotiated() == structured
    assert h.can_meta_context("base:allocation") == structured
    h.zero(1 << 20, 0)
    h.pwrite(b"A" * 70000, 1, nbd.CMD_FLAG_FUA)
    assert h.pread(70002, 0) == b"\\0" + b"A" * 70000 + b"\\0"
    if structured:
        got = bytearray()
        def chunk(buf, offset, status, err):
            assert status == nbd.READ_DATA
            got.extend(buf)
        h.pread_structured(512, 0, chunk, nbd.CMD_FLAG_DF)
        assert bytes(got) == b"\\0" + b"A" * 511
    h.zero(1000, 1000, nbd.CMD_FLAG_NO_HOLE | nbd.CMD_FLAG_FUA)
    assert h.pread(1002, 999) == b"A" + b"\\0" * 1000 + b"A"
    h.trim(1 << 16, 1 << 16)
    h.flush()
    if structured:
        entries = []
        def extent(context, offset, found, err): entries.extend(found)
        h.block_status(1 << 20, 0, extent)
        assert entries == [65536, 0, (1 << 20) - 65536, 3], entries
        entries.clear()
        h.block_status(1 << 20, 0, extent, nbd.CMD_FLAG_REQ_ONE)
        assert entries == [65536, 0], entries
    # Left to itself the library would not let these leave.
    h.set_strict_mode(0)
    for errno, wrong in ((22, lambda: h.pread(10, (1 << 20) - 1)), (28, lambda: h.pwrite(b"xy", (1 << 20) - 1)),
                         (22, lambda: h.trim(2, (1 << 20) - 1)), (28, lambda: h.zero(2, (1 << 20) - 1)), (22, lambda: h.cache(1, 0))):
        try: wrong()
        except nbd.Error as error: assert error.errnum == errno, (error, errno)
        else: raise AssertionError("no error")
    h.zero(1 << 20, 0)
    many = [h.aio_pwrite(nbd.Buffer.from_bytearray(bytearray([i]) * 4096), i * 4096) for i in range(256)]
    while h.aio_in_flight() > 0: h.poll(-1)
    for each in many: assert h.aio_command_completed(each)
    for i in range(256): assert h.pread(4096, i * 4096) == bytes([i]) * 4096
    h.shutdown()
`;
    await run('python3', ['-c', script, uri('v')]);
    await until(() => volume.attached === 0);
  });

  it('sends each request in its own odd way over TLS-less, abandoned and repeated handshakes', async () => {
    const volume = new RamVolume(MIB);
    const { uri, path } = await serve({ v: volume });
    const script = `
import nbd, sys
h = nbd.NBD()
h.set_opt_mode(True)
h.set_request_structured_replies(True)
h.connect_unix(sys.argv[2])
names = []
h.opt_list(lambda name, description: names.append(name) or 0)
assert names == ["v"], names
for name, known in (("", False), ("nothing", False), ("v", True)):
    h.set_export_name(name)
    try: h.opt_info(); assert known
    except nbd.Error: assert not known
contexts = []
h.opt_list_meta_context(lambda context: contexts.append(context) or 0)
assert contexts == ["base:allocation"], contexts
h.opt_go()
assert h.get_size() == 1 << 20
h.pwrite(b"x", 0)
g = nbd.NBD()
g.set_opt_mode(True)
g.connect_unix(sys.argv[2])
g.opt_abort()
f = nbd.NBD()
f.set_handshake_flags(0)
f.set_export_name("v")
f.connect_unix(sys.argv[2])
assert f.pread(1, 0) == b"x"
`;
    await run('python3', ['-c', script, uri('v'), path]);
    await until(() => volume.attached === 0);
  });
});

requireTools(['qemu-io', 'qemu-img'])('QEMU', () => {
  it('qemu-io writes patterns and sees them again', async () => {
    const volume = new RamVolume(16 * MIB, late);
    const { uri } = await serve({ v: volume });
    const commands = ['write -P 7 0 4k', 'write -f -P 9 1M 3M', 'write -z -u 2M 1M', 'discard 0 1k', 'flush', 'read -P 9 1M 1M', 'read -P 0 2M 1M'];
    const out = await run('qemu-io', ['-f', 'raw', ...commands.flatMap((each) => ['-c', each]), uri('v')]);
    expect(out).not.toMatch(/fail|error/i);
    expect(volume.fuas).toBeGreaterThan(0);
    expect([0, 1024, MIB, 2 * MIB, 3 * MIB].map((at) => volume.bytes[at])).toEqual([0, 7, 9, 0, 9]);
  });

  it('qemu-img converts an image in and out, compares and maps it', async () => {
    const image = sparseImage(32 * MIB);
    const folder = scratchDirectory();
    writeFileSync(join(folder, 'raw'), image);
    const { uri } = await serve({ v: new RamVolume(image.length, late) });
    await run('qemu-img', ['convert', '-n', '-f', 'raw', '-O', 'raw', join(folder, 'raw'), uri('v')]);
    expect(await run('qemu-img', ['compare', '-f', 'raw', '-F', 'raw', join(folder, 'raw'), uri('v')])).toContain('identical');
    await run('qemu-img', ['convert', '-f', 'raw', '-O', 'qcow2', uri('v'), join(folder, 'qcow2')]);
    expect(await run('qemu-img', ['compare', '-f', 'qcow2', '-F', 'raw', join(folder, 'qcow2'), uri('v')])).toContain('identical');
    const map = JSON.parse(await run('qemu-img', ['map', '--output', 'json', '-f', 'raw', uri('v')]));
    expect(new Set(map.map((each: { data: boolean }) => each.data))).toEqual(new Set([true, false]));
  });

  it('a snapshot opens for reading only', async () => {
    const { uri } = await serve({ s: new RamVolume(MIB, { readOnly: true }) });
    await expect(run('qemu-io', ['-f', 'raw', '-c', 'write 0 4k', uri('s')])).rejects.toThrow(/Permission denied|read.?only/i);
    await run('qemu-io', ['-r', '-f', 'raw', '-c', 'read -P 0 0 1M', uri('s')]);
  });
});

requireTools(['fio'])('fio', () => {
  it.each([
    ['small', 'randrw', '--bs=4k', {}],
    ['of mixed sizes', 'randrw', '--bsrange=512-300k', late],
    ['large', 'write', '--bs=1m', late],
  ])('verifies requests that are %s', async (_what, pattern, sizes, options) => {
    const { uri } = await serve({ v: new RamVolume(64 * MIB, options) });
    const job = ['--name=verify', '--ioengine=nbd', `--uri=${uri('v')}`, `--rw=${pattern}`, sizes, '--iodepth=16', '--size=32m'];
    await run('fio', [...job, '--verify=crc32c', '--do_verify=1', '--verify_fatal=1', '--fsync=50', '--output-format=terse']);
  });
});

/** What our client must do with any server of a volume of 8 MiB that reads as zeros. */
async function exercise(client: NbdClient): Promise<void> {
  expect(client.sizeBytes).toBe(8 * MIB);
  const data = noise(3 * MIB, 1);
  await Promise.all(Array.from({ length: 48 }, (_, i) => client.write(i * 65_536, data.subarray(i * 65_536, (i + 1) * 65_536), { fua: i === 7 })));
  expect(data.equals(await client.read(0, data.length))).toBe(true);
  await client.zero(MIB, MIB, { fua: true });
  await client.trim(4 * MIB, MIB);
  await client.flush();
  expect((await client.read(MIB, MIB)).every((byte) => byte === 0)).toBe(true);
  let at = 0;
  while (at < client.sizeBytes) for (const extent of await client.extents(at, client.sizeBytes - at)) at += extent.lengthBytes;
  expect(at).toBe(client.sizeBytes);
  await expect(client.read(8 * MIB, 512)).rejects.toMatchObject({ code: expect.stringMatching(/invalid-argument|io-error/) });
  await expect(client.read(0, 0)).rejects.toMatchObject({ code: 'invalid-argument' });
  const target = join(scratchDirectory(), 'copy');
  const sink = await fileSink(target);
  await copyImage({ source: nbdSource(client), sink });
  await sink.close();
  const expected = Buffer.alloc(8 * MIB);
  data.copy(expected);
  expected.fill(0, MIB, 2 * MIB);
  expect(expected.equals(readFileSync(target))).toBe(true);
  await client.close();
  await expect(client.read(0, 512)).rejects.toMatchObject({ code: 'unavailable' });
}

requireTools(['nbdkit'])('our client', () => {
  it.each([
    ['nbdkit', ['memory', '8M']],
    ['nbdkit without structured replies', ['--no-sr', 'memory', '8M']],
    ['nbdkit without zeroes, trim and FUA', ['--filter=nozero', '--filter=fua', 'memory', '8M', 'zeromode=none']],
    ['nbdkit that takes small requests only', ['--filter=blocksize-policy', 'memory', '8M', 'blocksize-maximum=64k', 'blocksize-error-policy=error']],
  ])('gets on with %s', async (_what, args) => {
    const socket = join(scratchDirectory(), 's');
    await background('nbdkit', ['-f', '-U', socket, ...args], socket);
    await exercise(await NbdClient.connect({ socket, exportName: '' }));
  });
});

requireTools(['qemu-nbd', 'qemu-img'])('our client', () => {
  it('gets on with qemu-nbd', async () => {
    const folder = scratchDirectory();
    const [socket, image] = [join(folder, 's'), join(folder, 'i')];
    await run('qemu-img', ['create', '-f', 'qcow2', image, '8M']);
    await background('qemu-nbd', ['-f', 'qcow2', '-k', socket, '-x', 'name', '-t', '--discard=unmap', image], socket);
    await exercise(await NbdClient.connect({ socket, exportName: 'name' }));
    await expect(NbdClient.connect({ socket, exportName: 'other' })).rejects.toMatchObject({ code: 'not-found' });
  });
});
