/** A look inside a running member, for checkers, planted bugs and the nemesis. Nothing of this is part of the library's interface. */
import type { Applier } from '../../../src/raft/applier.ts';
import type { RaftCore } from '../../../src/raft/core/core.ts';
import type { CoreState } from '../../../src/raft/core/state.ts';
import type { Entry, Message } from '../../../src/raft/core/types.ts';
import type { RaftNode, RaftStorage } from '../../../src/raft/index.ts';
import type { PendingWrites } from '../../../src/raft/pending-writes.ts';
import type { Proposals } from '../../../src/raft/proposals.ts';
import type { ReadBarriers } from '../../../src/raft/read-barriers.ts';
import type { FrameBody } from '../../../src/raft/wire.ts';

export interface Inside {
  readonly core: RaftCore;
  readonly state: CoreState;
  readonly applier: Applier;
  readonly proposals: Proposals;
  readonly barriers: ReadBarriers;
  readonly storage: RaftStorage;
  readonly writes: PendingWrites;
}

export function inside(node: RaftNode): Inside {
  const { core, applier, proposals, barriers, storage, writes } = node as unknown as Omit<Inside, 'state'>;
  return { core, applier, proposals, barriers, storage, writes, state: (core as unknown as { state: CoreState }).state };
}

/** The log after its base, as the core holds it now. */
export function entriesOf({ log }: CoreState): readonly Entry[] {
  return (log as unknown as { entries: Entry[] }).entries;
}

/** As if its election timeout ended at this moment. */
export function campaignNow(node: RaftNode): void {
  inside(node).core.campaign();
  (node as unknown as { schedulePump(): void }).schedulePump();
}

/** Tells of each frame, before it goes to the transport, what is in it: a message of the core, or a part of a snapshot. */
export function onTransmit(node: RaftNode, tell: (to: string, kind: string, message: Message | null) => void): void {
  const fields = node as unknown as { transmit(to: string, body: FrameBody): void };
  const transmit = fields.transmit.bind(node);
  fields.transmit = (to, body) => {
    if ('raft' in body) tell(to, body.raft.type, body.raft);
    else tell(to, 'chunk' in body ? 'chunk' : 'chunkReply', null);
    transmit(to, body);
  };
}
