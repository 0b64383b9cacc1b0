/** What `/metrics` tells: of this process, and of collection as this node's registry has it. docs/metrics.md explains each of our own. */
import { Counter, collectDefaultMetrics, Gauge, Registry as MetricsRegistry } from 'prom-client';
import type { Registry } from '../../mapper/registry/index.ts';
import type { CollectionSchedule } from './collecting.ts';

export function nodeMetrics(registry: Pick<Registry, 'collection'>, schedule: Pick<CollectionSchedule, 'seen'>): MetricsRegistry {
  const metrics = new MetricsRegistry();
  collectDefaultMetrics({ register: metrics, eventLoopMonitoringPrecision: 1000 });
  const counter = (name: string, help: string, value: () => number): void => {
    new Counter({
      name: `archipelago_collection_${name}`,
      help,
      registers: [metrics],
      collect() {
        this.reset();
        this.inc(value());
      },
    });
  };
  const gauge = (name: string, help: string, value: () => number): void => {
    new Gauge({
      name: `archipelago_collection_${name}`,
      help,
      registers: [metrics],
      collect() {
        this.set(value());
      },
    });
  };
  const totals = () => registry.collection().totals;
  counter('cycles_total', 'Cycles that have ended, of all nodes.', () => totals().cycles);
  counter('freed_objects_total', 'Objects and pages that ended cycles have removed, of all nodes.', () => totals().freedObjects);
  counter('freed_bytes_total', 'Room that ended cycles have given back, of all nodes.', () => totals().freedBytes);
  counter('seen_objects_total', 'Objects and pages that cycles of this node have looked at.', () => schedule.seen);
  gauge('running', '1 while a cycle runs at some node.', () => (registry.collection().running === null ? 0 : 1));
  gauge('backlog', '1 while something was removed, or somebody has asked, since the last cycle began.', () => {
    const { wanted, cycle } = registry.collection();
    return wanted > cycle ? 1 : 0;
  });
  gauge('last_seconds', 'How long the last cycle took; 0 before the first.', () => {
    const { last } = registry.collection();
    return last === null ? 0 : Math.max(0, Date.parse(last.finishedAt) - Date.parse(last.startedAt)) / 1000;
  });
  gauge('last_failed', '1 when the last cycle did not come to its end.', () => (registry.collection().last?.error ? 1 : 0));
  return metrics;
}
