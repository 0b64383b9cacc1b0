/** All daemons killed at once, ten times, while clients write: what was acknowledged is there, and snapshots stay what they were. */
import { expect } from 'vitest';
import { type Cluster, startCluster } from './support/cluster.ts';
import { contentAt, firstDifference } from './support/content.ts';
import { stories } from './support/stories.ts';
import { checkSnapshot, Writer } from './support/writer.ts';

const ROUNDS = 10;

function nodeOfRound(cluster: Cluster, round: number): string {
  return cluster.names[round % cluster.names.length] as string;
}

stories('everything that was acknowledged survives ten kills of the whole cluster', async () => {
  const cluster = await startCluster();
  const sequence = { next: 1 };
  // Many blocks, so that kills meet first writes and new layers, and sub-blocks that are smaller than most writes.
  await cluster.json('volume', 'create', 'disk', '--size', '16M', '--block-size', '256K');
  const writer = await Writer.attach({ uri: cluster.uri('disk', 'n1'), seed: 7, sequence, zeroes: true });
  const clones: Writer[] = [];
  const snapshots = new Map<string, Uint32Array>();

  for (let round = 0; round < ROUNDS; round++) {
    for (const each of [writer, ...clones]) each.resume();
    await writer.progress(round % 4 === 3 ? 40 : 200);
    if (round % 3 === 1) {
      const name = `snapshot-${round}`;
      const recording = writer.record();
      await cluster.json('volume', 'snapshot', 'disk', name);
      writer.endRecording(recording);
      await cluster.json('volume', 'clone', name, `clone-${round}`);
      const found = await contentAt(cluster.uri(name, nodeOfRound(cluster, round)));
      checkSnapshot(found, recording);
      snapshots.set(name, found);
      const clone = await Writer.start({
        uri: cluster.uri(`clone-${round}`, nodeOfRound(cluster, round + 1)),
        seed: 100 + round,
        sequence,
        content: found,
        requestsPerSecond: 100,
        zeroes: true,
      });
      clones.push(clone);
      await Promise.all([writer.progress(100), clone.progress(50)]);
    }
    for (const each of [writer, ...clones]) each.expectTheEnd();
    await cluster.killAll();
    await cluster.up();
    // Each round reads through another node than the one that was written through.
    await writer.verifyAndReattach(cluster.uri('disk', nodeOfRound(cluster, round + 1)));
    for (const [place, clone] of clones.entries()) {
      await clone.verifyAndReattach(cluster.uri(`clone-${3 * place + 1}`, nodeOfRound(cluster, round + place)));
    }
    for (const [name, content] of snapshots) {
      expect(firstDifference(await contentAt(cluster.uri(name, nodeOfRound(cluster, round))), content), `${name} after round ${round}`).toBeNull();
    }
  }

  expect(writer.errors).toEqual([]);
  for (const name of ['disk', ...clones.map((_, place) => `clone-${3 * place + 1}`)]) {
    expect(await cluster.json('volume', 'check', name)).toMatchObject({ ok: true });
  }
  for (const each of [writer, ...clones]) await each.stop();
});
