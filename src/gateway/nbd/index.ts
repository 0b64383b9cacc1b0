export { NbdServer } from './server.ts';
