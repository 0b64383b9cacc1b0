/** fio on ours, on librbd and on qemu-nbd alike. */
import { run } from '../../chaos/process/programs.ts';

export interface Target {
  readonly name: string;
  /** Which engine, and what of. */
  readonly engine: readonly string[];
  readonly environment?: Readonly<Record<string, string>>;
}

export interface Direction {
  readonly iops: number;
  readonly bw_bytes: number;
  readonly total_ios: number;
  readonly io_bytes: number;
  readonly clat_ns: { readonly percentile?: Readonly<Record<string, number>> };
}

interface Report {
  readonly jobs: readonly { readonly error: number; readonly read: Direction; readonly write: Direction }[];
}

/** Runs one job on each target at once, of one kind of target, and resolves to what all of them did together. */
export async function runFio(
  signal: AbortSignal,
  targets: readonly Target[],
  load: readonly string[],
): Promise<{ read: Direction; write: Direction }> {
  const jobs = targets.flatMap(({ engine }, place) => [`--name=job-${place}`, ...engine]);
  const environment = targets[0]?.environment ?? {};
  const common = ['--output-format=json', '--name=global', '--randrepeat=0', '--group_reporting', ...load];
  const text = await run('fio', [...common, ...jobs], { environment, signal });
  const job = (JSON.parse(text.slice(text.indexOf('{'))) as Report).jobs[0];
  if (job?.error !== 0) throw new Error(`fio failed on ${targets[0]?.name}: ${text}`);
  return job;
}
