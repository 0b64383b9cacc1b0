/** Who a node is: an Ed25519 key in a file of its own. The PeerId follows from it, and libp2p proves it on every connection. */
import { chmod, link, mkdir, open, readFile, rm, stat } from 'node:fs/promises';
import { dirname } from 'node:path';
import type { Ed25519PrivateKey } from '@libp2p/interface';
import { ArchipelagoError } from '../base/index.ts';

export interface Identity {
  readonly peerId: string;
  readonly privateKey: Ed25519PrivateKey;
}

/**
 * Reads the key at `path`, or makes one there with mode 0600. Processes that start at the same time get the same one: the file appears
 * complete or not at all, and the first wins.
 */
export async function loadOrCreateIdentity(path: string): Promise<Identity> {
  return (await load(path)) ?? (await create(path)) ?? (await loadExisting(path));
}

/** An identity that is kept nowhere, for tests. */
export async function ephemeralIdentity(): Promise<Identity> {
  const { generateKeyPair } = await import('@libp2p/crypto/keys');
  return identify(await generateKeyPair('Ed25519'));
}

async function load(path: string): Promise<Identity | null> {
  let bytes: Uint8Array;
  try {
    const { mode } = await stat(path);
    if ((mode & 0o077) !== 0) {
      throw new ArchipelagoError('forbidden', `others may read the private key ${path}`, { hint: `chmod 600 ${path}` });
    }
    bytes = await readFile(path);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return null;
    throw ArchipelagoError.from(error, `reading ${path}`);
  }
  const { privateKeyFromProtobuf } = await import('@libp2p/crypto/keys');
  try {
    const privateKey = privateKeyFromProtobuf(bytes);
    if (privateKey.type === 'Ed25519') return await identify(privateKey);
  } catch (error) {
    throw notAKey(path, error);
  }
  throw new ArchipelagoError('corrupt', `${path} is not an Ed25519 key`);
}

function notAKey(path: string, cause: unknown): ArchipelagoError {
  return new ArchipelagoError('corrupt', `${path} is not a private key`, { cause, hint: 'restore it, or remove the node and add it anew' });
}

async function loadExisting(path: string): Promise<Identity> {
  const identity = await load(path);
  if (identity === null) throw new ArchipelagoError('io-error', `${path} vanished while it was read`);
  return identity;
}

/** Null when another process was faster. */
async function create(path: string): Promise<Identity | null> {
  const { generateKeyPair, privateKeyToProtobuf } = await import('@libp2p/crypto/keys');
  const privateKey = await generateKeyPair('Ed25519');
  const temporary = `${path}.${process.pid}.new`;
  try {
    await mkdir(dirname(path), { recursive: true });
    await rm(temporary, { force: true });
    await writeDurably(temporary, privateKeyToProtobuf(privateKey));
    await link(temporary, path);
    await syncDirectory(dirname(path));
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EEXIST') return null;
    throw ArchipelagoError.from(error, `creating ${path}`);
  } finally {
    await rm(temporary, { force: true });
  }
  return identify(privateKey);
}

async function writeDurably(path: string, bytes: Uint8Array): Promise<void> {
  const file = await open(path, 'wx', 0o600);
  try {
    await file.writeFile(bytes);
    // The umask may have taken bits away from 0600.
    await chmod(path, 0o600);
    await file.sync();
  } finally {
    await file.close();
  }
}

async function syncDirectory(path: string): Promise<void> {
  const directory = await open(path, 'r');
  try {
    await directory.sync();
  } finally {
    await directory.close();
  }
}

async function identify(privateKey: Ed25519PrivateKey): Promise<Identity> {
  const { peerIdFromPrivateKey } = await import('@libp2p/peer-id');
  return { peerId: peerIdFromPrivateKey(privateKey).toString(), privateKey };
}
