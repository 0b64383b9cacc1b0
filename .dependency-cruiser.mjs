/**
 * The import rules of docs/architecture.md. Imports go one way:
 *
 *   base <- raft, net, blocker <- mapper <- volume <- gateway <- node <- chaos
 *
 * A folder of src is entered through its index.ts; tests, benches and chaos may reach inside.
 */

/** Each layer with everything that it may import, itself aside. */
const LAYERS = {
  base: [],
  raft: ['base'],
  net: ['base'],
  blocker: ['base'],
  mapper: ['base', 'raft', 'net', 'blocker'],
  volume: ['base', 'raft', 'net', 'blocker', 'mapper'],
  gateway: ['base', 'raft', 'net', 'blocker', 'mapper', 'volume'],
  node: ['base', 'raft', 'net', 'blocker', 'mapper', 'volume', 'gateway'],
};

const layerRules = Object.entries(LAYERS).map(([layer, allowed]) => ({
  name: `layer-${layer}`,
  comment: `src/${layer} may import ${allowed.length === 0 ? 'no other folder of src' : `only ${allowed.join(', ')}`}.`,
  severity: 'error',
  from: { path: `^src/${layer}/` },
  to: { path: '^src/', pathNot: `^src/(${[layer, ...allowed].join('|')})/` },
}));

export default {
  forbidden: [
    ...layerRules,
    {
      name: 'known-layer',
      comment: 'Every file of src lies in a layer; a new folder needs a line in LAYERS.',
      severity: 'error',
      from: { path: '^src/', pathNot: `^src/(${Object.keys(LAYERS).join('|')})/` },
      to: {},
    },
    {
      name: 'one-door',
      comment:
        'From outside, a folder of src is imported through its index.ts. The registry, leases and NBD have doors of their own: no process needs all of them.',
      severity: 'error',
      from: { path: '^src/([^/]+)/' },
      to: { path: '^src/[^/]+/', pathNot: ['^src/$1/', '^src/[^/]+/index\\.ts$', '^src/(mapper/registry|mapper/leases|gateway/nbd)/index\\.ts$'] },
    },
    {
      name: 'door-not-used-inside',
      comment: 'Inside a folder, files import one another directly: through the door they would go round in a circle.',
      severity: 'error',
      from: { path: '^src/([^/]+)/' },
      to: { path: ['^src/$1/index\\.ts$', '^src/$1/(registry|leases|nbd)/index\\.ts$'] },
    },
    {
      name: 'src-stands-alone',
      comment: 'What is shipped imports no test, bench, simulator or script.',
      severity: 'error',
      from: { path: '^src/' },
      to: { path: '^(test|bench|chaos|scripts|bin)/' },
    },
    {
      name: 'core-is-pure',
      comment: 'A core imports its own files and base: no Node module, no package, no shell.',
      severity: 'error',
      from: { path: '^src/(.+)/core/' },
      to: { pathNot: ['^src/$1/core/', '^src/base/'] },
    },
    {
      name: 'no-circles',
      comment: 'Two files that need each other are one file, or need a third.',
      severity: 'error',
      from: {},
      to: { circular: true, viaOnly: { dependencyTypesNot: ['type-only'] } },
    },
    {
      name: 'resolvable',
      comment: 'An import that leads nowhere.',
      severity: 'error',
      from: {},
      to: { couldNotResolve: true },
    },
    {
      name: 'shipped-dependencies',
      comment: 'What is shipped needs only what package.json lists under dependencies.',
      severity: 'error',
      from: { path: '^src/' },
      to: { dependencyTypes: ['npm-dev', 'npm-no-pkg', 'npm-unknown'], dependencyTypesNot: ['type-only'] },
    },
  ],
  options: {
    // The TypeScript compiler in use has no programming interface; swc also tells type-only imports apart.
    parser: 'swc',
    doNotFollow: { path: 'node_modules' },
    exclude: { path: '(^|/)dist/' },
    detectProcessBuiltinModuleCalls: true,
    enhancedResolveOptions: {
      extensions: ['.ts', '.js', '.json'],
      exportsFields: ['exports'],
      conditionNames: ['import', 'node', 'default'],
      mainFields: ['module', 'main'],
    },
  },
};
