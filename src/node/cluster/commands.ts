/** `up` and `down` as the CLI runs them: options in, results and words for people out. */
import { relative, resolve } from 'node:path';
import { ArchipelagoError } from '../../base/index.ts';
import type { CliHandlers, CliOutput } from '../../gateway/index.ts';
import { STOP_TIMEOUT_MS, type Stopped } from './daemons.ts';
import { down, watch } from './down.ts';
import { STORE_KINDS, type StoreKind } from './layout.ts';
import { FIRST_VOLUME, type UpEnvironment, type UpResult, up } from './up.ts';

/** What the executable knows: the clock, how a daemon is started, and how a node gets its key. */
export type Executable = Omit<UpEnvironment, 'note'>;

export async function upCommand(options: Parameters<CliHandlers['up']>[0], output: CliOutput, executable: Executable): Promise<void> {
  const store = options.store as StoreKind | null;
  if (store !== null && !STORE_KINDS.includes(store))
    throw new ArchipelagoError('invalid-argument', `--store is ${STORE_KINDS.join(', ')}, not ${store}`);
  const directory = resolve(options.directory);
  const ceph = { ...options.ceph, conf: options.ceph.conf === null ? null : resolve(options.ceph.conf) };
  const environment: UpEnvironment = { ...executable, note: output.note };
  const stop = stopSignal();
  const result = await up({ directory, nodes: options.nodes, store, ceph }, environment, stop);
  output.result(result.cluster, describeUp(directory, result, options.detach));
  if (options.detach) return;
  const stopped = await watch(directory, environment, stop);
  output.note(describeStopped(stopped));
}

export async function downCommand(directory: string, output: CliOutput, executable: Executable): Promise<void> {
  const stopped = await down(resolve(directory), { ...executable, note: output.note });
  output.result({ stopped }, describeStopped(stopped));
  const killed = stopped.filter((each) => each.killed).map(({ name }) => name);
  if (killed.length === 0) return;
  throw new ArchipelagoError('timeout', `killed ${killed.join(', ')}: no clean stop within ${STOP_TIMEOUT_MS / 1000} s`, {
    hint: 'see node.log; nothing that was acknowledged is lost',
  });
}

/** Aborts at the first signal that asks this process to end. */
function stopSignal(): AbortSignal {
  const controller = new AbortController();
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
    process.on(signal, () => controller.abort(new ArchipelagoError('io-error', `stopped by ${signal} before the cluster was ready`)));
  }
  return controller.signal;
}

function describeUp(directory: string, { cluster, leader, shape, started, madeFirstVolume }: UpResult, detached: boolean): string {
  const count = cluster.nodes.length;
  const inside = relative('', directory) || '.';
  const place = inside.startsWith('..') ? directory : inside;
  const isDefault = resolve('archipelago-data') === directory;
  const lines = [
    `${count === 1 ? 'One node is' : `${count} nodes are`} up in ${place}, store ${shape.store}, leader ${leader}.`,
    ...(started.length < count ? [`Started ${started.join(', ')}; the others ran already.`] : []),
    ...(madeFirstVolume ? [`Made the volume '${FIRST_VOLUME.name}' of 10G.`] : []),
    '',
    'What to type next:',
    ...(isDefault ? [] : [`  export ARCHIPELAGO_SOCKET=${cluster.nodes[0]!.adminSocket}`]),
    '  npx archipelago cluster status',
    '  npx archipelago volume ls',
    `  qemu-img info "$(npx archipelago volume uri ${FIRST_VOLUME.name})"`,
    '  npx archipelago --help',
    '',
    detached ? `\`npx archipelago down${isDefault ? '' : ` --data ${place}`}\` stops it and keeps its data.` : 'Ctrl-C stops it and keeps its data.',
  ];
  return lines.join('\n');
}

function describeStopped(stopped: readonly Stopped[]): string {
  if (stopped.length === 0) return 'Nothing runs any more.';
  return `Stopped ${stopped.map(({ name, killed }) => (killed ? `${name} (killed)` : name)).join(', ')}.`;
}
