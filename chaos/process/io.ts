/** I/O that goes on while a soak does its worst: fio writes, reads back and verifies. */
import type { Cluster } from './cluster.ts';
import type { AtEnd } from './ending.ts';
import { type FioResult, runFio } from './fio.ts';
import { eventually } from './wait.ts';

const RATE = 100;
const SIZE = '64M';

export interface Load {
  readonly volume: string;
  /** Who owns the volume once its client has begun. */
  readonly owner: string;
  /** Where its client is attached. */
  readonly node: string;
}

export interface LoadResult {
  readonly writes: number;
  /** The longest that one of them took. */
  readonly longestWriteMs: number;
  /** What went wrong; empty if nothing. */
  readonly problems: readonly string[];
}

/** Makes the volumes and starts to write to them; resolves with what will come of it. */
export async function startLoads(
  cluster: Cluster,
  atEnd: AtEnd,
  seconds: number,
  loads: readonly Load[],
): Promise<{ readonly ended: Promise<LoadResult> }> {
  for (const { volume, owner } of loads) await cluster.createVolume(volume, SIZE, owner);
  const runs = loads.map(({ volume, node }) => runFio(atEnd, { uri: cluster.uri(volume, node), seconds, rate: RATE }));
  const ended = Promise.all(runs).then((results) => judge(cluster, loads, results));
  // Whoever started it awaits it later; a failure before that is not lost.
  ended.catch(() => undefined);
  for (const { volume, owner, node } of loads) {
    if (owner === node) continue;
    await eventually(`${volume} has followed its writer`, async () => (await cluster.owner(volume)) === node);
    await cluster.migrate(volume, owner);
  }
  return { ended };
}

async function judge(cluster: Cluster, loads: readonly Load[], results: readonly FioResult[]): Promise<LoadResult> {
  const problems = results.flatMap(({ status, stdout, stderr }, place) =>
    status === 0 ? [] : [`fio on ${loads[place]?.volume} ended with ${status}:\n${stderr}${stdout.slice(0, 2_000)}`],
  );
  for (const { volume } of loads) {
    const { ok, problems: found } = await cluster.json<{ ok: boolean; problems?: string[] }>('volume', 'check', volume);
    if (!ok) problems.push(`the check of ${volume} finds: ${JSON.stringify(found)}`);
  }
  const longestWriteMs = Math.round(Math.max(...results.map(({ maxWriteMs }) => maxWriteMs)));
  return { writes: results.reduce((sum, { writes }) => sum + writes, 0), longestWriteMs, problems };
}
