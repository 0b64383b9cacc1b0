/** `archipelago gc …`: removing from the store what nothing refers to any more. */
import type { Command } from 'commander';
import { ArchipelagoError, type Clock } from '../../base/index.ts';
import type { CollectionView, FinishedCollectionView } from '../admin.ts';
import { addGroup, addLeaf, type Call, type Session } from './leaf.ts';
import { sheet } from './output.ts';
import { interruptible, progressBar } from './progress.ts';
import { formatSize } from './sizes.ts';

const POLL_MS = 200;

export function addCollectionCommands(program: Command, session: Session): void {
  const gc = addGroup(program, 'gc', 'Collection of what nothing refers to any more');
  addLeaf(gc, session, {
    usage: 'run',
    summary: 'Free the space of removed volumes and snapshots now',
    details: 'Waits until it is done. The cluster does so by itself, too, after removals and from time to time.',
    examples: ['gc run', 'gc run --json'],
    async run({ ask, clock, asJson }) {
      const done = await interruptible('waiting for the collection', (signal) => waitForCycle(ask, clock, asJson, signal));
      return { json: done, text: `Freed ${freedText(done)}.` };
    },
  });
  addLeaf(gc, session, {
    usage: 'status',
    summary: 'Show the collection that runs, the last one, and what was freed in all',
    examples: ['gc status', 'gc status --json'],
    async run({ ask }) {
      const view = await ask<CollectionView>('GET', '/v1/gc');
      return { json: view, text: collectionReport(view) };
    },
  });
}

async function waitForCycle(ask: Call<object>['ask'], clock: Clock, quiet: boolean, signal: AbortSignal): Promise<FinishedCollectionView> {
  const { cycle } = await ask<{ cycle: number }>('POST', '/v1/gc');
  const progress = progressBar('Collecting', clock, quiet);
  try {
    for (;;) {
      signal.throwIfAborted();
      const { running, last } = await ask<CollectionView>('GET', '/v1/gc');
      if (last !== null && last.cycle >= cycle) {
        if (last.error === null) return last;
        throw ArchipelagoError.fromBody(last.error);
      }
      progress.update(running?.freedBytes ?? 0, null);
      await new Promise<void>((resolve) => void clock.setTimer(POLL_MS, resolve));
    }
  } finally {
    progress.stop();
  }
}

function freedText({ freedBytes, freedObjects }: { freedBytes: number; freedObjects: number }): string {
  return `${formatSize(freedBytes)} in ${freedObjects} object${freedObjects === 1 ? '' : 's'}`;
}

function collectionReport({ running, last, cycles, freedBytes, freedObjects }: CollectionView): string {
  const now =
    running === null
      ? 'nothing'
      : `cycle ${running.cycle} at ${running.node}, ${running.phase}: ${running.volumesRead} of ${running.volumes} maps read, ${freedText(running)} freed`;
  const before =
    last === null ? 'none yet' : `cycle ${last.cycle} at ${last.node}, ${last.finishedAt}: ${last.error?.message ?? `${freedText(last)} freed`}`;
  return sheet([
    ['running', now],
    ['last', before],
    ['in all', `${freedText({ freedBytes, freedObjects })} freed by ${cycles} cycle${cycles === 1 ? '' : 's'}`],
  ]);
}
