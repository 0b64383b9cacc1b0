/**
 * Applies committed entries: to the state machine, and to the client sessions that make a retry count once (thesis 6.3). Both are part of
 * the replicated state, so they go through snapshots and restarts together.
 *
 * A client is a member of the group; a session is one life of its process, numbered by its storage. So there is one session for each
 * member and nothing expires: a newer session ends the older one, whose process is dead.
 *
 * Keys of the stored state: `u/<key>` the state machine's; `c/<client>` u64 session, u64 acknowledged; `r/<client>/<16 hex digits>` the
 * result of that sequence.
 */
import { assert, hex16, readCounter, viewOf, writeCounter } from '../base/index.ts';
import type { Entry } from './core/types.ts';
import type { StateMachine } from './state-machine.ts';
import type { StateEntry } from './storage/storage.ts';

interface Session {
  number: number;
  /** Sequences below are answered, and their results forgotten. */
  acknowledged: number;
  readonly results: Map<number, Uint8Array>;
}

export type Outcome =
  | { readonly kind: 'applied'; readonly result: Uint8Array }
  /** The client has a newer session: not applied. */
  | { readonly kind: 'superseded' }
  /** It was applied and the client had said that it has the result. */
  | { readonly kind: 'forgotten' };

export class Applier {
  private readonly machine: StateMachine;
  private readonly sessions = new Map<string, Session>();
  private changes = new Map<string, Uint8Array | null>();
  /** Of the values that wait to be stored. */
  pendingBytes = 0;

  constructor(machine: StateMachine) {
    this.machine = machine;
  }

  /** Replaces all state by what storage holds. */
  load(entries: readonly StateEntry[]): void {
    this.sessions.clear();
    this.changes = new Map();
    this.pendingBytes = 0;
    const user: StateEntry[] = [];
    for (const { key, value } of entries) {
      const name = key.slice(2);
      if (key.startsWith('u/')) user.push({ key: name, value });
      else if (key.startsWith('c/')) this.loadSession(name, value);
      else this.loadResult(key, name, value);
    }
    this.machine.load(user);
  }

  /** For a command entry. */
  apply(entry: Entry): Outcome {
    if (entry.clientId === '') return { kind: 'applied', result: this.run(entry) };
    const session = this.sessionFor(entry);
    if (session === null) return { kind: 'superseded' };
    const outcome = this.applyOnce(session, entry);
    if (entry.acknowledged > session.acknowledged) {
      this.forgetBelow(entry.clientId, session, entry.acknowledged);
      this.storeSession(entry.clientId, session);
    }
    return outcome;
  }

  /** What became of a client's proposal, if its result is still kept. */
  resultOf(clientId: string, session: number, sequence: number): Uint8Array | null {
    const held = this.sessions.get(clientId);
    return held?.number === session ? (held.results.get(sequence) ?? null) : null;
  }

  get hasChanges(): boolean {
    return this.changes.size > 0;
  }

  takeChanges(): ReadonlyMap<string, Uint8Array | null> {
    const taken = this.changes;
    this.changes = new Map();
    this.pendingBytes = 0;
    return taken;
  }

  private run(entry: Entry): Uint8Array {
    const { result, changes } = this.machine.apply(entry.data, entry.index, entry.term);
    for (const { key, value } of changes) this.change(`u/${key}`, value);
    return result;
  }

  private applyOnce(session: Session, entry: Entry): Outcome {
    if (entry.sequence < session.acknowledged) return { kind: 'forgotten' };
    const known = session.results.get(entry.sequence);
    if (known !== undefined) return { kind: 'applied', result: known };
    const result = this.run(entry);
    session.results.set(entry.sequence, result);
    this.change(resultKey(entry.clientId, entry.sequence), result);
    return { kind: 'applied', result };
  }

  private sessionFor(entry: Entry): Session | null {
    const held = this.sessions.get(entry.clientId);
    if (held !== undefined && held.number > entry.session) return null;
    if (held?.number === entry.session) return held;
    if (held !== undefined) this.forgetBelow(entry.clientId, held, Number.POSITIVE_INFINITY);
    const session: Session = { number: entry.session, acknowledged: 1, results: new Map() };
    this.sessions.set(entry.clientId, session);
    this.storeSession(entry.clientId, session);
    return session;
  }

  private forgetBelow(clientId: string, session: Session, acknowledged: number): void {
    for (const sequence of session.results.keys()) {
      if (sequence >= acknowledged) continue;
      session.results.delete(sequence);
      this.change(resultKey(clientId, sequence), null);
    }
    session.acknowledged = acknowledged;
  }

  private storeSession(clientId: string, session: Session): void {
    const value = new Uint8Array(16);
    writeCounter(viewOf(value), 0, session.number);
    writeCounter(viewOf(value), 8, session.acknowledged);
    this.change(`c/${clientId}`, value);
  }

  /** Storage lists `c/` before `r/`, so the session is there when its results come. */
  private loadSession(clientId: string, value: Uint8Array): void {
    const view = viewOf(value);
    this.sessions.set(clientId, { number: readCounter(view, 0), acknowledged: readCounter(view, 8), results: new Map() });
  }

  private loadResult(key: string, name: string, value: Uint8Array): void {
    assert(key.startsWith('r/') && name.at(-17) === '/', `stored state has an unknown key ${key}`);
    const session = this.sessions.get(name.slice(0, -17));
    assert(session !== undefined, `a stored result belongs to a stored session: ${key}`);
    session.results.set(Number.parseInt(name.slice(-16), 16), value);
  }

  private change(key: string, value: Uint8Array | null): void {
    this.changes.set(key, value);
    this.pendingBytes += key.length + (value?.byteLength ?? 0);
  }
}

function resultKey(clientId: string, sequence: number): string {
  return `r/${clientId}/${hex16(sequence)}`;
}
