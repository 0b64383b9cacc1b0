import { describe, expect, it } from 'vitest';
import { ArchipelagoError } from '../../../src/base/index.ts';
import { type Proposer, propose } from '../../../src/mapper/registry/client.ts';
import { Registry } from '../../../src/mapper/registry/registry.ts';
import { creation, id } from './story.ts';

/** A log of one node: what is proposed is applied at once. */
function logOf(registry: Registry): Proposer<{ timeoutMs: number }> & { options: unknown[] } {
  const options: unknown[] = [];
  return {
    options,
    propose: async (command, ...rest) => {
      options.push(...rest);
      return registry.apply(command, options.length + 1, 1).result;
    },
  };
}

describe('propose', () => {
  it('resolves with the value of the command', async () => {
    const log = logOf(new Registry());
    expect(await propose(log, creation('disk'), { timeoutMs: 5 })).toMatchObject({ id: 1, name: 'disk' });
    // The compiler knows each command's value.
    const name: string = (await propose(log, { type: 'rename', id: id(1), name: 'disc' })).name;
    expect(name).toBe('disc');
    expect(log.options).toEqual([{ timeoutMs: 5 }]);
  });

  it('rejects with the refusal, its hint included', async () => {
    const log = logOf(new Registry());
    await propose(log, creation('disk'));
    const refused = await propose(log, creation('disk')).catch((error: unknown) => error);
    expect(refused).toBeInstanceOf(ArchipelagoError);
    expect(refused).toMatchObject({ code: 'exists', exitStatus: 4, hint: expect.stringContaining('another name') });
  });

  it('passes on what goes wrong before the command is applied', async () => {
    const cut = new ArchipelagoError('timeout', 'no answer');
    await expect(propose({ propose: () => Promise.reject(cut) }, creation('disk'))).rejects.toBe(cut);
  });

  it('does not propose what no node could decode', async () => {
    let proposed = 0;
    const log: Proposer = {
      propose: async () => {
        proposed++;
        return new Uint8Array();
      },
    };
    await expect(propose(log, creation('disk', { sizeBytes: Number.NaN }))).rejects.toMatchObject({ code: 'invalid-argument' });
    expect(proposed).toBe(0);
  });
});
