/** `archipelago volume …`, without import and export. */
import { type Command, Option } from 'commander';
import { ArchipelagoError } from '../../base/index.ts';
import type { CheckView, MigrationView, VolumeView } from '../admin.ts';
import { volumePath } from '../http/client.ts';
import { labelKeyProblem } from '../http/names.ts';
import { addLeaf, type Session } from './leaf.ts';
import { addLockCommands } from './locks.ts';
import { parseBlockSize, parseSize } from './sizes.ts';
import { checkReport, migrationLine, volumeLine, volumeSheet, volumeTable } from './views.ts';
import { checkedName } from './volume-names.ts';

const sizeOption = () => new Option('--size <size>', 'bytes, or a number with K, M, G, T or P (powers of 1024)');
export const blockSizeOption = () => new Option('--block-size <size>', 'a power of two from 64K to 64M (default: 4M)');

/** `{ [key]: parsed }`, or nothing where the option was not given. */
export function sizeField<K extends string>(key: K, text: string | undefined, parse: (text: string) => number): { [P in K]?: number } {
  return (text === undefined ? {} : { [key]: parse(text) }) as { [P in K]?: number };
}

const parseSizeOption = (text: string) => parseSize(text, '--size');

export function addVolumeCommands(volume: Command, session: Session): void {
  addMaking(volume, session);
  addShowing(volume, session);
  addChanging(volume, session);
  addServing(volume, session);
  addLockCommands(volume, session);
}

function addMaking(volume: Command, session: Session): void {
  addLeaf<{ size: string; blockSize?: string }>(volume, session, {
    usage: 'create <name>',
    summary: 'Make an empty volume',
    details: 'It takes no room until it is written.',
    options: [sizeOption().makeOptionMandatory(), blockSizeOption()],
    examples: ['volume create disk1 --size 10G', 'volume create scratch --size 512M --block-size 64K --json'],
    async run({ args, options, ask }) {
      const body = {
        name: checkedName(args[0]!),
        size: parseSizeOption(options.size),
        ...sizeField('blockSize', options.blockSize, parseBlockSize),
      };
      const made = await ask<VolumeView>('POST', '/v1/volumes', body);
      return { json: made, text: volumeLine('Made', made) };
    },
  });
  addLeaf<{ size?: string }>(volume, session, {
    usage: 'clone <snapshot> <name>',
    summary: 'Make a volume of a snapshot',
    details: 'Nothing is copied. A larger size gives a tail of zeros.',
    options: [sizeOption()],
    examples: ['volume clone disk1@clean disk2', 'volume clone disk1@clean disk3 --size 20G'],
    async run({ args, options, ask }) {
      const body = { name: checkedName(args[1]!), ...sizeField('size', options.size, parseSizeOption) };
      const path = `/v1/snapshots/${encodeURIComponent(checkedName(args[0]!, 'snapshot'))}/clone`;
      const made = await ask<VolumeView>('POST', path, body);
      return { json: made, text: volumeLine('Made', made) };
    },
  });
  addLeaf(volume, session, {
    usage: 'snapshot <volume> <name>',
    summary: 'Make a snapshot',
    details: 'It is consistent at one moment, while I/O goes on, and copies nothing.',
    examples: ['volume snapshot disk1 disk1@clean'],
    async run({ args, ask }) {
      const path = volumePath(checkedName(args[0]!, 'volume'), 'snapshot');
      const made = await ask<VolumeView>('POST', path, { name: checkedName(args[1]!) });
      return { json: made, text: volumeLine('Made', made) };
    },
  });
}

function addShowing(volume: Command, session: Session): void {
  addLeaf<{ label?: string }>(volume, session, {
    usage: 'ls',
    summary: 'List volumes and snapshots',
    options: [new Option('--label <key=value>', 'only those with this label')],
    examples: ['volume ls', 'volume ls --label owner=web --json'],
    async run({ options, ask }) {
      if (options.label !== undefined) splitLabel(options.label);
      const query = options.label === undefined ? '' : `?label=${encodeURIComponent(options.label)}`;
      const volumes = await ask<VolumeView[]>('GET', `/v1/volumes${query}`);
      return { json: volumes, text: volumeTable(volumes) };
    },
  });
  addLeaf(volume, session, {
    usage: 'info <volume>',
    summary: 'Show one volume or snapshot',
    examples: ['volume info disk1', 'volume info disk1@clean --json'],
    async run({ args, ask }) {
      const view = await ask<VolumeView>('GET', volumePath(checkedName(args[0]!)));
      return { json: view, text: volumeSheet(view) };
    },
  });
  addLeaf(volume, session, {
    usage: 'check <volume>',
    summary: 'Read and verify the map and the objects of a volume',
    details: 'Exit status 1 when something is wrong.',
    examples: ['volume check disk1'],
    async run({ args, ask }) {
      const report = await ask<CheckView>('POST', volumePath(checkedName(args[0]!), 'check'));
      return { json: report, text: checkReport(report), exitStatus: report.ok ? 0 : 1 };
    },
  });
}

