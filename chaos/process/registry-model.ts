/**
 * What the registry may show of a volume, given what its one client asked for and was answered: every command that was acknowledged, each
 * command with an unknown outcome at most once and at any later time, and nothing that was refused. The client has one command under way at
 * a time, and each observation is a linearizable read that began after the one before had ended; so nothing that was seen may be unseen.
 *
 * Every change is made by one label command that sets both `last` and a label of its own, which stays. So a volume tells which commands it
 * has seen, and `last` tells whether one of them came twice, over something newer.
 *
 * Not verified: that a refusal was right, and how long anything takes.
 */
import { Violation } from '../checkers/checker.ts';

/** The label that says which attempt to create a volume made this one. */
export const MADE_BY = 'by';
const LAST = 'last';
const CHANGE = /^change-(\d+)$/;

/** What is looked at of a volume; the admin API's view has more. */
export interface Shown {
  readonly id: string;
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
}

/** A value that is written by commands which are applied at most once; no value is written twice. */
class Register<Value> {
  private current: Value;
  /** Written with an unknown outcome, and not seen yet. */
  private readonly pending = new Set<Value>();

  constructor(value: Value) {
    this.current = value;
  }

  get value(): Value {
    return this.current;
  }

  acknowledged(value: Value): void {
    this.current = value;
  }

  unknown(value: Value): void {
    this.pending.add(value);
  }

  /** False if it cannot have this value now. */
  observe(value: Value): boolean {
    if (value !== this.current && !this.pending.has(value)) return false;
    this.current = value;
    this.pending.delete(value);
    return true;
  }

  /** It is known by other means that this was written once already. */
  spent(value: Value): void {
    this.pending.delete(value);
  }

  describe(): string {
    return [...new Set([this.current, ...this.pending])].join(' or ');
  }
}

/** `coming` and `going`: with an unknown outcome. `never`: refused. */
type Presence = 'coming' | 'there' | 'going' | 'gone' | 'never';

/** One attempt to create a volume, and what became of it. */
export class VolumeModel {
  readonly by: string;
  private readonly names: Register<string>;
  private readonly last = new Register(0);
  private readonly acknowledgedChanges = new Set<number>();
  private readonly unknownChanges = new Set<number>();
  private changes = 0;
  private id: string | null = null;
  private state: Presence = 'coming';

  constructor(by: string, name: string) {
    this.by = by;
    this.names = new Register(name);
  }

  get presence(): Presence {
    return this.state;
  }

  /** The name under which it was seen last. */
  get name(): string {
    return this.names.value;
  }

  get changeCount(): number {
    return this.changes;
  }

  // ---- what the client asked for, and was answered ----

  /** Of the command that creates it. */
  get firstLabels(): Record<string, string> {
    return { [MADE_BY]: this.by, [LAST]: '0' };
  }

  created(): void {
    this.state = 'there';
  }

  refused(): void {
    this.state = 'never';
  }

  /** The labels of the next change. */
  nextChange(): { readonly number: number; readonly labels: Record<string, string> } {
    const number = ++this.changes;
    return { number, labels: { [LAST]: String(number), [`change-${number}`]: '' } };
  }

  changed(number: number, outcome: 'acknowledged' | 'unknown'): void {
    this.last[outcome](number);
    if (outcome === 'acknowledged') this.acknowledgedChanges.add(number);
    else this.unknownChanges.add(number);
  }

  renamed(name: string, outcome: 'acknowledged' | 'unknown'): void {
    this.names[outcome](name);
  }

  removed(outcome: 'acknowledged' | 'unknown'): void {
    this.state = outcome === 'acknowledged' ? 'gone' : 'going';
  }

  // ---- what was seen ----

  /** Of all volumes at one moment, those made by this attempt. Throws a `Violation` on what cannot be. */
  observe(seen: readonly Shown[], where: string): void {
    const [volume, another] = seen;
    if (another !== undefined) throw this.violation('applied-once', where, `is there twice, as ids ${volume?.id} and ${another.id}`);
    if (volume === undefined) this.observeAbsence(where);
    else this.observeVolume(volume, where);
  }

  private observeAbsence(where: string): void {
    if (this.state === 'there') throw this.violation('committed-survives', where, 'is lost');
    if (this.state === 'going') this.state = 'gone';
  }

  private observeVolume({ id, name, labels }: Shown, where: string): void {
    if (this.state === 'gone') throw this.violation('applied-once', where, `was gone and is there, as id ${id}`);
    if (this.state === 'never') throw this.violation('applied-once', where, 'is there, and was refused');
    if (this.state === 'coming') this.state = 'there';
    if (this.id !== null && id !== this.id) throw this.violation('applied-once', where, `was id ${this.id} and is id ${id}`);
    this.id = id;
    if (!this.names.observe(name)) throw this.violation('order', where, `is named ${name}, not ${this.names.describe()}`);
    this.observeChanges(labels, where);
  }

  private observeChanges(labels: Shown['labels'], where: string): void {
    const present = new Set(
      Object.keys(labels)
        .flatMap((key) => CHANGE.exec(key)?.[1] ?? [])
        .map(Number),
    );
    for (const number of this.acknowledgedChanges)
      if (!present.has(number)) throw this.violation('committed-survives', where, `has lost change ${number}`);
    for (const number of present) {
      if (this.acknowledgedChanges.has(number)) continue;
      if (!this.unknownChanges.delete(number)) throw this.violation('applied-once', where, `has change ${number}, which was refused`);
      // It stays for ever, so from now on it counts as any other.
      this.acknowledgedChanges.add(number);
    }
    const last = Number(labels[LAST]);
    if (last !== 0 && !present.has(last)) throw this.violation('states-agree', where, `has half of change ${last}`);
    const allowed = this.last.describe();
    if (!this.last.observe(last)) throw this.violation('order', where, `was changed last by ${last}, not by ${allowed}`);
    for (const number of present) this.last.spent(number);
  }

  private violation(checker: string, where: string, what: string): Violation {
    return new Violation(checker, `volume ${this.by} ${what}, at ${where}`);
  }
}

/** Checks a list of all volumes, as one node shows it, against all attempts that were ever made. */
export function observeAll(models: Iterable<VolumeModel>, volumes: readonly Shown[], where: string): void {
  const byAttempt = new Map<string, Shown[]>();
  for (const volume of volumes) {
    const by = volume.labels[MADE_BY];
    if (by === undefined) continue;
    const made = byAttempt.get(by);
    if (made) made.push(volume);
    else byAttempt.set(by, [volume]);
  }
  for (const model of models) {
    model.observe(byAttempt.get(model.by) ?? [], where);
    byAttempt.delete(model.by);
  }
  const [stranger] = byAttempt.keys();
  if (stranger !== undefined) throw new Violation('applied-once', `nobody has asked for volume ${stranger}, at ${where}`);
}
