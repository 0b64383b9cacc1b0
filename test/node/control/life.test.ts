/** The life of a node, where what the registry says comes all at once. */
import { expect, it } from 'vitest';
import { type LivenessEpoch, silentLog } from '../../../src/base/index.ts';
import type { Channel } from '../../../src/node/channel.ts';
import { NodeLife, type NodeLifeOptions } from '../../../src/node/control/life.ts';
import { Story } from '../../mapper/registry/story.ts';

const START = { type: 'startNode', name: 'a', peerId: 'peera', controlAddresses: [], dataAddresses: [], version: '1' } as const;

/** `behind`: what has been decided by the time at which this node hears of its start. */
async function begin(behind: (story: Story) => void) {
  const story = new Story();
  const told: string[] = [];
  const channel: Pick<Channel, 'request' | 'notify'> = {
    request: async <Value>(method: string) => void told.push(method) as Value,
    notify: (method) => void told.push(method),
  };
  const life: NodeLife = new NodeLife({
    node: 'a',
    registry: story.registry,
    log: silentLog,
    leases: () => null,
    propose: (async (command) => {
      const answer = story.do(command);
      if (command.type === 'startNode') behind(story);
      return answer;
    }) as NodeLifeOptions['propose'],
    restartData: () => void told.push('end'),
  });
  story.registry.onChange((change) => life.registryChanged(change));
  await life.begin(channel as Channel, START);
  await new Promise(setImmediate);
  return { story, life, told: told.filter((method) => method !== 'registry') };
}

it('goes on under a new liveness epoch when the first one was over before it heard of its start', async () => {
  const { story, life, told } = await begin((story) => {
    story.do({ type: 'expireNode', node: 'a', livenessEpoch: 1 as LivenessEpoch, term: 1 });
  });
  expect(story.registry.node('a')).toMatchObject({ livenessEpoch: 2, alive: true });
  expect(life.livenessEpoch).toBe(2);
  expect(told).toEqual(['activate', 'ping', 'liveness']);
});

it('ends a data process whose start was followed by another before it heard of it', async () => {
  const { life, told } = await begin((story) => story.startNode('a'));
  expect(life.livenessEpoch).toBeNull();
  expect(told).toEqual(['activate', 'end']);
});
