/**
 * The cipher of Noise with less around it. The default calls the same OpenSSL, but turns the key's bytes into a key for each message, which
 * costs three times what the encryption of 4 KiB does, and sets empty associated data. Handshake and key agreement are the default's.
 */
import { createCipheriv, createDecipheriv, createSecretKey, type KeyObject } from 'node:crypto';
import type { ICryptoInterface } from '@chainsafe/libp2p-noise';
import { asCrypto, defaultCrypto } from '@chainsafe/libp2p-noise/crypto';
import { assert } from '../base/index.ts';

const CIPHER = 'chacha20-poly1305';
const TAG_BYTES = 16;
const OPTIONS = { authTagLength: TAG_BYTES };
/** Below this the WebAssembly cipher is faster than the way into OpenSSL and back. */
const SMALL_BYTES = 512;
/** Up to here parts are copied together: one call of the cipher instead of two or three. */
const GATHER_BYTES = 8192;

type Bytes = Parameters<ICryptoInterface['chaCha20Poly1305Encrypt']>[0];

/** A connection keeps one array per direction as its key, for as long as it lives. */
const keys = new WeakMap<Uint8Array, KeyObject>();

function keyOf(bytes: Uint8Array): KeyObject {
  let key = keys.get(bytes);
  if (key === undefined) {
    key = createSecretKey(bytes);
    keys.set(bytes, key);
  }
  return key;
}

export const noiseCrypto: ICryptoInterface = {
  ...defaultCrypto,

  chaCha20Poly1305Encrypt(plaintext, nonce, associated, key) {
    if (plaintext.byteLength < SMALL_BYTES) return asCrypto.chaCha20Poly1305Encrypt(plaintext, nonce, associated, key);
    const cipher = createCipheriv(CIPHER, keyOf(key), nonce, OPTIONS);
    if (associated.byteLength > 0) cipher.setAAD(associated, { plaintextLength: plaintext.byteLength });
    const parts: Uint8Array[] = [];
    if (plaintext instanceof Uint8Array) parts.push(cipher.update(plaintext));
    else if (plaintext.byteLength <= GATHER_BYTES) parts.push(cipher.update(plaintext.subarray()));
    else for (const part of plaintext) parts.push(cipher.update(part));
    assert(cipher.final().byteLength === 0, 'a stream cipher keeps nothing back');
    parts.push(cipher.getAuthTag());
    return listLike(plaintext, parts);
  },

  /** `inPlace` is where the plaintext may go; it already holds the ciphertext, without its tag, in one piece (Noise says so beside the call). */
  chaCha20Poly1305Decrypt(ciphertext, nonce, associated, key, inPlace) {
    if (ciphertext.byteLength < SMALL_BYTES) return asCrypto.chaCha20Poly1305Decrypt(ciphertext, nonce, associated, key, inPlace);
    const textBytes = ciphertext.byteLength - TAG_BYTES;
    const decipher = createDecipheriv(CIPHER, keyOf(key), nonce, OPTIONS);
    if (associated.byteLength > 0) decipher.setAAD(associated, { plaintextLength: textBytes });
    decipher.setAuthTag(ciphertext.subarray(textBytes));
    const text = inPlace ?? ciphertext.subarray(0, textBytes);
    assert(text.byteLength === textBytes, 'the whole ciphertext is decrypted');
    const plaintext = decipher.update(text);
    decipher.final();
    return plaintext;
  },
};

/** One list of all parts, of the class that `like` has; joined where it is a plain array. */
function listLike(like: Bytes, parts: Uint8Array[]): Bytes {
  if (like instanceof Uint8Array) return Buffer.concat(parts);
  const list = like.sublist(0, 0);
  for (const part of parts) list.append(part);
  return list;
}
