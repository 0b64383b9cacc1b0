import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { ArchipelagoError, AssertionFailure, type VolumeId } from '../../../src/base/index.ts';
import {
  decodeCommand,
  decodeEntry,
  decodeResult,
  encodeCommand,
  encodeCounters,
  encodeResult,
  encodeVolume,
  MAX_COMMAND_BYTES,
  typeOfCommand,
  volumeKey,
} from '../../../src/mapper/registry/codec.ts';
import { MAX_ADDRESSES, MAX_LABEL_VALUE_BYTES, MAX_LABELS } from '../../../src/mapper/registry/names.ts';
import type { Command } from '../../../src/mapper/registry/types.ts';
import { anyCommand } from './arbitrary.ts';
import { creation, epoch, generation, id, life, NOON, ownedDisk, Story } from './story.ts';

const versioned = (json: string, version = 1) => Buffer.concat([Buffer.of(version), Buffer.from(json)]);
const coded = (code: string, message = /./) => expect.objectContaining({ code, message: expect.stringMatching(message) });

describe('commands', () => {
  it('look like this in the log; a change of these lines is a new version', () => {
    const command: Command = { type: 'acquire', id: id(5), node: 'a', livenessEpoch: life(2), epoch: epoch(7) };
    expect(Buffer.from(encodeCommand(command)).toString('latin1')).toBe('\u0001{"type":"acquire","id":5,"node":"a","livenessEpoch":2,"epoch":7}');
    expect(Buffer.from(encodeCommand(creation('disk', { labels: { a: 'b' } }))).toString('latin1')).toBe(
      `\u0001{"type":"create","name":"disk","sizeBytes":1073741824,"blockSizeBytes":4194304,"labels":{"a":"b"},"importer":null,"createdAt":"${NOON}"}`,
    );
  });

  it('come back as they were, whatever order their keys had', () => {
    fc.assert(
      fc.property(anyCommand, (command) => {
        const bytes = encodeCommand(command);
        expect(decodeCommand(bytes)).toEqual(command);
        expect(typeOfCommand(bytes)).toBe(command.type);
        const reversed = Object.fromEntries(Object.entries(command).reverse()) as unknown as Command;
        expect(encodeCommand(reversed)).toEqual(bytes);
      }),
      { numRuns: 500 },
    );
  });

  it('that no node could read are not encoded', () => {
    const bad: unknown[] = [
      creation('disk', { sizeBytes: Number.NaN }),
      creation('disk', { sizeBytes: Number.POSITIVE_INFINITY }),
      { ...creation('disk'), more: 1 },
      { type: 'remove', id: id(1) },
      { type: 'remove', id: id(1.5), epoch: epoch(1) },
      { type: 'remove', id: id(-1), epoch: epoch(1) },
      { type: 'remove', id: id(2 ** 53), epoch: epoch(1) },
      { type: 'remove', id: '1', epoch: epoch(1) },
      { type: 'unknown' },
      null,
    ];
    for (const command of bad) expect(() => encodeCommand(command as Command)).toThrow(coded('invalid-argument', /^malformed command: /));
    expect(() => encodeCommand(creation('x'.repeat(MAX_COMMAND_BYTES)))).toThrow(coded('invalid-argument', /too long/));
  });

  it('have room for all that the rules allow', () => {
    // Quotes and backslashes take two bytes in JSON.
    const value = '"'.repeat(MAX_LABEL_VALUE_BYTES);
    const labels = Object.fromEntries(Array.from({ length: MAX_LABELS }, (_, i) => [`${i}`.padStart(63, 'k'), value]));
    new Story().do(creation('\\'.repeat(255), { labels }));
    const addresses = Array.from({ length: MAX_ADDRESSES }, () => `/${'"'.repeat(254)}`);
    const start = { type: 'startNode', name: 'a', peerId: 'p', controlAddresses: addresses, dataAddresses: addresses, version: '1' } as const;
    new Story().do(start);
    // A relabelling of all names all keys twice: those to go and those to come.
    const story = new Story();
    story.create('disk', { labels });
    const gone = Object.fromEntries(Object.keys(labels).map((key) => [key, null]));
    const fresh = Object.fromEntries(Object.entries(labels).map(([key, text]) => [`x${key.slice(1)}`, text]));
    story.do({ type: 'label', id: id(1), labels: { ...gone, ...fresh } });
  });

  const broken: [string, string, Uint8Array][] = [
    ['nothing', 'corrupt', Buffer.of()],
    ['version 0', 'corrupt', versioned('{}', 0)],
    ['version 2', 'unsupported-version', versioned('{"type":"release","id":1,"epoch":1}', 2)],
    ['half of it', 'corrupt', versioned('{"type":"release","id":1,"ep')],
    ['something behind it', 'corrupt', versioned('{"type":"release","id":1,"epoch":1}}')],
    ['a byte order mark', 'corrupt', versioned('\ufeff{"type":"release","id":1,"epoch":1}')],
    ['bytes that are no UTF-8', 'corrupt', Buffer.of(1, 0x22, 0xff, 0x22)],
    ['an unknown field', 'corrupt', versioned('{"type":"release","id":1,"epoch":1,"force":true}')],
    ['a missing field', 'corrupt', versioned('{"type":"release","id":1}')],
    ['a number that memory cannot hold', 'corrupt', versioned('{"type":"release","id":1,"epoch":9007199254740993}')],
    ['an infinite number', 'corrupt', versioned('{"type":"clearZeroFrom","id":1,"epoch":1,"zeroFromBytes":1e999}')],
    ['too many bytes', 'corrupt', versioned(`{"type":"release","id":1,"epoch":1}${' '.repeat(MAX_COMMAND_BYTES)}`)],
  ];
  it.each(broken)('decoding %s: %s', (_, code, bytes) => expect(() => decodeCommand(bytes)).toThrow(coded(code)));

  it('that decode have only values that the registry can answer', () => {
    // A wrong value of the right type is refused by the rules, not by the codec: the log goes on.
    for (const sizeBytes of [-1, 0.5, 1e300]) new Story().refuse(creation('disk', { sizeBytes }), 'invalid-argument');
    new Story().refuse(creation('\ud800'), 'invalid-argument');
  });
});

