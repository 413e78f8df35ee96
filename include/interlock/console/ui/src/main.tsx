// What Airflow looks for: each page by the name that plugin.py gives it.
import { Board } from "./board";

Object.assign(globalThis, { Board });
