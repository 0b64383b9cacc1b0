export { askAsGuest, type GuestService } from './guests.ts';
export { NetHost } from './host.ts';
export { ephemeralIdentity, type Identity, loadOrCreateIdentity } from './identity.ts';
export {
  type CallOptions,
  type Completion,
  DEFAULT_LIMITS,
  DEFAULT_REPLY_BYTES,
  DEFAULT_TIMING,
  type Handler,
  type Limits,
  type Link,
  type LinkState,
  type NetOptions,
  type Peer,
  type Reply,
  type Responder,
  type Timing,
  type Traffic,
  type WireVersions,
} from './types.ts';
