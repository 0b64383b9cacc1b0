/**
 * Three and then five daemons, of which any minority is killed, paused and started again, while clients change the registry. Afterwards every
 * node, and every node after all were killed once more, has to show each command that was acknowledged, once, and nothing that was refused.
 */
import { Prng } from '../../../src/base/index.ts';
import { Violation } from '../../checkers/checker.ts';
import { type Cluster, startCluster } from '../cluster.ts';
import { Nemesis } from '../faults.ts';
import { RegistryClient } from '../registry-client.ts';
import { observeAll, type Shown } from '../registry-model.ts';
import type { Soak, SoakOptions, SoakResult } from '../soak.ts';
import { eventually, sleepUntilAborted } from '../wait.ts';

const CLIENTS = 24;
const NOTE_MS = 10_000;
/** What has to be answered after each round, by all of them, for the next one to begin. */
const ANSWERS_BETWEEN_ROUNDS = CLIENTS;
const ANSWERS_TIMEOUT_MS = 60_000;
const AUDIT_TIMEOUT_MS = 60_000;
/** With fewer a run proves nothing. */
const FEWEST_FAULTS_A_MINUTE = 2;
const FEWEST_ANSWERS_A_MINUTE = 100;

export const soak: Soak = {
  name: 'raft',
  summary: 'three and five daemons, any minority killed, paused and restarted under proposals: none lost, none twice',
  minutes: 5,
  async run(options) {
    const three = await soakRegistry(3, options);
    if (options.signal.aborted || three.violations > 0) return three;
    const five = await soakRegistry(5, options);
    return addUp(three, five);
  },
};

interface RaftResult extends SoakResult {
  readonly kills: number;
  readonly pauses: number;
  readonly acknowledged: number;
  readonly unknown: number;
}

/** One cluster, for `minutes`. */
export async function soakRegistry(nodes: number, options: SoakOptions): Promise<RaftResult> {
  const cluster = await startCluster(options.atEnd, '--nodes', String(nodes));
  return new RegistrySoak(cluster, options).run();
}

class RegistrySoak {
  private readonly cluster: Cluster;
  private readonly options: SoakOptions;
  private readonly ended = new AbortController();
  private readonly nemesis: Nemesis;
  private readonly clients: readonly RegistryClient[];
  private violations = 0;

  constructor(cluster: Cluster, options: SoakOptions) {
    this.cluster = cluster;
    this.options = options;
    const prng = new Prng(options.seed);
    this.nemesis = new Nemesis(cluster, prng.fork(), this.ended.signal);
    const admins = new Map(cluster.names.map((name) => [name, cluster.admin(name)]));
    this.clients = Array.from(
      { length: CLIENTS },
      (_, place) =>
        new RegistryClient({ name: `c${place + 1}`, prng: prng.fork(), nodes: admins, drawnTo: () => this.nemesis.next, signal: this.ended.signal }),
    );
  }

  async run(): Promise<RaftResult> {
    const { signal, minutes, note } = this.options;
    const stop = () => this.ended.abort();
    const timer = setTimeout(stop, minutes * 60_000);
    signal.addEventListener('abort', stop);
    if (signal.aborted) stop();
    try {
      await this.loop();
      if (!signal.aborted) await this.judge();
    } catch (error) {
      if (!(error instanceof Violation)) throw error;
      this.violations++;
      note(`violation found by ${error.checker}: ${error.message}\n${this.cluster.logTails()}`);
    } finally {
      clearTimeout(timer);
      signal.removeEventListener('abort', stop);
    }
    return this.counts();
  }

  /** Faults under commands, until the time is up or something is wrong. */
  private async loop(): Promise<void> {
    const guarded = (work: Promise<void>) =>
      work.catch((error: unknown) => {
        this.ended.abort();
        throw error;
      });
    const results = await Promise.allSettled([guarded(this.faults()), ...this.clients.map((client) => guarded(client.run())), this.tell()]);
    const reasons = results.flatMap((result) => (result.status === 'rejected' ? [result.reason as unknown] : []));
    // What was found counts for more than what did not come about because of it.
    const reason = reasons.find((each) => each instanceof Violation) ?? reasons[0];
    if (reason !== undefined) throw reason;
  }

