// What needs the reader: a page, a part of Airflow's page Home, and the way from an answer to the next question.
import { get, Schemas } from "./client";
import { Box, Heading, React, Spinner, Text, useState } from "./host";
import { Banner, Fault, inForce, pageOfRun, span, Tag, To, useEvery, when } from "./parts";

type Needs = Schemas["NeedsMe"];
type Question = Schemas["Question"];
type Standing = Schemas["Standing"];

const EVERY = 30_000;
const SOON = 4 * 3_600_000; // what ends within four hours is marked
const MOST_ALIKE = 3; // of one task of one run: a tester may have hundreds

const of = (one: Question): string => [one.dag_id, one.run_id, one.task_id].join("/");
const service = (dag: string): string => dag.replace(/^(release|rollback|train)_/, "").replaceAll("_", " ");
export const requiredActions = (one: Question): string => `/${one.path.replace(/\/tasks\/.*/, "/required_actions")}`;

/** The questions of one task of one run: the first ones, and how many more there are. */
export function inGroups(questions: readonly Question[]): { shown: Question[]; more: number }[] {
  const groups = new Map<string, Question[]>();
  for (const one of questions) groups.set(of(one), [...(groups.get(of(one)) ?? []), one]);
  return [...groups.values()].map((all) => {
    const most = all.length > MOST_ALIKE + 1 ? MOST_ALIKE : all.length;
    return { shown: all.slice(0, most), more: all.length - most };
  });
}

function Section({ title, count, children }: { title: string; count?: number; children: React.ReactNode }) {
  return (
    <Box as="section" mb={5}>
      <Heading as="h2" borderBottomWidth={1} mb={2} pb={1} size="md">
        {title}
        {count ? <Text as="span" color="fg.muted" fontWeight="normal">{` ${count.toLocaleString("en-GB")}`}</Text> : null}
      </Heading>
      {children}
    </Box>
  );
}

function Card({ children }: { children: React.ReactNode }) {
  return <Box borderWidth={1} mb={2} overflowWrap="anywhere" px={3} py={2} rounded="md">{children}</Box>;
}

const Quiet = ({ children }: { children: React.ReactNode }) => <Text color="fg.muted" fontSize="sm">{children}</Text>;

function Until({ instant, now }: { instant: string | null; now: number }) {
  if (!instant) return <Quiet>No time limit</Quiet>;
  const left = new Date(instant).getTime() - now;
  const said = left > 0 ? `${span(instant, now)} left` : "time is over";
  return (
    <Box alignItems="center" display="flex" flexWrap="wrap" gap={2}>
      <Tag color={left < SOON ? "red" : "gray"}>{said}</Tag>
      <Quiet>{`until ${when(instant)}`}</Quiet>
    </Box>
  );
}

function Asked({ one, now }: { one: Question; now: number }) {
  return (
    <Card>
      <Text fontWeight="semibold"><To path={`/${one.path}`}>{one.subject}</To></Text>
      <Quiet>{[one.kind, service(one.dag_id)].filter(Boolean).join(" · ")}</Quiet>
      <Until instant={one.until} now={now} />
    </Card>
  );
}

const STATES: Record<Standing["state"], [string, string]> = {
  moves: ["moves", "blue"],
  waits: ["waits", "orange"],
  stuck: ["stuck", "red"],
  ended: ["ended", "gray"],
  unknown: ["not known", "red"],
};

/** When it will be through: in half of the cases, and in nine of ten. */
function Foreseen({ found }: { found: Standing["forecast"] }) {
  if (!found?.half || !found.nine_of_ten) return null;
  return <Quiet>{`Through by ${when(found.half)} in half of the cases, by ${when(found.nine_of_ten)} in nine of ten`}</Quiet>;
}

