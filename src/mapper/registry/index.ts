export { propose } from './client.ts';
export { checkBlockSize, checkLabels, checkSize, checkVolumeName } from './names.ts';
export { Registry } from './registry.ts';
