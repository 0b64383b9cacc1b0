import { describe, expect, it } from 'vitest';
import { Violation } from '../../chaos/checkers/checker.ts';
import { observeAll, type Shown, VolumeModel } from '../../chaos/process/registry-model.ts';

const HERE = 'n1';

/** A volume that was made and seen, with `count` acknowledged changes. */
function made(count = 0): VolumeModel {
  const volume = new VolumeModel('a.0', 'a');
  volume.created();
  for (let change = 0; change < count; change++) volume.changed(volume.nextChange().number, 'acknowledged');
  volume.observe([shown(count)], HERE);
  return volume;
}

/** As a node shows it after the changes 1 to `last`, or after those named. */
function shown(last: number, changes = Array.from({ length: last }, (_, place) => place + 1), name = 'a', id = '7'): Shown {
  return { id, name, labels: { by: 'a.0', last: String(last), ...Object.fromEntries(changes.map((number) => [`change-${number}`, ''])) } };
}

function checkerOf(look: () => void): string | null {
  try {
    look();
    return null;
  } catch (error) {
    if (error instanceof Violation) return error.checker;
    throw error;
  }
}

describe('what a volume may show', () => {
  it('is what was acknowledged', () => {
    expect(checkerOf(() => made(3).observe([shown(3)], HERE))).toBeNull();
  });

  it('is a change with an unknown outcome once: before it comes, when it comes, and not again over something newer', () => {
    const volume = made(1);
    volume.changed(volume.nextChange().number, 'unknown');
    volume.observe([shown(1)], HERE);
    volume.changed(volume.nextChange().number, 'acknowledged');
    volume.observe([shown(3, [1, 3])], HERE);
    volume.observe([shown(2, [1, 2, 3])], HERE);
    expect(checkerOf(() => volume.observe([shown(3)], HERE))).toBe('order');
  });

  it('is no change a second time that is known to have come before something newer', () => {
    const volume = made(1);
    volume.changed(volume.nextChange().number, 'unknown');
    volume.changed(volume.nextChange().number, 'acknowledged');
    volume.observe([shown(3)], HERE);
    expect(checkerOf(() => volume.observe([shown(2, [1, 2, 3])], HERE))).toBe('order');
  });

  it('is a name with an unknown outcome once', () => {
    const volume = made();
    volume.renamed('b', 'unknown');
    volume.observe([shown(0, [], 'b')], HERE);
    volume.renamed('c', 'acknowledged');
    expect(checkerOf(() => volume.observe([shown(0, [], 'b')], HERE))).toBe('order');
  });

  it('is nothing, while its creation or removal is unknown', () => {
    const coming = new VolumeModel('a.0', 'a');
    coming.observe([], HERE);
    coming.observe([shown(0)], HERE);
    expect(checkerOf(() => coming.observe([], HERE))).toBe('committed-survives');
    const going = made();
    going.removed('unknown');
    going.observe([shown(0)], HERE);
    going.observe([], HERE);
    expect(checkerOf(() => going.observe([shown(0)], HERE))).toBe('applied-once');
  });
});

describe('what a volume may not show', () => {
  it.each<[string, string, (volume: VolumeModel) => void]>([
    ['that it is lost', 'committed-survives', (volume) => volume.observe([], HERE)],
    ['a lost change', 'committed-survives', (volume) => volume.observe([shown(1, [1])], HERE)],
    ['an older last change', 'order', (volume) => volume.observe([shown(1, [1, 2])], HERE)],
    ['half of a change', 'states-agree', (volume) => volume.observe([shown(3, [1, 2])], HERE)],
    ['a change that was refused', 'applied-once', (volume) => volume.observe([shown(volume.nextChange().number)], HERE)],
    ['a name that nobody gave it', 'order', (volume) => volume.observe([shown(2, [1, 2], 'b')], HERE)],
    ['another id', 'applied-once', (volume) => volume.observe([shown(2, [1, 2], 'a', '8')], HERE)],
    ['itself twice', 'applied-once', (volume) => volume.observe([shown(2), shown(2, [1, 2], 'b', '8')], HERE)],
  ])('%s', (_, checker, look) => {
    expect(checkerOf(() => look(made(2)))).toBe(checker);
  });

  it('itself, after it was refused or removed', () => {
    const refused = new VolumeModel('a.0', 'a');
    refused.refused();
    expect(checkerOf(() => refused.observe([shown(0)], HERE))).toBe('applied-once');
    const removed = made();
    removed.removed('acknowledged');
    expect(checkerOf(() => removed.observe([shown(0)], HERE))).toBe('applied-once');
  });

  it('itself, if nobody asked for it', () => {
    expect(checkerOf(() => observeAll([], [shown(0)], HERE))).toBe('applied-once');
    expect(checkerOf(() => observeAll([made()], [shown(0), { id: '1', name: 'first', labels: {} }], HERE))).toBeNull();
  });
});
