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
  /** Sequences whose results the stored state has; what differs from `results` is what the next store changes. */
  readonly stored: Set<number>;
}

/** Where a session is encoded, before it is copied. */
const sessionBytes = new Uint8Array(16);
const sessionView = viewOf(sessionBytes);

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
  /** Clients whose session is not stored as it is: most results come and go between two stores, and are never written. */
  private readonly changedSessions = new Set<string>();
  /** Of the values that wait to be stored. */
  pendingBytes = 0;

  constructor(machine: StateMachine) {
    this.machine = machine;
  }

  /** Replaces all state by what storage holds. */
  load(entries: readonly StateEntry[]): void {
    this.sessions.clear();
    this.changes = new Map();
    this.changedSessions.clear();
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
      // Sequences are dense: this is a few each time, where a walk over all results would cost more than the command.
      for (let sequence = session.acknowledged; sequence < entry.acknowledged; sequence++) session.results.delete(sequence);
      session.acknowledged = entry.acknowledged;
      this.changedSessions.add(entry.clientId);
    }
    return outcome;
  }

  /** What became of a client's proposal, if its result is still kept. */
  resultOf(clientId: string, session: number, sequence: number): Uint8Array | null {
    const held = this.sessions.get(clientId);
    return held?.number === session ? (held.results.get(sequence) ?? null) : null;
  }

  get hasChanges(): boolean {
    return this.changes.size > 0 || this.changedSessions.size > 0;
  }

  takeChanges(): ReadonlyMap<string, Uint8Array | null> {
    for (const clientId of this.changedSessions) {
      const session = this.sessions.get(clientId);
      if (session !== undefined) this.addSession(clientId, session);
    }
    this.changedSessions.clear();
    const taken = this.changes;
    this.changes = new Map();
    this.pendingBytes = 0;
    return taken;
  }

  private run(entry: Entry): Uint8Array {
    const { result, changes } = this.machine.apply(entry.data, entry.index, entry.term);
    for (const { key, value } of changes) {
      this.changes.set(`u/${key}`, value);
      this.pendingBytes += key.length + (value?.byteLength ?? 0);
    }
    return result;
  }

  private applyOnce(session: Session, entry: Entry): Outcome {
    if (entry.sequence < session.acknowledged) return { kind: 'forgotten' };
    const known = session.results.get(entry.sequence);
    if (known !== undefined) return { kind: 'applied', result: known };
    const result = this.run(entry);
    session.results.set(entry.sequence, result);
    this.changedSessions.add(entry.clientId);
    this.pendingBytes += result.byteLength;
    return { kind: 'applied', result };
  }

  private sessionFor(entry: Entry): Session | null {
    const held = this.sessions.get(entry.clientId);
    if (held !== undefined && held.number > entry.session) return null;
    if (held?.number === entry.session) return held;
    // Its results go with the next store; they are of no use to the new session.
    const session: Session = { number: entry.session, acknowledged: 1, results: new Map(), stored: held?.stored ?? new Set() };
    this.sessions.set(entry.clientId, session);
    this.changedSessions.add(entry.clientId);
    return session;
  }

  private addSession(clientId: string, session: Session): void {
    const { number, acknowledged, results, stored } = session;
    writeCounter(sessionView, 0, number);
    writeCounter(sessionView, 8, acknowledged);
    this.changes.set(`c/${clientId}`, sessionBytes.slice());
    for (const sequence of stored) this.changes.set(resultKey(clientId, sequence), null);
    for (const [sequence, result] of results) this.changes.set(resultKey(clientId, sequence), result);
    stored.clear();
    for (const sequence of results.keys()) stored.add(sequence);
  }

  /** Storage lists `c/` before `r/`, so the session is there when its results come. */
  private loadSession(clientId: string, value: Uint8Array): void {
    const view = viewOf(value);
    this.sessions.set(clientId, { number: readCounter(view, 0), acknowledged: readCounter(view, 8), results: new Map(), stored: new Set() });
  }

  private loadResult(key: string, name: string, value: Uint8Array): void {
    assert(key.startsWith('r/') && name.at(-17) === '/', `stored state has an unknown key ${key}`);
    const session = this.sessions.get(name.slice(0, -17));
    assert(session !== undefined, `a stored result belongs to a stored session: ${key}`);
    const sequence = Number.parseInt(name.slice(-16), 16);
    session.results.set(sequence, value);
    session.stored.add(sequence);
  }
}

function resultKey(clientId: string, sequence: number): string {
  return `r/${clientId}/${hex16(sequence)}`;
}
