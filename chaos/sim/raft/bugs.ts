import type { RaftNode } from '../../../src/raft/index.ts';
import type { Disk } from './disk.ts';
import type { Inside } from './inside.ts';

/** One life of a member, into which a bug may be planted. */
export interface Patient {
  readonly id: string;
  readonly node: RaftNode;
  readonly disk: Disk;
  readonly inside: Inside;
}

export interface Bug {
  readonly name: string;
  /** What the mistake is, in the words of who would make it. */
  readonly mistake: string;
  plant(patient: Patient): void;
}

export const BUGS: readonly Bug[] = [];
