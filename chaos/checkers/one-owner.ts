/** Verifies that a volume is served under one epoch by one process only. Not that others have noticed: what they answer, the others verify. */
import { Violation } from './checker.ts';

export class OneOwner {
  readonly name = 'one-owner';
  private readonly owners = new Map<string, object>();

  /** A process has opened a volume as its owner. */
  serves(volume: number, epoch: number, process: object, node: string): void {
    const key = `${volume}/${epoch}`;
    const known = this.owners.get(key);
    if (known !== undefined && known !== process)
      throw new Violation(this.name, `volume ${volume} is served under epoch ${epoch} twice, now by ${node}`);
    this.owners.set(key, process);
  }
}
