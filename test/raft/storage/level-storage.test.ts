/** What storage keeps, and that it notices what a disk lost. */
import { cpSync, existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Level } from 'level';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { Prng, silentLog } from '../../../src/base/index.ts';
import {
  configurationOf,
  type Entry,
  LevelStorage,
  type LogIndex,
  type SnapshotMeta,
  type StateEntry,
  type StorageBatch,
  type Term,
} from '../../../src/raft/index.ts';

const MEMBERS = configurationOf(['a', 'b', 'c']);
const bytes = (text: string) => new TextEncoder().encode(text);

let root: string;
let directory: string;

beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'raft-storage-'));
  directory = join(root, 'a');
});

afterEach(() => rmSync(root, { recursive: true }));

function entry(index: number, term: number, text = `entry ${index} of term ${term}`): Entry {
  return {
    index: index as LogIndex,
    term: term as Term,
    kind: 'command',
    data: bytes(text),
    clientId: 'a',
    session: 1,
    sequence: index,
    acknowledged: 1,
  };
}

function place(index: number, term: number): SnapshotMeta {
  return { index: index as LogIndex, term: term as Term, configuration: MEMBERS };
}

function batch(part: Partial<StorageBatch>): StorageBatch {
  return { hardState: null, entries: [], applied: null, compactTo: null, ...part };
}

function applied(index: number, term: number, changes: Record<string, string | null>): Partial<StorageBatch> {
  const map = new Map(Object.entries(changes).map(([key, value]) => [key, value === null ? null : bytes(value)]));
  return { applied: { at: place(index, term), changes: map } };
}

function open(id = 'a'): Promise<LevelStorage> {
  return LevelStorage.open({ id, directory, bootstrap: MEMBERS.voters, log: silentLog });
}

/** Everything that a restarted member would rely on. */
interface Content {
  readonly initial: LevelStorage['initial'];
  readonly state: StateEntry[];
}

async function contentOf(storage: LevelStorage): Promise<Content> {
  const { initial } = storage;
  return { initial, state: await storage.readState() };
}

async function reopened(): Promise<Content> {
  const storage = await open();
  try {
    return await contentOf(storage);
  } finally {
    await storage.close();
  }
}

