/**
 * A client that writes at random and knows exactly what has to be there: for each sector the newest acknowledged write, or a later one that
 * was submitted and never answered. No two of its requests overlap while both are under way, so there is no third possibility.
 *
 * It reads as well: whatever it reads must be what it wrote. After a broken connection, or an error, it reads back what had no answer, and
 * what it finds there is what it goes on from. Every answer is dated, so that a snapshot can be checked to be the volume at one moment.
 */
import { ArchipelagoError, Prng } from '../../../src/base/index.ts';
import { NbdClient } from '../../../src/gateway/nbd/client.ts';
import { readContent, SECTOR_BYTES, sectorsFor, sequencesIn, ZEROED } from './content.ts';
import { sleep } from './wait.ts';

const RECONNECT_MS = 50;
const RECONNECT_TIMEOUT_MS = 60_000;

export interface WriterOptions {
  readonly uri: string;
  readonly seed: number;
  /** Numbers of writes; shared by writers of volumes that share content. */
  readonly sequence?: { next: number };
  /** What the volume holds already, as `content` of another writer or of a snapshot. */
  readonly content?: Uint32Array;
  /** The part that this writer has for itself; the whole volume if absent. In bytes. */
  readonly region?: { readonly start: number; readonly end: number };
  readonly queueDepth?: number;
  readonly requestsPerSecond?: number;
  readonly maxBytes?: number;
  /** Zeroes and trims as well. */
  readonly zeroes?: boolean;
}

export interface Change {
  readonly kind: 'write' | 'zero' | 'trim';
  readonly sequence: number;
  readonly sector: number;
  readonly sectors: number;
  /** What its sectors hold once it is done: its sequence number, or `ZEROED`. */
  readonly value: number;
  /** Places in one order of all submissions and answers. */
  readonly submitted: number;
  answered: number | null;
}

/** From `recordChanges` to `changesSince`: what a snapshot in between may hold. */
export interface Recording {
  readonly content: Uint32Array;
  readonly changes: Change[];
}

export class Writer {
  /** Per sector the newest write that was acknowledged, or was found there. */
  readonly content: Uint32Array;
  /** Errors that the server answered with. */
  readonly errors: ArchipelagoError[] = [];
  /** Requests that were answered well. */
  acknowledged = 0;
  /** Times that the connection broke. */
  disconnects = 0;
  /** The longest that one request took, since `resetTimes`. */
  longestRequestMs = 0;
  private readonly options: WriterOptions;
  private readonly prng: Prng;
  private readonly sequence: { next: number };
  private client: NbdClient;
  private connecting: Promise<void> | null = null;
  /** The part that is ours, in sectors. */
  private readonly first: number;
  private readonly end: number;
  private readonly busy: Uint8Array;
  /** Changes without an answer on a connection that broke or failed. */
  private unknown: Change[] = [];
  private readonly underWay = new Set<Change>();
  private recordings: Recording[] = [];
  private clockTick = 0;
  private stopping = false;
  private reconnects = true;
  private nextRequestMs = 0;
  private work: Promise<unknown> = Promise.resolve();
  private failure: Error | null = null;

  private constructor(options: WriterOptions, client: NbdClient) {
    this.options = options;
    this.client = client;
    this.prng = new Prng(options.seed);
    this.sequence = options.sequence ?? { next: 1 };
    this.content = new Uint32Array(client.sizeBytes / SECTOR_BYTES);
    if (options.content) this.content.set(options.content);
    this.first = (options.region?.start ?? 0) / SECTOR_BYTES;
    this.end = (options.region?.end ?? client.sizeBytes) / SECTOR_BYTES;
    this.busy = new Uint8Array(this.content.length);
  }

  /** Attaches, and does not write yet. */
  static async attach(options: WriterOptions): Promise<Writer> {
    return new Writer(options, await NbdClient.connect(options.uri));
  }

  /** Attaches and starts to write. */
  static async start(options: WriterOptions): Promise<Writer> {
    const writer = await Writer.attach(options);
    writer.resume();
    return writer;
  }

  resume(): void {
    this.stopping = false;
    this.nextRequestMs = performance.now();
    this.work = Promise.all(Array.from({ length: this.options.queueDepth ?? 6 }, () => this.loop()));
    this.work.catch((error: unknown) => {
      this.failure ??= error as Error;
      this.stopping = true;
    });
  }

  /** Lets requests under way end, then resolves. Rejects when anything that was read was not what it had to be. */
  async pause(): Promise<void> {
    this.stopping = true;
    // What went wrong is in `failure`.
    await this.work.catch(() => undefined);
    if (this.failure) throw this.failure;
  }

  /** Submits no more and forgets the connection when it breaks: for the moment before everything is killed. */
  expectTheEnd(): void {
    this.reconnects = false;
  }

  /** Ends, and detaches. */
  async stop(): Promise<void> {
    await this.pause();
    await this.client.close();
  }