describe('results', () => {
  const story = ownedDisk();
  const record = story.volume(id(1));

  it('come back as they were', () => {
    expect(decodeResult('rename', encodeResult('rename', { ok: record }))).toEqual({ ok: record });
    const acquired = { ok: { record, generation: generation(4), clean: false } };
    expect(decodeResult('acquire', encodeResult('acquire', acquired))).toEqual(acquired);
    expect(decodeResult('reserveGeneration', encodeResult('reserveGeneration', { ok: generation(4) }))).toEqual({ ok: 4 });
    const refused = { error: new ArchipelagoError('stale-epoch', 'too late', { hint: 'again' }).toBody() };
    expect(decodeResult('startNode', encodeResult('startNode', refused))).toEqual(refused);
  });

  it('of another command, or broken, are refused', () => {
    const bytes = encodeResult('rename', { ok: record });
    expect(() => decodeResult('acquire', bytes)).toThrow(coded('corrupt', /result of acquire/));
    expect(() => decodeResult('reserveGeneration', bytes)).toThrow(coded('corrupt'));
    expect(() => decodeResult('rename', versioned('{}'))).toThrow(coded('corrupt'));
    expect(() => decodeResult('rename', versioned('{}', 2))).toThrow(coded('unsupported-version'));
  });

  it('with the error code of a newer program read as internal', () => {
    const bytes = versioned('{"error":{"code":"too-novel","message":"m","hint":null}}');
    expect(decodeResult('rename', bytes)).toEqual({ error: { code: 'internal', message: 'm', hint: null } });
  });
});

describe('stored entries', () => {
  it('have keys that sort volumes by id', () => {
    expect(volumeKey(id(10))).toBe('v/000000000000000a');
    const ids = [1, 2, 15, 16, 255, 2 ** 32, 2 ** 53 - 1];
    expect(ids.map((value) => volumeKey(id(value))).sort()).toEqual(ids.map((value) => volumeKey(id(value))));
  });

  it('come back as they were, in one order of keys', () => {
    const story = ownedDisk();
    const volume = { acquired: { clean: true, generation: generation(1) }, record: story.volume(id(1)) };
    const bytes = encodeVolume(volume);
    expect(decodeEntry(volumeKey(id(1)), bytes)).toEqual({ kind: 'volume', volume });
    expect(bytes).toEqual(story.stored.get(volumeKey(id(1))));
    expect(encodeCounters({ nextGeneration: generation(4), nextVolumeId: id(3) })).toEqual(story.stored.get('c'));
  });

  it('are checked before they are written', () => {
    expect(() => encodeCounters({ nextVolumeId: Number.NaN as VolumeId, nextGeneration: generation(1) })).toThrow(AssertionFailure);
  });
});
