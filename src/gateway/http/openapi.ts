/** The OpenAPI document, made of the route table. */
import { z } from 'zod';
import type { Route } from './routes.ts';
import { errorView } from './schemas.ts';

interface JsonSchema {
  properties?: Record<string, JsonSchema>;
  required?: string[];
  [key: string]: unknown;
}

function schemaOf(type: z.ZodType, io: 'input' | 'output'): JsonSchema {
  const { $schema: _dialect, ...schema } = z.toJSONSchema(type, { io, unrepresentable: 'any' }) as JsonSchema;
  return schema;
}

function parametersOf(type: z.ZodType, place: 'path' | 'query') {
  const { properties = {}, required = [] } = schemaOf(type, 'input');
  return Object.entries(properties).map(([name, schema]) => ({ name, in: place, required: required.includes(name), schema }));
}

function operationOf(route: Route, hasBody: boolean) {
  const content = (schema: JsonSchema, type = 'application/json') => ({ [type]: { schema } });
  return {
    operationId: route.operationId,
    summary: route.summary,
    parameters: [...parametersOf(route.params, 'path'), ...parametersOf(route.query, 'query')],
    ...(hasBody ? { requestBody: { required: !route.body.safeParse(undefined).success, content: content(schemaOf(route.body, 'input')) } } : {}),
    responses: {
      [route.status]: {
        description: 'done',
        content: content(schemaOf(route.response, 'output'), route.answer === 'stream' ? 'application/x-ndjson' : 'application/json'),
      },
      default: { description: 'failed', content: content({ $ref: '#/components/schemas/Error' }) },
    },
  };
}

export function openApiDocument(routes: readonly Route[], version: string): object {
  const paths: Record<string, Record<string, object>> = {};
  for (const route of routes) {
    const path = route.path.replace(/:(\w+)/g, '{$1}');
    const hasBody = !(route.body instanceof z.ZodUndefined);
    paths[path] = { ...paths[path], [route.method.toLowerCase()]: operationOf(route, hasBody) };
  }
  return {
    openapi: '3.1.0',
    info: { title: 'Archipelago admin API', version },
    components: {
      schemas: { Error: schemaOf(errorView, 'output') },
      securitySchemes: { token: { type: 'http', scheme: 'bearer', description: 'on TCP; the Unix socket asks for none' } },
    },
    security: [{}, { token: [] }],
    paths,
  };
}
