/** Clients that write and read registers, one operation at a time each, at any running member, and note what they saw. */
import { ArchipelagoError, type Prng } from '../../../src/base/index.ts';
import type { Operation } from '../../checkers/linearizability.ts';
import type { Scheduler } from '../scheduler.ts';
import { encodeWrite, keyOf, writtenBy } from './registers.ts';
import type { ClientSetting } from './setting.ts';
import type { Member } from './world.ts';

const TIMEOUT_MS = 4_000;

export class Clients {
  private readonly reads: Operation[] = [];
  /** With an infinite return until it is known. */
  private readonly writes = new Map<number, Operation>();
  completed = 0;
  acknowledgedWrites = 0;
  private operations = 0;
  /** A moment of the history: time, and a counter that tells moments of one time apart. */
  private moments = 0;
  private stopped = false;
  private readonly scheduler: Scheduler;
  private readonly random: Prng;
  private readonly pick: () => Member | null;
  private readonly noteRefused: (operation: number) => void;
  private readonly setting: ClientSetting;

  constructor(scheduler: Scheduler, random: Prng, pick: () => Member | null, noteRefused: (operation: number) => void, setting: ClientSetting) {
    this.scheduler = scheduler;
    this.random = random;
    this.pick = pick;
    this.noteRefused = noteRefused;
    this.setting = setting;
  }

  start(): void {
    for (let client = 0; client < this.setting.count; client++) this.next();
  }

  stop(): void {
    this.stopped = true;
  }

  /** Everything so far; writes that were never answered are open for ever. */
  get history(): Operation[] {
    return [...this.reads, ...this.writes.values()];
  }

  private next(): void {
    this.scheduler.in(this.setting.thinkMs * this.random.unit() * 2, () => {
      if (this.stopped) return;
      const member = this.pick();
      if (member === null) this.next();
      else if (this.random.chance(this.setting.writes)) this.write(member);
      else this.read(member);
    });
  }

  private write(member: Member): void {
    const id = ++this.operations;
    const register = this.register();
    const key = keyOf(register);
    const value = writtenBy(id);
    const call = this.moment();
    this.writes.set(id, { id, kind: 'write', key, value, call, return: Number.POSITIVE_INFINITY });
    this.watch(member, member.node.propose(encodeWrite(id, register), { timeoutMs: TIMEOUT_MS }), (error) => {
      if (error === null) {
        this.writes.set(id, { id, kind: 'write', key, value, call, return: this.moment() });
        this.acknowledgedWrites++;
      } else if (error !== 'crash' && error.code === 'unavailable') {
        // Nobody took it: it has no place in the history, and none in a log.
        this.writes.delete(id);
        this.noteRefused(id);
      }
    });
  }

  private read(member: Member): void {
    const id = ++this.operations;
    const key = keyOf(this.register());
    const call = this.moment();
    this.watch(member, member.node.readBarrier({ timeoutMs: TIMEOUT_MS }), (error) => {
      if (error !== null) return;
      this.reads.push({ id, kind: 'read', key, value: member.registers.values.get(key), call, return: this.moment() });
    });
  }

  private register(): number {
    return this.random.below(this.setting.keys);
  }

  /** Hears of an operation's end once: its answer, or the crash of the member that it was asked at. */
  private watch(member: Member, answer: Promise<unknown>, done: (error: ArchipelagoError | 'crash' | null) => void): void {
    const end = (error: ArchipelagoError | 'crash' | null) => {
      if (!member.waiting.delete(crashed)) return;
      this.completed++;
      done(error);
      this.next();
    };
    const crashed = () => end('crash');
    member.waiting.add(crashed);
    answer.then(
      () => end(null),
      (error: unknown) => end(ArchipelagoError.from(error, 'client')),
    );
  }

  private moment(): number {
    return this.scheduler.nowMs + ++this.moments * 1e-7;
  }
}
