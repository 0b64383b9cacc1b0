export { eventually, sleep } from '../../../chaos/process/wait.ts';
