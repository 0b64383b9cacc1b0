/** A new member of a group with a large state, over real disks and in real time: the snapshot goes in pieces, and the group goes on. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, describe, expect, it } from 'vitest';
import { crc32, Prng, silentLog } from '../../src/base/index.ts';
import { systemClock } from '../../src/node/clock.ts';
import { RaftNode, type StateChange, type StateMachine } from '../../src/raft/index.ts';
import { decodeFrame } from '../../src/raft/wire.ts';

const STATE_BYTES = Number(process.env['CATCH_UP_BYTES'] ?? 100e6);
const BLOCK_BYTES = 64 * 1024;
const BLOCKS_PER_COMMAND = 16;
const CHUNK_BYTES = 128 * 1024;
/** Of the sender; a receiver never has more to take in at once. */
const WINDOW = 8;
const VOTERS = ['a', 'b', 'c'];

/** A command 'fill N' makes some blocks of noise; 'count' counts. Only checksums stay in memory. */
class Blocks implements StateMachine {
  readonly sums = new Map<string, number>();
  counted = 0;

  apply(command: Uint8Array): { result: Uint8Array; changes: StateChange[] } {
    const [word, number] = new TextDecoder().decode(command).split(' ');
    const changes = word === 'fill' ? this.fill(Number(number)) : [{ key: 'count', value: counter(++this.counted) }];
    return { result: new Uint8Array(0), changes };
  }

  load(entries: Iterable<{ key: string; value: Uint8Array }>): void {
    this.sums.clear();
    for (const { key, value } of entries) {
      if (key === 'count') this.counted = new DataView(value.buffer, value.byteOffset).getUint32(0);
      else this.sums.set(key, crc32(value));
    }
  }

  private fill(number: number): StateChange[] {
    return Array.from({ length: BLOCKS_PER_COMMAND }, (_, place) => {
      const key = `block-${number}-${place}`;
      const value = noise(number * BLOCKS_PER_COMMAND + place + 1);
      this.sums.set(key, crc32(value));
      return { key, value };
    });
  }
}

function counter(value: number): Uint8Array {
  const bytes = new Uint8Array(4);
  new DataView(bytes.buffer).setUint32(0, value);
  return bytes;
}

/** Bytes that do not compress (xorshift). */
function noise(seed: number): Uint8Array {
  const words = new Uint32Array(BLOCK_BYTES / 4);
  let word = seed;
  for (let place = 0; place < words.length; place++) {
    word ^= word << 13;
    word ^= word >>> 17;
    word ^= word << 5;
    words[place] = word;
  }
  return new Uint8Array(words.buffer);
}

class Group {
  readonly root = mkdtempSync(join(tmpdir(), 'catch-up-'));
  readonly nodes = new Map<string, RaftNode>();
  readonly machines = new Map<string, Blocks>();
  /** Decides what becomes of a frame. */
  passes: (from: string, to: string, frame: Uint8Array) => boolean = () => true;

  async open(id: string, bootstrap: readonly string[]): Promise<void> {
    const machine = new Blocks();
    this.machines.set(id, machine);
    const node = await RaftNode.open({
      id,
      directory: join(this.root, id),
      bootstrap,
      stateMachine: machine,
      transport: { send: (to, frame) => void setImmediate(() => this.passes(id, to, frame) && this.nodes.get(to)?.receive(id, frame)) },
      clock: systemClock,
      log: silentLog,
      random: new Prng(id.charCodeAt(0)),
      // All members share one thread with the work of the test: nobody is to think that the leader is gone.
      tickMs: 20,
      electionTicks: 250,
      heartbeatTicks: 10,
      keepEntries: 8,
      snapshotChunkBytes: CHUNK_BYTES,
      fatal: (error) => {
        throw error;
      },
    });
    this.nodes.set(id, node);
  }

  async leader(): Promise<RaftNode> {
    for (;;) {
      const leader = [...this.nodes.values()].find((node) => node.status().role === 'leader');
      if (leader !== undefined) return leader;
      await turn();
    }
  }

  async stop(): Promise<void> {
    for (const node of this.nodes.values()) await node.stop();
    rmSync(this.root, { recursive: true });
  }
}

