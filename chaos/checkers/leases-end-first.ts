/**
 * Verifies that when a node is expired, no process of it still counts on a lease for what it owned, at the very moment when the first member
 * learns of it. Does not verify what was answered under a lease; that is for `linearizability`.
 */
import type { LivenessEpoch } from '../../src/base/index.ts';
import { Violation } from './checker.ts';

interface Node {
  readonly name: string;
  readonly livenessEpoch: LivenessEpoch;
  readonly alive: boolean;
}

export class LeasesEndFirst {
  readonly name = 'leases-end-first';
  private readonly over = new Set<string>();
  private readonly served = new Set<number>();

  /** Some member has applied more of the log; `holds` tells whether the node's data process has a lease for that liveness epoch now. */
  applied(nodes: readonly Node[], holds: (name: string, livenessEpoch: LivenessEpoch) => boolean): void {
    for (const { name, livenessEpoch, alive } of nodes) {
      const life = `${name}/${livenessEpoch}`;
      if (alive || livenessEpoch === 0 || this.over.has(life)) continue;
      this.over.add(life);
      if (holds(name, livenessEpoch))
        throw new Violation(this.name, `node ${name} is expired under liveness epoch ${livenessEpoch}, and has a lease`);
    }
  }

  get expirations(): number {
    return this.over.size;
  }

  serves(epoch: number): void {
    this.served.add(epoch);
  }

  /** Under which the volume was served. */
  get epochs(): number {
    return this.served.size;
  }
}
