/** Three members in one process that replicate a counter. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Clock, Prng, silentLog } from '../../src/base/index.ts';
import { RaftNode, type StateChange, type StateMachine } from '../../src/raft/index.ts';

/** A command is a number to add, as text; its result is the sum. */
class Counter implements StateMachine {
  sum = 0;

  apply(command: Uint8Array): { result: Uint8Array; changes: StateChange[] } {
    this.sum += Number(Buffer.from(command).toString());
    const text = Buffer.from(String(this.sum));
    // What changed goes to the disk and into snapshots; what is not named here is forgotten at the next start.
    return { result: text, changes: [{ key: 'sum', value: text }] };
  }

  load(entries: Iterable<{ key: string; value: Uint8Array }>): void {
    this.sum = 0;
    for (const { value } of entries) this.sum = Number(Buffer.from(value).toString());
  }
}

const clock: Clock = {
  nowMs: () => performance.now(),
  wallMs: () => Date.now(),
  setTimer(delayMs, callback) {
    const timer = setTimeout(callback, delayMs);
    return { cancel: () => clearTimeout(timer) };
  },
};

/** The sums that two members saw. */
export async function main(): Promise<[string, number]> {
  const root = mkdtempSync(join(tmpdir(), 'counter-'));
  const ids = ['a', 'b', 'c'];
  const nodes = new Map<string, RaftNode>();
  const counters = new Map<string, Counter>();
  for (const id of ids) {
    const counter = new Counter();
    counters.set(id, counter);
    const node = await RaftNode.open({
      id,
      directory: join(root, id),
      bootstrap: ids,
      stateMachine: counter,
      // A real transport carries the frame to another process and tells there, authenticated, who sent it. Never inside the call.
      transport: { send: (to, frame) => void setImmediate(() => nodes.get(to)?.receive(id, frame)) },
      clock,
      log: silentLog,
      random: new Prng(id.charCodeAt(0)),
      fatal: (error) => {
        console.error(error);
        process.exit(1);
      },
    });
    nodes.set(id, node);
  }
  const [a, b] = [nodes.get('a') as RaftNode, nodes.get('b') as RaftNode];

  // To any member; it waits for a leader, and resolves when the command is durable on two of the three and applied at `a`.
  await a.propose(Buffer.from('40'), { timeoutMs: 20_000 });
  const result = await a.propose(Buffer.from('2'), { timeoutMs: 20_000 });

  // Afterwards `b` has everything that was answered anywhere before the call.
  await b.readBarrier({ timeoutMs: 20_000 });
  const seen = counters.get('b')?.sum ?? Number.NaN;

  for (const node of nodes.values()) await node.stop();
  rmSync(root, { recursive: true });
  return [Buffer.from(result).toString(), seen];
}
