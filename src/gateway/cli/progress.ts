/** A bar on standard error for work that takes longer than a second, where a person looks at a terminal. */
import { ArchipelagoError, type Clock, type Timer } from '../../base/index.ts';
import { formatSize } from './sizes.ts';

const APPEARS_AFTER_MS = 1_000;
const UPDATES_A_SECOND = 8;

export interface Progress {
  /** `totalBytes` is null when only the end will tell. */
  update(doneBytes: number, totalBytes: number | null): void;
  stop(): void;
}

export function progressBar(title: string, clock: Clock, quiet: boolean): Progress {
  if (quiet || !process.stderr.isTTY) return { update() {}, stop() {} };
  let bar: { update(value: number, payload: object): void; setTotal(total: number): void; stop(): void } | null = null;
  let stopped = false;
  let latest = { doneBytes: 0, totalBytes: null as number | null };
  const show = () => {
    const { doneBytes, totalBytes } = latest;
    bar?.setTotal(Math.max(totalBytes ?? doneBytes, 1));
    bar?.update(doneBytes, { done: formatSize(doneBytes), all: totalBytes === null ? '?' : formatSize(totalBytes) });
  };
  const timer: Timer = clock.setTimer(APPEARS_AFTER_MS, () => {
    // Not loaded for short work.
    void import('cli-progress').then(({ default: { SingleBar, Presets } }) => {
      if (stopped) return;
      const format = `${title} [{bar}] {percentage}% | {done} of {all} | {eta_formatted} left`;
      const single = new SingleBar(
        { format, stream: process.stderr, clearOnComplete: true, fps: UPDATES_A_SECOND, hideCursor: true },
        Presets.shades_classic,
      );
      single.start(1, 0, { done: '0', all: '?' });
      bar = single;
      show();
    });
  });
  return {
    update(doneBytes, totalBytes) {
      latest = { doneBytes, totalBytes };
      show();
    },
    stop() {
      stopped = true;
      timer.cancel();
      bar?.stop();
    },
  };
}

/** Runs work that Ctrl-C, or SIGTERM, stops: it gets a signal, cleans up, and its failure says what happened. */
export async function interruptible<T>(what: string, work: (signal: AbortSignal) => Promise<T>): Promise<T> {
  const controller = new AbortController();
  const stop = (signal: NodeJS.Signals) => controller.abort(new ArchipelagoError('io-error', `${what} was stopped by ${signal}`));
  process.on('SIGINT', stop).on('SIGTERM', stop).on('SIGHUP', stop);
  try {
    return await work(controller.signal);
  } catch (error) {
    if (controller.signal.aborted) throw controller.signal.reason;
    throw error;
  } finally {
    process.removeListener('SIGINT', stop).removeListener('SIGTERM', stop).removeListener('SIGHUP', stop);
  }
}
