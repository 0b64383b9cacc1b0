/** Why a node must not be started: it is no member any more, or has forgotten what it promised as one. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { ArchipelagoError } from '../base/index.ts';
import * as layout from './cluster/layout.ts';
import type { NodeConfig } from './config.ts';

type Home = Pick<NodeConfig, 'name' | 'dataDirectory'>;

/** Returns what whoever started the node should read. */
export function markRemoved({ name, dataDirectory }: Home): ArchipelagoError {
  const error = removedError(name, dataDirectory);
  layout.markRemoved(dataDirectory, `${error.message}\n${error.hint}\n`);
  return error;
}

/** Throws `removed`. */
export function refuseRemoved({ name, dataDirectory }: Home): void {
  if (layout.wasRemoved(dataDirectory)) throw removedError(name, dataDirectory);
}

/** Kept from the first start on, for the next one. */
export const DATA_PID_FILE = 'data.pid';

/**
 * Throws `corrupt` where the whole of Raft's directory has vanished from under a node that ran before. It would begin as a new member of its
 * name: vote a second time in a term, and count for entries that it does not have.
 */
export function refuseWithoutLog({ name, dataDirectory, raftDirectory }: Home & Pick<NodeConfig, 'raftDirectory'>): void {
  if (existsSync(join(raftDirectory, 'log')) || !existsSync(join(dataDirectory, DATA_PID_FILE))) return;
  throw new ArchipelagoError('corrupt', `${raftDirectory} is gone, though node ${name} has run before`, {
    hint: `restore it as it was last, or remove ${name} from the cluster and let a new node join`,
  });
}

function removedError(name: string, directory: string): ArchipelagoError {
  return new ArchipelagoError('removed', `node ${name} was removed from the cluster`, {
    hint: `delete ${directory}, and join as a new node under another name: \`archipelago cluster invite\`, then \`cluster join\``,
  });
}
