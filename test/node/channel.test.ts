/** What the two processes of a node tell each other arrives in the order of sending. */
import { EventEmitter } from 'node:events';
import { describe, expect, it } from 'vitest';
import { Channel, type MessagePort } from '../../src/node/channel.ts';

/** Two ends of one pipe. What was sent in one turn arrives in one turn, message after message, as it does over Node's IPC. */
function pipe(): [MessagePort, MessagePort] {
  const [left, right] = [new EventEmitter(), new EventEmitter()];
  const queue: { to: EventEmitter; message: object }[] = [];
  const end = (own: EventEmitter, other: EventEmitter): MessagePort => ({
    on: (event: string, listener: (message: unknown) => void) => own.on(event, listener),
    send(message) {
      if (queue.push({ to: other, message: structuredClone(message) }) === 1) setImmediate(deliver);
      return true;
    },
  });
  function deliver(): void {
    for (const { to, message } of queue.splice(0)) to.emit('message', message);
  }
  return [end(left, right), end(right, left)];
}

describe('the channel', () => {
  it('begins a request before it takes the notice that was sent behind it', async () => {
    const [control, data] = pipe();
    const seen: string[] = [];
    new Channel(data, {
      table: async () => {
        seen.push('table');
        return 'done';
      },
      change: () => void seen.push('change'),
    });
    const channel = new Channel(control, {});
    const answer = channel.request('table', {});
    channel.notify('change', {});
    expect(await answer).toBe('done');
    expect(seen).toEqual(['table', 'change']);
  });

  it('answers with the error of a request, thrown at once or later', async () => {
    const [control, data] = pipe();
    new Channel(data, {
      now: () => {
        throw new Error('at once');
      },
      later: () => Promise.reject(new Error('later')),
    });
    const channel = new Channel(control, {});
    await expect(channel.request('now', {})).rejects.toMatchObject({ code: 'internal', message: expect.stringContaining('at once') });
    await expect(channel.request('later', {})).rejects.toMatchObject({ code: 'internal', message: expect.stringContaining('later') });
  });
});
