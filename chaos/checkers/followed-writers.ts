/**
 * Verifies that a volume moves from owner to owner by itself only to where a client's first write calls it: one that attached since an
 * administrator last moved the volume, while no client at the owner writes, and not within a second of the last change of owner. Not that
 * it does move then, nor anything about takeovers.
 */
import { Violation } from './checker.ts';

const MIN_STAY_MS = 1000;

interface Client {
  readonly node: string;
  /** How often administrators had moved the volume when it attached. */
  readonly placements: number;
  writes: boolean;
  /** Its first write may still move the volume. */
  calls: boolean;
}

export class FollowedWriters {
  readonly name = 'followed-writers';
  private readonly clients = new Map<object, Client>();
  private placements = 0;
  private expected: string | null = null;
  private owner: string | null = null;
  private sinceMs = Number.NEGATIVE_INFINITY;

  attached(client: object, node: string): void {
    this.clients.set(client, { node, placements: this.placements, writes: false, calls: false });
  }

  /** The client asks for a write, its first or a later one. */
  wrote(client: object, nowMs: number): void {
    const known = this.clients.get(client);
    if (known === undefined || known.writes) return;
    known.writes = true;
    // While the owner is new, what counts is who writes when that is over.
    known.calls = nowMs < this.sinceMs + MIN_STAY_MS || !this.writesAt(this.owner);
  }

  left(client: object): void {
    this.clients.delete(client);
  }

  /** An administrator asks for a move. */
  placed(to: string): void {
    this.expected = to;
  }

  /** The registry has another owner, or none. */
  changed(owner: string | null, nowMs: number): void {
    if (owner === this.owner) return;
    const before = this.owner;
    const stayedMs = nowMs - this.sinceMs;
    this.owner = owner;
    this.sinceMs = nowMs;
    if (before === null || owner === null) return;
    if (owner === this.expected) {
      this.expected = null;
      this.placements++;
      return;
    }
    const caller = [...this.clients.values()].find(({ node, calls, placements }) => node === owner && calls && placements === this.placements);
    if (caller === undefined) throw new Violation(this.name, `the volume went from ${before} to ${owner}, where no first write had called it`);
    caller.calls = false;
    if (this.writesAt(before)) throw new Violation(this.name, `the volume left ${before}, where a client writes, for ${owner}`);
    if (stayedMs < MIN_STAY_MS) throw new Violation(this.name, `the volume left ${before} for ${owner} after ${stayedMs} ms`);
  }

  private writesAt(node: string | null): boolean {
    return [...this.clients.values()].some((client) => client.node === node && client.writes);
  }
}
