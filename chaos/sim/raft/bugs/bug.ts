/** What a planted bug is. Bugs live here only: each wraps methods of one running member, or changes what its simulated disk does. */
import type { Message, RaftNode } from '../../../../src/raft/index.ts';
import type { Disk } from '../disk.ts';
import type { Inside } from '../inside.ts';

/** One life of a member, into which a bug may be planted. */
export interface Patient {
  readonly id: string;
  readonly node: RaftNode;
  readonly disk: Disk;
  readonly inside: Inside;
}

export interface Bug {
  readonly name: string;
  /** The mistake, as one would make it. */
  readonly mistake: string;
  plant(patient: Patient): void;
}

/** Replaces a method of one object; the replacement gets the original. */
export function wrap<Target extends object, Name extends keyof Target>(
  target: Target,
  name: Name,
  replace: (original: Target[Name]) => Target[Name],
): void {
  const method = target[name] as (...parameters: unknown[]) => unknown;
  target[name] = replace(method.bind(target) as Target[Name]);
}

/** Changes messages before the core sees them. */
export function onStep({ inside: { core } }: Patient, change: (message: Message) => Message): void {
  wrap(core, 'step', (step) => (message) => step(change(message)));
}

/** Runs something after each event of the core. */
export function afterEvents({ inside: { core } }: Patient, run: () => void): void {
  wrap(core, 'step', (step) => (message) => {
    step(message);
    run();
  });
  wrap(core, 'persisted', (persisted) => (index, term) => {
    persisted(index, term);
    run();
  });
}
