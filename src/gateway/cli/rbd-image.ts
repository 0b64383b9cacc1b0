/**
 * Images of Ceph's RBD, through QEMU's driver for it. They are named as QEMU names them: `rbd:POOL/IMAGE[@SNAPSHOT][:OPTION=VALUE]...`, where
 * the options `conf` and `id` say which ceph.conf and which user; without them it is $CEPH_CONF or /etc/ceph/ceph.conf, and client.admin.
 */
import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { ArchipelagoError, type Clock } from '../../base/index.ts';
import type { ImageSink, ImageSource } from '../nbd/copy.ts';
import { nbdSink, nbdSource } from '../nbd/images.ts';
import { cannotStart, refused, serveImage } from './qemu-nbd.ts';

/** By themselves QEMU and `rbd` wait five minutes for a Ceph that does not answer. */
const PROGRAM_TIMEOUT_MS = 30_000;

const runProgram = promisify(execFile);

export const isRbd = (name: string): boolean => name.startsWith('rbd:');

export async function rbdSource(image: string, clock: Clock): Promise<ImageSource> {
  parseRbd(image);
  const { client, close } = await serveImage({ image, format: 'raw', readOnly: true }, clock);
  return { ...nbdSource(client), close };
}

/** A new image. `discard` removes it again, after `close`. */
export async function newRbdImage(image: string, sizeBytes: number, clock: Clock): Promise<ImageSink & { discard(): Promise<void> }> {
  const { spec, options } = parseRbd(image);
  if (spec.includes('@')) throw new ArchipelagoError('read-only', `${image} is a snapshot`, { hint: 'export to an image: rbd:POOL/IMAGE' });
  await createImage(image, sizeBytes);
  const discard = async () => {
    await runProgram('rbd', [...options, 'rm', '--no-progress', spec], { timeout: PROGRAM_TIMEOUT_MS });
  };
  try {
    const { client, close } = await serveImage({ image, format: 'raw', readOnly: false }, clock);
    // All of a new image reads as zeros already.
    return { ...nbdSink(client), zero: () => Promise.resolve(), close, discard };
  } catch (error) {
    await discard();
    throw error;
  }
}

async function createImage(image: string, sizeBytes: number): Promise<void> {
  try {
    await runProgram('qemu-img', ['create', '-q', '-f', 'raw', image, String(sizeBytes)], { timeout: PROGRAM_TIMEOUT_MS });
  } catch (error) {
    const { code, killed, stderr = '' } = error as NodeJS.ErrnoException & { killed?: boolean; stderr?: string };
    if (killed === true)
      throw new ArchipelagoError('timeout', `Ceph does not answer: ${image} was not made in ${PROGRAM_TIMEOUT_MS / 1000} s`, { cause: error });
    if (typeof code === 'string') throw cannotStart('qemu-img', error as NodeJS.ErrnoException);
    if (/File exists/.test(stderr))
      throw new ArchipelagoError('exists', `${image} exists`, { cause: error, hint: 'choose another name, or remove it with `rbd rm`' });
    throw refused(`cannot make ${image}`, stderr);
  }
}

/** The image as the program `rbd` takes it, and the options as it takes them. QEMU writes a backslash before a `:` that separates nothing. */
function parseRbd(image: string): { spec: string; options: string[] } {
  const [spec = '', ...pairs] = image
    .slice('rbd:'.length)
    .split(/(?<!\\):/)
    .map((part) => part.replaceAll(/\\(.)/g, '$1'));
  if (!/^[^/]+\/(.+\/)?[^/]+$/.test(spec)) {
    throw new ArchipelagoError('invalid-argument', `${image} names no image`, {
      hint: 'an example: rbd:pool/image@snapshot:conf=/etc/ceph/ceph.conf',
    });
  }
  const options = pairs.map((pair) => {
    if (!/^[^=]+=/.test(pair)) throw new ArchipelagoError('invalid-argument', `${image} has an option without a value: ${pair}`);
    return `--${pair}`;
  });
  return { spec, options };
}