function addChanging(volume: Command, session: Session): void {
  addLeaf<{ size: string; shrink?: true }>(volume, session, {
    usage: 'resize <volume>',
    summary: 'Change the size of a volume',
    options: [sizeOption().makeOptionMandatory(), new Option('--shrink', 'allow a smaller size; what lies beyond it is lost')],
    examples: ['volume resize disk1 --size 20G', 'volume resize disk1 --size 5G --shrink'],
    async run({ args, options, ask }) {
      const body = { size: parseSizeOption(options.size), shrink: options.shrink === true };
      const view = await ask<VolumeView>('POST', volumePath(checkedName(args[0]!), 'resize'), body);
      return { json: view, text: volumeLine('Resized', view) };
    },
  });
  addLeaf(volume, session, {
    usage: 'rename <volume> <name>',
    summary: 'Give a volume or snapshot another name',
    examples: ['volume rename disk1 database'],
    async run({ args, ask }) {
      const path = volumePath(checkedName(args[0]!, 'volume'), 'rename');
      const view = await ask<VolumeView>('POST', path, { name: checkedName(args[1]!) });
      return { json: view, text: volumeLine('Renamed', view) };
    },
  });
  addLeaf(volume, session, {
    usage: 'label <volume> <labels...>',
    summary: 'Set labels as KEY=VALUE, or remove them as KEY-',
    examples: ['volume label disk1 owner=web tier=fast', 'volume label disk1 tier-'],
    async run({ args, rest, ask }) {
      const labels = Object.fromEntries(rest.map(labelChange));
      const view = await ask<VolumeView>('POST', volumePath(checkedName(args[0]!), 'labels'), labels);
      return { json: view, text: volumeSheet(view) };
    },
  });
  addLeaf(volume, session, {
    usage: 'rm <volume>',
    summary: 'Remove a volume or snapshot that no client uses',
    examples: ['volume rm disk1'],
    async run({ args, ask }) {
      const view = await ask<VolumeView>('DELETE', volumePath(checkedName(args[0]!)));
      return { json: view, text: volumeLine('Removed', view) };
    },
  });
}

function addServing(volume: Command, session: Session): void {
  addLeaf<{ node?: string }>(volume, session, {
    usage: 'uri <volume>',
    summary: 'Print the URI for NBD clients',
    details: 'Every node serves every volume; without --node it is the one that answers.',
    options: [new Option('--node <name>', 'the node whose URI is wanted')],
    nodeIsAsked: true,
    examples: ['volume uri disk1', 'volume uri disk1 --node n2', 'volume uri disk1 --json'],
    async run({ args, options, ask }) {
      const query = options.node === undefined ? '' : `?node=${encodeURIComponent(options.node)}`;
      const answer = await ask<{ uri: string }>('GET', `${volumePath(checkedName(args[0]!), 'uri')}${query}`);
      return { json: answer, text: answer.uri };
    },
  });
  addLeaf<{ to: string }>(volume, session, {
    usage: 'migrate <volume>',
    summary: 'Hand a volume over to another node while I/O goes on',
    options: [new Option('--to <node>', 'the new owner').makeOptionMandatory()],
    examples: ['volume migrate disk1 --to n2'],
    async run({ args, options, ask }) {
      const view = await ask<MigrationView>('POST', volumePath(checkedName(args[0]!), 'migrate'), { to: options.to });
      return { json: view, text: migrationLine(view) };
    },
  });
}

function labelChange(text: string): [string, string | null] {
  if (text.includes('=')) return splitLabel(text);
  if (text.endsWith('-')) return [checkedKey(text.slice(0, -1), text), null];
  throw new ArchipelagoError('invalid-argument', `the label '${text}' is neither KEY=VALUE nor KEY-`);
}

function splitLabel(text: string): [string, string] {
  const at = text.indexOf('=');
  if (at === -1) throw new ArchipelagoError('invalid-argument', `the label '${text}' has not the form KEY=VALUE`);
  return [checkedKey(text.slice(0, at), text), text.slice(at + 1)];
}

function checkedKey(key: string, label: string): string {
  const problem = labelKeyProblem(key);
  if (problem !== null) throw new ArchipelagoError('invalid-argument', `the key of the label '${label}' ${problem}`);
  return key;
}
