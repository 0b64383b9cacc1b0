/** What volumes need of the process that they live in. One function of `src/node` fills it. */
import type { Clock, Epoch, LivenessEpoch, Log } from '../base/index.ts';
import type { BlockStore } from '../blocker/index.ts';
import type { Command, CommandValues, PageCache } from '../mapper/index.ts';
import type { Link } from '../net/index.ts';
import type { Lease } from './lease.ts';
import type { MergePace } from './merge.ts';
import type { Preparation } from './preparation.ts';
import type { AnsweredChanges } from './sequences.ts';

/** The narrow way to the registry. */
export interface RegistryPort {
  /**
   * Resolves when the command was applied, after this process has been told of the records that it changed. It retries until the outcome is
   * known, however long a quorum is away: who proposed a handover or a snapshot must not go on before. Rejects with the registry's refusal.
   */
  propose<Type extends Command['type']>(command: Extract<Command, { type: Type }>): Promise<CommandValues[Type]>;
}

/** What the owner before says at last, when nothing changes any more. */
export interface LastWord {
  readonly nextPageSequence: number;
  /** Changes of other nodes that were done, and that these may send again. */
  readonly answered: readonly AnsweredChanges[];
  /** An administrator wants the volume here. */
  readonly placed: boolean;
}

/** All that the owner before has told this process. It counts for one handover only. */
export interface HandOverState extends LastWord {
  readonly epoch: Epoch;
  readonly prepared: Preparation;
}

export interface VolumeContext {
  readonly node: string;
  /** Of this process: acquisitions name it. */
  readonly livenessEpoch: () => LivenessEpoch;
  readonly registry: RegistryPort;
  readonly blockStore: BlockStore;
  readonly pageCache: PageCache;
  /** Of the present liveness epoch: what is acquired now is answered for as long as this one holds. */
  readonly lease: () => Lease;
  readonly bootId: string;
  readonly clock: Clock;
  readonly log: Log;
  /** The bulk link to another node's data process; null for a node that is not known. */
  readonly linkTo: (node: string) => Link | null;
  /** Paces the merges of layered blocks; null: there are none. */
  readonly mergePace: MergePace | null;
  /** How long I/O is held while nobody can serve it, before it fails. */
  readonly ioTimeoutMs: number;
}
