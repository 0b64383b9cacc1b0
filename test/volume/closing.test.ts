/** What an owner leaves open when its volume goes to another node. */
import { expect, test } from 'vitest';
import { Cluster, type Node } from '../../chaos/sim/ownership/cluster.ts';
import { read, write } from '../../chaos/sim/ownership/io.ts';
import type { Epoch, VolumeId } from '../../src/base/index.ts';

/** A volume 'v' of node a, whose store takes as long to close as the story says. */
class SlowToClose {
  readonly cluster = new Cluster(['a', 'b']);
  /** Epochs under which node a has taken the volume's log over. */
  readonly takenOver: Epoch[] = [];
  private readonly closing: (() => void)[] = [];
  private readonly id: VolumeId;

  constructor() {
    const { store } = this.cluster.node('a');
    const takeOver = store.takeOver.bind(store);
    store.takeOver = async (volume, epoch, clean) => {
      const takeover = await takeOver(volume, epoch, clean);
      this.takenOver.push(epoch);
      const close = takeover.store.close.bind(takeover.store);
      takeover.store.close = () => new Promise<void>((resolve) => this.closing.push(resolve)).then(close);
      return takeover;
    };
    this.id = this.cluster.create('v', 8).id;
  }

  get beganToClose(): boolean {
    return this.closing.length > 0;
  }

  closed(): void {
    for (const resolve of this.closing.splice(0)) resolve();
  }

  own(node: string): Promise<unknown> {
    return this.cluster.until(this.cluster.node(node).volumes.own(this.id));
  }

  attach(node: string) {
    return this.cluster.until(this.cluster.node(node).volumes.attach('v'));
  }

  handOver(from: string, to: string): Promise<unknown> {
    return this.cluster.node(from).volumes.handOver(this.id, this.cluster.node(to) satisfies Node);
  }
}

test('guests find the next owner before the map of the last one is closed', async () => {
  const story = new SlowToClose();
  const { cluster } = story;
  await story.own('a');
  const a = await story.attach('a');
  await cluster.until(write(a, 0, 1));
  const behind: (() => void)[] = [];
  cluster.node('b').behind = behind;
  const moved = story.handOver('a', 'b');
  await cluster.turns(50);
  // The ownership has passed, and the next owner does not serve yet.
  expect(cluster.record('v').owner?.node).toBe('b');
  expect(story.beganToClose).toBe(false);
  cluster.node('b').behind = null;
  for (const see of behind) see();
  await cluster.until(moved);
  await cluster.until(write(a, 0, 2));
  expect(story.beganToClose).toBe(true);
  expect(await cluster.until(read(a, 0))).toBe(2);
  story.closed();
});

test('a map is closed even if nobody serves the volume', async () => {
  const story = new SlowToClose();
  const { cluster } = story;
  await story.own('a');
  await story.attach('a');
  cluster.node('b').behind = [];
  void story.handOver('a', 'b');
  await cluster.turns(50);
  expect(story.beganToClose).toBe(false);
  await cluster.turns(20, 2000);
  expect(story.beganToClose).toBe(true);
  story.closed();
});

test('a volume that comes back is opened when what was open before is closed', async () => {
  const story = new SlowToClose();
  const { cluster } = story;
  await story.own('a');
  const a = await story.attach('a');
  await cluster.until(write(a, 0, 1));
  await cluster.until(story.handOver('a', 'b'));
  const back = story.handOver('b', 'a');
  await cluster.turns(100);
  expect(cluster.record('v').owner?.node).toBe('a');
  expect(story.takenOver).toEqual([1]);
  story.closed();
  await cluster.until(back);
  expect(story.takenOver).toEqual([1, 3]);
  expect(await cluster.until(read(a, 0))).toBe(1);
  story.closed();
});