  private async faults(): Promise<void> {
    const { signal } = this.ended;
    while (!signal.aborted) {
      const before = this.acknowledged;
      await this.nemesis.round();
      await eventually(
        'commands are answered after a round of faults',
        () => signal.aborted || this.acknowledged >= before + ANSWERS_BETWEEN_ROUNDS,
        ANSWERS_TIMEOUT_MS,
      );
    }
  }

  private async tell(): Promise<void> {
    const startMs = performance.now();
    const { signal } = this.ended;
    for (;;) {
      await sleepUntilAborted(NOTE_MS, signal);
      if (signal.aborted) return;
      const { kills, pauses, acknowledged, unknown } = this.counts();
      const seconds = Math.round((performance.now() - startMs) / 1000);
      this.options.note(
        `${this.cluster.names.length} daemons, ${seconds} s: ${kills} kills, ${pauses} pauses; ${acknowledged} commands acknowledged, ${unknown} unknown`,
      );
    }
  }

  /** All nodes are up: what they show has to be what the clients know, and the same, also after a start from their disks. */
  private async judge(): Promise<void> {
    await this.cluster.ready();
    await this.audit();
    await this.cluster.killAll();
    await Promise.all(this.cluster.names.map((name) => this.cluster.start(name)));
    await this.cluster.ready();
    await this.audit();
    const { minutes } = this.options;
    const { kills, pauses, acknowledged } = this.counts();
    const tooFew = Math.min(kills, pauses) < minutes * FEWEST_FAULTS_A_MINUTE || acknowledged < minutes * FEWEST_ANSWERS_A_MINUTE;
    if (tooFew)
      throw new Error(`this run proves little: ${kills} kills, ${pauses} pauses and ${acknowledged} acknowledged commands in ${minutes} minutes`);
  }

  private async audit(): Promise<void> {
    const models = this.clients.flatMap((client) => client.models);
    const deadline = performance.now() + AUDIT_TIMEOUT_MS;
    for (;;) {
      const lists = new Map<string, string>();
      for (const name of this.cluster.names) {
        const volumes = await this.cluster.admin(name).call<Shown[]>('GET', '/v1/volumes', undefined, { timeoutMs: AUDIT_TIMEOUT_MS });
        observeAll(models, volumes, `${name}, in the end`);
        lists.set(name, JSON.stringify(volumes));
      }
      if (new Set(lists.values()).size === 1) return;
      // A command whose outcome is unknown may still come, between two of the lists. All give up within seconds.
      if (performance.now() >= deadline) throw new Violation('states-agree', `the nodes show different volumes: ${describeLists(lists)}`);
    }
  }

  private get acknowledged(): number {
    return sum(this.clients.map((client) => client.acknowledged));
  }

  private counts(): RaftResult {
    const { kills, pauses } = this.nemesis;
    const unknown = sum(this.clients.map((client) => client.unknown));
    return { kills, pauses, acknowledged: this.acknowledged, unknown, violations: this.violations };
  }
}

/** As far as they differ. */
function describeLists(lists: ReadonlyMap<string, string>): string {
  const parsed = [...lists].map(([name, list]) => ({
    name,
    volumes: new Set((JSON.parse(list) as Shown[]).map((volume) => JSON.stringify(volume))),
  }));
  return parsed
    .map(({ name, volumes }) => {
      const own = [...volumes].filter((volume) => !parsed.every((other) => other.volumes.has(volume)));
      return `${name} alone or with some others: ${own.join(', ') || 'nothing'}`;
    })
    .join('; ');
}

function addUp(one: RaftResult, other: RaftResult): RaftResult {
  return {
    kills: one.kills + other.kills,
    pauses: one.pauses + other.pauses,
    acknowledged: one.acknowledged + other.acknowledged,
    unknown: one.unknown + other.unknown,
    violations: one.violations + other.violations,
  };
}

function sum(numbers: readonly number[]): number {
  return numbers.reduce((total, number) => total + number, 0);
}
