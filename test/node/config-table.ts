/** docs/configuration.md, made of the schema of node.toml. */
import { z } from 'zod';
import { nodeFileSchema } from '../../src/node/config.ts';

interface Schema {
  type?: string;
  description?: string;
  default?: unknown;
  enum?: string[];
  const?: unknown;
  minimum?: number;
  maximum?: number;
  properties?: Record<string, Schema>;
  required?: string[];
  items?: Schema;
  oneOf?: Schema[];
  anyOf?: Schema[];
}

const INTRODUCTION = `# Configuration

Each node reads one file, \`node.toml\`, when it starts: \`archipelago node start --config FILE\`. \`archipelago up\` writes one for each of its
nodes. A key that is not in this table is an error. Relative paths begin at \`dataDirectory\`, which itself begins at the directory of the
file. A node takes changes when it is started again.

Some keys depend on one another: \`raft.electionTimeoutMs\` is at least three times \`raft.heartbeatMs\`, \`lease.durationMs\` at least three times
\`lease.renewMs\` and more than \`lease.driftMs\`. All nodes of a cluster have the same \`clusterId\`, \`store\`, \`raft\` and \`lease\`.

This page is made of the schema in \`src/node/config.ts\`; a test keeps the two equal.

| key | default | values | meaning |
|---|---|---|---|
`;

export function renderConfiguration(): string {
  const schema = z.toJSONSchema(nodeFileSchema, { io: 'input' }) as Schema;
  return `${INTRODUCTION}${rowsOf(schema, '').join('\n')}\n`;
}

function rowsOf(schema: Schema, prefix: string, condition = ''): string[] {
  return Object.entries(schema.properties ?? {}).flatMap(([name, property]) => {
    const key = `${prefix}${name}`;
    const kinds = property.oneOf ?? property.anyOf;
    if (kinds !== undefined) {
      const values = kinds.map((kind) => `\`${kind.properties?.['kind']?.const}\``).join(', ');
      const own = row(`${key}.kind`, 'required', values, property.description ?? '');
      return [own, ...kinds.flatMap((kind) => rowsOf(without(kind, 'kind'), `${key}.`, ` (\`${kind.properties?.['kind']?.const}\`)`))];
    }
    if (property.properties !== undefined) return [...tableRow(key, property), ...rowsOf(property, `${key}.`)];
    if (property.items?.properties !== undefined) return rowsOf(property.items, `${key}[].`);
    const missing = schema.required?.includes(name) === true ? 'required' : 'none';
    return [
      row(
        key,
        property.default === undefined ? missing : `\`${JSON.stringify(property.default)}\``,
        valuesOf(property),
        `${property.description ?? ''}${condition}`,
      ),
    ];
  });
}

/** A table of which there is something to say beside its keys. */
function tableRow(key: string, { description }: Schema): string[] {
  return description === undefined ? [] : [row(`[${key}]`, 'none', 'table', description)];
}

function without(schema: Schema, key: string): Schema {
  return { ...schema, properties: Object.fromEntries(Object.entries(schema.properties ?? {}).filter(([name]) => name !== key)) };
}

function valuesOf({ type, enum: values, minimum, maximum }: Schema): string {
  if (values !== undefined) return values.map((value) => `\`${value}\``).join(', ');
  return minimum === undefined ? String(type) : `${minimum} to ${maximum}`;
}

function row(...cells: string[]): string {
  return `| ${cells.map((cell, column) => (column === 0 ? `\`${cell}\`` : cell)).join(' | ')} |`;
}
