/**
 * What keeps a forwarded change from being carried out twice. A node numbers the changes that it forwards for a volume, and a change keeps its
 * number until it is answered, whatever session or owner it is sent to again. The owner remembers which numbers of each node it has done, as
 * far as that node may not have heard of it, and answers those without doing them again: in between, somebody may have read what was written
 * and have written over it. A handover takes this memory along.
 *
 * Reads and flushes have no numbers. Who has no answer yet cannot tell whether they were done once or twice.
 */
import { assert, type LivenessEpoch } from '../base/index.ts';
import type { VolumeIo } from './device.ts';

/** How far the oldest number without an answer and the newest may be apart. */
export const SEQUENCE_WINDOW = 2048;

/** Sessions of this process; with its liveness epoch in front they are never used again. */
let lastSession = 0;
const SESSIONS_A_PROCESS = 2 ** 24;

export function nextSession(livenessEpoch: LivenessEpoch): number {
  return livenessEpoch * SESSIONS_A_PROCESS + ++lastSession;
}

const UNKNOWN = 0;
const UNDER_WAY = 1;
const ANSWERED = 2;

/** The numbers that this process gives its changes of one volume. */
export class SentSequences {
  /** Names this process's use of the volume: with the node's name never used again. */
  readonly origin: number;
  private next = 1;
  private oldestUnanswered = 1;
  private readonly answered = new Uint8Array(SEQUENCE_WINDOW);

  constructor(origin: number) {
    this.origin = origin;
  }

  /** Every number below has its answer. */
  get oldest(): number {
    return this.oldestUnanswered;
  }

  /** Whether another number may be given now. If not, one may when a change is answered. */
  get room(): boolean {
    return this.next - this.oldestUnanswered < SEQUENCE_WINDOW;
  }

  /** Gives a change its number, unless it has one from an earlier attempt. Needs `room`. */
  number(io: VolumeIo): void {
    if (io.sequence !== 0) return;
    assert(this.room, 'a number is given within the window');
    io.sequence = this.next++;
    this.answered[io.sequence % SEQUENCE_WINDOW] = 0;
  }

  /** Nobody will send the change again. */
  retire(io: VolumeIo): void {
    const { sequence } = io;
    if (sequence === 0) return;
    io.sequence = 0;
    assert(sequence >= this.oldestUnanswered && sequence < this.next, 'a number is retired once');
    this.answered[sequence % SEQUENCE_WINDOW] = 1;
    while (this.oldestUnanswered < this.next && this.answered[this.oldestUnanswered % SEQUENCE_WINDOW] === 1) this.oldestUnanswered++;
  }
}

/** What one ownership remembers of the changes of one node. */
export class AnsweredWindow {
  readonly origin: number;
  private oldestUnheard: number;
  private readonly states = new Uint8Array(SEQUENCE_WINDOW);

  constructor(origin: number, oldest = 1) {
    this.origin = origin;
    this.oldestUnheard = oldest;
  }

  get oldest(): number {
    return this.oldestUnheard;
  }

  /** The node has heard the answers of every number below `oldest`. Frames of one session arrive in order, and others are refused. */
  heard(oldest: number): void {
    if (oldest - this.oldestUnheard >= SEQUENCE_WINDOW) this.states.fill(UNKNOWN);
    else for (let sequence = this.oldestUnheard; sequence < oldest; sequence++) this.states[sequence % SEQUENCE_WINDOW] = UNKNOWN;
    if (oldest > this.oldestUnheard) this.oldestUnheard = oldest;
  }

  /** An attempt is under way from here on. */
  begin(sequence: number): void {
    assert(this.covers(sequence) && this.states[sequence % SEQUENCE_WINDOW] === UNKNOWN, 'an attempt begins when no other is known');
    this.states[sequence % SEQUENCE_WINDOW] = UNDER_WAY;
  }

  /** It was done, and its node is told so. */
  done(sequence: number): void {
    this.end(sequence, ANSWERED);
  }

  /** It was not done, or failed, or nobody knows: it may be sent again. */
  forget(sequence: number): void {
    this.end(sequence, UNKNOWN);
  }

  private end(sequence: number, state: number): void {
    // A node that has given up on the change has moved on.
    if (sequence >= this.oldestUnheard) this.states[sequence % SEQUENCE_WINDOW] = state;
  }

  isDone(sequence: number): boolean {
    return this.covers(sequence) && this.states[sequence % SEQUENCE_WINDOW] === ANSWERED;
  }

  isUnderWay(sequence: number): boolean {
    return this.covers(sequence) && this.states[sequence % SEQUENCE_WINDOW] === UNDER_WAY;
  }

  /** Whether a change with this number can be without an answer. */
  covers(sequence: number): boolean {
    return sequence >= this.oldestUnheard && sequence < this.oldestUnheard + SEQUENCE_WINDOW;
  }

  /** The numbers that were done and that the node may not have heard of. */
  doneSequences(): number[] {
    const done: number[] = [];
    for (let sequence = this.oldestUnheard; sequence < this.oldestUnheard + SEQUENCE_WINDOW; sequence++)
      if (this.isDone(sequence)) done.push(sequence);
    return done;
  }
}

/** What an owner tells its successor of one node's changes. */
export interface AnsweredChanges {
  readonly node: string;
  readonly origin: number;
  /** Below it, the node has heard every answer. */
  readonly oldest: number;
  /** What was done from there on, ascending. */
  readonly sequences: readonly number[];
}

/** What one ownership remembers of all nodes' changes. */
export class AnsweredWindows {
  private readonly windows = new Map<string, AnsweredWindow>();

  constructor(handedOver: readonly AnsweredChanges[] = []) {
    for (const { node, origin, oldest, sequences } of handedOver) {
      const window = new AnsweredWindow(origin, oldest);
      for (const sequence of sequences) window.done(sequence);
      this.windows.set(node, window);
    }
  }

  /** The window of a node's present process. One that the process before had is of no use any more. */
  of(node: string, origin: number): AnsweredWindow {
    let window = this.windows.get(node);
    if (window?.origin !== origin) {
      window = new AnsweredWindow(origin);
      this.windows.set(node, window);
    }
    return window;
  }

  isDone(node: string, origin: number, sequence: number): boolean {
    const window = this.windows.get(node);
    return window?.origin === origin && window.isDone(sequence);
  }

  /** The node has heard everything. */
  forget(node: string): void {
    this.windows.delete(node);
  }

  /** For the successor of a clean handover: everything that was admitted has been answered. */
  toHandOver(): AnsweredChanges[] {
    const changes: AnsweredChanges[] = [];
    for (const [node, window] of this.windows) {
      const sequences = window.doneSequences();
      if (sequences.length > 0) changes.push({ node, origin: window.origin, oldest: window.oldest, sequences });
    }
    return changes;
  }
}
