/** A node that was removed from its cluster says so, and is not started again. */
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

function removedError(name: string, directory: string): ArchipelagoError {
  return new ArchipelagoError('removed', `node ${name} was removed from the cluster`, {
    hint: `delete ${directory}, and join as a new node under another name: \`archipelago cluster invite\`, then \`cluster join\``,
  });
}
