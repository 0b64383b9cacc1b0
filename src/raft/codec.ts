/**
 * What frames and the disk have in common, in the same bytes (the schema is in `wire.ts`). A leader sends the same entries to each
 * member and stores them, and a follower stores what it was sent, so a run of entries is encoded once and copied from then on.
 */
import { ArchipelagoError, assertCounter } from '../base/index.ts';
import type { Configuration, Entry, EntryKind, LogIndex, ProposalEntry, SnapshotMeta, Term } from './core/types.ts';
import type { ProtobufReader, ProtobufWriter } from './protobuf.ts';

const ENTRY_KINDS: readonly (EntryKind | null)[] = [null, 'command', 'noop', 'configuration'];
const NO_DATA = new Uint8Array(0);
/** The number of the field `entries`, wherever entries are. */
export const ENTRIES_FIELD = 9;

/** Entries that follow one another, and their fields as they stand in a message. */
interface EncodedRun {
  readonly entries: readonly Entry[];
  readonly bytes: Uint8Array;
}

/** As many batches as may be under way to the disk and to members that are all up to date; what is older is encoded again. */
const MAX_RUNS = 8;
const MAX_RUN_BYTES = 256 * 1024;
const runs: EncodedRun[] = [];
let oldestRun = 0;

/** Keeps what is known of `entries`, for whoever needs it next. Nobody may change `bytes` any more. */
export function rememberEntries(entries: readonly Entry[], bytes: Uint8Array): void {
  if (entries.length === 0 || bytes.byteLength > MAX_RUN_BYTES) return;
  runs[oldestRun] = { entries, bytes };
  oldestRun = (oldestRun + 1) % MAX_RUNS;
}

/** Writes the entries as fields of the current message. */
export function writeEntries(writer: ProtobufWriter, entries: readonly Entry[]): void {
  let position = 0;
  while (position < entries.length) {
    const run = findRun(entries, position);
    if (run === undefined) {
      const entry = entries[position++] as Entry;
      writeEntry(writer, entry, entry.index, entry.term);
    } else {
      writer.fields(run.bytes);
      position += run.entries.length;
    }
  }
}

/** The same, where these very entries will be written again. */
export function writeAndRememberEntries(writer: ProtobufWriter, entries: readonly Entry[]): void {
  const start = writer.length;
  const known = findRun(entries, 0)?.entries.length === entries.length;
  writeEntries(writer, entries);
  if (!known) rememberEntries(entries, writer.copyFrom(start));
}

/** By identity: entries are never changed, so the same objects have the same bytes. */
function findRun(entries: readonly Entry[], position: number): EncodedRun | undefined {
  const first = entries[position];
  for (const run of runs) {
    if (run.entries[0] !== first || run.entries.length > entries.length - position) continue;
    if (run.entries.every((entry, offset) => entry === entries[position + offset])) return run;
  }
  return undefined;
}

export function writeEntry(writer: ProtobufWriter, entry: ProposalEntry, index: number, term: number): void {
  const start = writer.begin(ENTRIES_FIELD);
  writer.counter(1, counter(index));
  writer.counter(2, counter(term));
  writer.counter(3, ENTRY_KINDS.indexOf(entry.kind));
  writer.blob(4, entry.data);
  writer.text(5, entry.clientId);
  writer.counter(6, counter(entry.session));
  writer.counter(7, counter(entry.sequence));
  writer.counter(8, counter(entry.acknowledged));
  writer.end(start);
}

export function readEntry(reader: ProtobufReader): Entry {
  let index = 0;
  let term = 0;
  let kind: EntryKind | null | undefined = null;
  let data = NO_DATA;
  let clientId = '';
  let session = 0;
  let sequence = 0;
  let acknowledged = 0;
  const outer = reader.enter();
  for (let field = reader.next(); field !== 0; field = reader.next()) {
    if (field === 1) index = reader.counter();
    else if (field === 2) term = reader.counter();
    else if (field === 3) kind = ENTRY_KINDS[reader.counter()];
    else if (field === 4) data = reader.blob();
    else if (field === 5) clientId = reader.name();
    else if (field === 6) session = reader.counter();
    else if (field === 7) sequence = reader.counter();
    else if (field === 8) acknowledged = reader.counter();
    else reader.skip();
  }
  reader.leave(outer);
  if (kind == null) throw new ArchipelagoError('invalid-argument', 'a Raft entry of unknown kind');
  return { index: index as LogIndex, term: term as Term, kind, data, clientId, session, sequence, acknowledged };
}

export function writeSnapshotMeta(writer: ProtobufWriter, field: number, { index, term, configuration }: SnapshotMeta): void {
  const start = writer.begin(field);
  writer.counter(1, counter(index));
  writer.counter(2, counter(term));
  const known = configurations.get(configuration);
  if (known !== undefined) writer.fields(known);
  else {
    const configurationStart = writer.length;
    writeConfiguration(writer, configuration);
    configurations.set(configuration, writer.copyFrom(configurationStart));
  }
  writer.end(start);
}

/** Field 3 of a place in the log. The members seldom change, and each batch on the disk names them. */
const configurations = new WeakMap<Configuration, Uint8Array>();

function writeConfiguration(writer: ProtobufWriter, { voters, outgoing, learners, learnersNext }: Configuration): void {
  const start = writer.begin(3);
  for (const id of voters) writer.text(1, id);
  for (const id of outgoing) writer.text(2, id);
  for (const id of learners) writer.text(3, id);
  for (const id of learnersNext) writer.text(4, id);
  writer.end(start);
}

export function readSnapshotMeta(reader: ProtobufReader): SnapshotMeta {
  let index = 0;
  let term = 0;
  let configuration: Configuration | null = null;
  const outer = reader.enter();
  for (let field = reader.next(); field !== 0; field = reader.next()) {
    if (field === 1) index = reader.counter();
    else if (field === 2) term = reader.counter();
    else if (field === 3) configuration = readConfiguration(reader);
    else reader.skip();
  }
  reader.leave(outer);
  if (configuration === null) throw new ArchipelagoError('invalid-argument', 'a snapshot without its members');
  return { index: index as LogIndex, term: term as Term, configuration };
}

function readConfiguration(reader: ProtobufReader): Configuration {
  const lists: string[][] = [[], [], [], []];
  const outer = reader.enter();
  for (let field = reader.next(); field !== 0; field = reader.next()) {
    const list = lists[field - 1];
    if (list === undefined) reader.skip();
    else list.push(reader.text());
  }
  reader.leave(outer);
  const [voters, outgoing, learners, learnersNext] = lists as [string[], string[], string[], string[]];
  return { voters, outgoing, learners, learnersNext };
}

export function counter(value: number): number {
  assertCounter(value, 'number of a Raft frame or record');
  return value;
}
