/**
 * A client of the admin API that makes, changes, renames and removes volumes of its own, one command after the other, each at a node drawn
 * at random, and looks at others for what it did. What it may see is in its models; whatever else it sees is a violation.
 */
import { ArchipelagoError, type Prng } from '../../src/base/index.ts';
import { type AdminClient, volumePath } from '../../src/gateway/http/client.ts';
import { Violation } from '../checkers/checker.ts';
import { MADE_BY, type Shown, VolumeModel } from './registry-model.ts';
import { sleep, sleepUntilAborted } from './wait.ts';

/** Shorter than many a pause, and longer than a node waits for another one that is paused before it answers without it. */
const COMMAND_TIMEOUT_MS = 1_500;
/** A majority answers all the time, so a read gets through in the end. */
const READ_TIMEOUT_MS = 60_000;
const READ_RETRY_MS = 50;
const MAX_REST_MS = 300;
const VOLUMES_AT_A_TIME = 3;
/** A volume has at most 64 labels. */
const CHANGES_OF_A_VOLUME = 50;
const SIZE_BYTES = 1 << 20;

/** What a command came to. `nobody`: certainly not carried out. */
type Outcome =
  | { readonly kind: 'acknowledged' }
  | { readonly kind: 'unknown' }
  | { readonly kind: 'nobody' }
  | { readonly kind: 'refused'; readonly code: string };

export interface RegistryClientOptions {
  readonly name: string;
  readonly prng: Prng;
  /** By node. */
  readonly nodes: ReadonlyMap<string, AdminClient>;
  /** The node that commands go to, without a rest between them, while there is one; else each goes to any. */
  readonly drawnTo: () => string | null;
  readonly signal: AbortSignal;
}

export class RegistryClient {
  /** All attempts that it ever made. */
  readonly models: VolumeModel[] = [];
  acknowledged = 0;
  unknown = 0;
  private readonly options: RegistryClientOptions;
  private readonly prng: Prng;
  private readonly nodes: readonly (readonly [string, AdminClient])[];
  private current: VolumeModel[] = [];
  private names = 0;

  constructor(options: RegistryClientOptions) {
    this.options = options;
    this.prng = options.prng;
    this.nodes = [...options.nodes];
  }

  /** Until the signal aborts. Rejects with a `Violation`, or when no node answers any more. */
  async run(): Promise<void> {
    const { signal, drawnTo } = this.options;
    while (!signal.aborted) {
      await this.step();
      if (drawnTo() === null) await sleepUntilAborted(this.prng.below(MAX_REST_MS), signal);
    }
  }

  private async step(): Promise<void> {
    const { prng } = this;
    if (this.current.length < VOLUMES_AT_A_TIME && prng.chance(0.5)) return this.create();
    const volume = this.current[prng.below(Math.max(1, this.current.length))];
    if (volume === undefined) return this.create();
    if (volume.changeCount >= CHANGES_OF_A_VOLUME) {
      // It stays, to be there in the end.
      this.retire(volume);
      return;
    }
    const choice = prng.unit();
    if (choice < 0.12) await this.rename(volume);
    else if (choice < 0.2) await this.remove(volume);
    else await this.change(volume);
    if (prng.chance(0.5)) await this.look(volume);
  }

  private async create(): Promise<void> {
    const name = `${this.options.name}-${++this.names}`;
    const earlier: VolumeModel[] = [];
    while (!this.options.signal.aborted) {
      const volume = new VolumeModel(`${name}.${earlier.length}`, name);
      this.models.push(volume);
      const outcome = await this.command('POST', '/v1/volumes', { name, size: SIZE_BYTES, blockSize: SIZE_BYTES, labels: volume.firstLabels });
      if (outcome.kind === 'acknowledged') volume.created();
      else if (outcome.kind !== 'unknown') volume.refused();
      earlier.push(volume);
      if (outcome.kind === 'refused' && outcome.code !== 'exists') throw unexpected(`making ${name}`, outcome.code);
      if (outcome.kind === 'refused') await this.lookAll(earlier);
      const made = earlier.find(({ presence }) => presence === 'there');
      if (made) {
        // As long as it keeps the name, no other attempt comes about. Without it one may, in a node that wakes up, and then takes what that node
        // was asked later for the volume of this name. So it stays as it is, to be there in the end.
        if (earlier.some(({ presence }) => presence === 'coming')) return;
        this.current.push(made);
        if (earlier.length > 1) await this.overwrite(() => this.rename(made));
        return;
      }
      if (outcome.kind === 'refused') throw new Violation('applied-once', `the name ${name} is taken, and none of ${earlier.length} attempts has it`);
    }
  }

