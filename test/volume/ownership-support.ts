/** The cluster of a story of ownership. */
import { Cluster, type Node } from '../../chaos/sim/ownership/cluster.ts';

/** Of the test that runs. */
export let cluster: Cluster;

export function startCluster(nodes: readonly string[]): Cluster {
  cluster = new Cluster(nodes);
  return cluster;
}

/** Node a owns the volume 'v' of eight blocks. */
export async function ownedByA(nodes = ['a', 'b', 'c']): Promise<Cluster> {
  startCluster(nodes);
  const { id } = cluster.create('v', 8);
  await cluster.until(cluster.node('a').volumes.own(id));
  return cluster;
}

/** A node whose control process stands still from now on: its data process learns nothing, and holds what it has done. */
export function controlStandsStill(name: string): Node & { behind: (() => void)[] } {
  const node = cluster.node(name);
  Object.assign(node.lease, { deadlineMs: 0 });
  return Object.assign(node, { behind: [] as (() => void)[] });
}

export const attach = (node: string) => cluster.until(cluster.node(node).volumes.attach('v'));
export const volumeId = () => cluster.record('v').id;
export const target = (name: string): Node & { name: string } => cluster.node(name);
export const handOver = (from: string, to: string) => cluster.node(from).volumes.handOver(volumeId(), target(to));
