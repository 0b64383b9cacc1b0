/**
 * Commits of a Raft group of three with fsync, beside a three-member etcd on the same disk in the same run: 128-byte values, 1 and 64 clients.
 *
 * Ours is a small service of registers: three processes, each a `RaftNode` over links of `src/net` (authenticated and encrypted) with its log
 * in LevelDB and every batch synced. etcd runs with its default settings but for names, directories and ports, and without TLS. Each
 * system is driven at its leader by a client process of its own over loopback, ours over TCP, etcd by its gRPC API. Both run all the
 * time; the client's load goes to one and the other in turn, and each turn begins with the other one.
 *
 * `--turns` (5) pairs of `--seconds` (5) each; `--connections` (2) at most for the clients: with more, both systems are slower, and etcd's client
 * takes a larger share of the processors. Reported are medians. `--clients N` runs that case alone and `--only ours|etcd` one system, for
 * profiles.
 */
import { type ChildProcess, fork } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import type { BenchResult } from './main.ts';
import { inDirectory, median, sleep, stopServer } from './support/processes.ts';
import { startEtcd } from './support/raft/etcd.ts';
import type { Load, Measured } from './support/raft/load.ts';
import type { Hello, Start } from './support/raft/register-node.ts';

const VALUE_BYTES = 128;
/** The larger first: until then the engine has not compiled what both need. */
const CLIENTS = [64, 1];
const SYSTEMS = ['ours', 'etcd'] as const;
type System = (typeof SYSTEMS)[number];

interface Target {
  /** Where the leader takes clients now. */
  leader(): Promise<string>;
  readonly pids: readonly number[];
  stop(): Promise<void>;
}

/** A measurement with what the three servers used meanwhile. */
type Sample = Measured & { readonly serverCpuUsPerCommit: number };

async function ask<Reply>(child: ChildProcess, message: object | string | null): Promise<Reply> {
  const reply = new Promise<Reply>((resolve, reject) => {
    child.once('message', (answer) => resolve(answer as Reply));
    child.once('exit', (code) => reject(new Error(`a process of the bench ended with ${code}`)));
  });
  if (message !== null) child.send(message);
  const answer = await reply;
  child.removeAllListeners('exit');
  return answer;
}

async function startOurs(directory: string): Promise<Target> {
  const ids = ['r1', 'r2', 'r3'];
  const children = ids.map(() => fork(join(import.meta.dirname, 'support/raft/register-node.ts')));
  const hellos = await Promise.all(children.map((child) => ask<Hello>(child, null)));
  const peers = hellos.map(({ peerId, addresses }, place) => ({ name: ids[place]!, peerId, addresses }));
  const start = (id: string): Start => ({ id, directory: join(directory, id), peers });
  await Promise.all(children.map((child, place) => ask(child, start(ids[place]!))));
  return {
    leader: async () => {
      for (;;) {
        const statuses = await Promise.all(children.map((child) => ask<{ leads: boolean }>(child, 'status')));
        const place = statuses.findIndex(({ leads }) => leads);
        if (place >= 0) return String(hellos[place]!.port);
        await sleep(50);
      }
    },
    pids: children.map(({ pid }) => pid as number),
    stop: async () => {
      await Promise.all(children.map(stopServer));
    },
  };
}

/** User and system time of a process in microseconds, all its threads together. */
function cpuUsOf(pid: number): number {
  const fields = readFileSync(`/proc/${pid}/stat`, 'latin1').split(') ')[1]!.split(' ');
  const TICK_US = 10_000;
  return (Number(fields[11]) + Number(fields[12])) * TICK_US;
}

async function sample(target: Target, load: Omit<Load, 'target'>): Promise<Sample> {
  const leader = await target.leader();
  const cpuUs = () => target.pids.reduce((sum, pid) => sum + cpuUsOf(pid), 0);
  const child = fork(join(import.meta.dirname, 'support/raft/load.ts'));
  const before = cpuUs();
  const measured = await ask<Measured>(child, { ...load, target: leader });
  // The servers also worked during the warm-up, at about the same rate.
  const serverUs = (cpuUs() - before) * (load.seconds / (load.seconds + 1));
  await stopServer(child);
  return { ...measured, serverCpuUsPerCommit: serverUs / (measured.commitsPerSecond * load.seconds) };
}

export async function run(args: readonly string[]): Promise<readonly BenchResult[]> {
  const { values } = parseArgs({
    args: [...args],
    options: {
      seconds: { type: 'string', default: '5' },
      turns: { type: 'string', default: '5' },
      connections: { type: 'string', default: '2' },
      clients: { type: 'string' },
      only: { type: 'string' },
    },
  });
  const seconds = Number(values.seconds);
  return inDirectory(async (directory) => {
    const targets: Record<System, Target> = { ours: await startOurs(join(directory, 'ours')), etcd: await startEtcd(join(directory, 'etcd')) };
    try {
      const results: BenchResult[] = [];
      for (const clients of values.clients === undefined ? CLIENTS : [Number(values.clients)]) {
        const samples: Record<System, Sample[]> = { ours: [], etcd: [] };
        for (let turn = 0; turn < Number(values.turns); turn++) {
          const order = turn % 2 === 0 ? SYSTEMS : [...SYSTEMS].reverse();
          for (const system of order) {
            if (values.only !== undefined && values.only !== system) continue;
            const load = { system, clients, connections: Math.min(clients, Number(values.connections)), seconds, valueBytes: VALUE_BYTES };
            samples[system].push(await sample(targets[system], load));
            report(system, clients, samples[system].at(-1)!);
          }
        }
        results.push(...compare(clients, samples));
      }
      return results;
    } finally {
      await Promise.all(SYSTEMS.map((system) => targets[system].stop()));
    }
  });
}

function report(system: System, clients: number, { commitsPerSecond, p50Ms, p99Ms, cpuUsPerCommit, serverCpuUsPerCommit }: Sample): void {
  const cpu = `CPU ${cpuUsPerCommit.toFixed(0)} us a commit at the client, ${serverCpuUsPerCommit.toFixed(0)} at the servers`;
  process.stdout.write(
    `${clients} clients, ${system}: ${commitsPerSecond.toFixed(0)} commits/s, p50 ${p50Ms.toFixed(3)} ms, p99 ${p99Ms.toFixed(3)} ms, ${cpu}\n`,
  );
}

function compare(clients: number, samples: Record<System, readonly Sample[]>): BenchResult[] {
  const row = (name: string, unit: string, pick: (sample: Sample) => number): BenchResult => {
    const [ours, peer] = SYSTEMS.map((system) => median(samples[system].map(pick))) as [number, number];
    // Of the pairs, not of the medians: what else the machine does strikes both halves of a pair alike.
    const ratio = median(samples.ours.map((sample, turn) => pick(sample) / pick(samples.etcd[turn] ?? sample)));
    const round = (value: number) => Number(value.toPrecision(4));
    return { case: `${clients} clients, ${name}`, ours: round(ours), peer: round(peer), ratio: round(ratio), unit };
  };
  return [
    row('throughput', 'commits/s', (sample) => sample.commitsPerSecond),
    row('p50', 'ms', (sample) => sample.p50Ms),
    row('p99', 'ms', (sample) => sample.p99Ms),
    row('CPU of the client', 'us/commit', (sample) => sample.cpuUsPerCommit),
    row('CPU of the servers', 'us/commit', (sample) => sample.serverCpuUsPerCommit),
  ];
}