describe('storage', () => {
  it('begins with the voters of a new group and counts its openings', async () => {
    const first = await open();
    expect(first.initial).toEqual({ hardState: { term: 0, votedFor: null }, base: place(0, 0), entries: [], applied: 0 });
    expect(first.starts).toBe(1);
    await first.close();
    const second = await open();
    expect(second.starts).toBe(2);
    await second.close();
  });

  it('keeps term, vote, entries and state', async () => {
    const storage = await open();
    await storage.readState();
    await storage.write(batch({ hardState: { term: 3 as Term, votedFor: 'b' }, entries: [entry(1, 1), entry(2, 3)] }));
    await storage.write(batch(applied(2, 3, { x: '1', y: '2', z: '3' })));
    await storage.write(batch({ entries: [entry(3, 3)], ...applied(3, 3, { x: '4', y: null, absent: null }) }));
    await storage.close();
    const { initial, state } = await reopened();
    expect(initial).toEqual({
      hardState: { term: 3, votedFor: 'b' },
      base: place(0, 0),
      entries: [entry(1, 1), entry(2, 3), entry(3, 3)],
      applied: 3,
    });
    expect(state).toEqual([
      { key: 'x', value: bytes('4') },
      { key: 'z', value: bytes('3') },
    ]);
  });

  it('replaces a tail by a shorter one', async () => {
    const storage = await open();
    await storage.write(batch({ hardState: { term: 1 as Term, votedFor: null }, entries: [1, 2, 3, 4, 5].map((index) => entry(index, 1)) }));
    await storage.write(batch({ hardState: { term: 2 as Term, votedFor: null }, entries: [entry(3, 2)] }));
    await storage.write(batch({ entries: [entry(4, 2)] }));
    await storage.close();
    expect((await reopened()).initial.entries).toEqual([entry(1, 1), entry(2, 1), entry(3, 2), entry(4, 2)]);
  });

  it('drops what is compacted and goes on behind it', async () => {
    const storage = await open();
    await storage.readState();
    await storage.write(
      batch({ hardState: { term: 1 as Term, votedFor: null }, entries: [1, 2, 3, 4].map((index) => entry(index, 1)), ...applied(3, 1, { x: '1' }) }),
    );
    await storage.write(batch({ compactTo: place(3, 1) }));
    await storage.write(batch({ entries: [entry(5, 1)] }));
    await storage.close();
    const { initial } = await reopened();
    expect(initial).toMatchObject({ base: { index: 3, term: 1 }, entries: [entry(4, 1), entry(5, 1)], applied: 3 });
  });

  it('keeps what random batches leave, as a list of entries does', async () => {
    const random = new Prng(11);
    let storage = await open();
    await storage.readState();
    let log: Entry[] = [];
    let base = place(0, 0);
    let appliedTo = place(0, 0);
    let term = 1;
    const tally = { replaced: 0, compacted: 0, installed: 0 };
    const placeOf = (index: number) => (index === base.index ? base : place(index, log[index - base.index - 1]?.term as number));
    for (let round = 0; round < 300; round++) {
      const last = base.index + log.length;
      if (random.chance(0.1)) {
        await storage.close();
        storage = await open();
        expect(storage.initial).toMatchObject({ base, entries: log, applied: appliedTo.index });
        await storage.readState();
      } else if (random.chance(0.15) && appliedTo.index > base.index) {
        const to = placeOf(base.index + 1 + random.below(appliedTo.index - base.index));
        await storage.write(batch({ compactTo: to }));
        log = log.slice(to.index - base.index);
        base = to;
        tally.compacted++;
      } else if (random.chance(0.05)) {
        base = place(last + 5, ++term);
        await storage.install(await storage.stage(), base, { term: term as Term, votedFor: null });
        await storage.readState();
        log = [];
        appliedTo = base;
        tally.installed++;
      } else {
        const replaces = random.chance(0.3);
        if (replaces) term++;
        const first = replaces ? appliedTo.index + 1 + random.below(last - appliedTo.index + 1) : last + 1;
        const entries = Array.from({ length: 1 + random.below(5) }, (_, offset) => entry(first + offset, term));
        if (first <= last) tally.replaced++;
        log = [...log.slice(0, first - base.index - 1), ...entries];
        const at = random.chance(0.3) ? placeOf(appliedTo.index + random.below(base.index + log.length - appliedTo.index + 1)) : null;
        if (at !== null) appliedTo = at;
        const changes = at === null ? null : { at, changes: new Map() };
        await storage.write(batch({ hardState: { term: term as Term, votedFor: null }, entries, applied: changes }));
      }
    }
    await storage.close();
    expect((await reopened()).initial).toMatchObject({ base, entries: log, applied: appliedTo.index });
    expect(Math.min(...Object.values(tally))).toBeGreaterThan(5);
  });

  it('installs a staged state in place of everything, and forgets one that was not installed', async () => {
    const storage = await open();
    await storage.readState();
    await storage.write(
      batch({ hardState: { term: 1 as Term, votedFor: null }, entries: [entry(1, 1), entry(2, 1)], ...applied(1, 1, { old: '1' }) }),
    );
    const abandoned = await storage.stage();
    await abandoned.add([{ key: 'abandoned', value: bytes('x') }]);
    const staging = await storage.stage();
    await staging.add([{ key: 'new', value: bytes('2') }]);
    expect((await storage.readState()).map(({ key }) => key)).toEqual(['old']);
    await storage.install(staging, place(9, 2), { term: 2 as Term, votedFor: null });
    await storage.readState();
    await storage.write(batch({ entries: [entry(10, 2)], ...applied(10, 2, { newer: '3' }) }));
    await storage.close();
    const { initial, state } = await reopened();
    expect(initial).toEqual({ hardState: { term: 2, votedFor: null }, base: place(9, 2), entries: [entry(10, 2)], applied: 10 });
    expect(state.map(({ key }) => key)).toEqual(['new', 'newer']);
  });

  it('shows a view that later writes do not change, in chunks', async () => {
    const storage = await open();
    await storage.readState();
    await storage.write(
      batch({ hardState: { term: 1 as Term, votedFor: null }, entries: [entry(1, 1), entry(2, 1)], ...applied(1, 1, { a: '1', b: '2', c: '3' }) }),
    );
    const view = await storage.view();
    await storage.write(batch(applied(2, 1, { a: 'changed', b: null, d: '4' })));
    const seen: StateEntry[] = [];
    let after: string | null = null;
    for (;;) {
      const { entries, done } = await view.read(after, 1);
      seen.push(...entries);
      if (done) break;
      after = entries.at(-1)?.key ?? null;
    }
    expect(view.at.index).toBe(1);
    expect(seen.map(({ key, value }) => `${key}=${new TextDecoder().decode(value)}`)).toEqual(['a=1', 'b=2', 'c=3']);
    expect(view.digest.count).toBe(3);
    await view.close();
    await storage.close();
  });

  it('is not opened twice, nor by another member', async () => {
    const storage = await open();
    await expect(open()).rejects.toMatchObject({ code: 'in-use' });
    await storage.close();
    await expect(open('b')).rejects.toMatchObject({ code: 'conflict' });
  });
});