  private async change(volume: VolumeModel): Promise<void> {
    const { number, labels } = volume.nextChange();
    const outcome = await this.command('POST', volumePath(volume.name, 'labels'), labels);
    if (outcome.kind === 'acknowledged' || outcome.kind === 'unknown') volume.changed(number, outcome.kind);
    await this.settle(volume, outcome, `change ${number}`);
    if (outcome.kind === 'unknown' && volume.changeCount < CHANGES_OF_A_VOLUME) await this.overwrite(() => this.change(volume));
  }

  private async rename(volume: VolumeModel): Promise<void> {
    const name = `${this.options.name}-${++this.names}`;
    const outcome = await this.command('POST', volumePath(volume.name, 'rename'), { name });
    if (outcome.kind === 'acknowledged' || outcome.kind === 'unknown') volume.renamed(name, outcome.kind);
    await this.settle(volume, outcome, `rename to ${name}`);
    if (outcome.kind === 'unknown') await this.overwrite(() => this.rename(volume));
  }

  /**
   * At once after a command without an answer: it was carried out, as likely as not, but the node that it was sent to sleeps and does not know.
   * When that node wakes up and proposes it again, a second coming shows only if something newer is there by then.
   */
  private async overwrite(command: () => Promise<void>): Promise<void> {
    if (!this.options.signal.aborted) await command();
  }

  /** What became of a command for a volume by its name. */
  private async settle(volume: VolumeModel, outcome: Outcome, what: string): Promise<void> {
    if (outcome.kind === 'acknowledged' || outcome.kind === 'nobody') return;
    const before = volume.name;
    // Often done by now, which makes its second coming a violation.
    await this.look(volume);
    if (outcome.kind === 'unknown') return;
    // A rename with an unknown outcome may have come in between, and only that.
    if (outcome.code !== 'not-found' || volume.name === before) throw unexpected(`${what} of ${volume.by}`, outcome.code);
  }

  private async remove(volume: VolumeModel): Promise<void> {
    const outcome = await this.command('DELETE', volumePath(volume.name));
    // It is several steps, of which some are tried again: a refusal says nothing about those before.
    volume.removed(outcome.kind === 'acknowledged' ? 'acknowledged' : 'unknown');
    this.retire(volume);
  }

  private retire(volume: VolumeModel): void {
    this.current = this.current.filter((each) => each !== volume);
  }

  // ---- commands and reads ----

  private async command(method: 'POST' | 'DELETE', path: string, body?: unknown): Promise<Outcome> {
    const drawnTo = this.options.drawnTo();
    const [node, admin] = this.nodes.find(([name]) => name === drawnTo) ?? this.anyNode();
    try {
      await admin.call(method, path, body, { timeoutMs: COMMAND_TIMEOUT_MS });
      this.acknowledged++;
      return { kind: 'acknowledged' };
    } catch (error) {
      const outcome = outcomeOf(error, node);
      if (outcome.kind === 'unknown') this.unknown++;
      return outcome;
    }
  }

  /** Reads a volume at any node, which has to show all that was answered anywhere before. */
  private look(volume: VolumeModel): Promise<void> {
    return this.lookAll([volume]);
  }

  private async lookAll(volumes: readonly VolumeModel[]): Promise<void> {
    for (const volume of volumes) {
      const { seen, node } = await this.find(volume.by);
      volume.observe(seen, node);
    }
  }

  private async find(by: string): Promise<{ seen: readonly Shown[]; node: string }> {
    const deadline = performance.now() + READ_TIMEOUT_MS;
    const path = `/v1/volumes?label=${encodeURIComponent(`${MADE_BY}=${by}`)}`;
    for (;;) {
      const [node, admin] = this.anyNode();
      try {
        return { seen: await admin.call<Shown[]>('GET', path, undefined, { timeoutMs: COMMAND_TIMEOUT_MS }), node };
      } catch (error) {
        const { kind } = outcomeOf(error, node);
        if (kind === 'refused') throw error;
        if (performance.now() >= deadline) throw new Error(`no node answered a read for ${READ_TIMEOUT_MS / 1000} s`, { cause: error });
      }
      await sleep(READ_RETRY_MS);
    }
  }

  private anyNode(): readonly [string, AdminClient] {
    return this.nodes[this.prng.below(this.nodes.length)] as readonly [string, AdminClient];
  }
}

function outcomeOf(error: unknown, node: string): Outcome {
  if (!(error instanceof ArchipelagoError)) throw error;
  const { code } = error;
  if (code === 'timeout') return { kind: 'unknown' };
  // Every way of saying this promises that nobody has taken it: whoever cannot promise that says `timeout`.
  if (code === 'unavailable') return { kind: 'nobody' };
  if (error.exitStatus === 1) throw new Violation('answers', `node ${node} answers with ${code}: ${error.message}`);
  return { kind: 'refused', code };
}

function unexpected(what: string, code: string): Violation {
  return new Violation('answers', `${what} was refused as ${code}`);
}
