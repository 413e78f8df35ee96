// The page Deliveries: what other systems were not told of releases, why, and how it is tried again.
import { get, Schemas } from "./client";
import { Box, Button, Heading, React, Spinner, Text, useEffect, useState } from "./host";
import { Banner, Fault, Filter, pageOfDag, pageOfRun, Tag, To, useAddress, useEvery, when } from "./parts";

type Found = Schemas["DeliveryCollection"];
type Row = Schemas["DeliveryRow"];

const EVERY = 10_000;
const PAGE = 50;
export const RETRY = pageOfDag("retry_deliveries");
const STATES: Record<Row["state"], [string, string]> = {
  refused: ["refused", "red"],
  failing: ["tried again", "orange"],
  waiting: ["under way", "blue"],
  told: ["told", "green"],
};
const OPEN: Row["state"][] = ["refused", "failing", "waiting"];

const safe = (url: string): boolean => /^https?:\/\//.test(url);

export function DeliveryTag({ row }: { row: Row }) {
  const [said, color] = STATES[row.state];
  return <Tag color={color}>{said}</Tag>;
}

/** The record in that system, with a link if its page is known. */
export function RecordThere({ row }: { row: Row }) {
  if (!row.number || !safe(row.url)) return <span>{row.number || "no record yet"}</span>;
  return <a href={row.url} rel="noreferrer" style={{ textDecoration: "underline" }} target="_blank">{row.number}</a>;
}

function Delivery({ row }: { row: Row }) {
  return (
    <Box as="li" borderWidth={1} listStyleType="none" mb={2} overflowWrap="anywhere" px={3} py={2} rounded="md">
      <Box alignItems="center" display="flex" flexWrap="wrap" gap={2}>
        <DeliveryTag row={row} />
        <Text fontWeight="semibold">{row.system}</Text>
        <RecordThere row={row} />
        <To path={pageOfRun(row.dag_id, row.run_id)}>{`${row.dag_id}, ${row.run_id}`}</To>
      </Box>
      {row.reason ? <Text fontSize="sm">{row.reason}</Text> : null}
      {row.state === "told" || !row.next_at ? null : (
        <Text color="fg.muted" fontSize="sm">
          {`Tried again at ${when(row.next_at)}${row.attempts > 1 ? `; ${row.attempts} attempts so far` : ""}`}
        </Text>
      )}
    </Box>
  );
}

export function Deliveries() {
  const [asked] = useAddress();
  const [found, show] = useState<Found | null>(null);
  const [fault, fail] = useState("");
  const state = asked.get("state") ?? "open";
  const [page, turn] = useState(0);
  useEffect(() => turn(0), [state]);
  useEvery(
    EVERY,
    () => {
      const states = state === "open" ? OPEN : state === "all" ? [] : [state as Row["state"]];
      get("/deliveries", { state: states, limit: PAGE, offset: page * PAGE }).then(
        (now) => {
          fail("");
          show(now);
        },
        (error: Error) => fail(error.message),
      );
    },
    [state, page],
  );
  const rest = found ? found.total_entries - (page + 1) * PAGE : 0;
  return (
    <Box data-testid="interlock-deliveries" mx="auto" maxWidth="70em" p={4}>
      <Heading as="h1" mb={2} size="lg">Deliveries to other systems</Heading>
      <Text mb={3}>No release waits for these. A system that does not answer is asked again every minute.</Text>
      <Box display="flex" gap={2} mb={3}>
        <Filter choices={[["open", "Not told yet"], ["refused", "Refused"], ["failing", "No answer"], ["all", "All"]]} initial="open" label="State" name="state" />
      </Box>
      {fault ? <Fault>{fault}</Fault> : null}
      {found?.deliveries.some((row) => row.state === "refused") ? (
        <Banner color="orange.solid">
          {"What was refused needs a correction: of the reason below, in that system or in systems.yaml. Then trigger "}
          <To path={RETRY}>Retry deliveries</To>
          {"; without it, it is tried again every hour."}
        </Banner>
      ) : null}
      {found ? null : <Spinner />}
      {found && !found.total_entries ? <Text>Every system was told everything.</Text> : null}
      <Box as="ul" m={0} p={0}>
        {found?.deliveries.map((row) => <Delivery key={`${row.system}/${row.dag_id}/${row.run_id}`} row={row} />)}
      </Box>
      <Box display="flex" gap={4}>
        {page ? <Button size="sm" variant="outline" onClick={() => turn(page - 1)} type="button">Previous page</Button> : null}
        {rest > 0 ? <Button size="sm" variant="outline" onClick={() => turn(page + 1)} type="button">{`Next page (${rest} more)`}</Button> : null}
      </Box>
    </Box>
  );
}
