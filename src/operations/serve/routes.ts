/**
 * What a running server answers on its control socket.
 *
 * | request | answer |
 * | --- | --- |
 * | `GET /v1/exports` | `{exports}`: as in the start document, with `connections` |
 * | `GET /v1/connections` | `{connections}` |
 * | `POST /v1/flush` `{export?}` | `{flushed}`: names; what clients were answered before is durable |
 * | `POST /v1/shutdown` | `{stopping: true}`; then the server ends as on SIGTERM |
 */
import type { ControlRoute } from '../../nbd/control-routes.js';
import { optional } from './request-fields.js';
import type { RunningServer } from './running-server.js';

export function serverRoutes(server: RunningServer): ControlRoute[] {
  return [
    {
      method: 'GET',
      path: '/v1/exports',
      handle: async () => {
        const connections = server.connections();
        const count = (name: string): number => connections.filter((each) => each.export === name).length;
        const exports = server.exports().map((each) => ({ ...each, connections: count(each.name) }));
        return { schemaVersion: 1, exports };
      },
    },
    {
      method: 'GET',
      path: '/v1/connections',
      handle: async () => ({ schemaVersion: 1, connections: server.connections() }),
    },
    {
      method: 'POST',
      path: '/v1/flush',
      handle: async (request) => ({
        schemaVersion: 1,
        flushed: await server.flush(optional(request, { export: 'string' }).export),
      }),
    },
    {
      method: 'POST',
      path: '/v1/shutdown',
      handle: async () => {
        server.stop('shutdown');
        return { schemaVersion: 1, stopping: true };
      },
    },
  ];
}
