/** Invitations as they are made and used: the secret is known to the token alone, and to the member that is asked while it answers. */
import { createHash, randomBytes, timingSafeEqual } from 'node:crypto';
import { ArchipelagoError, type Clock } from '../../base/index.ts';
import type { InvitationView } from '../../gateway/index.ts';
import { propose, type Registry } from '../../mapper/registry/index.ts';
import type { GuestService } from '../../net/index.ts';
import type { RaftNode } from '../../raft/index.ts';
import type { FirstMember, NodeConfig } from '../config.ts';
import { decodeQuestion, encodeJson, encodeToken, type Joined, type JoinQuestion, type Standing } from '../joining.ts';
import type { ClusterLinks } from './cluster-links.ts';
import { type Membership, namesIn } from './membership.ts';

const SECRET_BYTES = 24;
const ID_BYTES = 9;
const DEFAULT_EXPIRY_MS = 3_600_000;
const PROPOSE_TIMEOUT_MS = 10_000;
const BARRIER_TIMEOUT_MS = 5_000;
/** A token stays short enough for a terminal; one member that answers is enough. */
const MAX_TOKEN_MEMBERS = 5;

export interface InvitationsOptions {
  readonly config: NodeConfig;
  readonly raft: () => RaftNode | null;
  readonly registry: Registry;
  readonly links: () => ClusterLinks;
  readonly membership: () => Membership | null;
  readonly clock: Clock;
}

export class Invitations implements GuestService {
  private readonly options: InvitationsOptions;

  constructor(options: InvitationsOptions) {
    this.options = options;
  }

  async invite({ expiresMs }: { expiresMs: number | null }): Promise<InvitationView> {
    const { config, clock } = this.options;
    if (config.store.kind === 'memory') {
      throw new ArchipelagoError('conflict', 'the store memory takes one node only', { hint: 'use the store file for a cluster that grows' });
    }
    const nowMs = Math.floor(clock.wallMs());
    const expiresAtMs = nowMs + (expiresMs ?? DEFAULT_EXPIRY_MS);
    const id = randomBytes(ID_BYTES).toString('base64url');
    const secret = randomBytes(SECRET_BYTES).toString('base64url');
    const command = { type: 'invite', invitation: { id, secretHash: hashOf(secret), expiresAtMs }, nowMs } as const;
    await propose<'invite', { timeoutMs: number }>(this.raft(), command, { timeoutMs: PROPOSE_TIMEOUT_MS });
    const expiresAt = new Date(expiresAtMs).toISOString();
    const members = this.whoAnswers();
    return { token: encodeToken({ cluster: config.clusterId, invitation: id, secret, expiresAt, store: config.store, members }), expiresAt };
  }

  /** This node first: it knows of the invitation already. */
  private whoAnswers(): { name: string; peerId: string; addresses: string[] }[] {
    const { config, registry } = this.options;
    const links = this.options.links();
    const rank = (name: string) => (name === config.name ? 0 : links.isConnected(name) ? 1 : 2);
    return registry
      .nodes()
      .sort((a, b) => rank(a.name) - rank(b.name))
      .slice(0, MAX_TOKEN_MEMBERS)
      .map(({ name, peerId, controlAddresses }) => ({ name, peerId, addresses: [...controlAddresses] }));
  }

  // ---- guests ----

  /** Removed nodes may come and be told so; anybody may while there is an invitation to be used. */
  admits(peerId: string): boolean {
    const { registry, clock } = this.options;
    return registry.openInvitations(clock.wallMs()).length > 0 || registry.removedNodes().some((removed) => removed.peerId === peerId);
  }

  async answer(peerId: string, bytes: Uint8Array): Promise<Uint8Array> {
    const question = decodeQuestion(bytes);
    const { clusterId } = this.options.config;
    if (question.cluster !== clusterId) {
      throw new ArchipelagoError('forbidden', `this is a node of another cluster, ${clusterId}`, { hint: 'use a token of the cluster to join' });
    }
    return encodeJson(question.ask === 'standing' ? this.standing(peerId) : await this.join(peerId, question));
  }

  private standing(peerId: string): Standing {
    const removed = this.options.registry.removedNodes().find((each) => each.peerId === peerId);
    // While Raft still counts on its vote, it has to stay.
    return { removed: removed !== undefined && (this.options.membership()?.hasLeft(removed.name) ?? false) };
  }

  private async join(peerId: string, question: JoinQuestion): Promise<Joined> {
    const { registry, clock } = this.options;
    const raft = this.raft();
    // The invitation may have been made, or used, on another node a moment ago.
    await raft.readBarrier({ timeoutMs: BARRIER_TIMEOUT_MS });
    const { name, control, data, invitation, secret, version } = question;
    const secretHash = hashOf(secret);
    const known = registry.node(name);
    // Checked before anything gets into the log: a stranger who guesses must not fill it.
    if (known?.peerId !== peerId && !this.isOpen(invitation, secretHash)) {
      throw new ArchipelagoError('forbidden', 'the token was used, or has expired', { hint: 'make another one with `archipelago cluster invite`' });
    }
    if (known === null && namesIn(raft.coreStatus().configuration).has(name)) {
      throw new ArchipelagoError('exists', `there is a node '${name}' already`, { hint: 'choose another name' });
    }
    const command = {
      type: 'redeem',
      invitationId: invitation,
      secretHash,
      nowMs: Math.floor(clock.wallMs()),
      name,
      peerId,
      controlAddresses: [control],
      dataAddresses: [data],
      version,
    } as const;
    await propose<'redeem', { timeoutMs: number }>(raft, command, { timeoutMs: PROPOSE_TIMEOUT_MS });
    const { config } = this.options;
    return { members: this.membersForTheFile(), raft: { ...config.raft }, lease: { ...config.lease } };
  }

  private isOpen(id: string, secretHash: string): boolean {
    const { registry, clock } = this.options;
    const found = registry.openInvitations(clock.wallMs()).find((each) => each.id === id);
    return found !== undefined && timingSafeEqual(Buffer.from(found.secretHash), Buffer.from(secretHash));
  }

  /** With an address of each kind, as node.toml names them. */
  private membersForTheFile(): FirstMember[] {
    const { registry, config } = this.options;
    const removed = registry.removedNodes();
    const first = (config.bootstrap ?? config.join)?.members ?? [];
    const members = new Map(first.filter(({ name }) => removed.every((each) => each.name !== name)).map((member) => [member.name, member]));
    for (const { name, peerId, controlAddresses, dataAddresses } of registry.nodes()) {
      const [control] = controlAddresses;
      const [data] = dataAddresses;
      if (control !== undefined && data !== undefined) members.set(name, { name, peerId, control, data });
    }
    return [...members.values()];
  }

  private raft(): RaftNode {
    const raft = this.options.raft();
    if (raft === null) throw new ArchipelagoError('unavailable', 'this node is still starting', { hint: 'try again in a second' });
    return raft;
  }
}

function hashOf(secret: string): string {
  return createHash('sha256').update(secret).digest('hex');
}
