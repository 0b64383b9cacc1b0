import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { crc32 } from '../../src/base/index.ts';
import { decodeQuestion, decodeToken, encodeToken, type Token } from '../../src/node/joining.ts';

const token: Token = {
  cluster: '0'.repeat(32),
  invitation: 'abcdefghijkl',
  secret: 'A'.repeat(32),
  expiresAt: '2026-01-31T12:00:00.000Z',
  store: { kind: 'file', directory: '/srv/store', sharedDirectory: false },
  members: [{ name: 'n1', peerId: '12D3KooW', addresses: ['/ip4/127.0.0.1/tcp/7001'] }],
};
const coded = (code: string, message = /./) => expect.objectContaining({ code, message: expect.stringMatching(message) });

/** A token as another program might make it: whole, and not to be understood. */
function sealed(version: number, text: string): string {
  const body = Buffer.concat([Buffer.of(version), Buffer.from(text)]);
  const checksum = Buffer.alloc(4);
  checksum.writeUInt32BE(crc32(body));
  return Buffer.concat([body, checksum]).toString('base64url');
}

describe('a token', () => {
  it('comes back as it was, also with the line break that came with it', () => {
    const text = encodeToken(token);
    expect(text).toMatch(/^[A-Za-z0-9_-]+$/);
    expect(decodeToken(text)).toEqual(token);
    expect(decodeToken(`${text}\n`)).toEqual(token);
  });

  it('that lost or changed any character is refused', () => {
    const text = encodeToken(token);
    fc.assert(
      fc.property(fc.nat({ max: text.length - 1 }), fc.constantFrom(...'ABCxyz019-_'), (at, character) => {
        fc.pre(text[at] !== character);
        const changed = text.slice(0, at) + character + text.slice(at + 1);
        // The last character may have bits that no byte has.
        fc.pre(!Buffer.from(changed, 'base64url').equals(Buffer.from(text, 'base64url')));
        expect(() => decodeToken(changed)).toThrow(coded('invalid-argument', /damaged/));
        expect(() => decodeToken(text.slice(0, at))).toThrow(coded('invalid-argument', /damaged/));
      }),
    );
  });

  it.each([
    ['nothing', '', 'invalid-argument'],
    ['blanks', '  ', 'invalid-argument'],
    ['another alphabet', 'a+b/', 'invalid-argument'],
    ['no JSON', sealed(1, '{'), 'invalid-argument'],
    ['another form', sealed(1, '{"cluster":"x"}'), 'invalid-argument'],
    ['a newer version', sealed(2, '{}'), 'unsupported-version'],
    ['something endless', 'A'.repeat(100_000), 'invalid-argument'],
  ])('that is %s: %s', (_, text, code) => expect(() => decodeToken(text)).toThrow(coded(code)));
});

it.each(['', '{', '{}', '{"ask":"everything"}', '{"ask":"standing","cluster":1}', '{"ask":"join","cluster":"x","name":"a b"}'])(
  'a question that makes no sense is refused: %s',
  (text) => expect(() => decodeQuestion(Buffer.from(text))).toThrow(coded('invalid-argument')),
);
