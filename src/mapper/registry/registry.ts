/**
 * The state machine that Raft replicates: which volumes, snapshots and nodes there are, and who owns what. Equal entries in equal order
 * give equal states on every node, byte for byte; nothing here knows of time or chance.
 */
import { ArchipelagoError, assert, type VolumeId } from '../../base/index.ts';
import type { StateChange, StateMachine } from '../../raft/index.ts';
import { decodeCommand, encodeResult, typeOfCommand } from './codec.ts';
import type { CollectionRecord } from './collection-types.ts';
import { COMMANDS } from './commands.ts';
import type { Invitation, RemovedNode } from './membership-types.ts';
import { type RegistryChange, State } from './state.ts';
import type { Command, CommandResult, CommandValues, NodeRecord, VolumeRecord } from './types.ts';

/** Somebody's I/O waits until another node than the one that proposed it has applied it. */
const URGENT: ReadonlySet<string> = new Set(['acquire', 'handOver', 'release', 'releaseUnclean', 'expireNode', 'grant'] satisfies Command['type'][]);

export class Registry implements StateMachine {
  private state = new State();
  private readonly listeners = new Set<(change: RegistryChange) => void>();
  /** Names in order, made again after a name came or went. */
  private sortedNames: readonly string[] | null = [];
  private busy = false;

  /**
   * Applies one committed command. A refusal is an answer and changes nothing. A command that cannot be decoded throws, and the node must
   * stop: skipping it would make its state another one than that of the other nodes.
   */
  apply(command: Uint8Array, index: number, term: number): { result: Uint8Array; changes: StateChange[] } {
    const decoded = decodeAt(command, index);
    const result = this.alone(() => encodeResult(decoded.type, this.execute(decoded, term)));
    const { changes, events } = this.state.takeChanges();
    if (events.some(({ kind }) => kind === 'volume' || kind === 'removed')) this.sortedNames = null;
    for (const event of events) this.tell(event);
    return { result, changes };
  }

  isUrgent(command: Uint8Array): boolean {
    return URGENT.has(typeOfCommand(command));
  }

  /** Replaces everything by stored entries, in any order. Throws `corrupt` or `unsupported-version` and then changes nothing. */
  load(entries: Iterable<{ key: string; value: Uint8Array }>): void {
    this.state = this.alone(() => State.load(entries));
    this.sortedNames = null;
    this.tell({ kind: 'reset' });
  }

  byId(id: VolumeId): VolumeRecord | null {
    return this.state.volume(id)?.record ?? null;
  }

  byName(name: string): VolumeRecord | null {
    const id = this.state.idOfName(name);
    return id === undefined ? null : this.byId(id);
  }

  /** All volumes and snapshots in order of their names; those with an `importer` too, which people are not shown. */
  *volumes(): IterableIterator<VolumeRecord> {
    this.sortedNames ??= this.state.names().sort();
    for (const name of this.sortedNames) {
      const record = this.byName(name);
      // One may have gone since the caller began.
      if (record !== null) yield record;
    }
  }

  collection(): CollectionRecord {
    return this.state.collection();
  }

  /** What a node owns or imports, by id. */
  heldBy(node: string): VolumeRecord[] {
    return this.state.heldBy(node).flatMap((id) => this.byId(id) ?? []);
  }

  node(name: string): NodeRecord | null {
    return this.state.node(name) ?? null;
  }

  nodes(): NodeRecord[] {
    return this.state.allNodes().sort((a, b) => (a.name < b.name ? -1 : 1));
  }

  /** Nodes that were members once. */
  removedNodes(): RemovedNode[] {
    return this.state.removedNodes();
  }

  /** Those that can still be used. */
  openInvitations(nowMs: number): Invitation[] {
    return this.state.allInvitations().filter(({ expiresAtMs }) => expiresAtMs > nowMs);
  }

  /** The name of what a volume or snapshot was made of, or null if that is gone or there was none. */
  originName(record: VolumeRecord): string | null {
    return record.originId === null ? null : (this.byId(record.originId)?.name ?? null);
  }

  /** Calls the listener after each change, when queries show it already; it may query, and must not apply. Returns what ends it. */
  onChange(listener: (change: RegistryChange) => void): () => void {
    this.listeners.add(listener);
    return () => {
      this.listeners.delete(listener);
    };
  }

  private execute<Type extends Command['type']>(command: Extract<Command, { type: Type }>, term: number): CommandResult<CommandValues[Type]> {
    try {
      return { ok: COMMANDS[command.type](this.state, command, term) };
    } catch (error) {
      if (!(error instanceof ArchipelagoError)) throw error;
      const { changes } = this.state.takeChanges();
      assert(changes.length === 0, `a refused ${command.type} changes nothing`);
      return { error: error.toBody() };
    }
  }

  private tell(change: RegistryChange): void {
    this.alone(() => {
      for (const listener of this.listeners) listener(change);
    });
  }

  private alone<Value>(work: () => Value): Value {
    assert(!this.busy, 'the registry is not changed while it changes');
    this.busy = true;
    try {
      return work();
    } finally {
      this.busy = false;
    }
  }
}

function decodeAt(command: Uint8Array, index: number): Command {
  try {
    return decodeCommand(command);
  } catch (error) {
    if (!(error instanceof ArchipelagoError)) throw error;
    throw located(error, index);
  }
}

function located(error: ArchipelagoError, index: number): ArchipelagoError {
  const hint = error.hint ?? 'this node cannot go on: remove it from the cluster and let it join anew';
  return new ArchipelagoError(error.code, `log entry ${index}: ${error.message}`, { cause: error, hint });
}
