/**
 * Assertions that stay on in production. A broken invariant is a bug of ours, never an expected failure:
 * nobody catches it to go on, and the process stops (`src/node` installs the handler).
 */
export class AssertionFailure extends Error {
  override readonly name = 'AssertionFailure';
}

/** Throws when an invariant does not hold. `message` says which one, in words that a bug report can quote. */
export function assert(condition: unknown, message: string): asserts condition {
  if (!condition) throw new AssertionFailure(message);
}

/** For paths that are taken so often that words for a failure must not be put together each time: `if (!invariant) broken(...)`. */
export function broken(message: string): never {
  throw new AssertionFailure(message);
}

/** Marks a branch that the types say cannot be reached. */
export function unreachable(value: never, what: string): never {
  throw new AssertionFailure(`unexpected ${what}: ${String(value)}`);
}
