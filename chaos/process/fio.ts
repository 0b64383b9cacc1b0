/** fio with its nbd engine: random writes with crc32c, read back and verified. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { AtEnd } from './ending.ts';
import { type Ended, runBeside } from './programs.ts';

export interface FioJob {
  readonly uri: string;
  readonly seconds: number;
  /** The part of the volume that is used. */
  readonly size?: string;
  readonly queueDepth?: number;
  /** fio's `bssplit`. */
  readonly blockSizes?: string;
  /** Writes a second, at most. */
  readonly rate?: number;
  readonly extra?: readonly string[];
}

export interface FioResult extends Ended {
  readonly writes: number;
  readonly reads: number;
  /** The longest that one write took. */
  readonly maxWriteMs: number;
}

/** Starts fio: for `seconds` it writes blocks of mixed sizes at random places, reads them back and verifies their crc32c. */
export async function runFio(atEnd: AtEnd, job: FioJob): Promise<FioResult> {
  const directory = mkdtempSync(join(tmpdir(), 'fio-'));
  atEnd(() => rmSync(directory, { recursive: true, force: true }));
  const ended = await runBeside(atEnd, 'fio', [
    '--name=verify',
    '--ioengine=nbd',
    `--uri=${job.uri}`,
    '--rw=randwrite',
    `--bssplit=${job.blockSizes ?? '4k/60:16k/20:64k/10:256k/10'}`,
    `--size=${job.size ?? '64m'}`,
    `--iodepth=${job.queueDepth ?? 8}`,
    '--time_based',
    `--runtime=${job.seconds}`,
    ...(job.rate === undefined ? [] : [`--rate_iops=${job.rate}`]),
    // A tenth of the blocks is read back right away, all the others at the end of a round.
    '--verify=crc32c',
    '--do_verify=1',
    '--verify_backlog=64',
    '--verify_fatal=1',
    '--verify_dump=0',
    '--serialize_overlap=1',
    '--randrepeat=0',
    `--aux-path=${directory}`,
    '--output-format=json',
    ...(job.extra ?? []),
  ]);
  const start = ended.stdout.indexOf('{');
  const report = start < 0 ? null : (JSON.parse(ended.stdout.slice(start)) as FioReport);
  const result = report?.jobs[0];
  return {
    ...ended,
    writes: result?.write.total_ios ?? 0,
    reads: result?.read.total_ios ?? 0,
    maxWriteMs: (result?.write.clat_ns?.max ?? 0) / 1e6,
  };
}

interface FioReport {
  readonly jobs: readonly { readonly write: Direction; readonly read: Direction }[];
}

interface Direction {
  readonly total_ios: number;
  readonly clat_ns?: { readonly max: number };
}
