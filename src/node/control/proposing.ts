/** Proposals whose outcome has to be known: who proposed a handover or a snapshot stays stopped until then. */
import { ArchipelagoError, type Clock } from '../../base/index.ts';
import type { Command, CommandValues } from '../../mapper/index.ts';
import { propose } from '../../mapper/registry/index.ts';
import type { RaftNode } from '../../raft/index.ts';

/** The longest that a timer takes. Raft retries under one sequence number for as long, so that the command is applied once. */
const LONGEST_MS = 2 ** 31 - 1;
const RETRY_MS = 100;

/** Resolves or rejects with the registry's answer only. While no quorum is there, it waits. */
export async function proposeUntilKnown<Type extends Command['type']>(
  raft: RaftNode,
  clock: Clock,
  command: Extract<Command, { type: Type }>,
): Promise<CommandValues[Type]> {
  for (;;) {
    try {
      return await propose<Type, { timeoutMs: number }>(raft, command, { timeoutMs: LONGEST_MS });
    } catch (error) {
      // Certainly not applied: nobody took it. Everything else is an answer, or the end of this process.
      if (!(error instanceof ArchipelagoError) || error.code !== 'unavailable') throw error;
    }
    await new Promise<void>((resolve) => void clock.setTimer(RETRY_MS, resolve));
  }
}
