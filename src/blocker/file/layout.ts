/**
 * Where things lie below a store's directory:
 *
 *     superblock                                       format version and cluster id
 *     blocks/<generation>/<index>                      block objects
 *     pages/<generation>/<sequence>                    map pages
 *     volumes/<id>/<epoch>/header                      the log of a volume, under the epoch of its owner
 *     volumes/<id>/<epoch>/journal.<segment>
 *     volumes/<id>/<epoch>/boot                        boot id under which this log was copied from the one before
 *     volumes/<id>/<epoch>/settled                     there once the copy is durable
 *     volumes/<id>/<epoch>/unsynced                    there until what a dead owner left in the page cache is durable
 *     volumes/<id>/<epoch>/owner                       which process took it over
 *     volumes/<id>/<epoch>/claims/<generation>.<index> copies of objects that are to take their place
 *     volumes/<id>/<epoch>.tmp/                        a takeover that has not ended
 *
 * Indexes and segments are 8 hex digits, all other numbers 16.
 */
import { join } from 'node:path';
import { hex16 } from '../../base/index.ts';
import { hex8 } from '../answers.ts';

export const SUPERBLOCK = 'superblock';
export const BLOCKS = 'blocks';
export const PAGES = 'pages';
export const VOLUMES = 'volumes';
export const HEADER = 'header';
/** A header that is being written. */
export const NEW_HEADER = 'header.new';
export const BOOT = 'boot';
export const SETTLED = 'settled';
export const UNSYNCED = 'unsynced';
export const OWNER = 'owner';
export const CLAIMS = 'claims';
export const TEMPORARY = '.tmp';

export function objectPath(directory: string, generation: number, index: number): string {
  return `${directory}/${BLOCKS}/${hex16(generation)}/${hex8(index)}`;
}

/** Within the log of the claiming owner, so that its successor can put an end to all its claims at once. */
export function claimPath(logDirectory: string, generation: number, index: number): string {
  return `${logDirectory}/${CLAIMS}/${hex16(generation)}.${hex8(index)}`;
}

export function pagePath(directory: string, generation: number, sequence: number): string {
  return `${directory}/${PAGES}/${hex16(generation)}/${hex16(sequence)}`;
}

export function volumePath(directory: string, volume: number): string {
  return join(directory, VOLUMES, hex16(volume));
}

export function segmentName(segment: number): string {
  return `journal.${hex8(segment)}`;
}

/** The segment that a file of a log holds, or null. */
export function segmentOf(name: string): number | null {
  const digits = /^journal\.([0-9a-f]{8})$/.exec(name)?.[1];
  return digits === undefined ? null : Number.parseInt(digits, 16);
}

/** The epoch that a directory of a volume belongs to, or null. */
export function epochOf(name: string): number | null {
  return /^[0-9a-f]{16}$/.test(name) ? Number.parseInt(name, 16) : null;
}
