// What Airflow looks for: each page by the name that plugin.py gives it.
import { Board } from "./board";
import { Cab } from "./cab";
import { Deliveries } from "./deliveries";
import { TestMatrix } from "./matrix";
import { Measures } from "./measures";
import { InterlockHome, InterlockNext, NeedsMe } from "./needs";
import { QualityReport } from "./quality";
import { Release } from "./release";
import { Timeline } from "./timeline";

Object.assign(globalThis, {
  Board, CAB: Cab, Deliveries, Measures, Timeline, "Needs me": NeedsMe, InterlockHome, InterlockNext,
  Release, "Quality report": QualityReport, "Test matrix": TestMatrix,
});
