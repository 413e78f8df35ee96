// The tab Quality report: the data docs of a release, stage by stage, in a frame with their own content policy.
import { base, get } from "./client";
import { Box, Button, React, Spinner, useState } from "./host";
import { Fault, useRead } from "./parts";
import { placeOf, Quiet, Run } from "./sheet";

const TITLES: Record<string, string> = { quality: "Quality review", canary: "Canary", verification: "Verification" };
const titleOf = (stage: string): string => TITLES[stage] ?? stage.replace(/^quality-/, "Environment ");

/** Let the data docs, which no script may touch from inside, be as light or dark as Airflow's page. */
function lighten({ currentTarget: frame }: React.SyntheticEvent<HTMLIFrameElement>): void {
  const [ours, theirs] = [document.documentElement, frame.contentDocument?.documentElement];
  if (theirs) theirs.style.colorScheme = ours.classList.contains("dark") ? "dark" : "light";
}

export function QualityReport(run: Run) {
  const path = "/dags/{dag_id}/dagRuns/{dag_run_id}/reports";
  const [found, fault] = useRead(() => get(path, {}, placeOf(run)), [run.dagId, run.runId]);
  const [chosen, choose] = useState("");
  const stage = found?.stages.includes(chosen) ? chosen : found?.stages[0];
  const docs = `${base}interlock/docs/${encodeURIComponent(run.dagId)}/${encodeURIComponent(run.runId)}`;
  return (
    <Box data-testid="interlock-quality-report" display="flex" flexDirection="column" fontSize="sm" gap={2} height="100%" minHeight="70vh" p={2}>
      {fault ? <Fault>{`The quality report cannot be loaded: ${fault}`}</Fault> : null}
      {!found && !fault ? <Spinner /> : null}
      {found && !stage ? <Quiet>This run has no quality report yet.</Quiet> : null}
      <Box display="flex" flexWrap="wrap" gap={2}>
        {found?.stages.map((one) => (
          <Button aria-pressed={one === stage} key={one} onClick={() => choose(one)} size="xs" variant={one === stage ? "solid" : "outline"}>{titleOf(one)}</Button>
        ))}
      </Box>
      {stage ? <iframe onLoad={lighten} src={`${docs}/${stage}/index.html`} style={{ border: 0, flex: 1, width: "100%" }} title="Data docs" /> : null}
    </Box>
  );
}
