/** The other nodes' data processes, as the registry names them. */
import { ArchipelagoError } from '../../base/index.ts';
import type { NodeRecord } from '../../mapper/index.ts';
import type { Link, NetHost } from '../../net/index.ts';

export class Peers {
  private readonly self: string;
  private readonly net: NetHost;
  private readonly onLink: (link: Link) => void;
  private readonly nodes = new Map<string, NodeRecord>();
  private readonly watched = new Set<string>();

  /** `onLink` is told of each link once. */
  constructor(self: string, net: NetHost, onLink: (link: Link) => void) {
    this.self = self;
    this.net = net;
    this.onLink = onLink;
  }

  replaceAll(nodes: readonly NodeRecord[]): void {
    this.nodes.clear();
    for (const node of nodes) this.nodes.set(node.name, node);
    this.apply();
  }

  update(node: NodeRecord): void {
    this.nodes.set(node.name, node);
    this.apply();
  }

  /** It was removed from the cluster: its connections end, here and now. */
  remove(name: string): void {
    this.nodes.delete(name);
    this.apply();
  }

  record(name: string): NodeRecord {
    const node = this.nodes.get(name);
    if (!node) throw new ArchipelagoError('not-found', `there is no node '${name}'`, { hint: 'list them with `archipelago cluster status`' });
    return node;
  }

  /** Null for this node itself, and for one that is not known. */
  link(name: string): Link | null {
    const node = this.nodes.get(name);
    return node && name !== this.self ? this.net.link(node.peerId, 'bulk') : null;
  }

  private apply(): void {
    const others = [...this.nodes.values()].filter(({ name }) => name !== this.self);
    this.net.setPeers(others.map(({ peerId, name, dataAddresses }) => ({ peerId, name, addresses: [...dataAddresses] })));
    for (const { peerId } of others) {
      if (this.watched.has(peerId)) continue;
      this.watched.add(peerId);
      this.onLink(this.net.link(peerId, 'bulk'));
    }
  }
}