function turn(): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, 5));
}

/** What passes between the leader and the newcomer. */
class Watched {
  /** Chunks sent, repetitions included, and those acknowledged. */
  sent = 0;
  firsts = 0;
  acknowledged = 0;
  highest = -1;
  mostUnderWay = 0;
  largestFrame = 0;
  last = false;

  see(frame: Uint8Array): void {
    const decoded = decodeFrame(frame);
    if ('chunk' in decoded) {
      this.sent++;
      if (decoded.chunk.sequence === 0) this.firsts++;
      this.highest = Math.max(this.highest, decoded.chunk.sequence);
      this.last ||= decoded.chunk.last;
      this.largestFrame = Math.max(this.largestFrame, frame.byteLength);
      this.mostUnderWay = Math.max(this.mostUnderWay, decoded.chunk.sequence + 1 - this.acknowledged);
    } else if ('chunkReply' in decoded) {
      this.acknowledged = Math.max(this.acknowledged, decoded.chunkReply.next);
    }
  }
}

describe(`a new member of a group with ${Math.round(STATE_BYTES / 1e6)} MB of state`, () => {
  let group: Group;

  afterEach(async () => {
    await group.stop();
  });

  it('catches up by snapshot, across a broken link, while the leader goes on committing', { timeout: 300_000 }, async () => {
    group = new Group();
    for (const id of VOTERS) await group.open(id, VOTERS);
    const leader = await group.leader();
    const encode = (text: string) => new TextEncoder().encode(text);
    const fills = Math.ceil(STATE_BYTES / (BLOCK_BYTES * BLOCKS_PER_COMMAND));
    for (let number = 0; number < fills; number++) await leader.propose(encode(`fill ${number}`), { timeoutMs: 120_000 });

    const watched = new Watched();
    const expectedChunks = Math.ceil((fills * BLOCKS_PER_COMMAND * BLOCK_BYTES) / CHUNK_BYTES);
    // In the middle the link is down until the sender's window has run dry and it has begun to send again.
    let refused = 0;
    group.passes = (_from, to, frame) => {
      const isChunk = to === 'd' && 'chunk' in decodeFrame(frame);
      if (isChunk && watched.acknowledged > expectedChunks / 2 && refused < 2 * WINDOW) {
        refused++;
        return false;
      }
      watched.see(frame);
      return true;
    };

    await group.open('d', []);
    const newcomer = group.nodes.get('d') as RaftNode;
    leader.changeMembers({ voters: VOTERS, learners: ['d'] });

    // One client that never rests, and what it had committed at each quarter of the transfer. A single slow sync takes as long as a tenth does.
    const quarters: number[] = [];
    let commits = 0;
    while (group.machines.get('d')?.sums.size !== fills * BLOCKS_PER_COMMAND) {
      await leader.propose(encode('count'), { timeoutMs: 120_000 });
      commits++;
      const quarter = Math.floor((4 * watched.acknowledged) / expectedChunks);
      while (quarters.length < quarter) quarters.push(commits);
    }

    expect(refused).toBe(2 * WINDOW);
    // In pieces, a few ahead of their acknowledgements, and from where the link broke rather than from the start.
    expect(watched.highest + 1).toBeGreaterThanOrEqual(expectedChunks);
    expect(watched.mostUnderWay).toBeLessThanOrEqual(WINDOW);
    expect(watched.largestFrame).toBeLessThan(CHUNK_BYTES + BLOCK_BYTES + 1024);
    expect(watched.firsts).toBe(1);
    expect(watched.sent).toBeLessThan(expectedChunks + 4 * WINDOW);
    // The leader went on in every part of it.
    expect(new Set(quarters.slice(0, 3)).size).toBe(3);

    while (newcomer.status().appliedIndex < leader.status().commitIndex) await turn();
    const [ours, theirs] = [group.machines.get('d') as Blocks, group.machines.get(leader.status().id) as Blocks];
    expect(ours.counted).toBe(theirs.counted);
    expect([...ours.sums].sort()).toEqual([...theirs.sums].sort());
  });
});