function Stands({ one }: { one: Standing }) {
  const { flight } = one;
  const [state, color] = STATES[one.state];
  const what = `${flight.rollback ? "Rollback of" : "Release of"} ${service(flight.dag_id)} ${flight.version}`.trim();
  return (
    <Card>
      <Box alignItems="center" display="flex" flexWrap="wrap" gap={2}>
        <Text fontWeight="semibold"><To path={pageOfRun(flight.dag_id, flight.run_id)}>{what}</To></Text>
        <Tag color={color}>{state}</Tag>
        {flight.stage_title ? <Quiet>{`${flight.stage_number} ${flight.stage_title}`}</Quiet> : null}
      </Box>
      <Text fontSize="sm">{one.why}</Text>
      {one.acts.map((act) => (
        <Quiet key={act.kind + act.task + act.what}>
          {`Next: ${act.what}${act.by.length ? `, by ${act.by.join(", ")}` : ""}${act.until ? `, until ${when(act.until)}` : ""}`}
        </Quiet>
      ))}
      <Foreseen found={one.forecast} />
      {one.earliest ? <Quiet>{`Moves by itself at ${when(one.earliest)} at the earliest`}</Quiet> : null}
      {one.refusals.map((refusal) => (
        <Text color="fg.error" fontSize="sm" key={`${refusal.at}${refusal.what}`}>
          {`A wave would be refused ${refusal.at ? `at its start, ${when(refusal.at)}` : "now"}: ${refusal.what} Who can change it: ${refusal.who}.`}
        </Text>
      ))}
    </Card>
  );
}

export function NeedsMe() {
  const [found, show] = useState<Needs | null>(null);
  const [fault, fail] = useState("");
  useEvery(
    EVERY,
    () => {
      get("/needs-me", {}).then(
        (now) => {
          fail("");
          show(now);
        },
        (error: Error) => fail(error.message),
      );
    },
    [],
  );
  const now = found ? new Date(found.at).getTime() : Date.now();
  return (
    <Box data-testid="interlock-needs-me" fontSize="sm" height="100%" maxWidth="70em" overflowWrap="anywhere" overflowY="auto" p={4} tabIndex={0}>
      <Box alignItems="baseline" display="flex" flexWrap="wrap" gap={3} mb={4}>
        <Heading as="h1" size="lg">Needs me</Heading>
        {found ? <Quiet>{when(found.at)}</Quiet> : null}
      </Box>
      {fault ? <Fault>{`What needs you could not be read: ${fault}`}</Fault> : null}
      {!found && !fault ? <Spinner /> : null}
      {found ? (
        <>
          <Section count={found.total_questions} title="You are asked">
            {inGroups(found.questions).map(({ shown, more }) => (
              <Box key={shown[0]?.path}>
                {shown.map((one) => <Asked key={one.path} now={now} one={one} />)}
                {more && shown[0] ? <Card><To path={requiredActions(shown[0])}>{`${more} more questions like these`}</To></Card> : null}
              </Box>
            ))}
            {found.total_questions > found.questions.length ? <Quiet>{`The first ${found.questions.length} are shown; the next ones follow as you answer.`}</Quiet> : null}
            {!found.total_questions ? <Quiet>You are not asked anything. When a release needs your answer, you get a mail, and the question appears here.</Quiet> : null}
          </Section>
          <Section count={found.requested.length} title="You asked for">
            {found.requested.map((one) => <Stands key={one.path} one={one} />)}
            {!found.requested.length ? <Quiet>No release that you requested is under way. Trigger the Dag of a service, and it appears here until it has ended.</Quiet> : null}
          </Section>
          <Section count={found.stuck.length} title="Stuck">
            {found.stuck.map((one) => <Stands key={one.path} one={one} />)}
            {!found.stuck.length ? <Quiet>No release of others is stuck. One is stuck when what it waits for does not come by itself, such as a Dag that is paused.</Quiet> : null}
          </Section>
          {found.reviews.length ? (
            <Section count={found.reviews.length} title="Reviews owed">
              {found.reviews.map((one) => (
                <Card key={one.path}>
                  <Text fontWeight="semibold"><To path={`/${one.path}`}>{`${one.service} ${one.version}, ${one.change_type} change`}</To></Text>
                  <Quiet>Hold the review, then record it with <To path="/dags/review_release">review_release</To>. Until then the service can have emergency changes only.</Quiet>
                  <Until instant={one.due} now={now} />
                </Card>
              ))}
            </Section>
          ) : null}
          <Section count={found.leaving.length} title="Leaves within 24 hours">
            {found.leaving.map((one) => (
              <Card key={`${one.kind}${one.title}${one.at}`}>
                <Text fontWeight="semibold">{one.path ? <To path={`/${one.path}`}>{one.title}</To> : one.title}</Text>
                <Quiet>{`${one.kind === "train" ? "Departs" : "Starts"} ${when(one.at)}${one.moved ? ", moved by a calendar" : ""}, in ${span(one.at, now)}: ${one.services.join(", ")}`}</Quiet>
              </Card>
            ))}
            {!found.leaving.length ? <Quiet>No train departs and no release starts within 24 hours. The timeline shows what leaves later.</Quiet> : null}
          </Section>
        </>
      ) : null}
    </Box>
  );
}