  resetTimes(): void {
    this.longestRequestMs = 0;
  }

  /** Resolves when `count` more requests were answered well. */
  async progress(count: number, timeoutMs = 60_000): Promise<void> {
    const goal = this.acknowledged + count;
    const deadline = performance.now() + timeoutMs;
    while (this.acknowledged < goal) {
      if (this.failure) throw this.failure;
      if (performance.now() > deadline)
        throw new Error(`only ${this.acknowledged + count - goal} of ${count} requests were answered within ${timeoutMs} ms`);
      await sleep(10);
    }
  }

  async flush(): Promise<void> {
    await this.client.flush();
  }

  // ---- one request after the other ----

  private async loop(): Promise<void> {
    while (!this.stopping) {
      await this.pace();
      if (this.stopping) return;
      try {
        await this.one();
      } catch (error) {
        if (!(error instanceof ArchipelagoError)) throw error;
        if (answeredBy(error)) this.errors.push(error);
        else if (!this.reconnects) return;
        await this.recover(answeredBy(error));
      }
    }
  }

  private async pace(): Promise<void> {
    const now = performance.now();
    this.nextRequestMs = Math.max(this.nextRequestMs, now - 100) + 1000 / (this.options.requestsPerSecond ?? 250);
    if (this.nextRequestMs > now) await sleep(this.nextRequestMs - now);
  }

  private async one(): Promise<void> {
    const { client } = this;
    if (this.prng.chance(0.02)) {
      await this.timed(client.flush());
      return;
    }
    const range = this.pick();
    if (range === null) return;
    const { sector, sectors } = range;
    this.busy.fill(1, sector, sector + sectors);
    if (this.prng.chance(0.2)) await this.readBack(client, sector, sectors).finally(() => this.busy.fill(0, sector, sector + sectors));
    else await this.change(client, sector, sectors);
  }

  /** A random range that nothing under way touches; sizes are spread evenly over their logarithms. */
  private pick(): { sector: number; sectors: number } | null {
    const most = (this.options.maxBytes ?? 1 << 20) / SECTOR_BYTES;
    for (let attempt = 0; attempt < 20; attempt++) {
      const sectors = Math.min(this.end - this.first, Math.max(1, Math.floor(8 * (most / 8) ** (this.prng.unit() ** 2))));
      // Mostly whole 4 KiB, sometimes any sectors.
      const unit = this.prng.chance(0.8) ? 8 : 1;
      const sector = this.first + Math.floor(this.prng.below(this.end - this.first - sectors + 1) / unit) * unit;
      if (!this.busy.subarray(sector, sector + sectors).includes(1)) return { sector, sectors };
    }
    return null;
  }

  private async change(client: NbdClient, sector: number, sectors: number): Promise<void> {
    const kind = this.options.zeroes === true && this.prng.chance(0.15) ? (this.prng.chance(0.5) ? 'zero' : 'trim') : 'write';
    const sequence = this.sequence.next++;
    const change: Change = {
      kind,
      sequence,
      sector,
      sectors,
      value: kind === 'write' ? sequence : ZEROED,
      submitted: ++this.clockTick,
      answered: null,
    };
    for (const recording of this.recordings) recording.changes.push(change);
    this.underWay.add(change);
    const offset = sector * SECTOR_BYTES;
    const length = sectors * SECTOR_BYTES;
    const fua = this.prng.chance(0.02);
    try {
      if (kind === 'write') await this.timed(client.write(offset, sectorsFor(sequence, offset, length), { fua }));
      else if (kind === 'zero') await this.timed(client.zero(offset, length, { fua }));
      else await this.timed(client.trim(offset, length));
    } catch (error) {
      // Its sectors stay busy until `settle` knows what they hold.
      this.unknown.push(change);
      throw error;
    } finally {
      this.underWay.delete(change);
    }
    change.answered = ++this.clockTick;
    this.content.fill(change.value, sector, sector + sectors);
    this.busy.fill(0, sector, sector + sectors);
  }

  private async readBack(client: NbdClient, sector: number, sectors: number): Promise<void> {
    const offset = sector * SECTOR_BYTES;
    const found = sequencesIn((await this.timed(client.read(offset, sectors * SECTOR_BYTES))) as Buffer, offset);
    this.compare(found, sector, []);
  }

  private async timed<Value>(request: Promise<Value>): Promise<Value> {
    const started = performance.now();
    const value = await request;
    this.longestRequestMs = Math.max(this.longestRequestMs, performance.now() - started);
    this.acknowledged++;
    return value;
  }

  private compare(found: Uint32Array, sector: number, unanswered: readonly Change[]): void {
    for (let place = 0; place < found.length; place++) {
      const at = sector + place;
      if (found[place] === this.content[at] || at < this.first || at >= this.end) continue;
      if (unanswered.some((change) => covers(change, at) && change.value === found[place])) continue;
      throw new Error(
        `the sector at byte ${at * SECTOR_BYTES} holds write ${found[place]}; the newest acknowledged one is ${this.content[at]}` +
          `, without an answer are ${
            unanswered
              .filter((change) => covers(change, at))
              .map((change) => change.sequence)
              .join(', ') || 'none'
          }`,
      );
    }
  }

