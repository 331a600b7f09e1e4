/**
 * LIST_META_CONTEXT and SET_META_CONTEXT: what BLOCK_STATUS can be asked for.
 *
 * A query is a name. In LIST, one that ends in `:` stands for its namespace, and one that ends in `-` for the names
 * that begin so; none at all stands for everything. SET takes names only, and replaces what an earlier SET chose.
 * Queries nobody knows are ignored, as the specification wants.
 */
import { type NbdExport, resolveExport } from '../export-table.js';
import {
  type ChosenContext,
  invalid,
  type Negotiation,
  OptionData,
  type OptionHandler,
  refuse,
} from '../negotiation.js';
import { BASE_ALLOCATION, OptionReply } from '../protocol.js';

/** The contexts of an export, with ids that hold as long as its list does. */
function contextsOf(exported: NbdExport): ChosenContext[] {
  const own = (exported.contexts ?? []).map((context, index) => ({
    id: index + 2,
    name: context.name,
    context,
  }));
  return [{ id: 1, name: BASE_ALLOCATION, context: undefined }, ...own];
}

interface Asked {
  exported: NbdExport;
  queries: string[];
}

/** What was asked, or nothing where the answer was an error. */
function parse(negotiation: Negotiation, data: Buffer): Asked | undefined {
  if (!negotiation.agreed.structured) {
    invalid(negotiation, 'structured replies have to be agreed upon first');
    return undefined;
  }
  const fields = new OptionData(data);
  const name = fields.string();
  const count = fields.u32();
  const queries: string[] = [];
  // Each takes four bytes of the data at least, whatever the count says.
  for (let index = 0; index < (count ?? 0); index++) {
    const query = fields.string();
    if (query === undefined) break;
    queries.push(query);
  }
  if (name === undefined || count === undefined || queries.length !== count || !fields.isAtEnd) {
    invalid(negotiation, 'malformed: a name and a list of queries are needed');
    return undefined;
  }
  const exported = resolveExport(negotiation.table, name);
  if (exported === undefined) {
    refuse(negotiation, OptionReply.ERR_UNKNOWN, 'no such export');
    return undefined;
  }
  return { exported, queries };
}

function send(negotiation: Negotiation, contexts: readonly ChosenContext[]): void {
  for (const { id, name } of contexts) {
    const number = Buffer.alloc(4);
    number.writeUInt32BE(id);
    negotiation.reply(OptionReply.META_CONTEXT, Buffer.concat([number, Buffer.from(name)]));
  }
  negotiation.reply(OptionReply.ACK);
}

function matches(name: string, query: string): boolean {
  return name === query || (/[:-]$/.test(query) && name.startsWith(query));
}

export const listMetaContext: OptionHandler = (negotiation, data) => {
  const asked = parse(negotiation, data);
  if (!asked) return undefined;
  const all = contextsOf(asked.exported);
  const { queries } = asked;
  const found = queries.length === 0 ? all : all.filter(({ name }) => queries.some((q) => matches(name, q)));
  send(negotiation, found);
  return undefined;
};

export const setMetaContext: OptionHandler = (negotiation, data) => {
  // A SET that fails leaves nothing chosen either.
  negotiation.agreed.contexts = undefined;
  const asked = parse(negotiation, data);
  if (!asked) return undefined;
  const chosen = contextsOf(asked.exported).filter(({ name }) => asked.queries.includes(name));
  negotiation.agreed.contexts = { exported: asked.exported, chosen };
  send(negotiation, chosen);
  return undefined;
};