describe('a damaged log', () => {
  /** Batches as a member writes them; the state of the directory after each, as a power failure would leave it, is copied by `afterEachBatch`. */
  async function history(afterEachBatch: (number: number, storage: LevelStorage) => void = () => {}): Promise<void> {
    const storage = await open();
    await storage.readState();
    const batches: StorageBatch[] = [
      batch({ hardState: { term: 1 as Term, votedFor: 'a' } }),
      batch({ entries: [1, 2, 3, 4, 5].map((index) => entry(index, 1)) }),
      batch(applied(3, 1, { 'u/x': '1', 'u/y': '2' })),
      batch({ hardState: { term: 2 as Term, votedFor: 'b' } }),
      batch({ entries: [entry(4, 2), entry(5, 2)], ...applied(4, 2, { 'u/x': '3' }) }),
      batch({ entries: [entry(6, 2)], ...applied(6, 2, { 'u/y': null, 'u/z': '4' }) }),
    ];
    for (const [number, next] of batches.entries()) {
      await storage.write(next);
      afterEachBatch(number, storage);
    }
    await storage.close();
  }

  async function withDatabase<Result>(work: (database: Level<string, Uint8Array>) => Promise<Result>): Promise<Result> {
    const database = new Level<string, Uint8Array>(join(directory, 'log'), { keyEncoding: 'utf8', valueEncoding: 'view' });
    const result = await work(database);
    await database.close();
    return result;
  }

  function logFile(): string {
    const path = join(directory, 'log');
    const name = readdirSync(path)
      .filter((file) => file.endsWith('.log'))
      .sort()
      .at(-1) as string;
    return join(path, name);
  }

  function filesOf(): string[] {
    return [...readdirSync(join(directory, 'log')).map((name) => join('log', name)), 'watermark'];
  }

  /** Restores the pristine copy, so that each damage stands alone. */
  function restore(pristine: string): void {
    rmSync(directory, { recursive: true });
    cpSync(pristine, directory, { recursive: true });
  }

  it('whose last write is torn is cut there, if that was never synced', async () => {
    const marks: Uint8Array[] = [];
    const sizes: number[] = [];
    await history(() => {
      marks.push(readFileSync(join(directory, 'watermark')));
      sizes.push(statSync(logFile()).size);
    });
    // The power failed during the last batch: the mark is that of the batch before, and a part of the record is there.
    for (const missing of [1, 30, (sizes[5] as number) - (sizes[4] as number) - 1]) {
      const torn = join(root, `torn-${missing}`);
      cpSync(directory, torn, { recursive: true });
      const whole = directory;
      directory = torn;
      truncateSync(logFile(), (sizes[5] as number) - missing);
      writeFileSync(join(directory, 'watermark'), marks[4] as Uint8Array);
      const { initial, state } = await reopened();
      expect(initial.entries.map(({ index, term }) => `${index}/${term}`)).toEqual(['1/1', '2/1', '3/1', '4/2', '5/2']);
      expect(initial.applied).toBe(4);
      expect(state.map(({ key }) => key)).toEqual(['u/x', 'u/y']);
      directory = whole;
    }
  });

  it('whose last write is torn although it was synced stops the node', async () => {
    await history();
    truncateSync(logFile(), statSync(logFile()).size - 1);
    await expect(open()).rejects.toMatchObject({
      code: 'corrupt',
      message: expect.stringContaining('synced are gone'),
      hint: expect.stringContaining('join again'),
    });
  });

  it('whose term went back stops the node', async () => {
    let old = '';
    await history((number) => {
      if (number !== 2) return;
      old = join(root, 'old');
      cpSync(join(directory, 'log'), old, { recursive: true });
    });
    rmSync(join(directory, 'log'), { recursive: true });
    cpSync(old, join(directory, 'log'), { recursive: true });
    await expect(open()).rejects.toMatchObject({ code: 'corrupt', message: expect.stringContaining('term went back from 2 to 1') });
  });

  it.each(['CURRENT', 'MANIFEST', '.log', 'watermark', '.ldb'])('without its %s stops the node', async (name) => {
    await history();
    // A second opening moves the log's records to a table.
    await reopened();
    const victim = filesOf().find((file) => file.includes(name)) as string;
    rmSync(join(directory, victim));
    await expect(open()).rejects.toMatchObject({ code: 'corrupt' });
  });

  it.each([4, 5])('in which an old record of entry %i came back stops the node', async (index) => {
    // Each record is whole, and so is the rest: only the links between them tell. The last one is held by the meta record.
    const key = `e/${index.toString(16).padStart(16, '0')}`;
    const storage = await open();
    await storage.write(batch({ hardState: { term: 1 as Term, votedFor: null }, entries: [1, 2, 3].map((at) => entry(at, 1)) }));
    for (const at of [4, 5]) await storage.write(batch({ entries: [entry(at, 1)] }));
    await storage.close();
    const old = await withDatabase((database) => database.get(key));
    const again = await open();
    await again.write(batch({ hardState: { term: 2 as Term, votedFor: null }, entries: [entry(4, index === 4 ? 2 : 1), entry(5, 2)] }));
    await again.close();
    await withDatabase((database) => database.put(key, old as Uint8Array));
    await expect(open()).rejects.toMatchObject({ code: 'corrupt' });
  });

  it.each([
    [1, 'entry 1 is missing'],
    // The record before has an entry 4 too, from before it was replaced.
    [4, 'entry 6 does not follow'],
    [6, 'the log ends at entry 5'],
  ])('without the record that begins at %i stops the node', async (first, message) => {
    await history();
    await withDatabase((database) => database.del(`e/000000000000000${first}`));
    await expect(open()).rejects.toMatchObject({ code: 'corrupt', message: expect.stringContaining(message) });
  });

  it('with a hole between two records stops the node', async () => {
    const storage = await open();
    for (const at of [1, 2, 3]) await storage.write(batch({ hardState: { term: 1 as Term, votedFor: null }, entries: [entry(at, 1)] }));
    await storage.close();
    await withDatabase((database) => database.del('e/0000000000000002'));
    await expect(open()).rejects.toMatchObject({ code: 'corrupt', message: expect.stringContaining('entry 2 is missing') });
  });

  it('that is gone altogether but for its watermark stops the node', async () => {
    await history();
    rmSync(join(directory, 'log'), { recursive: true });
    await expect(open()).rejects.toMatchObject({ code: 'corrupt', message: expect.stringContaining('missing') });
  });

  it('with any byte changed either stops the node or still says the same', async () => {
    await history();
    await reopened();
    await history2();
    const pristine = join(root, 'pristine');
    cpSync(directory, pristine, { recursive: true });
    const expected = await reopened();
    const random = new Prng(7);
    const tally = { stopped: 0, same: 0 };
    for (let round = 0; round < 150; round++) {
      restore(pristine);
      const names = filesOf().filter(
        (file) => !file.endsWith('LOG') && !file.endsWith('LOCK') && !file.endsWith('LOG.old') && statSync(join(directory, file)).size > 0,
      );
      const path = join(directory, names[random.below(names.length)] as string);
      const content = readFileSync(path);
      const at = random.below(content.byteLength);
      content[at] = (content[at] as number) ^ (1 << random.below(8));
      writeFileSync(path, content);
      const outcome = await reopened().catch((error: { code: string }) => error);
      if ('code' in outcome) {
        expect(outcome.code).toMatch(/^(corrupt|unsupported-version|io-error)$/);
        tally.stopped++;
      } else {
        expect(outcome).toEqual(expected);
        tally.same++;
      }
    }
    // The test must see both, or it changes nothing that matters.
    expect(tally.stopped).toBeGreaterThan(50);
    expect(tally.same).toBeGreaterThan(0);
  });

  it('cut at any length is stopped', async () => {
    await history();
    const pristine = join(root, 'pristine');
    cpSync(directory, pristine, { recursive: true });
    const size = statSync(logFile()).size;
    for (let length = 0; length < size; length += Math.ceil(size / 40)) {
      restore(pristine);
      truncateSync(logFile(), length);
      await expect(open()).rejects.toMatchObject({ code: 'corrupt' });
    }
  });

  /** A few batches more, so that records lie in a table and in a log. */
  async function history2(): Promise<void> {
    const storage = await open();
    await storage.readState();
    await storage.write(batch({ entries: [entry(7, 2), entry(8, 2)] }));
    await storage.write(batch({ entries: [entry(9, 2)], ...applied(8, 2, { 'u/w': '5' }) }));
    await storage.close();
    expect(existsSync(join(directory, 'watermark'))).toBe(true);
  }
});
