/** A look inside a running member, for checkers, planted bugs and the nemesis. Nothing of this is part of the library's interface. */
import type { Applier } from '../../../src/raft/applier.ts';
import type { RaftCore } from '../../../src/raft/core/core.ts';
import type { CoreState } from '../../../src/raft/core/state.ts';
import type { RaftNode, RaftStorage } from '../../../src/raft/index.ts';
import type { Proposals } from '../../../src/raft/proposals.ts';
import type { ReadBarriers } from '../../../src/raft/read-barriers.ts';

export interface Inside {
  readonly core: RaftCore;
  readonly state: CoreState;
  readonly applier: Applier;
  readonly proposals: Proposals;
  readonly barriers: ReadBarriers;
  readonly storage: RaftStorage;
}

export function inside(node: RaftNode): Inside {
  const { core, applier, proposals, barriers, storage } = node as unknown as Omit<Inside, 'state'>;
  return { core, applier, proposals, barriers, storage, state: (core as unknown as { state: CoreState }).state };
}

/** As if its election timeout ended at this moment. */
export function campaignNow(node: RaftNode): void {
  inside(node).core.campaign();
  (node as unknown as { schedulePump(): void }).schedulePump();
}
