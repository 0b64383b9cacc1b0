/**
 * Open, close, lock and unlock, by this node. The registry decides; what it has decided is in force once the owner's data process has seen it,
 * so a command is answered only then.
 */
import { ArchipelagoError, type Clock, type LivenessEpoch } from '../../base/index.ts';
import type { LockView } from '../../gateway/index.ts';
import type { Command, VolumeRecord } from '../../mapper/index.ts';
import { propose, type Registry } from '../../mapper/registry/index.ts';
import type { RaftNode } from '../../raft/index.ts';

const PROPOSE_TIMEOUT_MS = 10_000;
/** An owner that has died or was paused is replaced well within this. */
const SETTLE_TIMEOUT_MS = 15_000;
const SETTLE_CALL_MS = 2_000;
const RETRY_MS = 50;

export interface VolumeHoldsOptions {
  readonly node: string;
  readonly clock: Clock;
  readonly raft: RaftNode;
  readonly registry: Registry;
  readonly livenessEpoch: () => LivenessEpoch | null;
  readonly find: (name: string) => Promise<VolumeRecord>;
  /** Resolves when the data process of a node has seen all that is committed now. */
  readonly settle: (node: string, timeoutMs: number) => Promise<void>;
}

export class VolumeHolds {
  private readonly options: VolumeHoldsOptions;

  constructor(options: VolumeHoldsOptions) {
    this.options = options;
  }

  async open(name: string, shared: boolean): Promise<LockView> {
    const { id } = await this.options.find(name);
    return this.carryOut({ type: 'open', id, node: this.options.node, livenessEpoch: this.life, shared });
  }

  async close(name: string): Promise<LockView> {
    const { id } = await this.options.find(name);
    return this.carryOut({ type: 'close', id, node: this.options.node });
  }

  async lock(name: string): Promise<LockView> {
    const { id } = await this.options.find(name);
    return this.carryOut({ type: 'lock', id, node: this.options.node, livenessEpoch: this.life });
  }

  /** With `force` another node's lock or exclusive open is broken, and that node changes the volume no longer when this resolves. */
  async unlock(name: string, force: boolean): Promise<LockView> {
    const { id, hold } = await this.options.find(name);
    const holder = hold === null || hold.mode === 'shared' ? null : hold.holders[0]?.node;
    if (force && holder != null && holder !== this.options.node) return this.carryOut({ type: 'revoke', id, holder });
    return this.carryOut({ type: 'unlock', id, node: this.options.node });
  }

  private get life(): LivenessEpoch {
    const livenessEpoch = this.options.livenessEpoch();
    if (livenessEpoch !== null) return livenessEpoch;
    throw new ArchipelagoError('unavailable', `node ${this.options.node} is being started`, { hint: 'try again in a second' });
  }

  private async carryOut(command: Extract<Command, { type: 'open' | 'close' | 'lock' | 'unlock' | 'revoke' }>): Promise<LockView> {
    const { raft, node, settle } = this.options;
    const record = await propose<typeof command.type, { timeoutMs: number }>(raft, command, { timeoutMs: PROPOSE_TIMEOUT_MS });
    await this.inForce(record);
    if (!(await this.answers(() => settle(node, SETTLE_CALL_MS)))) {
      const hint = 'see `archipelago cluster status`; the command may be given again';
      throw new ArchipelagoError('timeout', `it is decided, but node ${node} itself has not seen it yet`, { hint });
    }
    return lockView(this.options.registry.byId(record.id) ?? record);
  }

  /** Waits for the owner, or for the end of an owner that cannot be reached: until then it may answer as if nothing had been decided. */
  private async inForce({ id, name }: VolumeRecord): Promise<void> {
    const { clock, registry, settle } = this.options;
    const deadlineMs = clock.nowMs() + SETTLE_TIMEOUT_MS;
    for (;;) {
      const record = registry.byId(id);
      // Who becomes the owner from here on knows of the decision.
      if (!record || record.owner === null) return;
      if (!record.revoked && (await this.answers(() => settle(record.owner?.node ?? '', SETTLE_CALL_MS)))) return;
      if (clock.nowMs() >= deadlineMs) {
        const message = `it is decided, but node ${record.owner.node}, the owner of volume '${name}', does not answer`;
        throw new ArchipelagoError('timeout', message, { hint: 'see `archipelago cluster status`; the command may be given again' });
      }
      await new Promise<void>((resolve) => void clock.setTimer(RETRY_MS, resolve));
    }
  }

  private async answers(work: () => Promise<void>): Promise<boolean> {
    try {
      await work();
      return true;
    } catch (error) {
      if (!(error instanceof ArchipelagoError)) throw error;
      return false;
    }
  }
}

function lockView({ name, hold, fenced }: VolumeRecord): LockView {
  const nodes = hold?.holders.map(({ node }) => node) ?? [];
  return { name, mode: hold?.mode ?? null, holder: hold === null || hold.mode === 'shared' ? null : (nodes[0] ?? null), nodes, fenced: [...fenced] };
}
