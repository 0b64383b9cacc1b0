/** What `/metrics` tells of collection, and that docs/metrics.md tells of all of it. */
import { readFileSync } from 'node:fs';
import { expect, it } from 'vitest';
import { nodeMetrics } from '../../../src/node/control/metrics.ts';
import { Story } from '../../mapper/registry/story.ts';

const AT = (second: number) => `2026-01-31T12:00:0${second}.000Z`;

async function values(metrics: ReturnType<typeof nodeMetrics>): Promise<Record<string, number>> {
  const lines = (await metrics.metrics()).split('\n').filter((line) => line.startsWith('archipelago_'));
  return Object.fromEntries(
    lines.map((line) => line.split(' ')).map(([name = '', value]) => [name.replace('archipelago_collection_', ''), Number(value)]),
  );
}

it('tells what the registry knows of collection, each time anew', async () => {
  const story = new Story();
  story.startNode('a');
  const schedule = { seen: 0 };
  const metrics = nodeMetrics(story.registry, schedule);
  const nothing = {
    cycles_total: 0,
    freed_objects_total: 0,
    freed_bytes_total: 0,
    seen_objects_total: 0,
    running: 0,
    backlog: 0,
    last_seconds: 0,
    last_failed: 0,
  };
  expect(await values(metrics)).toEqual(nothing);
  story.do({ type: 'requestCollection' });
  expect(await values(metrics)).toEqual({ ...nothing, backlog: 1 });
  const { cycle } = story.do({ type: 'beginCollection', node: 'a', livenessEpoch: story.lifeOf('a'), startedAt: AT(1) });
  expect(await values(metrics)).toEqual({ ...nothing, running: 1 });
  schedule.seen = 9;
  const error = { code: 'corrupt', message: 'planted', hint: null } as const;
  story.do({ type: 'finishCollection', cycle, finishedAt: AT(4), freedObjects: 2, freedBytes: 8192, error });
  const ended = {
    ...nothing,
    cycles_total: 1,
    freed_objects_total: 2,
    freed_bytes_total: 8192,
    seen_objects_total: 9,
    last_seconds: 3,
    last_failed: 1,
  };
  expect(await values(metrics)).toEqual(ended);
  expect(await values(metrics)).toEqual(ended);
});

it('is documented', async () => {
  const { registry } = new Story();
  const documented = [...readFileSync('docs/metrics.md', 'utf8').matchAll(/^\| `(archipelago_\w+)` \| (\w+) \|/gm)].map(([, name, type]) => ({
    name,
    type,
  }));
  const told = (await nodeMetrics(registry, { seen: 0 }).getMetricsAsJSON()).filter(({ name }) => name.startsWith('archipelago_'));
  expect(documented).toEqual(told.map(({ name, type }) => ({ name, type })));
});