  // ---- after errors and broken connections ----

  private async recover(connected: boolean): Promise<void> {
    try {
      if (connected) await this.settle();
      else await this.reconnect();
    } catch (error) {
      // The connection broke, perhaps again: the next request notices.
      if (!(error instanceof ArchipelagoError)) throw error;
    }
  }

  private reconnect(): Promise<void> {
    this.connecting ??= this.connectAgain().finally(() => {
      this.connecting = null;
    });
    return this.connecting;
  }

  private async connectAgain(): Promise<void> {
    this.disconnects++;
    await this.client.close();
    const deadline = performance.now() + RECONNECT_TIMEOUT_MS;
    for (;;) {
      try {
        this.client = await NbdClient.connect(this.options.uri);
        break;
      } catch (error) {
        if (performance.now() > deadline) throw new Error(`no connection for ${RECONNECT_TIMEOUT_MS} ms`, { cause: error });
        await sleep(RECONNECT_MS);
      }
    }
    await this.settle();
  }

  /** Reads what changes without an answer have left; from here on that is what has to be there. */
  private async settle(): Promise<void> {
    for (let change = this.unknown.shift(); change; change = this.unknown.shift()) {
      const { sector, sectors } = change;
      const offset = sector * SECTOR_BYTES;
      try {
        const found = sequencesIn((await this.client.read(offset, sectors * SECTOR_BYTES)) as Buffer, offset);
        this.compare(found, sector, [change]);
        this.content.set(found, sector);
        this.busy.fill(0, sector, sector + sectors);
      } catch (error) {
        this.unknown.push(change);
        throw error;
      }
    }
  }

  /** After everything was stopped and started again: reads the whole volume, checks it and attaches to it. */
  async verifyAndReattach(uri = this.options.uri): Promise<void> {
    await this.pause();
    await this.client.close();
    this.client = await NbdClient.connect(uri);
    this.reconnects = true;
    const found = await readContent(this.client);
    this.compare(found, 0, this.unknown);
    this.content.set(found.subarray(this.first, this.end), this.first);
    this.unknown = [];
    this.busy.fill(0);
  }

  /** Reads the whole volume through some node and checks it. The writer has to be paused. */
  async verify(uri = this.options.uri): Promise<void> {
    const client = await NbdClient.connect(uri);
    try {
      this.compare(await readContent(client), 0, this.unknown);
    } finally {
      await client.close();
    }
  }

  // ---- snapshots ----

  /** Call right before a snapshot is asked for. */
  record(): Recording {
    const recording: Recording = { content: this.content.slice(), changes: [...this.underWay, ...this.unknown] };
    this.recordings.push(recording);
    return recording;
  }

  /** Call when the answer about the snapshot is there. */
  endRecording(recording: Recording): void {
    this.recordings = this.recordings.filter((each) => each !== recording);
  }
}

/**
 * Checks that a snapshot is the volume at one moment of a recording: it holds all that was answered before, nothing that was never submitted,
 * and if it holds a write then also every one that was answered before that one was submitted.
 */
export function checkSnapshot(found: Uint32Array, { content, changes }: Recording): void {
  let lastSubmitted = 0;
  const histories = new Map<number, Change[]>();
  for (const change of changes) {
    for (let sector = change.sector; sector < change.sector + change.sectors; sector++) {
      const history = histories.get(sector);
      if (history) history.push(change);
      else histories.set(sector, [change]);
    }
  }
  for (let sector = 0; sector < found.length; sector++) {
    if (found[sector] === content[sector]) continue;
    const change = histories.get(sector)?.find(({ value }) => value === found[sector]);
    if (!change) throw new Error(`sector ${sector} of the snapshot holds write ${found[sector]}, not ${content[sector]} or one submitted later`);
    lastSubmitted = Math.max(lastSubmitted, change.submitted);
  }
  for (const [sector, history] of histories) {
    const due = history.filter(({ answered }) => answered !== null && answered < lastSubmitted).at(-1);
    if (!due) continue;
    const from = history.indexOf(due);
    if (!history.slice(from).some(({ value }) => value === found[sector])) {
      throw new Error(
        `sector ${sector} of the snapshot holds write ${found[sector]}; it lacks ${due.sequence}, but has one that was submitted after that was answered`,
      );
    }
  }
}

function covers(change: Change, sector: number): boolean {
  return change.sector <= sector && sector < change.sector + change.sectors;
}

/** The server has answered with an error, so the connection is still good. */
function answeredBy(error: ArchipelagoError): boolean {
  return error.message.includes(' failed: ');
}