interface Held {
  holding: string[];
  questions: readonly Question[];
  total: number;
}

async function look(): Promise<Held> {
  const mine = get("/questions", { limit: 100 }).then(
    ({ questions, total_entries: total }) => ({ questions, total }),
    () => ({ questions: [], total: 0 }), // who may not read questions is not asked any
  );
  return { holding: await inForce(), ...(await mine) };
}

/** On Airflow's page Home, above all else: the stops and freezes in force, and the questions that are for the reader. */
export function InterlockHome() {
  const [{ holding, questions, total }, show] = useState<Held>({ holding: [], questions: [], total: 0 });
  useEvery(EVERY, () => void look().then(show), []);
  if (!holding.length && !questions.length) return null;
  return (
    <Box data-testid="interlock-home">
      {holding.map((said) => <Fault key={said}>{said}</Fault>)}
      {inGroups(questions).map(({ shown, more }) => (
        <Box key={shown[0]?.path}>
          {shown.map((one) => (
            <Banner color="orange.solid" key={one.path}>
              {"For you: "}
              <To path={`/${one.path}`}>{one.subject}</To>
              {one.until ? ` (until ${when(one.until)})` : ""}
            </Banner>
          ))}
          {more && shown[0] ? <Banner color="orange.solid"><To path={requiredActions(shown[0])}>{`${more} more questions like these`}</To></Banner> : null}
        </Box>
      ))}
      {total ? <Text fontSize="sm" mb={2}><To path="/plugin/needs-me">All that needs you</To></Text> : null}
    </Box>
  );
}

/** On the page of a question: when the reader has answered it, the next one. */
export function InterlockNext() {
  const [open, show] = useState<readonly Question[] | null>(null);
  const here = location.pathname;
  const asks = here.endsWith("/required_actions");
  useEvery(
    asks ? 5_000 : 3_600_000,
    () => void (asks ? get("/questions", { limit: 100 }).then(({ questions }) => show(questions), () => show(null)) : show(null)),
    [here],
  );
  if (!asks || !open) return null;
  const isHere = (one: Question) => here.endsWith(`/${one.path}`) || here.endsWith(requiredActions(one));
  const next = open.find((one) => !isHere(one));
  if (open.some(isHere)) return null; // first the question on this page
  return (
    // A click beside the links goes to what is below: the bar may lie over the answers of a long question.
    <Box bg="bg.subtle" css={{ "& a": { pointerEvents: "auto" } }} pointerEvents="none" borderTopWidth={1} bottom={0} data-testid="interlock-next" fontSize="sm" left={{ base: 16, md: 20 }} overflowWrap="anywhere" position="fixed" px={4} py={2} right={0} role="status" zIndex="docked">
      {next ? (
        <>
          {"Next for you: "}
          <To path={`/${next.path}`}>{next.subject}</To>
          {open.length > 1 ? ` (${open.length} open)` : ""}
        </>
      ) : (
        <>
          {"No other question is for you. "}
          <To path="/plugin/needs-me">See what you asked for and what leaves today</To>
        </>
      )}
    </Box>
  );
}
