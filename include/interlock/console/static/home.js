// On Airflow's page Home, above all else: the emergency stops and freezes in force, and the questions that are for the reader.
// Airflow runs this in its own page and lends its React and its components.

import { base, inForce, inGroups, isFor, openQuestions, reader, questionPage, questionsPage } from "./airflow.js";

const { createElement, useEffect, useState } = globalThis.React;
const { Box, Text } = globalThis.ChakraUI;
const EVERY = 30_000;

async function look() {
  const questions = Promise.all([openQuestions(), reader()]).then(
    ([open, who]) => open.filter((question) => isFor(question, who)),
    () => [], // who may not read questions is not asked any
  );
  return { holding: await inForce(), questions: await questions };
}

const banner = (color, key, attributes, ...content) =>
  createElement(
    Box,
    { key, bg: "bg.subtle", borderColor: color, borderLeftWidth: 4, borderRadius: "sm", mb: 2, overflowWrap: "anywhere", px: 4, py: 2, ...attributes },
    createElement(Text, {}, ...content),
  );

const forReader = (path, text) =>
  banner("orange.solid", path, {}, "For you: ", createElement(Box, { as: "a", color: "fg.info", href: base + path, textDecoration: "underline" }, text));

const asked = ({ shown, more }) => [
  ...shown.map((question) => forReader(questionPage(question.task_instance), question.subject)),
  more ? forReader(questionsPage(shown[0].task_instance), `${more} more questions like these`) : null,
];

function InterlockHome() {
  const [found, show] = useState({ holding: [], questions: [] });
  useEffect(() => {
    let left = false;
    const again = () => look().then((now) => left || show(now));
    again();
    const timer = setInterval(again, EVERY);
    return () => {
      left = true;
      clearInterval(timer);
    };
  }, []);
  if (!found.holding.length && !found.questions.length) return null;
  return createElement(
    Box,
    { "data-testid": "interlock-home" },
    found.holding.map((said) => banner("red.solid", said, { role: "alert" }, said)),
    inGroups(found.questions).flatMap(asked),
  );
}

globalThis.InterlockHome = InterlockHome; // the name of the app in plugin.py
