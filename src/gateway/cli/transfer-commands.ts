/** `archipelago volume import` and `export`: the command lines. The work is in files that only these two load. */
import { type Command, Option } from 'commander';
import { addLeaf, type Session } from './leaf.ts';
import { formatSize, parseBlockSize, parseSize } from './sizes.ts';
import { blockSizeOption, sizeField } from './volume.ts';
import { checkedName } from './volume-names.ts';

export function addTransferCommands(volume: Command, session: Session): void {
  addLeaf<{ format?: 'raw' | 'qcow2'; blockSize?: string; size?: string }>(volume, session, {
    usage: 'import <source> <name>',
    summary: 'Make a volume of a disk image',
    details:
      'The source is a file or block device, - for standard input, an NBD URI, or an image or snapshot of RBD, named as QEMU does: ' +
      'rbd:POOL/IMAGE[@SNAPSHOT][:conf=FILE][:id=USER]. Zeros are not stored, and a size that is no multiple of 512 is padded. An import that ' +
      'fails or is stopped leaves no volume. qcow2 and RBD need qemu-nbd (Debian: qemu-utils, qemu-block-extra).',
    options: [
      new Option('--format <format>', 'format of a file (default: raw)').choices(['raw', 'qcow2']),
      blockSizeOption(),
      new Option('--size <size>', 'a size larger than the source; the rest is zeros'),
    ],
    examples: [
      'volume import debian.raw debian',
      'volume import debian.qcow2 debian --format qcow2',
      'zstdcat debian.raw.zst | archipelago volume import - debian',
      'volume import nbd://host/export copy',
      'volume import rbd:vms/disk1@monday disk1',
    ],
    async run({ args, options, client, clock, asJson }) {
      const request = {
        source: args[0]!,
        name: checkedName(args[1]!),
        format: options.format ?? null,
        ...sizeField('blockSize', options.blockSize, parseBlockSize),
        ...sizeField('size', options.size, (text) => parseSize(text, '--size')),
      };
      const { importVolume } = await import('./import.ts');
      const made = await importVolume(request, { client: await client(), clock, quiet: asJson });
      return { json: made, text: `Imported '${made.name}', ${formatSize(made.size)}, ${formatSize(made.allocatedBytes)} allocated.` };
    },
  });
  addLeaf(volume, session, {
    usage: 'export <volume> <destination>',
    summary: 'Write a volume or snapshot to a raw disk image',
    details:
      'The destination is a file or block device, - for standard output, an NBD URI, or a new image of RBD, named as QEMU does: ' +
      'rbd:POOL/IMAGE[:conf=FILE][:id=USER]. A volume is read through a snapshot of its own, so I/O may go on; files and images of RBD get holes ' +
      'where the volume has zeros. RBD needs qemu-img and qemu-nbd (Debian: qemu-utils, qemu-block-extra).',
    examples: [
      'volume export disk1 disk1.raw',
      'volume export disk1 - | zstd > disk1.raw.zst',
      'volume export disk1 nbd+unix:///copy?socket=/tmp/nbd.sock',
      'volume export disk1 rbd:vms/disk1:conf=/etc/ceph/ceph.conf',
    ],
    async run({ args, client, clock, asJson }) {
      const { exportVolume } = await import('./export.ts');
      const request = { name: checkedName(args[0]!, 'volume'), destination: args[1]! };
      const done = await exportVolume(request, { client: await client(), clock, quiet: asJson });
      // Standard output is the image itself.
      return done.destination === '-' ? null : { json: done, text: `Exported '${done.name}' to ${done.destination}, ${formatSize(done.size)}.` };
    },
  });
}
