// What Airflow looks for: each page by the name that plugin.py gives it.
import { Board } from "./board";
import { Cab } from "./cab";
import { Measures } from "./measures";
import { InterlockHome, InterlockNext, NeedsMe } from "./needs";
import { Timeline } from "./timeline";

Object.assign(globalThis, { Board, CAB: Cab, Measures, Timeline, "Needs me": NeedsMe, InterlockHome, InterlockNext });
